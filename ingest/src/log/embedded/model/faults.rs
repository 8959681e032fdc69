//! One fault at a time: a sync that fails, a disk that is full, space that is to
//! come back.

use super::*;

#[test]
fn a_failed_sync_ends_all_writing_and_acknowledges_nothing() {
    let disk = MemoryDisk::default();
    let log = open(&disk);
    let step = Step::Append(vec![(Partition::new("kept", 0), NewRecord::unkeyed("first"))]);
    log.carry_out(vec![step.request()]).pop().unwrap().unwrap();
    disk.fail_a_sync();
    for _ in 0..2 {
        let answers = log.carry_out(vec![step.request(), step.request()]);
        assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Poisoned(_)))));
    }
    assert_eq!(log.read_all(&Partition::new("kept", 0)).unwrap().len(), 1, "readers see no more");
}

#[test]
fn a_full_disk_refuses_appends_and_goes_on_when_there_is_room() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk);
    let partition = Partition::new("kept", 0);
    let record = NewRecord::unkeyed(vec![7; 10_000]);
    let append = Step::Append(vec![(partition.clone(), record)]);
    (log.maintenance)().unwrap();
    disk.set_full(true);
    let mut appended = 0;
    while log.carry_out(vec![append.request()]).pop().unwrap().is_ok() {
        appended += 1;
    }
    let refused = log.carry_out(vec![append.request()]).pop().unwrap().unwrap_err();
    assert!(matches!(refused, Error::Full { .. }) && refused.is_retryable(), "{refused}");
    assert_eq!(log.read_all(&partition).unwrap().len(), appended);
    // Space can be freed although there is none.
    let bytes = disk.bytes();
    let trim = Step::Trim(partition.clone(), appended as u64);
    log.carry_out(vec![trim.request()]).pop().unwrap().unwrap();
    // It cannot allocate ahead, and says so, but has freed what is dead.
    assert!(matches!((log.maintenance)(), Err(Error::Full { .. })));
    assert!(disk.bytes() < bytes, "{} of {bytes} bytes are left", disk.bytes());
    disk.set_full(false);
    log.carry_out(vec![append.request()]).pop().unwrap().unwrap();
}

#[test]
fn space_stays_in_proportion_to_what_is_live() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk);
    let mut writer = Writer { random: fastrand::Rng::with_seed(1), written: 0 };
    let waiting = Partition::new("kept", 0);
    let early = Step::Append(vec![(waiting.clone(), NewRecord::unkeyed("waits long"))]);
    log.carry_out(vec![early.request()]).pop().unwrap().unwrap();
    let mut written = 0;
    for round in 0..12_000 {
        let partition = Partition::new(["sized", "compacted"][round % 2], 0);
        let record = writer.record();
        written += record.bytes();
        let append = Step::Append(vec![(partition, record)]);
        log.carry_out(vec![append.request()]).pop().unwrap().unwrap();
        if round % 40 == 0 {
            (log.maintenance)().unwrap();
        }
    }
    (log.maintenance)().unwrap();
    let live = SIZED_BYTES as usize;
    let bound = 2 * live + 4 * SEGMENT_BYTES as usize;
    assert!(written > 2 * bound, "{written} bytes are enough to show it");
    assert!(disk.bytes() < bound, "{} bytes are kept for {live}", disk.bytes());
    assert_eq!(log.read_all(&waiting).unwrap().len(), 1, "what waits is still there");
}

#[test]
fn a_log_opens_on_a_full_disk_and_can_be_trimmed() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk);
    let partition = Partition::new("kept", 0);
    let append = Step::Append(vec![(partition.clone(), NewRecord::unkeyed(vec![7; 10_000]))]);
    for _ in 0..40 {
        log.carry_out(vec![append.request()]).pop().unwrap().unwrap();
        (log.maintenance)().unwrap();
    }
    drop(log);
    let disk = disk.kill();
    disk.set_full(true);
    let mut log = Log::open(&disk).unwrap();
    let bytes = disk.bytes();
    log.carry_out(vec![Step::Trim(partition.clone(), 40).request()]).pop().unwrap().unwrap();
    assert!(matches!((log.maintenance)(), Ok(()) | Err(Error::Full { .. })));
    assert!(disk.bytes() < bytes, "{} of {bytes} bytes are left", disk.bytes());
}
