//! A spool that the log does not empty.

use super::{Config, Emitted, audited, config, drain, emit, memory_log, numbered, open, producer};
use crate::emit::{Error, WhenFull};
use crate::event::Kind;

#[tokio::test(start_paused = true)]
async fn a_full_spool_refuses_new_work_first_then_all() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), log.clone());
    let emitter = opened.emitter.clone();
    let (mut let_in, mut number) = (0, 0);
    let error = loop {
        if emitter.admit().is_ok() {
            let_in += 1;
        }
        match emitter.emit(numbered(&emitter, number, 1000)) {
            Ok(emitted) => assert_ne!(emitted, Emitted::Dropped),
            Err(error) => break error,
        }
        number += 1;
    };
    assert!(matches!(error, Error::Full { .. }) && error.is_retryable(), "{error}");
    assert!(let_in > 500 && number > let_in + 150, "{let_in} of {number} were let in");
    let metrics = emitter.metrics();
    assert_eq!((metrics.refused, metrics.dropped), (1, 0));
    assert!(metrics.spooled_bytes <= 1024 * 1024);

    drain(opened).await;
    assert!(emitter.admit().is_ok(), "what is in the log leaves the spool");
    emit(&emitter, 0, 10);
    let (audit, events) = audited(&log).await;
    assert_eq!((audit.report().gaps, audit.missing(&producer(), 1)), (0, 0));
    assert!(events.iter().filter(|event| event.kind == Kind::Request).count() == number as usize);
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_drops_and_tells() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(Config { when_full: WhenFull::Drop, ..config(dir.path()) }, log.clone());
    let emitter = opened.emitter.clone();
    let mut kept = 0;
    for number in 0..1500 {
        assert!(emitter.admit().is_ok());
        match emitter.emit(numbered(&emitter, number, 1000)).unwrap() {
            Emitted::Spooled(_) => kept += 1,
            Emitted::Dropped => {}
        }
    }
    let metrics = emitter.metrics();
    assert_eq!((metrics.refused, metrics.dropped), (0, 1500 - kept));
    assert!(metrics.dropped > 100);
    opened.service.run(tokio::time::sleep(std::time::Duration::from_secs(3))).await.unwrap();
    let (audit, events) = audited(&log).await;
    let report = audit.report();
    assert_eq!((report.gaps, report.told_lost), (0, metrics.dropped));
    assert_eq!(audit.missing(&producer(), 1), 0, "what was dropped took no number");
    let told = events.iter().find(|event| event.kind == Kind::Loss).unwrap();
    assert_eq!(told.fault_code.as_deref(), Some(crate::emit::notice::SPOOL_FULL));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_large_takes_no_number() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), log.clone());
    let emitter = opened.emitter.clone();
    let first = emit(&emitter, 1, 10);
    let large = emitter.emit(numbered(&emitter, 1, 2 * 1024 * 1024)).unwrap_err();
    assert!(matches!(large, Error::TooLarge { .. }), "{large}");
    let mut some = [numbered(&emitter, 1, 10), numbered(&emitter, 1, 2 * 1024 * 1024)];
    emitter.emit_all(&mut some).unwrap_err();
    let second = emit(&emitter, 1, 10);
    assert_eq!(second.sequence, first.sequence + 1);
    drain(opened).await;
    assert_eq!(audited(&log).await.0.report().gaps, 0);
}
