//! Keys that stay blocked for so long that their messages are parked.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use ingest::event::Kind;
use ingest::log::Partition;
use mediator::deliver::{Config, WhichWaiting};

use crate::cases::QUICK;
use crate::control::{by, ids, nothing_is_ordered, until_held};
use crate::receiver::{Receiver, Reply};
use crate::world::{Case, Node, World, check_order, config, message};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("a_key_that_stays_blocked_is_parked_and_comes_in_order", |w| Box::pin(in_order(w))),
        ("what_is_parked_is_decided_of_as_any_other", |w| Box::pin(decided(w))),
    ]
}

async fn node(world: &World, name: &str) -> Result<Node> {
    let mut node = world.node(name).await?;
    node.deliver(Config { window_records_max: 200, read_bytes: 8 * 1024, ..config() });
    Ok(node)
}

async fn accept_all(
    world: &World,
    node: &Node,
    of: impl Iterator<Item = (String, Option<String>)>,
) -> Result<()> {
    for (id, key) in of {
        node.queues.accept(&world.queue, message(&id, key.as_deref())?).await?;
    }
    Ok(())
}

async fn in_order(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| match attempt.key.as_deref() {
        Some("held") => Reply::Status(422),
        Some("retried") => Reply::Status(503),
        _ => Reply::Status(200),
    })
    .await?;
    let mut node = self::node(&world, "one").await?;
    let spec = r#""partitions": 1, "on_exhausted": "hold", "retry": {"delay_min_ms": 300,
        "delay_max_ms": 600, "attempts_max": 1000}"#;
    world.queue(&node, &receiver.url, spec).await?;
    // Of ten two are blocked, in a window of 200 that is read ten times.
    let of = |number: u64| match number % 10 {
        0 => "held",
        1 => "retried",
        _ => "free",
    };
    let messages = |range: std::ops::Range<u64>| {
        range.map(|number| (format!("m{number:06}"), Some(of(number).to_owned())))
    };
    accept_all(&world, &node, messages(0..1_200)).await?;
    receiver.wait_for(960).await?;
    let waits = async |node: &Node| -> Result<u64> {
        Ok(node.control().overview(Some(&world.queue)).await?.remove(0).waiting)
    };
    node.eventually("what waits is known", async || Ok(waits(&node).await? == 240)).await?;
    let overview = node.control().overview(Some(&world.queue)).await?.remove(0);
    ensure!(overview.parked >= 150 && overview.held == 1, "{overview:?}");
    let held = until_held(&world, &node, 1).await?.remove(0);
    ensure!((held.id.as_str(), held.offset, held.attempts) == ("m000000", 0, 1), "{held:?}");
    ensure!(overview.oldest == Some(held.accepted), "{overview:?}");
    let told = async || {
        let events = node.events(&world, Kind::Queue).await?;
        Ok(events.last().and_then(|event| event.delivery_waiting) == Some(240))
    };
    node.eventually("the account knows of what is parked", told).await?;

    // The next owner goes on with all of it, and so does one that is handed over to.
    node.stop().await?;
    node = self::node(&world, "two").await?;
    accept_all(&world, &node, messages(1_200..1_800)).await?;
    receiver.wait_for(1_440).await?;
    ensure!(receiver.of("m000000").len() == 1, "what is held stays held");
    node.eventually("what waits is known", async || Ok(waits(&node).await? == 360)).await?;
    receiver.set(|_| Reply::Status(200));
    ensure!(node.control().retry(&world.queue, &WhichWaiting::Held, &by()).await? == 1);
    receiver.wait_for(1_800).await?;
    node.is_drained(&world, 1).await?;
    check_order(&receiver)?;
    nothing_is_ordered(&world, &node).await?;
    let taken: Vec<_> = receiver.attempts().into_iter().filter(|a| a.status == 200).collect();
    ensure!(taken.len() == 1_800, "{} deliveries of 1,800 messages", taken.len());
    let numbers: Vec<u64> = receiver.of("m000001").iter().map(|a| a.number).collect();
    ensure!(numbers == (1..=numbers.len() as u64).collect::<Vec<_>>(), "counted on: {numbers:?}");
    let parked = Partition::new(world.topic(".parked"), 0);
    let is_trimmed = async || {
        let bounds = node.log.bounds(&parked).await?;
        Ok(bounds.end > 300 && bounds.first >= bounds.end - 60)
    };
    node.eventually("what was parked is trimmed", is_trimmed).await?;
    node.stop().await
}

async fn decided(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| {
        Reply::Status(if attempt.id.starts_with("bad") { 422 } else { 200 })
    })
    .await?;
    let node = self::node(&world, "one").await?;
    let spec = format!(r#""partitions": 1, "on_exhausted": "hold", {QUICK}"#);
    world.queue(&node, &receiver.url, &spec).await?;
    // Twelve that are refused, three of them without a key, each of the others with 20
    // behind it; and between them what nothing holds back.
    let bad = (0..12).map(|n| (format!("bad-{n:02}"), (n >= 3).then(|| format!("k{n}"))));
    accept_all(&world, &node, bad).await?;
    let others = (0..20).flat_map(|round| {
        let behind = (3..12).map(move |n| (format!("good-{n:02}-{round}"), Some(format!("k{n}"))));
        behind.chain((0..40).map(move |n| (format!("free-{round}-{n}"), None)))
    });
    accept_all(&world, &node, others).await?;
    receiver.wait_for(800).await?;
    let held = until_held(&world, &node, 12).await?;
    node.eventually("all is parked that can be", async || {
        let overview = node.control().overview(Some(&world.queue)).await?.remove(0);
        Ok(overview.parked >= 12 && overview.waiting == 12 + 180)
    })
    .await?;
    ensure!(held.iter().all(|of| of.attempts == 1), "{held:?}");
    let names: BTreeSet<&str> = held.iter().map(|of| of.id.as_str()).collect();
    ensure!(names.len() == 12 && names.iter().all(|id| id.starts_with("bad")), "{names:?}");

    // One of a key and one without are given up, one of each goes through.
    let control = node.control();
    control.give_up(&world.queue, &ids(&["bad-00", "bad-03"]), &by()).await?;
    receiver.set(|attempt| {
        let is_bad = attempt.id.starts_with("bad");
        let is_mended = matches!(attempt.id.as_str(), "bad-01" | "bad-04");
        Reply::Status(if is_bad && !is_mended { 422 } else { 200 })
    });
    control.retry(&world.queue, &ids(&["bad-01", "bad-04"]), &by()).await?;
    receiver.wait_for(800 + 2 + 40).await?;
    nothing_is_ordered(&world, &node).await?;
    ensure!(until_held(&world, &node, 8).await?.len() == 8);
    ensure!(control.give_up(&world.queue, &WhichWaiting::Held, &by()).await? == 8);
    receiver.wait_for(800 + 2 + 180).await?;
    node.is_drained(&world, 1).await?;
    check_order(&receiver)?;
    let dead = node.dead(&world).await?;
    let given_up =
        dead.iter().filter(|(.., reason, attempts)| (&**reason, &**attempts) == ("given_up", "1"));
    ensure!((dead.len(), given_up.count()) == (10, 10), "{dead:?}");
    node.stop().await
}
