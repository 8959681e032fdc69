//! Messages that have ended, and are sent again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingest::event::{Kind, SystemClock, Timestamp};
use ingest::log::Partition;
use mediator::deliver::{History, HistoryError, Past, Resend, WhichPast};

use crate::cases::QUICK;
use crate::control::by;
use crate::receiver::{Receiver, Reply};
use crate::world::{Case, Node, World};

const EVER: (Timestamp, Timestamp) = (Timestamp::MIN, Timestamp::MAX);

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("what_was_delivered_is_sent_again", |w| Box::pin(resent(w))),
        ("what_waits_is_not_in_the_history", |w| Box::pin(waits(w))),
        ("a_history_is_kept_for_its_time", |w| Box::pin(kept(w))),
    ]
}

fn history(node: &Node) -> History {
    let clock = std::sync::Arc::new(SystemClock);
    History::new(node.log.clone(), node.view.clone(), node.emitter.clone(), clock)
}

fn ids(ids: &[&str]) -> WhichPast {
    WhichPast::Ids(ids.iter().map(|id| (*id).to_owned()).collect())
}

/// Waits until so many are in the history.
async fn until(world: &World, node: &Node, count: usize) -> Result<Vec<Past>> {
    let mut found = Vec::new();
    node.eventually(&format!("{count} have ended"), async || {
        let (listed, total) = history(node).list(&world.queue, EVER, 1_000).await?;
        ensure!(listed.len() as u64 == total, "{total} in all");
        found = listed;
        Ok(found.len() == count)
    })
    .await?;
    Ok(found)
}

