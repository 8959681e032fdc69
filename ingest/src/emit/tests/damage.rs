//! Files that are not as they were written.

use std::fs;
use std::time::Duration;

use super::{
    Emitter, audited, config, copy_dir, drain, emit, memory_log, open, producer, segments,
};
use crate::emit::notice::SPOOL_DAMAGED;
use crate::event::Kind;

/// Emits 200 events, spoils the files with `spoil`, boots again and drains.
/// Answers how many events are missing, and how many a loss event tells of.
async fn check(spoil: impl Fn(&[std::path::PathBuf])) -> (u64, u64) {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), log.clone());
    for number in 0..200 {
        emit(&opened.emitter, number, 1000);
    }
    drop(opened);
    spoil(&segments(dir.path()));
    let opened = open(config(dir.path()), log.clone());
    let emitter = opened.emitter.clone();
    emit(&emitter, 0, 10);
    drain(opened).await;

    let (audit, events) = audited(&log).await;
    let missing = audit.missing(&producer(), 1);
    assert_eq!(emitter.metrics().lost, audit.report().told_lost);
    assert_eq!(audit.missing(&producer(), 2), 0);
    assert_eq!(emitter.metrics().lag_bytes, 0);
    for told in events.iter().filter(|event| event.kind == Kind::Loss) {
        assert_eq!((told.boot, told.source_boot), (2, Some(1)));
        assert_eq!(told.fault_code.as_deref(), Some(SPOOL_DAMAGED));
    }
    if missing > 0 {
        assert!(audit.report().gaps > 0, "{missing} are missing, and no gap shows");
    }
    (missing, audit.report().told_lost)
}

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_middle_is_passed_over_and_counted() {
    assert_eq!(check(|_| {}).await, (0, 0));
    // The header's length, and the payload, of some event.
    assert_eq!(check(|files| flip(&files[0], 20_000)).await, (1, 1));
    assert_eq!(check(|files| flip(&files[1], 4)).await, (1, 1));
    let two_places = |files: &[std::path::PathBuf]| {
        flip(&files[0], 20_000);
        flip(&files[2], 9_000);
    };
    assert_eq!(check(two_places).await, (2, 2));
}

#[tokio::test(start_paused = true)]
async fn lost_blocks_and_files_are_counted() {
    let zeros = |files: &[std::path::PathBuf]| {
        let mut bytes = fs::read(&files[1]).unwrap();
        bytes[8192..16384].fill(0);
        fs::write(&files[1], bytes).unwrap();
    };
    let (missing, told) = check(zeros).await;
    assert!((6..=10).contains(&missing) && told == missing, "{told} of {missing}");
    let (missing, told) = check(|files| fs::remove_file(&files[1]).unwrap()).await;
    assert!((40..70).contains(&missing) && told == missing, "{told} of {missing}");
    let end_of_a_file = |files: &[std::path::PathBuf]| {
        let bytes = fs::metadata(&files[1]).unwrap().len();
        fs::OpenOptions::new().write(true).open(&files[1]).unwrap().set_len(bytes - 9).unwrap();
    };
    assert_eq!(check(end_of_a_file).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn every_cut_of_the_tail_keeps_the_events_before_it() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), log.clone());
    let mut ends = vec![];
    for number in 0..4 {
        emit(&opened.emitter, number, 10);
        ends.push(opened.spool.end().1);
    }
    drop(opened);
    let file = &segments(dir.path())[0];
    let whole = fs::read(file).unwrap();
    for cut in (ends[0]..ends[3]).step_by(7) {
        let copy = tempfile::tempdir().unwrap();
        let copied = copy.path().join(file.file_name().unwrap());
        fs::write(&copied, &whole[..cut as usize]).unwrap();
        let opened = open(config(copy.path()), log.clone());
        let kept = ends.iter().copied().filter(|end| *end <= cut).max().unwrap();
        assert_eq!(fs::metadata(&copied).unwrap().len(), kept, "cut at {cut}");
        assert_eq!(opened.emitter.metrics().cut_bytes, cut - kept);
    }
}

async fn until(emitter: &Emitter, holds: impl Fn(crate::emit::Metrics) -> bool) {
    while !holds(emitter.metrics()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_that_cannot_be_stored_stops_no_draining() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), log.clone());
    let position = dir.path().join("position");
    fs::remove_file(&position).unwrap();
    fs::create_dir(&position).unwrap();
    for number in 0..200 {
        emit(&opened.emitter, number, 1000);
    }
    let files = segments(dir.path()).len();
    let (emitter, running) = opened.start();
    until(&emitter, |metrics| metrics.lag_bytes == 0).await;
    assert!(emitter.metrics().spool_failures > 0);
    assert_eq!(segments(dir.path()).len(), files, "no file goes before the position is stored");

    // A kill at this moment repeats, and takes nothing for lost.
    let copy = tempfile::tempdir().unwrap();
    fs::remove_dir(&position).unwrap();
    copy_dir(dir.path(), copy.path());
    emit(&emitter, 200, 10);
    until(&emitter, |metrics| metrics.lag_bytes == 0).await;
    running.kill().await;
    assert_eq!(segments(dir.path()).len(), 1, "what was drained is forgotten");
    drain(open(config(copy.path()), log.clone())).await;
    let report = audited(&log).await.0.report();
    assert_eq!((report.gaps, report.told_lost), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_for_a_while_ends_nothing() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), log.clone());
    for number in 0..200 {
        emit(&opened.emitter, number, 1000);
    }
    let (file, away) = (&segments(dir.path())[1], dir.path().join("away"));
    fs::rename(file, &away).unwrap();
    fs::create_dir(file).unwrap();
    let (emitter, running) = opened.start();
    until(&emitter, |metrics| metrics.spool_failures > 3).await;
    fs::remove_dir(file).unwrap();
    fs::rename(&away, file).unwrap();
    until(&emitter, |metrics| metrics.lag_bytes == 0).await;
    running.kill().await;
    let (audit, _) = audited(&log).await;
    let report = audit.report();
    assert_eq!((report.gaps, report.told_lost, audit.missing(&producer(), 1)), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn damage_behind_a_lost_position_does_not_count_what_was_acknowledged() {
    let (log, dir) = (memory_log().await, tempfile::tempdir().unwrap());
    let opened = open(config(dir.path()), log.clone());
    for number in 0..200 {
        emit(&opened.emitter, number, 1000);
    }
    drain(opened).await;
    fs::remove_file(dir.path().join("position")).unwrap();
    let files = segments(dir.path());
    assert_eq!(files.len(), 1, "all but the last file are drained and gone");
    flip(&files[0], 100);
    let opened = open(config(dir.path()), log.clone());
    let emitter = opened.emitter.clone();
    drain(opened).await;
    assert_eq!(emitter.metrics().lost, 1);
    let (_, events) = audited(&log).await;
    let told = events.iter().find(|event| event.kind == Kind::Loss).unwrap();
    assert_eq!((told.loss_events, told.source_boot), (Some(1), None));
}
