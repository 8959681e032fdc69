//! The journal against a model of it, on a disk that fails.
//!
//! Random requests, single and in groups, are given to the journal and, once
//! acknowledged, to a model. Now and then the machine stops at a random step, in
//! one of two ways: a power cut, after which unsynced writes are there in part,
//! or a kill, after which they are there. Then the log is opened again, and what
//! it holds is compared: everything that was acknowledged, in order, once, and
//! of what was not, whole requests only, the first ones of their group.

mod faults;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::disk::Disk;
use super::disk::memory::MemoryDisk;
use super::journal::Journal;
use super::maintain::{Maintenance, Thresholds};
use super::membership::Coordinator;
use super::recover::recover;
use super::request::{Answer, Records, Request};
use super::spare::Spares;
use super::view::Shared;
use crate::log::{Cleanup, Error, GroupOffsets, LogTime, NewRecord, Partition, Record, TopicSpec};

const SEGMENT_BYTES: u64 = 160 * 1024;
const TOPICS: [&str; 3] = ["kept", "sized", "compacted"];
const PARTITIONS: u32 = 2;
const SIZED_BYTES: u64 = 100_000;

thread_local! {
    /// Of the thread, so that a seed gives the same run again.
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// Each look is a millisecond later.
fn clock() -> LogTime {
    LogTime(NOW.replace(NOW.get() + 1))
}

fn specs() -> [TopicSpec; 3] {
    let sized = Cleanup::Retain { age: None, bytes: Some(SIZED_BYTES) };
    let compacted = Cleanup::Compact { tombstone_age: std::time::Duration::from_millis(300) };
    [
        TopicSpec::kept(TOPICS[0], PARTITIONS),
        TopicSpec { name: TOPICS[1].to_owned(), partitions: PARTITIONS, cleanup: sized },
        TopicSpec { name: TOPICS[2].to_owned(), partitions: PARTITIONS, cleanup: compacted },
    ]
}

/// An open log without threads, so that every step happens when the test says.
struct Log {
    shared: Arc<Shared>,
    journal: Arc<Mutex<Journal>>,
    maintenance: Box<dyn FnMut() -> Result<(), Error>>,
}

impl Log {
    fn open(disk: &MemoryDisk) -> Result<Self, Error> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (shared, start, covered) = recover(disk)?;
        let groups = Arc::new(Coordinator::new(std::time::Duration::from_secs(1)));
        let journal = Journal::begin(shared.clone(), groups, clock, SEGMENT_BYTES, start)?;
        let journal = Arc::new(Mutex::new(journal));
        let submit = {
            let journal = journal.clone();
            move |request| carry_out(&journal, vec![request]).pop().expect("one answer")
        };
        let thresholds = Thresholds {
            segment_bytes: SEGMENT_BYTES,
            compact_bytes_min: 10_000,
            small_segments_max: 3,
            open_segments_max: 2,
        };
        let mut maintenance = Maintenance::new(shared.clone(), thresholds, clock, submit, covered);
        Ok(Self { shared, journal, maintenance: Box::new(move || maintenance.run()) })
    }

    fn carry_out(&self, requests: Vec<Request>) -> Vec<Result<Answer, Error>> {
        carry_out(&self.journal, requests)
    }

    fn read_all(&self, partition: &Partition) -> Result<Vec<Record>, Error> {
        let key = self.shared.view.read().state.key(partition)?;
        let mut from = self.shared.view.read().state.ends(key).first;
        let mut all = Vec::new();
        while let Some(found) = self.shared.read(partition, key, from, 20_000)? {
            assert!(found.next > from, "reading goes on");
            from = found.next;
            all.extend(found.records);
        }
        Ok(all)
    }
}

/// The answers in the order of the requests; they come as they are known.
fn carry_out(journal: &Mutex<Journal>, requests: Vec<Request>) -> Vec<Result<Answer, Error>> {
    let mut answers = BTreeMap::new();
    let numbered = requests.into_iter().enumerate().map(|(number, request)| (request, number));
    journal.lock().carry_out(numbered, |number, answer| {
        assert!(answers.insert(number, answer).is_none(), "a request is answered once");
    });
    answers.into_values().collect()
}

/// What a log is to hold, as simple as can be.
#[derive(Debug, Clone, Default)]
struct Model {
    partitions: BTreeMap<Partition, Vec<NewRecord>>,
    first: BTreeMap<Partition, u64>,
    offsets: BTreeMap<(String, Partition), u64>,
    epochs: BTreeMap<String, u64>,
}

