use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ingest::log::{
    Error, GroupOffsets, Member, NewRecord, Partition, Polled, ReadLimit, Transaction,
};

use super::{WAIT, limit, numbered, read, read_all, text};
use crate::subject::{POLL_INTERVAL_MAX, World};

fn offsets(group: &str, partition: &Partition, offset: u64) -> GroupOffsets {
    let offsets = vec![(partition.clone(), offset)];
    GroupOffsets { group: group.to_owned(), membership: None, offsets }
}

pub(super) async fn records_and_offsets_come_together(world: World) -> Result<()> {
    let (inputs, outputs) = (world.topic("in", 1).await?, world.topic("out", 2).await?);
    let group = world.name("g");
    let mut writer = world.log.writer(&world.name("w")).await?;
    let mut reader = world.log.reader(vec![(outputs[0].clone(), 0)]).await?;
    let mut appended = Vec::new();
    for round in 0..3 {
        let of = |p: &Partition| numbered(p, &format!("round {round}"), 3);
        let records = outputs.iter().flat_map(of).collect();
        let offsets = vec![offsets(&group, &inputs[0], 10 * (round + 1))];
        appended.extend(writer.commit(Transaction { records, offsets }).await?);
        let committed = world.log.committed(&group, &inputs[0]).await?;
        ensure!(committed == Some(10 * (round + 1)), "{committed:?}");
        let mut seen = 0;
        while seen < 3 {
            seen += reader.next(limit()).await?.context("it is visible")?.records.len();
        }
    }
    let second = read(&*world.log, &outputs[1], 0, 9).await?;
    ensure!(text(&second[8]) == "round 2 2" && second[8].offset == appended[17].offset);
    // Offsets alone, and nothing at all.
    let alone = Transaction { records: Vec::new(), offsets: vec![offsets(&group, &inputs[0], 99)] };
    writer.commit(alone).await?;
    ensure!(world.log.committed(&group, &inputs[0]).await? == Some(99));
    ensure!(writer.commit(Transaction::default()).await?.is_empty());
    Ok(())
}

pub(super) async fn a_zombie_writer_is_refused(world: World) -> Result<()> {
    let (inputs, outputs) = (world.topic("in", 1).await?, world.topic("out", 1).await?);
    let (group, name) = (world.name("g"), world.name("w"));
    let transaction = |text: &str, offset| Transaction {
        records: numbered(&outputs[0], text, 2),
        offsets: vec![offsets(&group, &inputs[0], offset)],
    };
    let mut zombie = world.log.writer(&name).await?;
    zombie.commit(transaction("alive", 1)).await?;
    let mut heir = world.log.writer(&name).await?;
    for _ in 0..2 {
        let refused = zombie.commit(transaction("zombie", 2)).await;
        ensure!(matches!(refused, Err(Error::Fenced(_))), "{refused:?}");
    }
    heir.commit(transaction("heir", 3)).await?;
    let mut other = world.log.writer(&world.name("other")).await?;
    other.commit(transaction("another name", 4)).await?;
    let texts: Vec<_> = read_all(&*world.log, &outputs[0]).await?.iter().map(text).collect();
    let expected = ["alive 0", "alive 1", "heir 0", "heir 1", "another name 0", "another name 1"];
    ensure!(texts == expected, "{texts:?}");
    ensure!(world.log.committed(&group, &inputs[0]).await? == Some(4));
    Ok(())
}

async fn assigned(member: &mut dyn Member) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        let turn = ReadLimit { wait: Duration::from_millis(100), ..ReadLimit::default() };
        if let Polled::Assigned(_) = member.poll(turn).await? {
            return Ok(());
        }
        ensure!(start.elapsed() < WAIT, "nothing was assigned");
    }
}

pub(super) async fn a_zombie_member_commits_nothing(world: World) -> Result<()> {
    let (inputs, outputs) = (world.topic("in", 1).await?, world.topic("out", 1).await?);
    let (group, topic) = (world.name("g"), world.name("in"));
    world.log.append(numbered(&inputs[0], "x", 5)).await?;
    let mut zombie = world.log.join(&group, &[&topic]).await?;
    let mut zombie_writer = world.log.writer(&world.name("zombie")).await?;
    assigned(&mut *zombie).await?;
    let transaction = |member: &dyn Member, text: &str, offset| Transaction {
        records: numbered(&outputs[0], text, 1),
        offsets: vec![GroupOffsets {
            membership: Some(member.membership()),
            ..offsets(&group, &inputs[0], offset)
        }],
    };
    zombie_writer.commit(transaction(&*zombie, "alive", 1)).await?;
    let mut heir = world.log.join(&group, &[&topic]).await?;
    let mut heir_writer = world.log.writer(&world.name("heir")).await?;
    tokio::time::sleep(POLL_INTERVAL_MAX).await;
    assigned(&mut *heir).await?;
    let refused = zombie_writer.commit(transaction(&*zombie, "zombie", 2)).await;
    ensure!(matches!(refused, Err(Error::Fenced(_))), "{refused:?}");
    heir_writer.commit(transaction(&*heir, "heir", 3)).await?;
    let texts: Vec<_> = read_all(&*world.log, &outputs[0]).await?.iter().map(text).collect();
    ensure!(texts == ["alive 0", "heir 0"], "{texts:?}");
    ensure!(world.log.committed(&group, &inputs[0]).await? == Some(3));
    Ok(())
}

pub(super) async fn a_refused_transaction_leaves_no_trace(world: World) -> Result<()> {
    let (inputs, outputs) = (world.topic("in", 1).await?, world.topic("out", 1).await?);
    let group = world.name("g");
    let mut writer = world.log.writer(&world.name("w")).await?;
    let too_large = NewRecord::unkeyed(vec![0; ingest::log::RECORD_BYTES_MAX + 1]);
    let records = [numbered(&outputs[0], "good", 2), vec![(outputs[0].clone(), too_large)]];
    let refused =
        Transaction { records: records.concat(), offsets: vec![offsets(&group, &inputs[0], 5)] };
    let error = writer.commit(refused).await;
    ensure!(matches!(error, Err(Error::TooLarge { .. })), "{error:?}");
    ensure!(world.log.committed(&group, &inputs[0]).await?.is_none());
    let records = numbered(&outputs[0], "after", 1);
    writer.commit(Transaction { records, offsets: Vec::new() }).await?;
    let texts: Vec<_> = read_all(&*world.log, &outputs[0]).await?.iter().map(text).collect();
    ensure!(texts == ["after 0"], "{texts:?}");
    Ok(())
}
