use ingest::emit::WhenFull;
use ingest::event::{Event, Kind, cloudevents};
use ingest::registry::Name;

use super::{START, World, message};
use crate::deliver::{Accepted, HEADERS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX};
use ingest::http::Code;

const UPSTREAM: &str = r#"{"targets": [{"url": "http://127.0.0.1:9"}]}"#;
const QUEUE: &str = r#"{"partitions": 2, "deliver": {"upstream": "shop", "path": "/orders"}}"#;

async fn world() -> World {
    let mut world = World::new(|_| {}).await;
    world.put("upstream/shop", UPSTREAM).await;
    world.put("queue/orders", QUEUE).await;
    world
}

fn orders() -> Name {
    Name::new("orders").unwrap()
}

async fn events(world: &mut World) -> Vec<Box<Event>> {
    let (emitter, service) = (world.emitter.clone(), world.service.take().unwrap());
    let drained = async move {
        while emitter.metrics().lag_bytes > 0 {
            tokio::task::yield_now().await;
        }
    };
    Box::pin(service.run(drained)).await.unwrap();
    let records = world.records(ingest::emit::TOPIC, 0).await;
    let read = |r: &ingest::log::Record| {
        cloudevents::read(r.headers.iter(), r.value.as_ref().unwrap()).unwrap()
    };
    records.iter().map(read).map(Box::new).filter(|e| e.kind == Kind::Accept).collect()
}

#[tokio::test]
async fn a_message_is_in_the_log_and_told_of_before_the_answer() {
    let mut world = world().await;
    let queues = world.queues();
    let first = queues.accept(&orders(), message("m1", Some("k"), "one")).await.unwrap();
    let second = queues.accept(&orders(), message("m2", Some("k"), "two")).await.unwrap();
    assert_eq!((second.partition, second.offset), (first.partition, first.offset + 1));

    let records = world.records("weir.queue.orders", first.partition).await;
    let bodies: Vec<_> = records.iter().map(|r| r.value.clone().unwrap()).collect();
    assert_eq!(bodies, ["one", "two"]);
    assert_eq!(records[0].headers.get("weir_message_id"), Some(&b"m1"[..]));

    let events = events(&mut world).await;
    let ids: Vec<_> = events.iter().map(|e| e.messaging_message_id.as_deref().unwrap()).collect();
    assert_eq!(ids, ["m1", "m2"]);
    assert_eq!(events[0].delivery_accepted_time, Some(START));
    assert_eq!(events[1].delivery_sequence, Some(second.offset as i64));
    assert_eq!(events[0].delivery_queue.as_deref(), Some("orders"));
}

#[tokio::test]
async fn a_message_without_a_key_goes_by_its_id() {
    let world = world().await;
    let queues = world.queues();
    let mut partitions = std::collections::HashSet::new();
    for number in 0..20 {
        let id = format!("m{number}");
        let one = queues.accept(&orders(), message(&id, None, "")).await.unwrap();
        let again = queues.accept(&orders(), message(&id, None, "")).await.unwrap();
        assert_eq!(one.partition, again.partition, "sent again, it comes to the same place");
        partitions.insert(one.partition);
    }
    assert_eq!(partitions.len(), 2);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_anything_is_written() {
    let mut world = world().await;
    let queues = world.queues();
    let large = message("m", None, &"x".repeat(MESSAGE_BYTES_MAX));
    let long_key = message("m", Some(&"k".repeat(KEY_BYTES_MAX + 1)), "");
    let mut many = message("m", None, "");
    for number in 0..=HEADERS_MAX {
        let name = format!("x-{number}").parse::<http::HeaderName>().unwrap();
        many.headers.insert(name, http::HeaderValue::from_static("1"));
    }
    for message in [large, long_key, many] {
        let refused = queues.accept(&orders(), message).await.unwrap_err();
        assert_eq!(refused.code, Code::MessageTooLarge, "{refused}");
    }
    assert!(world.log.topic("weir.queue.orders").await.is_err(), "no topic was made");
    let fits = message("m", Some("k"), &"x".repeat(MESSAGE_BYTES_MAX - 1_000));
    assert!(matches!(queues.accept(&orders(), fits).await, Ok(Accepted { .. })));
    assert_eq!(events(&mut world).await.len(), 1);
}

#[tokio::test]
async fn an_id_is_not_taken_for_a_message_of_another_key() {
    let mut world = world().await;
    world.put("queue/others", QUEUE).await;
    let queues = world.queues();
    let ada = || message("m", Some("ada"), "one");
    let first = queues.accept(&orders(), ada()).await.unwrap();
    for other in [message("m", Some("eve"), "one"), message("m", None, "one")] {
        let refused = queues.accept(&orders(), other).await.unwrap_err();
        assert_eq!(refused.code, Code::MessageIdReused, "{refused}");
        let told = "queue orders: m came with another ordering key before";
        assert_eq!(refused.to_string(), told);
    }
    // Sent again it is taken again, whatever a route has put into its body meanwhile.
    let again = queues.accept(&orders(), message("m", Some("ada"), "two")).await.unwrap();
    assert_eq!((again.partition, again.offset), (first.partition, first.offset + 1));
    let other_queue = Name::new("others").unwrap();
    assert!(queues.accept(&other_queue, message("m", Some("eve"), "")).await.is_ok());
    // What is long ago is forgotten.
    for number in 0..10_000 {
        let id = format!("m{number}");
        queues.accept(&orders(), message(&id, Some("k"), "")).await.unwrap();
    }
    assert!(queues.accept(&orders(), message("m", Some("eve"), "one")).await.is_ok());
}

#[tokio::test]
async fn a_queue_that_is_not_there_takes_nothing() {
    let world = world().await;
    let nowhere = Name::new("nowhere").unwrap();
    let refused = world.queues().accept(&nowhere, message("m", None, "")).await.unwrap_err();
    assert_eq!(refused.code, Code::QueueUnavailable);
    assert_eq!(refused.to_string(), "queue nowhere: there is no such queue");
}

#[tokio::test]
async fn a_full_spool_refuses_before_anything_is_written() {
    let mut world = World::new(|config| {
        config.segment_bytes = 64 * 1024;
        config.reserve_bytes = 64 * 1024;
        config.spool_bytes_max = 3 * 64 * 1024;
        config.when_full = WhenFull::Refuse;
    })
    .await;
    world.put("upstream/shop", UPSTREAM).await;
    world.put("queue/orders", QUEUE).await;
    let queues = world.queues();
    queues.prepare().await.unwrap();
    let mut taken = 0;
    let refused = loop {
        match queues.accept(&orders(), message(&format!("m{taken}"), None, "")).await {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 10_000, "the spool is never full");
    };
    assert_eq!(refused.code, Code::EventsUnavailable);
    let topic = "weir.queue.orders";
    let held = world.records(topic, 0).await.len() + world.records(topic, 1).await.len();
    assert_eq!(held, taken, "what was refused is not in the queue");
}

#[tokio::test]
async fn every_queue_of_the_registry_is_prepared() {
    let mut world = world().await;
    world.put("queue/other", QUEUE).await;
    world.queues().prepare().await.unwrap();
    for topic in ["weir.queue.orders", "weir.queue.other.dead", "weir.queue.other.progress"] {
        assert_eq!(world.log.topic(topic).await.unwrap().partitions, 2);
    }
}