/// A request in a form that can be given to both.
#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(Partition, NewRecord)>),
    Transact { epoch: u64, records: Vec<(Partition, NewRecord)>, commit: GroupOffsets },
    Commit(GroupOffsets),
    Trim(Partition, u64),
    Fence,
}

const WRITER: &str = "writer";

impl Step {
    fn request(&self) -> Request {
        match self.clone() {
            Self::Append(records) => {
                Request::Append(Records::encode(&records, &Spares::default()).unwrap())
            }
            Self::Transact { epoch, records, commit } => Request::Transact {
                writer: WRITER.to_owned(),
                epoch,
                records: Records::encode(&records, &Spares::default()).unwrap(),
                offsets: vec![commit],
            },
            Self::Commit(commit) => Request::Commit(commit),
            Self::Trim(partition, before) => Request::Trim { partition, before },
            Self::Fence => Request::Fence { writer: WRITER.to_owned() },
        }
    }
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(records) => self.append(records),
            Step::Transact { records, commit, .. } => {
                self.append(records);
                self.commit(commit);
            }
            Step::Commit(commit) => self.commit(commit),
            Step::Trim(partition, before) => {
                let first = self.first.entry(partition.clone()).or_default();
                *first = (*first).max(*before);
            }
            Step::Fence => *self.epochs.entry(WRITER.to_owned()).or_default() += 1,
        }
    }

    fn append(&mut self, records: &[(Partition, NewRecord)]) {
        for (partition, record) in records {
            self.partitions.entry(partition.clone()).or_default().push(record.clone());
        }
    }

    fn commit(&mut self, commit: &GroupOffsets) {
        for (partition, offset) in &commit.offsets {
            self.offsets.insert((commit.group.clone(), partition.clone()), *offset);
        }
    }

    fn end(&self, partition: &Partition) -> u64 {
        self.partitions.get(partition).map_or(0, |records| records.len() as u64)
    }

    /// Why the log is not what it should be; `None` if it is.
    fn difference(&self, log: &Log) -> Option<String> {
        let view = log.shared.view.read();
        if view.state.epoch(WRITER) != self.epochs.get(WRITER).copied() {
            return Some(format!("epoch {:?}", view.state.epoch(WRITER)));
        }
        for ((group, partition), offset) in &self.offsets {
            let key = view.state.key(partition).unwrap();
            if view.state.committed(group, key) != Some(*offset) {
                return Some(format!("{group} at {partition} is not {offset}"));
            }
        }
        drop(view);
        partitions().find_map(|partition| {
            let what = self.difference_in(&partition, log)?;
            Some(format!("{partition}: {what}"))
        })
    }

    fn difference_in(&self, partition: &Partition, log: &Log) -> Option<String> {
        let view = log.shared.view.read();
        let bounds = view.state.bounds(view.state.key(partition).unwrap());
        drop(view);
        if bounds.end != self.end(partition) {
            return Some(format!("ends at {}, not {}", bounds.end, self.end(partition)));
        }
        let first = self.first.get(partition).copied().unwrap_or(0);
        // A partition that is kept to a size goes on trimming itself.
        let trims_itself = &*partition.topic == "sized";
        if bounds.first != first && !(trims_itself && bounds.first > first) {
            return Some(format!("begins at {}, not {first}", bounds.first));
        }
        let found = match log.read_all(partition) {
            Ok(found) => found,
            Err(error) => return Some(error.to_string()),
        };
        let empty = Vec::new();
        let written = self.partitions.get(partition).unwrap_or(&empty);
        for record in &found {
            let same = written.get(record.offset as usize).is_some_and(|w| {
                (&w.key, &w.value, &w.headers) == (&record.key, &record.value, &record.headers)
            });
            if !same {
                return Some(format!("{} is not what was written", record.offset));
            }
        }
        if !found.is_sorted_by(|a, b| a.offset < b.offset && a.time <= b.time) {
            return Some("is out of order".to_owned());
        }
        if trims_itself && bounds.first > first {
            // What a run takes besides its records counts, too.
            let bytes: usize = found.iter().map(|r| r.value.as_ref().map_or(0, Bytes::len)).sum();
            if bytes + 150 * found.len() < SIZED_BYTES as usize {
                return Some(format!("was trimmed to {bytes} bytes"));
            }
        }
        let offsets: Vec<u64> = found.iter().map(|record| record.offset).collect();
        if &*partition.topic == "compacted" {
            let mut last = HashMap::new();
            for (offset, record) in written.iter().enumerate() {
                last.insert(record.key.clone(), (offset as u64, record.value.is_some()));
            }
            // A tombstone may go in time, and with it, all before it.
            let missing = last.values().find(|(offset, is_value)| {
                *offset >= bounds.first && *is_value && !offsets.contains(offset)
            });
            let risen = found.iter().find(|record| {
                let (last, is_value) = last[&record.key];
                !is_value && record.offset < last && !offsets.contains(&last)
            });
            missing.map(|(offset, _)| format!("the last value at {offset} is missing")).or_else(
                || risen.map(|record| format!("the removed value at {} is back", record.offset)),
            )
        } else {
            let all: Vec<u64> = (bounds.first..bounds.end).collect();
            (offsets != all).then(|| format!("holds {offsets:?}, not {all:?}"))
        }
    }
}

