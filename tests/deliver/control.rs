//! What people decide of a queue while it runs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use ingest::event::Kind;
use ingest::http::Correlation;
use mediator::deliver::{
    By, ControlError, Decision, NewMessage, Waiting, WaitingState, Which, WhichWaiting,
};
use tokio::time::sleep;

use crate::cases::QUICK;
use crate::receiver::{Receiver, Reply};
use crate::world::{Case, Node, World, check_order, message};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("a_paused_queue_starts_nothing_and_then_goes_on", |w| Box::pin(paused(w))),
        ("held_messages_are_tried_again_or_given_up", |w| Box::pin(held(w))),
        ("what_waits_for_a_retry_is_tried_at_once", |w| Box::pin(at_once(w))),
        ("a_decision_waits_for_an_owner_and_counts_once", |w| Box::pin(later(w))),
        ("what_has_expired_is_attempted_no_more", |w| Box::pin(expired(w))),
        ("attempts_begin_as_often_as_the_rate_says", |w| Box::pin(rate(w))),
        ("a_rate_is_one_rate_over_two_nodes", |w| Box::pin(rate_of_two(w))),
        ("first_attempts_go_before_retries", |w| Box::pin(first(w))),
    ]
}

pub(crate) fn by() -> By {
    let correlation = Correlation::of(&Default::default(), || 7);
    By { actor: "ada".to_owned(), service: "a case", correlation }
}

pub(crate) fn ids(ids: &[&str]) -> WhichWaiting {
    WhichWaiting::Ids(ids.iter().map(|id| (*id).to_owned()).collect())
}

/// Waits until so many messages are in a state.
async fn until(
    world: &World,
    node: &Node,
    count: usize,
    is: impl Fn(WaitingState) -> bool,
) -> Result<Vec<Waiting>> {
    let mut found = Vec::new();
    node.eventually(&format!("{count} wait so"), async || {
        found = node.control().waiting(&world.queue, 1_000).await?.0;
        found.retain(|of| is(of.state));
        Ok(found.len() == count)
    })
    .await?;
    Ok(found)
}

pub(crate) async fn until_held(world: &World, node: &Node, count: usize) -> Result<Vec<Waiting>> {
    until(world, node, count, |state| state == WaitingState::Held).await
}

/// Waits until nothing is ordered any more: what was obeyed is forgotten.
pub(crate) async fn nothing_is_ordered(world: &World, node: &Node) -> Result<()> {
    let prefix = format!("{}/waiting/", world.queue);
    node.eventually("no order is left", async || {
        let mut left = BTreeSet::new();
        for record in node.records("weir.delivery.control").await? {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
            match record.value {
                Some(_) => left.insert(key.into_owned()),
                None => left.remove(&*key),
            };
        }
        Ok(!left.iter().any(|key| key.starts_with(&prefix)))
    })
    .await
}

async fn paused(world: World) -> Result<()> {
    let receiver = Receiver::start(|_| Reply::Status(200)).await?;
    let mut node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 2, {QUICK}"#)).await?;
    node.accept(&world.queue, "before", Some("k")).await?;
    receiver.wait_for(1).await?;
    node.control().pause(&world.queue, "the target is mended", &by()).await?;
    // Each node hears of it in its own time; three seconds are long for that.
    sleep(Duration::from_secs(3)).await;
    for turn in 0..2 {
        for number in 0..5 {
            node.accept(&world.queue, &format!("m{turn}{number}"), Some("k")).await?;
        }
        sleep(Duration::from_millis(500)).await;
        ensure!(receiver.attempts().len() == 1, "{} in turn {turn}", receiver.attempts().len());
        // Nor does another owner start any.
        node.stop().await?;
        node = world.delivering("two").await?;
    }
    sleep(Duration::from_secs(1)).await;
    let overview = node.control().overview(Some(&world.queue)).await?.remove(0);
    let pause = overview.pause.as_ref();
    ensure!(pause.is_some_and(|of| of.by == "ada" && of.reason == "the target is mended"));
    ensure!((overview.waiting, overview.held, overview.retrying) == (10, 0, 0), "{overview:?}");
    ensure!(receiver.attempts().len() == 1, "it starts nothing");

    node.control().resume(&world.queue, &by()).await?;
    receiver.wait_for(11).await?;
    node.is_drained(&world, 2).await?;
    check_order(&receiver)?;
    let overview = node.control().overview(Some(&world.queue)).await?.remove(0);
    ensure!(overview.pause.is_none() && overview.waiting == 0, "{overview:?}");
    let told = node.events(&world, Kind::Admin).await?;
    let told: Vec<_> = told.iter().filter_map(|event| event.admin_action.as_deref()).collect();
    ensure!(told == ["pause", "resume"], "{told:?}");
    let nothing = node.control().pause(&"nothing".parse()?, "", &by()).await;
    ensure!(matches!(nothing, Err(ControlError::NoQueue(_))), "{nothing:?}");
    node.stop().await
}

