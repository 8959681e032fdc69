//! Messages that wait for the time when they go into their queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingest::event::{Clock as _, Kind, SystemClock, Timestamp};
use ingest::http::Code;
use mediator::deliver::{Config, ControlError, Decision, NewMessage, Which};
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::cases::QUICK;
use crate::control::{by, ids};
use crate::receiver::{Receiver, Reply};
use crate::world::{Case, Node, World, check_order, config, message};

const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("what_is_scheduled_is_delivered_once_it_is_due", |w| Box::pin(due(w))),
        ("what_is_scheduled_outlives_its_node", |w| Box::pin(restarted(w))),
        ("what_is_scheduled_is_delivered_now_or_given_up", |w| Box::pin(decided(w))),
        ("an_id_that_is_scheduled_again_has_the_later_time", |w| Box::pin(again(w))),
        ("a_full_schedule_takes_no_more_until_it_has_room", |w| Box::pin(full(w))),
        ("what_is_scheduled_moves_once_whoever_owns_it", |w| Box::pin(handed_over(w))),
        ("what_has_moved_is_known_before_anything_moves", |w| Box::pin(moved(w))),
    ]
}

fn ahead(by: Duration) -> Timestamp {
    SystemClock.now().after(by)
}

fn scheduled(id: &str, key: Option<&str>, due: Timestamp) -> Result<NewMessage> {
    Ok(NewMessage { due: Some(due), ..message(id, key)? })
}

/// When messages came first, by their ids.
type Came = Arc<Mutex<HashMap<String, Timestamp>>>;

/// A target that takes everything, with the clock by which messages are due: it may be set
/// meanwhile.
async fn with_clock() -> Result<(Receiver, Came)> {
    let came = Came::default();
    let taking = came.clone();
    let receiver = Receiver::start(move |attempt| {
        taking.lock().entry(attempt.id.clone()).or_insert_with(|| SystemClock.now());
        Reply::Status(200)
    });
    Ok((receiver.await?, came))
}

/// Waits until so many are scheduled; their ids, the soonest first.
async fn until(world: &World, node: &Node, count: usize) -> Result<Vec<String>> {
    let mut found = Vec::new();
    node.eventually(&format!("{count} are scheduled"), async || {
        found = node.control().scheduled(&world.queue, 1_000).await?.0;
        Ok(found.len() == count)
    })
    .await?;
    Ok(found.into_iter().map(|of| of.id).collect())
}

async fn due(world: World) -> Result<()> {
    let (receiver, came) = with_clock().await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 1, {QUICK}"#)).await?;
    let now = SystemClock.now();
    let at = |ms| now.after(Duration::from_millis(ms));
    for (id, ms) in [("last", 6_000), ("second", 4_000), ("third", 4_000), ("past", 0)] {
        let accepted = node.queues.accept(&world.queue, scheduled(id, Some("k"), at(ms))?).await?;
        ensure!(accepted.due == (ms > 0).then(|| at(ms)), "{id}: {accepted:?}");
    }
    node.accept(&world.queue, "first", Some("k")).await?;
    let (listed, total) = node.control().scheduled(&world.queue, 2).await?;
    let told: Vec<_> = listed.iter().map(|of| (&*of.id, of.due, of.key.as_deref())).collect();
    ensure!(
        told == [("second", at(4_000), Some("k")), ("third", at(4_000), Some("k"))],
        "{listed:?}"
    );
    ensure!(total == 3 && listed[0].body_bytes == 6, "{listed:?}");
    let overview = node.control().overview(Some(&world.queue)).await?;
    ensure!(overview[0].scheduled == 3 && overview[0].waiting >= 3, "{overview:?}");

    receiver.wait_for(5).await?;
    let order = ["past", "first", "second", "third", "last"];
    ensure!(receiver.delivered() == order, "{:?}", receiver.delivered());
    check_order(&receiver)?;
    for (id, ms) in [("second", 4_000), ("third", 4_000), ("last", 6_000)] {
        let attempts = receiver.of(id);
        let came = came.lock()[id];
        ensure!(attempts.len() == 1 && came >= at(ms), "{id} at {came}, due {}", at(ms));
        let text = |name: &str| attempts[0].headers.get(name).map(|v| v.to_str().unwrap_or(""));
        ensure!(text("content-type") == Some("text/plain") && attempts[0].number == 1);
        ensure!(text("weir-due-time").is_none(), "what is Weir's own stays with it");
    }
    node.is_drained(&world, 1).await?;
    ensure!(until(&world, &node, 0).await?.is_empty());

    // What is told: when it is due, then where it went; what waits is counted all the while.
    let events = node.events(&world, Kind::Accept).await?;
    let of_last = events.iter().filter(|e| e.messaging_message_id.as_deref() == Some("last"));
    let told: Vec<_> = of_last
        .map(|e| (e.delivery_outcome.as_deref(), e.delivery_next_attempt_time, e.delivery_sequence))
        .collect();
    ensure!(
        told == [(Some("scheduled"), Some(at(6_000)), None), (Some("due"), None, Some(4))],
        "{told:?}"
    );
    let mut waited = false;
    node.eventually("nothing is told to wait", async || {
        let events = node.events(&world, Kind::Queue).await?;
        waited |= events.iter().any(|event| event.delivery_waiting > Some(0));
        Ok(events.last().and_then(|event| event.delivery_waiting) == Some(0))
    })
    .await?;
    ensure!(waited, "what is scheduled waits");
    node.stop().await
}

