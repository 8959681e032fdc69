use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use ingest::log::{Error, Member, Partition, Polled, ReadLimit};
use tokio::time::{sleep, timeout};

use super::{numbered, text};
use crate::subject::{PATIENCE, POLL_INTERVAL_MAX, World};

const TURN: Duration = Duration::from_millis(100);
/// So many topics are new, and so many of them at a time.
const NEW_TOPICS: usize = 6;
const NEW_AT_ONCE: usize = 3;

fn turn() -> ReadLimit {
    ReadLimit { wait: TURN, ..ReadLimit::default() }
}

/// A member that keeps book of what it has.
struct Worker {
    member: Box<dyn Member>,
    has: BTreeMap<Partition, u64>,
    /// Set aside what it reads.
    read: Vec<String>,
}

impl Worker {
    async fn join(world: &World, topic: &str) -> Result<Self> {
        let (group, topic) = (world.name("g"), world.name(topic));
        let member = world.log.join(&group, &[&topic]).await?;
        Ok(Self { member, has: BTreeMap::new(), read: Vec::new() })
    }

    /// Polls once, commits what it has read, and gives up what it has to.
    async fn work(&mut self) -> Result<()> {
        match self.member.poll(turn()).await? {
            Polled::Assigned(assigned) => self.has.extend(assigned),
            Polled::Revoked(gone) | Polled::Lost(gone) => {
                self.has.retain(|partition, _| !gone.contains(partition));
            }
            Polled::Records(batch) => {
                ensure!(self.has.contains_key(&batch.partition), "{} is not its", batch.partition);
                self.read.extend(batch.records.iter().map(text));
                self.member.commit(&[(batch.partition.clone(), batch.next)]).await?;
                self.has.insert(batch.partition, batch.next);
            }
            Polled::Idle => {}
        }
        Ok(())
    }

    fn partitions(&self) -> BTreeSet<u32> {
        self.has.keys().map(|partition| partition.index).collect()
    }
}

/// Lets the workers work in turn until it is so.
async fn until(workers: &mut [&mut Worker], is: impl Fn(&[&mut Worker]) -> bool) -> Result<()> {
    let start = Instant::now();
    while !is(workers) {
        if start.elapsed() > PATIENCE {
            let state: Vec<_> = workers.iter().map(|w| (&w.has, w.read.len())).collect();
            bail!("still {state:?}");
        }
        for worker in workers.iter_mut() {
            worker.work().await?;
        }
    }
    Ok(())
}

pub(super) async fn offsets_are_remembered_without_members(world: World) -> Result<()> {
    let partitions = world.topic("t", 2).await?;
    let (log, group) = (&world.log, world.name("g"));
    ensure!(log.committed(&group, &partitions[0]).await?.is_none());
    log.commit(&group, &[(partitions[0].clone(), 7), (partitions[1].clone(), 9)]).await?;
    log.commit(&group, &[(partitions[0].clone(), 3)]).await?;
    ensure!(log.committed(&group, &partitions[0]).await? == Some(3));
    ensure!(log.committed(&group, &partitions[1]).await? == Some(9));
    ensure!(log.committed(&world.name("other"), &partitions[0]).await?.is_none());
    let nowhere = Partition::new(world.name("nowhere"), 0);
    ensure!(log.commit(&group, &[(nowhere, 1)]).await.is_err());
    Ok(())
}

pub(super) async fn members_share_and_hand_over(world: World) -> Result<()> {
    let partitions = world.topic("t", 4).await?;
    let append = async |round: &str| -> Result<()> {
        for partition in &partitions {
            world.log.append(numbered(partition, &format!("{round} {partition}"), 5)).await?;
        }
        Ok(())
    };
    append("first").await?;
    let mut one = Worker::join(&world, "t").await?;
    until(&mut [&mut one], |w| w[0].has.len() == 4 && w[0].read.len() == 20).await?;

    let mut two = Worker::join(&world, "t").await?;
    until(&mut [&mut one, &mut two], |w| w[0].has.len() == 2 && w[1].has.len() == 2).await?;
    ensure!(one.partitions().is_disjoint(&two.partitions()), "one partition, two owners");
    // What was handed over goes on where it was left.
    append("second").await?;
    until(&mut [&mut one, &mut two], |w| w[0].read.len() + w[1].read.len() == 40).await?;
    ensure!(two.read.len() == 10 && two.read.iter().all(|t| t.starts_with("second")));

    two.member.leave().await?;
    until(&mut [&mut one], |w| w[0].has.len() == 4).await?;
    append("third").await?;
    until(&mut [&mut one], |w| w[0].read.len() == 50).await?;
    let all: BTreeSet<&String> = one.read.iter().chain(&two.read).collect();
    ensure!(all.len() == 60, "each was read once, {} were", all.len());

    let foreign = world.log.commit(&world.name("g"), &[(partitions[0].clone(), 0)]).await;
    ensure!(matches!(foreign, Err(Error::Fenced(_))), "a commit from outside: {foreign:?}");
    Ok(())
}