async fn resent(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| match attempt.id.as_str() {
        "m007" => Reply::Status(400),
        _ => Reply::Status(204),
    })
    .await?;
    let node = world.delivering("one").await?;
    let spec = format!(r#""partitions": 2, "history_ms": 3600000, {QUICK}"#);
    world.queue(&node, &receiver.url, &spec).await?;
    // More than are left where nothing is kept.
    for number in 0..120 {
        let (id, key) = (format!("m{number:03}"), format!("k{}", number % 5));
        node.accept(&world.queue, &id, Some(&key)).await?;
    }
    let listed = until(&world, &node, 120).await?;
    ensure!(listed.is_sorted_by_key(|of| std::cmp::Reverse(of.accepted)), "the latest first");
    let last = &listed[0];
    ensure!(last.key.as_deref() == Some("k4") && last.body_bytes == 4, "{last:?}");

    let how = |to: &str, under_new_ids| -> Result<Resend> {
        Ok(Resend { to: to.parse()?, under_new_ids })
    };
    let same = how(world.queue.as_str(), false)?;
    let refused = history(&node).resend(&world.queue, &ids(&["m003", "no"]), &same, &by()).await;
    ensure!(
        matches!(&refused, Err(HistoryError::Missing { ids, .. }) if *ids == ["no"]),
        "{refused:?}"
    );
    // As it was, under its own id; dead ones too.
    let which = ids(&["m003", "m004", "m007"]);
    ensure!(history(&node).resend(&world.queue, &which, &same, &by()).await? == 3);
    receiver
        .wait_until("both came again", |r| r.of("m003").len() == 2 && r.of("m007").len() == 2)
        .await?;
    let again = &receiver.of("m003")[1];
    ensure!(again.key.as_deref() == Some("k3") && again.number == 1, "{again:?}");
    ensure!(again.sequence > receiver.of("m003")[0].sequence, "behind what the key had");
    until(&world, &node, 120).await?;

    // Under a new id its receiver takes it for a new message, which names the old one.
    let new = how(world.queue.as_str(), true)?;
    ensure!(history(&node).resend(&world.queue, &ids(&["m005"]), &new, &by()).await? == 1);
    receiver.wait_for(120).await?;
    node.is_drained(&world, 2).await?;
    let attempts = receiver.attempts();
    let copy = attempts.iter().find(|of| of.body == "m005" && of.id != "m005");
    let copy = copy.context("it came")?.id.clone();
    ensure!(copy.len() == 36, "{copy}");
    let events = node.events(&world, Kind::Accept).await?;
    let told = events.iter().find(|of| of.messaging_message_id.as_deref() == Some(&copy));
    let told = told.context("it is told of")?;
    ensure!(told.delivery_replay_of.as_deref() == Some("m005"), "{told:?}");
    ensure!(told.delivery_outcome.as_deref() == Some("replayed"), "{told:?}");

    // All of a time, to another endpoint, in the order of each key.
    let other = Receiver::willing().await?;
    node.put("upstream/other", &format!(r#"{{"targets": [{{"url": "{}"}}]}}"#, other.url)).await?;
    let to = format!("{}_copy", world.queue);
    let deliver = r#""deliver": {"upstream": "other", "path": "/orders"}, "partitions": 3"#;
    node.put(&format!("queue/{to}"), &format!("{{{deliver}}}")).await?;
    let time = WhichPast::Accepted(listed[119].accepted, Timestamp::MAX);
    let sent = history(&node).resend(&world.queue, &time, &how(&to, false)?, &by()).await?;
    ensure!(sent == 121, "{sent} were sent");
    other.wait_for(121).await?;
    let mut of_keys: Vec<_> = other.attempts().into_iter().map(|of| (of.key, of.body)).collect();
    of_keys.retain(|(_, body)| !["m003", "m004", "m005", "m007"].contains(&body.as_str()));
    of_keys.sort_by(|one, other| one.0.cmp(&other.0));
    let is_sorted = of_keys.is_sorted();
    ensure!(is_sorted && of_keys.len() == 116, "{of_keys:?}");
    let none = history(&node).resend(&world.queue, &time, &how("nobody", false)?, &by()).await;
    ensure!(matches!(none, Err(HistoryError::NoQueue(_))), "{none:?}");
    node.stop().await
}

async fn waits(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| match attempt.id.as_str() {
        "blocked" => Reply::Status(503),
        _ => Reply::Status(204),
    })
    .await?;
    let node = world.delivering("one").await?;
    let spec = r#""partitions": 1, "history_ms": 60000"#;
    world.queue(&node, &receiver.url, spec).await?;
    for (id, key) in [("first", "a"), ("blocked", "k"), ("behind", "k"), ("other", "b")] {
        node.accept(&world.queue, id, Some(key)).await?;
    }
    let listed = until(&world, &node, 2).await?;
    let listed: Vec<&str> = listed.iter().map(|of| of.id.as_str()).collect();
    ensure!(listed == ["other", "first"], "{listed:?}");
    let same = Resend { to: world.queue.clone(), under_new_ids: false };
    let refused = history(&node).resend(&world.queue, &ids(&["behind"]), &same, &by()).await;
    ensure!(matches!(refused, Err(HistoryError::Missing { .. })), "{refused:?}");
    // What it keeps it has again after it was removed.
    node.remove(&format!("queue/{}", world.queue)).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.queue(&node, &receiver.url, spec).await?;
    until(&world, &node, 2).await?;
    // A queue that keeps nothing says so, whatever is there by chance.
    world.queue(&node, &receiver.url, r#""partitions": 1"#).await?;
    let listed = history(&node).list(&world.queue, EVER, 10).await;
    ensure!(matches!(listed, Err(HistoryError::NotKept(_))), "{listed:?}");
    node.stop().await
}

async fn kept(world: World) -> Result<()> {
    let receiver = Receiver::willing().await?;
    let node = world.delivering("one").await?;
    let spec = format!(r#""partitions": 1, "history_ms": 8000, {QUICK}"#);
    world.queue(&node, &receiver.url, &spec).await?;
    let accept = async |from: usize| {
        for number in from..from + 100 {
            node.accept(&world.queue, &format!("m{number:03}"), None).await?;
        }
        receiver.wait_for(from + 100).await
    };
    accept(0).await?;
    node.is_drained(&world, 1).await?;
    let partition = Partition::new(world.topic(""), 0);
    ensure!(node.log.bounds(&partition).await?.first == 0, "nothing is old");
    tokio::time::sleep(Duration::from_millis(8_500)).await;
    accept(100).await?;
    node.eventually("what is old is gone", async || {
        let first = node.log.bounds(&partition).await?.first;
        ensure!(first <= 100, "{first}: what is new is kept");
        Ok(first == 100)
    })
    .await?;
    node.stop().await
}
