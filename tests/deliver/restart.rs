//! What deliveries promise through restarts and rebalances.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::account;
use crate::cases::QUICK;
use crate::receiver::{Receiver, Reply};
use crate::world::{Case, World, check_order};

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        vec![$((stringify!($case), (|world| Box::pin($case(world))) as Case)),+]
    };
}

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    cases![
        an_orderly_restart_delivers_nothing_twice,
        attempts_are_counted_through_restarts,
        a_partition_that_is_handed_over_goes_on_in_order,
        a_fenced_owner_commits_nothing,
    ]
}

async fn an_orderly_restart_delivers_nothing_twice(world: World) -> Result<()> {
    // One key in five waits, so that the others complete ahead.
    let receiver = Receiver::start(|attempt| {
        Reply::Status(if attempt.key.as_deref() == Some("k0") { 503 } else { 200 })
    })
    .await?;
    let mut node = world.delivering("one").await?;
    let spec = r#""partitions": 2, "retry": {"delay_min_ms": 20, "delay_max_ms": 50,
        "attempts_max": 1000}"#;
    world.queue(&node, &receiver.url, spec).await?;
    for round in 0..4 {
        for number in 0..50 {
            let id = format!("{round}-{number}");
            node.accept(&world.queue, &id, Some(&format!("k{}", number % 5))).await?;
        }
        receiver.wait_for(40 * (round + 1)).await?;
        node.stop().await?;
        node = world.delivering("one").await?;
    }
    receiver.set(|_| Reply::Status(200));
    receiver.wait_for(200).await?;
    node.is_drained(&world, 2).await?;
    check_order(&receiver)?;
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for attempt in receiver.attempts().into_iter().filter(|a| a.status == 200) {
        *taken.entry(attempt.id).or_default() += 1;
    }
    let twice: Vec<_> = taken.iter().filter(|(_, times)| **times > 1).collect();
    ensure!(twice.is_empty(), "delivered twice: {twice:?}");
    let epochs: BTreeSet<u64> = receiver.attempts().iter().map(|a| a.epoch).collect();
    ensure!(epochs.len() >= 5, "owners have epochs of their own: {epochs:?}");
    ensure!(account::holds(&world, &node).await? == [200, 200, 0], "all of them are delivered");
    node.stop().await
}

async fn attempts_are_counted_through_restarts(world: World) -> Result<()> {
    let receiver = Receiver::start(|_| Reply::Status(500)).await?;
    let mut node = world.delivering("one").await?;
    let spec = r#""partitions": 1, "retry": {"delay_min_ms": 100, "delay_max_ms": 200,
        "attempts_max": 6}"#;
    world.queue(&node, &receiver.url, spec).await?;
    node.accept(&world.queue, "m", Some("k")).await?;
    for attempts in [2, 4] {
        receiver.wait_until("attempts", |r| r.attempts().len() >= attempts).await?;
        node.stop().await?;
        node = world.delivering("one").await?;
    }
    node.is_drained(&world, 1).await?;
    let numbers: Vec<u64> = receiver.attempts().iter().map(|a| a.number).collect();
    ensure!(numbers == [1, 2, 3, 4, 5, 6], "{numbers:?}");
    let dead = node.dead(&world).await?;
    ensure!(dead == [("m".into(), "attempts_used_up".into(), "6".into())], "{dead:?}");
    ensure!(account::holds(&world, &node).await? == [1, 0, 1], "it is dead");
    node.stop().await
}

async fn a_partition_that_is_handed_over_goes_on_in_order(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| match attempt.seen {
        1 if attempt.sequence % 5 == 0 => Reply::Status(503),
        // So long that some are under way whenever a partition is given up.
        _ => Reply::Slow(200, Duration::from_millis(30)),
    })
    .await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 4, {QUICK}"#)).await?;
    let (queues, queue) = (node.queues.clone(), world.queue.clone());
    let accepting = tokio::spawn(async move {
        for number in 0..1_500 {
            let key = format!("k{}", number % 11);
            let message = crate::world::message(&format!("m{number}"), Some(&key))?;
            queues.accept(&queue, message).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        anyhow::Ok(())
    });
    receiver.wait_for(100).await?;
    let second = node.second(&world).await?;
    receiver.wait_for(500).await?;
    second.shutdown().await;
    accepting.await??;
    receiver.wait_for(1_500).await?;
    node.is_drained(&world, 4).await?;
    check_order(&receiver)?;
    let delivered = receiver.attempts().iter().filter(|a| a.status == 200).count();
    ensure!(delivered == 1_500, "{delivered} deliveries of 1500 messages");
    let broken_off = receiver.attempts().iter().filter(|a| a.status == 0).count();
    ensure!(broken_off == 0, "{broken_off} attempts were broken off");
    ensure!(account::holds(&world, &node).await? == [1_500, 1_500, 0], "all are delivered");
    node.stop().await
}

async fn a_fenced_owner_commits_nothing(world: World) -> Result<()> {
    let receiver = Receiver::start(|_| Reply::Hang).await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 1, {QUICK}"#)).await?;
    node.accept(&world.queue, "m", Some("k")).await?;
    receiver.wait_until("an attempt", |r| !r.attempts().is_empty()).await?;
    let before = receiver.attempts()[0].epoch;
    // Somebody else becomes the partition's writer: what the owner does from here
    // on is refused, and it begins anew, as a later owner.
    receiver.set(|_| Reply::Status(200));
    let writer = world.topic("") + ".0";
    drop(node.log.writer(&writer).await?);
    node.accept(&world.queue, "n", Some("other")).await?;
    receiver.wait_for(2).await?;
    node.is_drained(&world, 1).await?;
    ensure!(receiver.of("m").len() == 2, "it was attempted again");
    ensure!(receiver.of("m")[1].epoch > before, "by a later owner");
    ensure!(account::holds(&world, &node).await? == [2, 2, 0], "both are delivered");
    node.stop().await
}