/// Leaves, as a program that stops would, which waits for it.
async fn leaves(member: Box<dyn Member>) -> Result<()> {
    match timeout(PATIENCE, member.leave()).await {
        Ok(left) => Ok(left?),
        Err(_) => bail!("it has not left within {PATIENCE:?}"),
    }
}

pub(super) async fn a_member_leaves_whatever_it_was_told(world: World) -> Result<()> {
    world.topic("t", 4).await?;
    // In the middle of hearing that partitions come: each poll is given up at once.
    let mut one = Worker::join(&world, "t").await?;
    for _ in 0..200 {
        let _ = timeout(Duration::ZERO, one.work()).await;
        sleep(Duration::from_millis(10)).await;
    }
    leaves(one.member).await?;

    let mut two = Worker::join(&world, "t").await?;
    until(&mut [&mut two], |w| w[0].has.len() == 4).await?;
    let mut three = Worker::join(&world, "t").await?;
    let three = tokio::spawn(async move {
        until(&mut [&mut three], |w| w[0].has.len() == 4).await?;
        anyhow::Ok(three)
    });
    // It was told that two go, and hands them over with its next poll, which never comes.
    until(&mut [&mut two], |w| w[0].has.len() == 2).await?;
    leaves(two.member).await?;
    leaves(three.await??.member).await
}

/// One after another, each a little further in hearing of it.
pub(super) async fn a_member_that_was_put_out_leaves(world: World) -> Result<()> {
    world.topic("t", 4).await?;
    for polls in 0..4 {
        let mut worker = Worker::join(&world, "t").await?;
        until(&mut [&mut worker], |w| w[0].has.len() == 4).await?;
        sleep(POLL_INTERVAL_MAX + Duration::from_secs(1)).await;
        for _ in 0..polls {
            let _ = timeout(Duration::ZERO, worker.work()).await;
        }
        leaves(worker.member).await?;
    }
    Ok(())
}

/// Polls until nothing comes any more, and answers what came.
async fn drain(member: &mut dyn Member) -> Result<BTreeMap<u32, Vec<String>>> {
    let mut came: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut idle = 0;
    while idle < 15 {
        match member.poll(turn()).await? {
            Polled::Records(batch) => {
                idle = 0;
                let texts = batch.records.iter().map(text);
                came.entry(batch.partition.index).or_default().extend(texts);
            }
            _ => idle += 1,
        }
    }
    Ok(came)
}

pub(super) async fn a_paused_partition_waits_and_loses_nothing(world: World) -> Result<()> {
    let partitions = world.topic("t", 2).await?;
    let expected = |prefix: &str, rounds: std::ops::Range<usize>| -> Vec<String> {
        let round = |r| (0..200).map(move |i| format!("{prefix} {r} {i}"));
        rounds.flat_map(round).collect()
    };
    let append = async |round: usize| -> Result<()> {
        for (partition, prefix) in partitions.iter().zip(["a", "b"]) {
            let records = numbered(partition, &format!("{prefix} {round}"), 200);
            world.log.append(records).await?;
        }
        Ok(())
    };
    append(0).await?;
    let mut worker = Worker::join(&world, "t").await?;
    until(&mut [&mut worker], |w| w[0].has.len() == 2 && !w[0].read.is_empty()).await?;

    // Both were read from, and the client may hold more of either.
    append(1).await?;
    let small = ReadLimit { bytes: 100, ..turn() };
    if let Polled::Records(batch) = worker.member.poll(small).await? {
        worker.read.extend(batch.records.iter().map(text));
    }
    worker.member.pause(&partitions[..1])?;
    let mut came = drain(&mut *worker.member).await?;
    ensure!(!came.contains_key(&0), "records of a paused partition came");
    append(2).await?;
    let more = drain(&mut *worker.member).await?;
    ensure!(!more.contains_key(&0), "records of a paused partition came");
    came.entry(1).or_default().extend(more.into_values().flatten());

    worker.member.resume(&partitions[..1])?;
    append(3).await?;
    for (index, texts) in drain(&mut *worker.member).await? {
        came.entry(index).or_default().extend(texts);
    }
    for (index, prefix) in [(0, "a"), (1, "b")] {
        let before = worker.read.iter().filter(|text| text.starts_with(prefix)).cloned();
        let all: Vec<_> = before.chain(came.remove(&index).unwrap_or_default()).collect();
        ensure!(all == expected(prefix, 0..4), "{prefix}: {} came: {all:?}", all.len());
    }
    Ok(())
}