fn partitions() -> impl Iterator<Item = Partition> {
    TOPICS.iter().flat_map(|topic| (0..PARTITIONS).map(move |i| Partition::new(*topic, i)))
}

struct Writer {
    random: fastrand::Rng,
    written: u64,
}

impl Writer {
    fn partition(&mut self) -> Partition {
        let topic = TOPICS[self.random.usize(..TOPICS.len())];
        Partition::new(topic, self.random.u32(..PARTITIONS))
    }

    fn records(&mut self) -> Vec<(Partition, NewRecord)> {
        let count = if self.random.u8(..8) == 0 { 60 } else { self.random.usize(1..6) };
        (0..count).map(|_| (self.partition(), self.record())).collect()
    }

    fn record(&mut self) -> NewRecord {
        self.written += 1;
        let key = Bytes::from(format!("key {}", self.random.u8(..12)));
        if self.random.u8(..6) == 0 {
            return NewRecord::tombstone(key);
        }
        let mut value = vec![self.random.u8(..); self.random.usize(..900)];
        value.extend_from_slice(&self.written.to_le_bytes());
        NewRecord {
            headers: crate::log::Headers::new([("h", "v")]),
            ..NewRecord::keyed(key, value)
        }
    }

    fn commit(&mut self, group: &str) -> GroupOffsets {
        let offsets = vec![(self.partition(), self.random.u64(..1000))];
        GroupOffsets { group: group.to_owned(), membership: None, offsets }
    }

    fn step(&mut self, model: &Model) -> Step {
        match self.random.u8(..12) {
            0..=5 => Step::Append(self.records()),
            6..=8 => Step::Transact {
                epoch: model.epochs.get(WRITER).copied().unwrap_or(0),
                records: self.records(),
                commit: self.commit("transacted"),
            },
            9 => Step::Commit(self.commit("plain")),
            10 => {
                let partition = self.partition();
                let (end, far) = (model.end(&partition), self.random.u64(..40));
                Step::Trim(partition, end.saturating_sub(far))
            }
            _ => Step::Fence,
        }
    }
}

/// Opens the log, with its topics, after a stop at any place.
fn open(disk: &MemoryDisk) -> Log {
    let log = Log::open(disk).expect("a log opens after any crash");
    for answer in log.carry_out(specs().map(Request::CreateTopic).into()) {
        answer.expect("topics are made");
    }
    log
}

/// One life after another, on one disk.
fn run(seed: u64, lives: u32) {
    NOW.set(0);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut writer = Writer { random: random.fork(), written: 0 };
    let mut disk = MemoryDisk::default();
    let mut model = Model::default();
    for life in 0..lives {
        let mut log = open(&disk);
        let what = model.difference(&log);
        assert_eq!(what, None, "seed {seed}, life {life}: after opening");
        let steps = random.u64(..120);
        disk.fail_after(steps);
        // Requests whose outcome nobody was told, in their order.
        let unknown = loop {
            if random.u8(..6) == 0 {
                disk.set_full(random.bool());
                match (log.maintenance)() {
                    Ok(()) | Err(Error::Full { .. }) => {}
                    Err(_) => break Vec::new(),
                }
                disk.set_full(random.u8(..4) == 0);
                let what = model.difference(&log);
                assert_eq!(what, None, "seed {seed}, life {life}: after maintenance");
            }
            let steps: Vec<Step> = (0..random.u8(1..6)).map(|_| writer.step(&model)).collect();
            // A fence changes what the later steps of the group may do.
            let after_fence = steps.iter().position(|step| matches!(step, Step::Fence));
            let steps = &steps[..after_fence.map_or(steps.len(), |at| at + 1)];
            let answers = log.carry_out(steps.iter().map(Step::request).collect());
            assert_eq!(answers.len(), steps.len(), "each request is answered");
            let mut unknown = Vec::new();
            let mut stopped = false;
            for (step, answer) in steps.iter().zip(answers) {
                match answer {
                    Ok(_) => model.apply(step),
                    Err(Error::Full { .. }) => {}
                    Err(Error::Fenced(_)) if model.epochs.is_empty() => {}
                    Err(Error::Io { .. }) => stopped = true,
                    Err(Error::Poisoned(_)) => {
                        unknown.push(step.clone());
                        stopped = true;
                    }
                    Err(error) => panic!("seed {seed}, life {life}: {error}"),
                }
            }
            if stopped {
                break unknown;
            }
        };
        disk = if random.bool() { disk.crash(&mut random) } else { disk.kill() };
        let log = open(&disk);
        let mut differences = Vec::new();
        let survived = (0..=unknown.len()).find_map(|count| {
            let mut candidate = model.clone();
            unknown[..count].iter().for_each(|step| candidate.apply(step));
            match candidate.difference(&log) {
                None => Some(candidate),
                Some(what) => {
                    differences.push(what);
                    None
                }
            }
        });
        model = survived.unwrap_or_else(|| {
            panic!("seed {seed}, life {life}: acknowledged state is gone: {differences:?}")
        });
    }
}

