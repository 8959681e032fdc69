//! The drainer's own words, its stop, and what it replaces.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::time::sleep;

use super::flaky::FlakyLog;
use super::{Config, Emitted, audited, config, drain, emit, memory_log, numbered, open, producer};
use crate::emit::notice::EVENT_TOO_LARGE;
use crate::emit::{Error, WhenFull};
use crate::event::{Event, Kind};

fn count(events: &[Event], kind: Kind) -> usize {
    events.iter().filter(|event| event.kind == kind).count()
}

#[tokio::test(start_paused = true)]
async fn sources_join_speak_when_idle_and_leave() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), log.clone());
    let emitter = opened.emitter.clone();
    let first = emit(&emitter, 1, 10);
    assert_eq!(first.sequence, 4, "after a joined of each partition");
    opened.service.run(sleep(Duration::from_millis(5500))).await.unwrap();
    assert!(matches!(emitter.emit(numbered(&emitter, 2, 10)), Err(Error::Closed)));

    let (audit, events) = audited(&log).await;
    assert_eq!((audit.report().gaps, audit.missing(&producer(), 1)), (0, 0));
    assert_eq!((count(&events, Kind::SourceJoined), count(&events, Kind::SourceLeft)), (3, 3));
    // The partitions spoke when they joined, so the first round has none to speak for.
    let heartbeats = count(&events, Kind::Heartbeat);
    assert!((9..=15).contains(&heartbeats), "{heartbeats} in 5 rounds of 3 partitions");
    for own in 0..3 {
        let of_partition: Vec<&Event> =
            events.iter().filter(|event| event.source_partition == Some(own)).collect();
        assert_eq!(of_partition[0].sequence_before, None);
        assert_eq!(of_partition[0].kind, Kind::SourceJoined);
        assert_eq!(of_partition.last().unwrap().kind, Kind::SourceLeft);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_down_gets_no_heartbeat_and_stops_nothing() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let down = FlakyLog::new(log.clone(), 7, 10);
    let opened = open(config(dir.path()), down);
    let emitter = opened.emitter;
    emit(&emitter, 1, 10);
    let before = emitter.metrics().emitted;
    let ended = opened.service.run(sleep(Duration::from_secs(60))).await;
    assert!(matches!(ended, Err(Error::NotDrained { bytes, .. }) if bytes > 0), "{ended:?}");
    assert_eq!(emitter.metrics().emitted, before + 3, "only the sources' leave");
    assert_eq!(emitter.metrics().drained, 0);
    drop(opened.spool);
    drop(emitter);

    let opened = open(config(dir.path()), log.clone());
    assert_eq!(opened.emitter.boot(), 2);
    opened.service.run(sleep(Duration::from_millis(500))).await.unwrap();
    let (audit, events) = audited(&log).await;
    assert_eq!((audit.report().gaps, audit.missing(&producer(), 1)), (0, 0));
    assert_eq!((count(&events, Kind::SourceJoined), count(&events, Kind::SourceLeft)), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn what_the_log_never_takes_becomes_a_loss_event() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), log.clone());
    let emitter = opened.emitter.clone();
    emit(&emitter, 1, 10);
    let large = emit(&emitter, 2, 1_000_100);
    emit(&emitter, 3, 10);
    drain(opened).await;
    assert_eq!(emitter.metrics().lost, 1);
    let (audit, events) = audited(&log).await;
    let report = audit.report();
    assert_eq!((report.gaps, report.told_lost, report.repetitions), (0, 1, 0));
    assert_eq!((audit.missing(&producer(), 1), count(&events, Kind::Request)), (0, 2));
    let loss = events.iter().find(|event| event.kind == Kind::Loss).unwrap();
    assert_eq!((loss.id(), loss.fault_code.as_deref()), (large, Some(EVENT_TOO_LARGE)));
}

#[tokio::test(start_paused = true)]
async fn an_earlier_boot_reaches_the_log_first() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    for number in 0..3 {
        let opened = open(config(dir.path()), log.clone());
        emit(&opened.emitter, number, 10);
    }
    let opened = open(config(dir.path()), log.clone());
    opened.service.run(sleep(Duration::from_millis(100))).await.unwrap();
    let mut last = (0, 0, 0);
    for (partition, event) in super::events_of(&log).await {
        let place = (partition, event.boot, event.sequence);
        assert!(place > last, "{place:?} after {last:?}");
        last = place;
    }
    let (audit, events) = audited(&log).await;
    assert_eq!(audit.boots(&producer()), [1, 2, 3, 4]);
    assert_eq!((audit.report().gaps, count(&events, Kind::Request)), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_emitted_after_the_leave_and_every_drop_is_told() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(Config { when_full: WhenFull::Drop, ..config(dir.path()) }, log.clone());
    let emitter = opened.emitter.clone();
    let (began, begun) = mpsc::channel();
    let emitting = thread::spawn(move || {
        let mut last = 0;
        for number in 0.. {
            match emitter.emit(numbered(&emitter, number, 1000)) {
                Ok(Emitted::Spooled(id)) => last = id.sequence,
                Ok(Emitted::Dropped) => drop(began.send(())),
                Err(_) => break,
            }
        }
        (last, emitter.metrics().dropped)
    });
    begun.recv().unwrap();
    opened.service.run(std::future::ready(())).await.unwrap();
    let (last, dropped) = emitting.join().unwrap();
    let (audit, events) = audited(&log).await;
    let left = events.iter().filter(|event| event.kind == Kind::SourceLeft);
    assert!(left.clone().count() == 3 && left.clone().all(|event| event.sequence > last));
    assert_eq!((audit.report().gaps, audit.report().told_lost), (0, dropped));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_for_ever_goes_one_by_one() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), FlakyLog::taking(log.clone(), 1));
    let emitter = opened.emitter.clone();
    for number in 0..5 {
        emit(&emitter, number, 10);
    }
    drain(opened).await;
    let metrics = emitter.metrics();
    assert!(metrics.append_failures >= 3 && metrics.lost == 0, "{metrics:?}");
    let (audit, events) = audited(&log).await;
    assert_eq!((audit.report().gaps, audit.report().repetitions), (0, 0));
    assert_eq!(count(&events, Kind::Request), 5);
}