pub(super) async fn a_pause_ends_with_the_assignment(world: World) -> Result<()> {
    let partitions = world.topic("t", 2).await?;
    let mut one = Worker::join(&world, "t").await?;
    until(&mut [&mut one], |w| w[0].has.len() == 2).await?;
    one.member.pause(&partitions)?;
    let mut two = Worker::join(&world, "t").await?;
    until(&mut [&mut one, &mut two], |w| w[0].has.len() == 1 && w[1].has.len() == 1).await?;
    // What is not its own is passed over, by both calls.
    two.member.pause(&partitions[..1])?;
    two.member.pause(&partitions[1..])?;
    two.member.leave().await?;
    until(&mut [&mut one], |w| w[0].has.len() == 2).await?;
    for partition in &partitions {
        world.log.append(numbered(partition, &format!("{}", partition.index), 1)).await?;
    }
    // One partition was one's all the time, and is paused still.
    let came = drain(&mut *one.member).await?;
    ensure!(came.len() == 1, "{came:?}");
    one.member.resume(&partitions)?;
    let came = drain(&mut *one.member).await?;
    ensure!(came.len() == 1, "{came:?}");
    Ok(())
}

pub(super) async fn a_silent_member_is_put_out_and_refused(world: World) -> Result<()> {
    let partition = world.topic("t", 1).await?.remove(0);
    world.log.append(numbered(&partition, "x", 3)).await?;
    let mut silent = Worker::join(&world, "t").await?;
    until(&mut [&mut silent], |w| w[0].read.len() == 3).await?;
    ensure!(silent.member.poll_interval_max() == POLL_INTERVAL_MAX);

    let mut other = Worker::join(&world, "t").await?;
    world.log.append(numbered(&partition, "y", 3)).await?;
    until(&mut [&mut other], |w| w[0].read.len() == 3).await?;
    ensure!(other.read[0] == "y 0", "it goes on where the silent one had committed");
    let late = silent.member.commit(&[(partition.clone(), 1)]).await;
    ensure!(matches!(late, Err(Error::Fenced(_))), "a late commit: {late:?}");
    let committed = world.log.committed(&world.name("g"), &partition).await?;
    ensure!(committed > Some(3), "{committed:?}");

    // It learns of it, and is a member again.
    let start = Instant::now();
    loop {
        match silent.member.poll(turn()).await? {
            Polled::Lost(lost) => break ensure!(lost == [partition.clone()], "{lost:?}"),
            polled => ensure!(start.elapsed() < PATIENCE, "{polled:?}"),
        }
        other.work().await?;
    }
    silent.has.clear();
    other.member.leave().await?;
    until(&mut [&mut silent], |w| w[0].has.len() == 1).await?;
    Ok(())
}

/// A group that has committed nothing begins with the first record, also of a topic that is
/// new and written to meanwhile.
pub(super) async fn a_new_group_begins_with_the_first_record(world: World) -> Result<()> {
    let world = Arc::new(world);
    let mut at_once = tokio::task::JoinSet::new();
    for number in 0..NEW_TOPICS {
        if at_once.len() >= NEW_AT_ONCE
            && let Some(ended) = at_once.join_next().await
        {
            ended??;
        }
        let world = world.clone();
        at_once.spawn(async move { begins_with_the_first(&world, &format!("t{number}")).await });
    }
    while let Some(ended) = at_once.join_next().await {
        ended??;
    }
    Ok(())
}

