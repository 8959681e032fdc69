//! Whatever way an event is emitted, it is written without what may not be.

use super::*;
use crate::redact::{Pseudonyms, Redactor, Rule};

fn told(emitter: &Emitter) -> Event {
    let mut event = emitter.event(Kind::Request, Outcome::Success);
    event.url_query = Some("token=hush&a=1".into());
    event.auth_subject = Some("ada".into());
    event
}

#[tokio::test]
async fn no_event_is_written_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let log = memory_log().await;
    let opened = open(config(dir.path()), log.clone());
    let emitter = opened.emitter.clone();
    assert!(matches!(emitter.emit(told(&emitter)).unwrap(), Emitted::Spooled(_)));
    emitter.emit_all(&mut [told(&emitter), told(&emitter)]).unwrap();
    let rules: Vec<Rule> =
        serde_json::from_str(r#"[{"field": "auth_subject", "action": "hash"}]"#).unwrap();
    let key = Pseudonyms::new(&[7; 32]);
    let hashing = Arc::new(Redactor::new([(vec![], &*rules)], key.as_ref()));
    // Another handle of the same producer.
    emitter.clone().redact_by(hashing.clone());
    emitter.emit_all(&mut [told(&emitter)]).unwrap();
    // One that began before goes by what held then.
    emitter.emit_in_place(&mut told(&emitter), &Redactor::default()).unwrap();
    emitter.emit_in_place(&mut told(&emitter), &hashing).unwrap();
    drain(opened).await;

    let mut subjects = Vec::new();
    for index in 0..PARTITIONS.get() {
        let from = vec![(Partition::new(TOPIC, index), 0)];
        let mut reader = log.reader(from).await.unwrap();
        let limit = ReadLimit { bytes: 1024 * 1024, wait: Duration::ZERO };
        while let Some(batch) = reader.next(limit).await.unwrap() {
            for record in batch.records {
                let text = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                assert!(!text.contains("hush"), "{text}");
                let event = Event::from_json(text.as_bytes()).unwrap();
                subjects.extend(event.auth_subject.map(|subject| subject.to_string()));
            }
        }
    }
    let hashed = subjects.iter().filter(|subject| subject.starts_with("hash:")).count();
    let plain = subjects.iter().filter(|subject| *subject == "ada").count();
    assert_eq!((subjects.len(), hashed, plain), (6, 2, 4), "{subjects:?}");
}