async fn restarted(world: World) -> Result<()> {
    let receiver = Receiver::willing().await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 2, {QUICK}"#)).await?;
    let due = ahead(Duration::from_millis(2_500));
    for number in 0..60 {
        let (id, key) = (format!("m{number:02}"), format!("k{}", number % 5));
        // Without a key too, and some that no retry would wait for.
        let key = (number % 6 != 0).then_some(key.as_str());
        node.queues.accept(&world.queue, scheduled(&id, key, due)?).await?;
    }
    ensure!(receiver.attempts().is_empty(), "nothing is due");
    node.stop().await?;
    while SystemClock.now() < due {
        sleep(Duration::from_millis(20)).await;
    }
    let node = world.delivering("two").await?;
    receiver.wait_for(60).await?;
    node.is_drained(&world, 2).await?;
    ensure!(receiver.attempts().len() == 60, "{} attempts", receiver.attempts().len());
    check_order(&receiver)?;
    let mut of_keys: Vec<(Option<String>, String)> =
        receiver.attempts().into_iter().map(|of| (of.key, of.id)).collect();
    of_keys.retain(|(key, _)| key.is_some());
    of_keys.sort_by(|one, other| one.0.cmp(&other.0));
    let is_sorted = of_keys.is_sorted();
    ensure!(is_sorted, "of one time, in the order of acceptance: {of_keys:?}");
    node.stop().await
}

async fn decided(world: World) -> Result<()> {
    let receiver = Receiver::willing().await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 1, {QUICK}"#)).await?;
    for id in ["now", "never", "stays"] {
        node.queues.accept(&world.queue, scheduled(id, Some(id), ahead(HOUR))?).await?;
    }
    let refused = node.control().retry(&world.queue, &ids(&["now", "nobody"]), &by()).await;
    ensure!(
        matches!(&refused, Err(ControlError::Missing { ids, .. }) if *ids == ["nobody"]),
        "{refused:?}"
    );
    ensure!(node.control().retry(&world.queue, &ids(&["now"]), &by()).await? == 1);
    ensure!(node.control().give_up(&world.queue, &ids(&["never"]), &by()).await? == 1);
    receiver.wait_for(1).await?;
    let dead = ("never".to_owned(), "given_up".to_owned(), "0".to_owned());
    node.eventually("it is a dead letter", async || Ok(node.dead(&world).await? == [dead.clone()]))
        .await?;
    ensure!(until(&world, &node, 1).await? == ["stays"]);
    ensure!(receiver.delivered() == ["now"], "{:?}", receiver.delivered());
    // Of a message that has left nobody decides.
    node.eventually("its attempt is over", async || {
        Ok(node.control().waiting(&world.queue, 1).await?.1 == 0)
    })
    .await?;
    let left = node.control().give_up(&world.queue, &ids(&["now"]), &by()).await;
    ensure!(matches!(left, Err(ControlError::Missing { .. })), "{left:?}");
    let letters = node.events(&world, Kind::DeadLetter).await?;
    let letter = letters.first().context("it is told of")?;
    let told = (letter.fault_code.as_deref(), letter.delivery_sequence, letter.delivery_attempt);
    ensure!(told == (Some("given_up"), Some(-1), Some(0)), "{told:?}");
    // A letter as any other.
    let which = Which::Ids(["never".to_owned()].into());
    let clock = std::sync::Arc::new(SystemClock);
    let letters = mediator::deliver::DeadLetters::new(
        node.log.clone(),
        node.view.clone(),
        node.emitter.clone(),
        clock,
    );
    ensure!(letters.settle(&world.queue, &which, &Decision::Replay, &by()).await? == 1);
    receiver.wait_for(2).await?;
    node.stop().await
}