/// How many seeds: a few here, many in `./dev soak`.
fn seeds() -> std::ops::Range<u64> {
    let cases = std::env::var("WEIR_MODEL_CASES").ok().and_then(|text| text.parse().ok());
    let first = std::env::var("WEIR_MODEL_SEED").ok().and_then(|text| text.parse().ok());
    let first = first.unwrap_or(0);
    first..first + cases.unwrap_or(60)
}

#[test]
fn what_was_acknowledged_survives_any_stop() {
    for seed in seeds() {
        run(seed, 12);
    }
}

/// A log after sixty steps, with maintenance after some, and the model of it.
fn written(random: fastrand::Rng, is_maintained: impl Fn(u32) -> bool) -> (MemoryDisk, Model, Log) {
    let mut writer = Writer { random, written: 0 };
    let disk = MemoryDisk::default();
    let mut model = Model::default();
    let mut log = open(&disk);
    for round in 0..60 {
        let step = writer.step(&model);
        if log.carry_out(vec![step.request()]).pop().unwrap().is_ok() {
            model.apply(&step);
        }
        if is_maintained(round) {
            (log.maintenance)().unwrap();
        }
    }
    (disk, model, log)
}

#[test]
fn a_flipped_bit_is_named_and_never_passed_over() {
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let (disk, model, log) = written(random.fork(), |round| round % 20 == 19);
        log.carry_out(vec![Request::Confirm]).pop().unwrap().unwrap();
        drop(log);

        for _ in 0..20 {
            let disk = disk.kill();
            let names = disk.list().unwrap();
            let name = &names[random.usize(..names.len())];
            let bytes = disk.open(name).unwrap().bytes().unwrap();
            disk.flip_bit(name, random.usize(..bytes as usize), random.u8(..8));
            let log = match Log::open(&disk) {
                Ok(log) => log,
                Err(Error::Damaged { .. }) => continue,
                Err(error) => panic!("seed {seed}: {error}"),
            };
            let damaged = partitions()
                .any(|partition| matches!(log.read_all(&partition), Err(Error::Damaged { .. })));
            let sound = model.difference(&log).is_none();
            assert!(damaged || sound, "seed {seed}: a bit in {name} changed what is read");
        }
    }
}

#[test]
fn a_file_that_is_cut_off_missing_or_another_is_named() {
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let (of_writer, is_maintained) = (random.fork(), random.bool());
        let (disk, model, mut log) = written(of_writer, |round| round == 20 && is_maintained);
        // As each second, and as a log is closed.
        (log.maintenance)().unwrap();
        drop(log);
        for _ in 0..10 {
            let disk = disk.kill();
            let names = disk.list().unwrap();
            let journals: Vec<_> = names.iter().filter(|name| name.ends_with(".journal")).collect();
            let name = random.choice(&journals).unwrap();
            let file = disk.open(name).unwrap();
            match random.u8(..3) {
                0 => disk.remove(name).unwrap(),
                1 => file.truncate(random.u64(..file.bytes().unwrap())).unwrap(),
                _ => disk.replace(name, b"garbage").unwrap(),
            }
            let before = disk.list().unwrap();
            match Log::open(&disk) {
                Err(Error::Damaged { .. }) => assert_eq!(disk.list().unwrap(), before),
                Ok(log) => {
                    let difference = model.difference(&log);
                    assert!(
                        difference.is_none(),
                        "seed {seed}: {name} is not missed: {difference:?}"
                    );
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
    }
}