/// A queue that holds what its target refuses, with so many messages of it, each with one
/// of its key behind it.
async fn holding(world: &World, held: usize) -> Result<(Node, Receiver)> {
    let receiver = Receiver::start(|attempt| {
        Reply::Status(if attempt.id.starts_with("bad") { 422 } else { 200 })
    })
    .await?;
    let node = world.delivering("one").await?;
    let spec = format!(r#""partitions": 2, "on_exhausted": "hold", {QUICK}"#);
    world.queue(&node, &receiver.url, &spec).await?;
    for number in 0..held {
        let key = format!("k{number}");
        node.accept(&world.queue, &format!("bad-{number}"), Some(&key)).await?;
        node.accept(&world.queue, &format!("good-{number}"), Some(&key)).await?;
    }
    until_held(world, &node, held).await?;
    Ok((node, receiver))
}

async fn held(world: World) -> Result<()> {
    let (node, receiver) = holding(&world, 3).await?;
    let control = node.control();
    let (found, total) = control.waiting(&world.queue, 2).await?;
    ensure!((found.len(), total) == (2, 3), "a part of them is told as one");
    let all = control.waiting(&world.queue, 10).await?.0;
    let first = all.iter().find(|of| of.id == "bad-0").expect("it is held");
    ensure!(first.key.as_deref() == Some("k0") && (first.attempts, first.body_bytes) == (1, 5));
    match control.retry(&world.queue, &ids(&["bad-1", "none"]), &by()).await {
        Err(ControlError::Missing { ids, .. }) if ids == ["none"] => {}
        other => bail!("{other:?}"),
    }
    ensure!(receiver.attempts().len() == 3, "nothing was done");

    // Tried again in vain: held again, its attempts counted anew.
    ensure!(control.retry(&world.queue, &ids(&["bad-0"]), &by()).await? == 1);
    receiver.wait_until("another attempt", |r| r.of("bad-0").len() == 2).await?;
    nothing_is_ordered(&world, &node).await?;
    let again = until_held(&world, &node, 3).await?;
    ensure!(again.iter().all(|of| of.attempts == 1), "{again:?}");
    // And with success: what is behind it follows.
    receiver.set(|attempt| Reply::Status(if attempt.id == "bad-2" { 422 } else { 200 }));
    control.retry(&world.queue, &ids(&["bad-0"]), &by()).await?;
    receiver.wait_until("what is behind", |r| r.of("good-0").len() == 1).await?;

    // Given up: no attempt more, and what is behind it follows.
    ensure!(control.give_up(&world.queue, &ids(&["bad-1"]), &by()).await? == 1);
    receiver.wait_until("what is behind", |r| r.of("good-1").len() == 1).await?;
    ensure!(receiver.of("bad-1").len() == 1, "no attempt more");
    nothing_is_ordered(&world, &node).await?;
    ensure!(control.give_up(&world.queue, &WhichWaiting::Held, &by()).await? == 1, "the third");
    node.is_drained(&world, 2).await?;
    check_order(&receiver)?;
    let mut dead = node.dead(&world).await?;
    dead.sort();
    let given_up = |id: &str| (id.to_owned(), "given_up".to_owned(), "1".to_owned());
    ensure!(dead == [given_up("bad-1"), given_up("bad-2")], "{dead:?}");
    nothing_is_ordered(&world, &node).await?;
    ensure!(control.waiting(&world.queue, 10).await?.1 == 0, "nothing waits");
    // The account of events: four delivered, two dead, by whom it was decided.
    let dead = node.events(&world, Kind::DeadLetter).await?;
    ensure!(dead.len() == 2, "{} told dead", dead.len());
    let told = node.events(&world, Kind::Admin).await?;
    let told: Vec<_> = told.iter().filter_map(|event| event.admin_action.as_deref()).collect();
    ensure!(told == ["retry", "retry", "give_up", "give_up"], "{told:?}");
    node.stop().await
}

async fn at_once(world: World) -> Result<()> {
    let receiver = Receiver::start(|_| Reply::Status(503)).await?;
    let node = world.delivering("one").await?;
    let hour = r#""retry": {"delay_min_ms": 3600000, "delay_max_ms": 3600000}"#;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 1, {hour}"#)).await?;
    for (id, key) in [("a", "k"), ("b", "k"), ("c", "l")] {
        node.accept(&world.queue, id, Some(key)).await?;
    }
    let waits = |state| matches!(state, WaitingState::Retry(_));
    until(&world, &node, 2, waits).await?;
    receiver.set(|_| Reply::Status(200));
    node.control().retry(&world.queue, &ids(&["a"]), &by()).await?;
    receiver.wait_until("it and what is behind", |r| r.of("b").len() == 1).await?;
    ensure!(receiver.of("c").len() == 1, "the other waits");
    node.control().give_up(&world.queue, &ids(&["c"]), &by()).await?;
    node.is_drained(&world, 1).await?;
    let dead = node.dead(&world).await?;
    ensure!(dead == [("c".into(), "given_up".into(), "1".into())], "{dead:?}");
    node.stop().await
}

/// Given while nobody owns the partition.
async fn later(world: World) -> Result<()> {
    let (mut node, receiver) = holding(&world, 2).await?;
    if let Some(delivery) = node.delivery.take() {
        delivery.shutdown().await;
    }
    receiver.set(|_| Reply::Status(200));
    let decided = node.control();
    // What was said last counts.
    decided.give_up(&world.queue, &ids(&["bad-0"]), &by()).await?;
    decided.retry(&world.queue, &ids(&["bad-0"]), &by()).await?;
    decided.give_up(&world.queue, &ids(&["bad-1"]), &by()).await?;
    ensure!(receiver.attempts().len() == 2, "nobody obeys yet");
    drop(decided);
    node.stop().await?;
    for _ in 0..2 {
        let node = world.delivering("two").await?;
        node.is_drained(&world, 2).await?;
        nothing_is_ordered(&world, &node).await?;
        node.stop().await?;
    }
    let attempts = ["bad-0", "good-0", "bad-1", "good-1"].map(|id| receiver.of(id).len());
    ensure!(attempts == [2, 1, 1, 1], "{attempts:?}");
    let node = world.node("three").await?;
    let dead = node.dead(&world).await?;
    ensure!(dead == [("bad-1".into(), "given_up".into(), "1".into())], "{dead:?}");
    node.stop().await
}

async fn expired(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| {
        let fails = matches!(attempt.id.as_str(), "tried" | "behind");
        Reply::Status(if fails { 503 } else { 200 })
    })
    .await?;
    let node = world.delivering("one").await?;
    // Held where its attempts are used up; of what has expired nobody has to decide.
    let spec = format!(r#""partitions": 1, "on_exhausted": "hold", {QUICK}"#);
    world.queue(&node, &receiver.url, &spec).await?;
    let within = |id: &str, ms| {
        let expires_after = Some(Duration::from_millis(ms));
        anyhow::Ok(NewMessage { expires_after, ..message(id, Some("k"))? })
    };
    node.accept(&world.queue, "before", Some("k")).await?;
    receiver.wait_for(1).await?;
    node.queues.accept(&world.queue, within("tried", 5_000)?).await?;
    node.queues.accept(&world.queue, within("behind", 1)?).await?;
    node.accept(&world.queue, "after", Some("k")).await?;
    until_held(&world, &node, 1).await?;
    node.is_drained(&world, 1).await?;
    let dead = node.dead(&world).await?;
    let reasons: Vec<_> = dead.iter().map(|(id, why, _)| (id.as_str(), why.as_str())).collect();
    ensure!(reasons == [("tried", "expired"), ("behind", "expired")], "{dead:?}");
    ensure!(dead[1].2 == "0" && receiver.of("behind").is_empty(), "it had no attempt: {dead:?}");
    ensure!(receiver.of("after").len() == 1);
    let told = node.events(&world, Kind::DeadLetter).await?;
    let told: Vec<_> = told.iter().filter_map(|event| event.fault_code.as_deref()).collect();
    ensure!(told == ["expired", "expired"], "{told:?}");
    // Put back, it is wanted.
    receiver.set(|_| Reply::Status(200));
    let letters = crate::dead::letters(&node);
    letters.settle(&world.queue, &Which::All, &Decision::Replay, &by()).await?;
    receiver.wait_until("both", |r| r.of("behind").len() == 1).await?;
    node.is_drained(&world, 1).await?;
    node.stop().await
}

const RATE: &str = r#""partitions": 4, "rate": {"max": 20, "window_ms": 1000},
    "concurrency_max": 50"#;

/// The most attempts that began within a second. What is under way takes its time too, so a
/// little more than the rate may arrive together.
fn most_in_a_second(receiver: &Receiver) -> usize {
    let mut at: Vec<_> = receiver.attempts().iter().map(|attempt| attempt.at).collect();
    at.sort();
    let within = |from: &Instant| {
        at.iter().filter(|of| *of >= from && **of < *from + Duration::from_secs(1)).count()
    };
    at.iter().map(within).max().unwrap_or(0)
}

async fn rate(world: World) -> Result<()> {
    const MESSAGES: usize = 60;
    let receiver = Receiver::start(|_| Reply::Status(200)).await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!("{RATE}, {QUICK}")).await?;
    for number in 0..MESSAGES {
        node.accept(&world.queue, &format!("m{number}"), None).await?;
    }
    receiver.wait_for(MESSAGES).await?;
    let most = most_in_a_second(&receiver);
    ensure!(most <= 25, "{most} in one second");
    node.is_drained(&world, 4).await?;
    node.stop().await
}