async fn begins_with_the_first(world: &World, topic: &str) -> Result<()> {
    const RECORDS: u64 = 30;
    let partitions = world.topic(topic, 3).await?;
    let mut writing = tokio::task::JoinSet::new();
    for partition in partitions.clone() {
        let log = world.log.clone();
        writing.spawn(async move {
            for number in 0..RECORDS {
                let appended = log.append(numbered(&partition, "r", 1)).await?;
                ensure!(appended[0].offset == number, "{partition}: {appended:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        });
    }
    let (group, name) = (world.name(&format!("g-{topic}")), world.name(topic));
    let mut member = world.log.join(&group, &[&name]).await?;
    let (mut next, mut paused) = (BTreeMap::new(), Vec::new());
    let start = Instant::now();
    while next.values().sum::<u64>() < RECORDS * partitions.len() as u64 {
        ensure!(start.elapsed() < PATIENCE, "{next:?}");
        for partition in &partitions {
            let bounds = world.log.bounds(partition).await?;
            ensure!(bounds.first == 0, "{partition} begins at {bounds:?}");
        }
        // As who has to look first where it was.
        member.resume(&std::mem::take(&mut paused))?;
        match member.poll(turn()).await? {
            Polled::Assigned(assigned) => {
                for (partition, first) in assigned {
                    ensure!(first == 0, "{partition} is to be read from {first}");
                    next.insert(partition.clone(), first);
                    paused.push(partition);
                }
                member.pause(&paused)?;
            }
            Polled::Records(batch) => {
                let expected = next.entry(batch.partition.clone()).or_default();
                for record in &batch.records {
                    ensure!(record.offset == *expected, "{expected}, not {}", record.offset);
                    *expected += 1;
                }
            }
            Polled::Idle => {}
            gone => bail!("{gone:?}"),
        }
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    member.leave().await?;
    Ok(())
}

/// Whatever is paused and resumed, and in whichever order: each partition's records come in
/// theirs, and none is passed over.
pub(super) async fn pauses_at_random_pass_nothing_over(world: World) -> Result<()> {
    const PARTITIONS: u32 = 3;
    const RECORDS: usize = 600;
    let seed = fastrand::u64(..);
    eprintln!("seed of the pauses {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let partitions = world.topic("t", PARTITIONS).await?;
    let (log, to) = (world.log.clone(), partitions.clone());
    // A few at a time, so that the partitions take turns with whoever reads.
    let writing = tokio::spawn(async move {
        for _ in 0..RECORDS / 2 {
            let records = to.iter().flat_map(|partition| numbered(partition, "r", 2)).collect();
            log.append(records).await?;
        }
        anyhow::Ok(())
    });
    let mut member = world.log.join(&world.name("g"), &[&world.name("t")]).await?;
    let (mut next, mut paused) = (BTreeMap::<u32, u64>::new(), BTreeSet::new());
    let start = Instant::now();
    while next.values().sum::<u64>() < RECORDS as u64 * u64::from(PARTITIONS) {
        ensure!(start.elapsed() < PATIENCE, "{next:?}, {paused:?} are paused");
        // What is paused stays so for a while, and at times is resumed and paused again
        // before anything is read.
        for partition in partitions.iter().filter(|of| next.contains_key(&of.index)) {
            for _ in 0..random.u8(0..3) {
                let one = std::slice::from_ref(partition);
                match paused.take(partition) {
                    Some(_) if random.u8(..) < 140 => member.resume(one)?,
                    Some(still) => drop(paused.insert(still)),
                    None if random.u8(..) < 80 => {
                        member.pause(one)?;
                        paused.insert(partition.clone());
                    }
                    None => {}
                }
            }
        }
        // Who is slow finds more of several partitions at once.
        if random.u8(..) < 60 {
            tokio::time::sleep(Duration::from_millis(random.u64(1..100))).await;
        }
        let wait = Duration::from_millis(random.u64(1..20));
        match member.poll(ReadLimit { bytes: random.usize(1..400), wait }).await? {
            Polled::Assigned(assigned) => {
                next.extend(assigned.iter().map(|(partition, first)| (partition.index, *first)));
            }
            Polled::Records(batch) => {
                let of = &batch.partition;
                ensure!(!paused.contains(of), "{of} is paused");
                let expected = next.entry(of.index).or_default();
                for record in &batch.records {
                    ensure!(record.offset == *expected, "{of}: {}, not {expected}", record.offset);
                    *expected += 1;
                }
            }
            Polled::Idle => {}
            gone => bail!("{gone:?}"),
        }
    }
    writing.await??;
    member.leave().await?;
    Ok(())
}
