//! A producer that is killed again and again, over a log that fails at random.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::flaky::FlakyLog;
use super::{
    Config, audited, config, copy_dir, drain, emit, memory_log, numbered, open, producer, segments,
};

const LIVES: u64 = 4;

/// Puts the beginning of a frame at the end of the last file, as a kill in the
/// middle of a write does.
fn tear(dir: &Path, random: &mut fastrand::Rng) {
    let all = segments(dir);
    let whole = all.iter().map(|path| fs::read(path).unwrap()).find(|bytes| !bytes.is_empty());
    let (Some(last), Some(frame)) = (all.last(), whole) else { return };
    let mut file = OpenOptions::new().append(true).open(last).unwrap();
    // No event here is shorter than 200 bytes.
    file.write_all(&frame[..random.usize(..200)]).unwrap();
}

fn roomy(dir: &Path) -> Config {
    Config { spool_bytes_max: 64 * 1024 * 1024, ..config(dir) }
}

async fn check_lives(seed: u64, failures_of_ten: u32) {
    let mut random = fastrand::Rng::with_seed(seed);
    let log = memory_log().await;
    let mut emitted = BTreeSet::new();
    let mut dir = tempfile::tempdir().unwrap();
    for life in 0..LIVES {
        let flaky = FlakyLog::new(log.clone(), random.u64(..), failures_of_ten);
        let (emitter, running) = open(roomy(dir.path()), flaky).start();
        for number in 0..random.u64(..400) {
            let padding = random.usize(..1500);
            if random.u8(..8) == 0 {
                let mut events: Vec<_> =
                    (0..random.u64(1..9)).map(|n| numbered(&emitter, n, padding)).collect();
                emitted.extend(emitter.emit_all(&mut events).unwrap());
            } else {
                emitted.insert(emit(&emitter, number, padding));
            }
            if random.u8(..20) == 0 {
                tokio::time::sleep(Duration::from_millis(random.u64(..200))).await;
            }
        }
        running.kill().await;
        let next = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), next.path());
        tear(next.path(), &mut random);
        if random.u8(..4) == 0 {
            // What a power cut may do to the position costs repetitions only.
            let _ = fs::remove_file(next.path().join("position"));
        }
        dir = next;
        assert_eq!(emitter.boot(), life as i64 + 1, "seed {seed}");
    }
    drain(open(roomy(dir.path()), log.clone())).await;

    let (audit, events) = audited(&log).await;
    let report = audit.report();
    assert_eq!((report.gaps, report.told_lost), (0, 0), "seed {seed}");
    for boot in audit.boots(&producer()) {
        assert_eq!(audit.missing(&producer(), boot), 0, "seed {seed}, boot {boot}");
    }
    let ids: Vec<_> = events.iter().map(super::Event::id).collect();
    let once: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(once.len(), ids.len(), "seed {seed}: an event counts twice");
    let lost: Vec<_> = emitted.difference(&once).map(ToString::to_string).collect();
    assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
}

#[tokio::test(start_paused = true)]
async fn kills_lose_nothing_that_was_emitted() {
    for seed in 0..10 {
        check_lives(seed, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_log_repeats_and_loses_nothing() {
    for seed in 100..110 {
        check_lives(seed, 6).await;
    }
}

#[tokio::test(start_paused = true)]
async fn repetitions_are_counted() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let flaky = FlakyLog::new(log.clone(), 1, 8);
    let opened = open(config(dir.path()), flaky);
    for number in 0..300 {
        emit(&opened.emitter, number, 500);
    }
    let emitter = opened.emitter.clone();
    drain(opened).await;
    let metrics = emitter.metrics();
    let (audit, events) = audited(&log).await;
    assert!(metrics.append_failures > 0);
    assert!(audit.report().repetitions > 0);
    assert_eq!((audit.report().gaps, events.len() as u64), (0, metrics.drained));
}