async fn rate_of_two(world: World) -> Result<()> {
    const MESSAGES: usize = 100;
    let receiver = Receiver::start(|_| Reply::Status(200)).await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!("{RATE}, {QUICK}")).await?;
    let second = node.second(&world).await?;
    // Of which each node has as many as it owns.
    for number in 0..MESSAGES {
        node.accept(&world.queue, &format!("m{number}"), None).await?;
    }
    receiver.wait_for(MESSAGES).await?;
    let most = most_in_a_second(&receiver);
    ensure!(most <= 25, "{most} in one second, of both");
    second.shutdown().await;
    node.is_drained(&world, 4).await?;
    node.stop().await
}

/// With one slot: what comes new is not behind what fails.
async fn first(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| {
        Reply::Status(if attempt.id.starts_with("bad") { 503 } else { 200 })
    })
    .await?;
    let node = world.delivering("one").await?;
    let quick = r#""retry": {"delay_min_ms": 10, "delay_max_ms": 10, "attempts_max": 1000}"#;
    let spec = format!(r#""partitions": 1, "concurrency_max": 1, {quick}"#);
    world.queue(&node, &receiver.url, &spec).await?;
    for number in 0..20 {
        node.accept(&world.queue, &format!("bad-{number}"), None).await?;
    }
    receiver.wait_until("they fail", |r| r.attempts().len() >= 60).await?;
    node.control().pause(&world.queue, "", &by()).await?;
    sleep(Duration::from_secs(2)).await;
    for number in 0..70 {
        node.accept(&world.queue, &format!("good-{number}"), None).await?;
    }
    let before = receiver.attempts().len();
    sleep(Duration::from_millis(500)).await;
    node.control().resume(&world.queue, &by()).await?;
    receiver.wait_for(70).await?;
    let since = receiver.attempts().split_off(before);
    let last = since.iter().rposition(|attempt| attempt.id == "good-69");
    let retries = since.iter().take(last.unwrap_or(0)).filter(|of| of.id.starts_with("bad"));
    let retries = retries.count();
    // One of eight; the records of the good ones may come in two reads.
    ensure!((9..=30).contains(&retries), "{retries} retries beside 70 first attempts");
    receiver.set(|_| Reply::Status(200));
    node.is_drained(&world, 1).await?;
    node.stop().await
}