async fn again(world: World) -> Result<()> {
    let (receiver, came) = with_clock().await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 2, {QUICK}"#)).await?;
    for (id, first) in [("sooner", HOUR), ("later", Duration::from_millis(400))] {
        node.queues.accept(&world.queue, scheduled(id, Some("k"), ahead(first))?).await?;
    }
    let due = ahead(Duration::from_millis(900));
    for id in ["sooner", "later"] {
        node.queues.accept(&world.queue, scheduled(id, Some("k"), due)?).await?;
    }
    receiver.wait_for(2).await?;
    for (id, came) in &*came.lock() {
        ensure!(*came >= due, "{id} came at {came}, due {due}");
    }
    node.is_drained(&world, 2).await?;
    ensure!(receiver.attempts().len() == 2, "each once");
    node.stop().await
}

async fn full(world: World) -> Result<()> {
    let receiver = Receiver::willing().await?;
    let mut node = world.node("one").await?;
    node.deliver(Config { scheduled_max: 10, ..config() });
    world.queue(&node, &receiver.url, &format!(r#""partitions": 1, {QUICK}"#)).await?;
    let mut accepted = Vec::new();
    node.eventually("it is full", async || {
        let id = format!("m{:03}", accepted.len());
        match node.queues.accept(&world.queue, scheduled(&id, None, ahead(HOUR))?).await {
            Ok(_) => accepted.push(id),
            Err(error) => {
                ensure!(error.code == Code::QueueUnavailable, "{error}");
                ensure!(error.reason.contains("full"), "{error}");
                return Ok(true);
            }
        }
        Ok(false)
    })
    .await?;
    ensure!(accepted.len() >= 10, "{} were accepted", accepted.len());
    // What is not scheduled is taken all the same.
    node.accept(&world.queue, "at-once", None).await?;
    ensure!(until(&world, &node, accepted.len()).await?.len() == accepted.len());
    let all: Vec<&str> = accepted.iter().map(String::as_str).collect();
    node.control().retry(&world.queue, &ids(&all), &by()).await?;
    receiver.wait_for(accepted.len() + 1).await?;
    node.eventually("it has room", async || {
        let again = scheduled("again", None, ahead(HOUR))?;
        Ok(node.queues.accept(&world.queue, again).await.is_ok())
    })
    .await?;
    node.stop().await
}

async fn handed_over(world: World) -> Result<()> {
    let receiver = Receiver::willing().await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 4, {QUICK}"#)).await?;
    let began = SystemClock.now();
    let mut accepting = tokio::task::JoinSet::new();
    for number in 0..400_u64 {
        let due = began.after(Duration::from_millis(5_000 + 10 * number));
        let (id, key) = (format!("m{number:03}"), format!("k{}", number % 9));
        let (queues, queue) = (node.queues.clone(), world.queue.clone());
        let message = scheduled(&id, Some(&key), due)?;
        accepting.spawn(async move { queues.accept(&queue, message).await });
    }
    while let Some(accepted) = accepting.join_next().await {
        ensure!(accepted??.due.is_some(), "it is not due yet");
    }
    let second = node.second(&world).await?;
    receiver.wait_for(100).await?;
    second.shutdown().await;
    receiver.wait_for(400).await?;
    node.is_drained(&world, 4).await?;
    check_order(&receiver)?;
    let attempts = receiver.attempts();
    ensure!(attempts.len() == 400, "each once, not {} in all", attempts.len());
    let mut ids: Vec<_> = attempts.into_iter().map(|of| (of.key, of.id)).collect();
    ids.sort_by(|one, other| one.0.cmp(&other.0));
    let is_sorted = ids.is_sorted();
    ensure!(is_sorted, "within a key, as they were due: {ids:?}");
    node.stop().await
}

/// More than one read of the topic, all of it gone by its end.
async fn moved(world: World) -> Result<()> {
    let receiver = Receiver::willing().await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 1, {QUICK}"#)).await?;
    let due = ahead(Duration::from_millis(800));
    for number in 0..40 {
        let body = vec![b'x'; 100_000].into();
        let message = scheduled(&format!("m{number:02}"), None, due)?;
        node.queues.accept(&world.queue, NewMessage { body, ..message }).await?;
    }
    receiver.wait_for(40).await?;
    node.is_drained(&world, 1).await?;
    node.stop().await?;
    let node = world.delivering("two").await?;
    node.accept(&world.queue, "last", None).await?;
    receiver.wait_for(41).await?;
    node.eventually("the schedule is read", async || {
        let status = node.delivery.as_ref().context("it delivers")?.status().await;
        Ok(status[0].scheduled.get(&0) == Some(&0))
    })
    .await?;
    node.is_drained(&world, 1).await?;
    ensure!(receiver.attempts().len() == 41, "{} attempts", receiver.attempts().len());
    node.stop().await
}
