//! What deliveries promise while their node lives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ingest::event::Kind;
use ingest::registry::Name;

use crate::receiver::{Receiver, Reply};
use crate::world::{Case, World, check_order, config};

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        vec![$((stringify!($case), (|world| Box::pin($case(world))) as Case)),+]
    };
}

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    cases![
        order_per_key_holds_through_retries,
        a_failing_key_holds_back_only_itself,
        no_more_attempts_are_under_way_than_allowed,
        retry_after_is_honoured,
        used_up_attempts_lead_to_the_dead_letters,
        a_refused_message_is_dead_at_once,
        a_held_message_stays_and_is_shown,
        a_target_that_hangs_or_breaks_off_is_tried_again,
        a_target_that_misbehaves_holds_back_only_its_key,
        an_attempt_carries_what_a_target_needs,
        every_attempt_is_an_event,
        what_waits_is_told_by_the_log,
        a_large_backlog_stays_within_the_window,
        a_queue_added_while_running_is_delivered,
    ]
}

pub(crate) const QUICK: &str = r#""retry": {"delay_min_ms": 10, "delay_max_ms": 40}"#;

async fn order_per_key_holds_through_retries(world: World) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(11);
    let fails: BTreeSet<usize> = (0..300).filter(|_| random.u8(..4) == 0).collect();
    let is_down = move |id: &str| fails.contains(&id.parse().unwrap_or(usize::MAX));
    let receiver = Receiver::start(move |attempt| {
        let is_first = attempt.seen < 3;
        Reply::Status(if is_first && is_down(&attempt.id) { 503 } else { 200 })
    })
    .await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 3, {QUICK}"#)).await?;
    for number in 0..300 {
        let key = format!("k{}", number % 7);
        node.accept(&world.queue, &number.to_string(), Some(&key)).await?;
    }
    receiver.wait_for(300).await?;
    check_order(&receiver)?;
    node.is_drained(&world, 3).await?;
    let attempts = receiver.attempts();
    ensure!(attempts.len() > 400, "there were retries: {}", attempts.len());
    let numbered = attempts.iter().all(|a| a.number == a.seen as u64);
    ensure!(numbered, "attempts are numbered from 1, without a gap");
    node.stop().await
}

async fn a_failing_key_holds_back_only_itself(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| {
        Reply::Status(if attempt.key.as_deref() == Some("bad") { 503 } else { 200 })
    })
    .await?;
    let node = world.delivering("one").await?;
    let spec = r#""partitions": 1, "retry": {"delay_min_ms": 10, "delay_max_ms": 40,
        "attempts_max": 1000}"#;
    world.queue(&node, &receiver.url, spec).await?;
    for number in 0..40 {
        let key = if number % 4 == 0 { "bad" } else { "good" };
        node.accept(&world.queue, &format!("{key}-{number}"), Some(key)).await?;
    }
    receiver.wait_for(30).await?;
    let status = node.delivery.as_ref().context("it delivers")?.status().await;
    let partition = status[0].partitions[&0];
    ensure!(partition.committed == 0 && partition.end >= 40, "{partition:?}");
    let tried: BTreeSet<_> =
        receiver.attempts().into_iter().filter(|a| a.status == 503).map(|a| a.id).collect();
    ensure!(tried.len() == 1, "only the first of the key is tried: {tried:?}");
    receiver.set(|_| Reply::Status(200));
    receiver.wait_for(40).await?;
    check_order(&receiver)?;
    node.stop().await
}

async fn no_more_attempts_are_under_way_than_allowed(world: World) -> Result<()> {
    let receiver = Receiver::start(|_| Reply::Slow(200, Duration::from_millis(20))).await?;
    let node = world.delivering("one").await?;
    let spec = format!(r#""partitions": 3, "concurrency_max": 4, {QUICK}"#);
    world.queue(&node, &receiver.url, &spec).await?;
    for number in 0..60 {
        node.accept(&world.queue, &format!("m{number}"), None).await?;
    }
    receiver.wait_for(60).await?;
    ensure!(receiver.under_way_max() == 4, "{} at once", receiver.under_way_max());
    // More are let in without a restart.
    let spec = format!(r#""partitions": 3, "concurrency_max": 9, {QUICK}"#);
    world.queue(&node, &receiver.url, &spec).await?;
    for number in 60..160 {
        node.accept(&world.queue, &format!("m{number}"), None).await?;
    }
    receiver.wait_for(160).await?;
    let most = receiver.under_way_max();
    ensure!((5..=9).contains(&most), "{most} at once");
    node.stop().await
}

async fn retry_after_is_honoured(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| match attempt.seen {
        1 => Reply::RetryAfter(429, "1".to_owned()),
        _ => Reply::Status(200),
    })
    .await?;
    let node = world.delivering("one").await?;
    let spec = r#""retry": {"delay_min_ms": 10, "delay_max_ms": 5000}"#;
    world.queue(&node, &receiver.url, spec).await?;
    node.accept(&world.queue, "m", Some("k")).await?;
    receiver.wait_for(1).await?;
    let attempts = receiver.attempts();
    let wait = attempts[1].at - attempts[0].at;
    ensure!(wait >= Duration::from_secs(1) && wait < Duration::from_secs(5), "{wait:?}");
    node.stop().await
}

async fn used_up_attempts_lead_to_the_dead_letters(world: World) -> Result<()> {
    let receiver =
        Receiver::start(|attempt| Reply::Status(if attempt.id == "bad" { 500 } else { 200 }))
            .await?;
    let node = world.delivering("one").await?;
    let spec = r#""retry": {"delay_min_ms": 10, "delay_max_ms": 20, "attempts_max": 4}"#;
    world.queue(&node, &receiver.url, spec).await?;
    node.accept(&world.queue, "bad", Some("k")).await?;
    node.accept(&world.queue, "good", Some("k")).await?;
    receiver.wait_for(1).await?;
    node.is_drained(&world, 4).await?;
    ensure!(receiver.of("bad").len() == 4);
    let dead = node.dead(&world).await?;
    ensure!(dead == [("bad".into(), "attempts_used_up".into(), "4".into())], "{dead:?}");
    let record = node.records(&world.topic(".dead")).await?.remove(0);
    let header = |name: &str| record.headers.get(name).map(String::from_utf8_lossy);
    ensure!(header("weir_dead_status").as_deref() == Some("500"));
    ensure!(header("weir_queue_offset").as_deref() == Some("0"));
    ensure!(header("content_type").as_deref() == Some("text/plain"), "the original headers");
    ensure!(header("weir_dead_time").is_some() && header("weir_accepted_time").is_some());
    ensure!(record.key.as_deref() == Some(b"k") && record.value.as_deref() == Some(b"bad"));
    let events = node.events(&world, Kind::DeadLetter).await?;
    ensure!(events.len() == 1 && events[0].messaging_message_id.as_deref() == Some("bad"));
    node.stop().await
}

async fn a_refused_message_is_dead_at_once(world: World) -> Result<()> {
    let receiver =
        Receiver::start(|attempt| Reply::Status(if attempt.id == "bad" { 422 } else { 200 }))
            .await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, QUICK).await?;
    node.accept(&world.queue, "bad", Some("k")).await?;
    node.accept(&world.queue, "good", Some("k")).await?;
    receiver.wait_for(1).await?;
    node.is_drained(&world, 4).await?;
    ensure!(receiver.of("bad").len() == 1);
    let dead = node.dead(&world).await?;
    ensure!(dead == [("bad".into(), "refused".into(), "1".into())], "{dead:?}");
    node.stop().await
}

async fn a_held_message_stays_and_is_shown(world: World) -> Result<()> {
    let receiver =
        Receiver::start(|attempt| Reply::Status(if attempt.id == "bad" { 400 } else { 200 }))
            .await?;
    let node = world.delivering("one").await?;
    let spec = format!(r#""partitions": 1, "on_exhausted": "hold", {QUICK}"#);
    world.queue(&node, &receiver.url, &spec).await?;
    for (id, key) in [("bad", "k"), ("behind", "k"), ("other", "o")] {
        node.accept(&world.queue, id, Some(key)).await?;
    }
    receiver.wait_for(1).await?;
    let delivery = node.delivery.as_ref().context("it delivers")?;
    node.eventually("it is held, and written down", async || {
        let status = delivery.status().await;
        Ok(status[0].partitions.get(&0).is_some_and(|p| p.held == 1 && p.completed_ahead == 1))
    })
    .await?;
    node.stop().await?;

    let node = world.delivering("one").await?;
    node.accept(&world.queue, "later", Some("o")).await?;
    receiver.wait_for(2).await?;
    ensure!(receiver.delivered() == ["other", "later"], "{:?}", receiver.delivered());
    ensure!(receiver.of("bad").len() == 1, "held is held after a restart too");
    ensure!(node.dead(&world).await?.is_empty());
    node.stop().await
}

async fn a_target_that_hangs_or_breaks_off_is_tried_again(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| match (attempt.id.as_str(), attempt.seen) {
        ("hangs", 1) => Reply::Hang,
        ("breaks", 1) => Reply::Break(500),
        _ => Reply::Status(200),
    })
    .await?;
    let node = world.delivering("one").await?;
    node.put("upstream/shop", &format!(r#"{{"targets": [{{"url": "{}"}}]}}"#, receiver.url))
        .await?;
    let deliver = r#"{"upstream": "shop", "path": "/orders", "timeout_ms": 300}"#;
    let spec = format!(r#"{{"deliver": {deliver}, {QUICK}}}"#);
    node.put(&format!("queue/{}", world.queue), &spec).await?;
    node.accept(&world.queue, "hangs", Some("a")).await?;
    node.accept(&world.queue, "breaks", Some("b")).await?;
    receiver.wait_for(2).await?;
    ensure!(receiver.of("hangs").len() == 2 && receiver.of("breaks").len() == 2);
    let events = node.events(&world, Kind::Delivery).await?;
    let failed = |id: &str| {
        let mut of_id = events.iter().filter(|e| e.messaging_message_id.as_deref() == Some(id));
        let retried = of_id.find(|e| e.delivery_outcome.as_deref() == Some("retry"));
        retried.and_then(|e| e.error_type.clone())
    };
    ensure!(failed("hangs").as_deref() == Some("upstream_timeout"), "{:?}", failed("hangs"));
    ensure!(failed("breaks").as_deref() == Some("upstream_broken"), "{:?}", failed("breaks"));
    node.stop().await
}

async fn a_target_that_misbehaves_holds_back_only_its_key(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| match (attempt.id.as_str(), attempt.seen) {
        ("trickles", 1) => Reply::Trickle(200),
        ("breaks", 1) => Reply::Break(200),
        ("redirects", _) => Reply::ToItself(307),
        _ => Reply::Close(200),
    })
    .await?;
    let node = world.delivering("one").await?;
    node.put("upstream/shop", &format!(r#"{{"targets": [{{"url": "{}"}}]}}"#, receiver.url))
        .await?;
    let deliver = r#"{"upstream": "shop", "path": "/orders", "timeout_ms": 500}"#;
    let spec = format!(r#"{{"deliver": {deliver}, {QUICK}}}"#);
    node.put(&format!("queue/{}", world.queue), &spec).await?;
    for id in ["trickles", "breaks", "redirects"] {
        node.accept(&world.queue, id, Some(id)).await?;
        node.accept(&world.queue, &format!("behind-{id}"), Some(id)).await?;
        node.accept(&world.queue, &format!("beside-{id}"), None).await?;
    }
    receiver.wait_for(8).await?;
    node.is_drained(&world, 4).await?;
    // An answer counts when it is whole; a redirect is an answer, and no success.
    let attempts = ["trickles", "breaks", "redirects"].map(|id| receiver.of(id).len());
    ensure!(attempts == [2, 2, 1], "{attempts:?}");
    for id in ["behind", "beside"]
        .iter()
        .flat_map(|of| ["trickles", "breaks", "redirects"].map(|id| format!("{of}-{id}")))
    {
        ensure!(receiver.of(&id).len() == 1, "{id}: {:?}", receiver.of(&id));
    }
    check_order(&receiver)?;
    let dead = node.dead(&world).await?;
    ensure!(dead.len() == 1, "{dead:?}");
    let events = node.events(&world, Kind::Delivery).await?;
    let first = |id: &str| {
        let of_id = events.iter().find(|e| e.messaging_message_id.as_deref() == Some(id));
        of_id.map(|e| (e.delivery_outcome.clone(), e.error_type.clone(), e.upstream_status_code))
    };
    let is = |id: &str, outcome: &str, error: &str, status: Option<i64>| {
        let expected = (Some(outcome.to_owned().into()), Some(error.to_owned().into()), status);
        first(id) == Some(expected)
    };
    ensure!(is("trickles", "retry", "upstream_timeout", None), "{:?}", first("trickles"));
    ensure!(is("breaks", "retry", "upstream_broken", None), "{:?}", first("breaks"));
    ensure!(is("redirects", "dead", "upstream_error", Some(307)), "{:?}", first("redirects"));
    node.stop().await
}

async fn an_attempt_carries_what_a_target_needs(world: World) -> Result<()> {
    let receiver = Receiver::willing().await?;
    let node = world.delivering("one").await?;
    node.put("upstream/shop", &format!(r#"{{"targets": [{{"url": "{}"}}]}}"#, receiver.url))
        .await?;
    let deliver = r#"{"upstream": "shop", "path": "/orders", "method": "PUT",
        "headers": {"x-shop": "7", "idempotency-key": "never"}}"#;
    node.put(&format!("queue/{}", world.queue), &format!(r#"{{"deliver": {deliver}}}"#)).await?;
    let mut message = crate::world::message("m-1", Some("Zoë/1 a~b"))?;
    message.headers.insert("x-own", "1".parse()?);
    message.headers.insert("weir-attempt", "99".parse()?);
    message.headers.insert("connection", "close".parse()?);
    let (correlation_id, trace) =
        (message.correlation.id.to_string(), message.correlation.trace_header());
    let accepted = node.queues.accept(&world.queue, message).await?;
    receiver.wait_for(1).await?;
    let attempt = receiver.attempts().remove(0);
    ensure!(attempt.id == "m-1" && attempt.body == "m-1" && attempt.number == 1);
    ensure!(attempt.key.as_deref() == Some("Zo%C3%AB%2F1%20a~b"), "{:?}", attempt.key);
    ensure!(attempt.sequence == accepted.offset && attempt.epoch > 0);
    let header = |name: &str| attempt.headers.get(name).and_then(|v| v.to_str().ok());
    ensure!(header("x-correlation-id") == Some(correlation_id.as_str()));
    ensure!(attempt.headers.get("traceparent") == Some(&trace));
    ensure!(header("content-type") == Some("text/plain"));
    ensure!(header("x-shop") == Some("7") && header("x-own") == Some("1"));
    ensure!(attempt.headers.get_all("weir-attempt").iter().count() == 1);
    node.stop().await
}

async fn every_attempt_is_an_event(world: World) -> Result<()> {
    let receiver =
        Receiver::start(|attempt| Reply::Status(if attempt.seen < 3 { 503 } else { 200 })).await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, QUICK).await?;
    for number in 0..20 {
        node.accept(&world.queue, &format!("m{number}"), Some(&format!("k{number}"))).await?;
    }
    receiver.wait_for(20).await?;
    node.is_drained(&world, 4).await?;
    let events = node.events(&world, Kind::Delivery).await?;
    let told: BTreeSet<(String, i64)> = events
        .iter()
        .filter_map(|e| Some((e.messaging_message_id.as_deref()?.to_owned(), e.delivery_attempt?)))
        .collect();
    let made: BTreeSet<(String, i64)> =
        receiver.attempts().into_iter().map(|a| (a.id, a.number as i64)).collect();
    ensure!(told == made && events.len() == 60, "{} events, {} told", events.len(), told.len());
    let of = |attempt| events.iter().find(|e| e.delivery_attempt == Some(attempt));
    let (first, last) = (of(1).context("a first")?, of(3).context("a last")?);
    ensure!(first.delivery_outcome.as_deref() == Some("retry"));
    ensure!(first.delivery_next_attempt_time > Some(first.event_time), "{first:?}");
    ensure!(first.upstream_status_code == Some(503) && first.latency_total_us.is_some());
    ensure!(last.delivery_outcome.as_deref() == Some("delivered"));
    ensure!(last.delivery_accepted_time.is_some() && last.delivery_owner_epoch.is_some());
    node.stop().await
}

async fn what_waits_is_told_by_the_log(world: World) -> Result<()> {
    let receiver = Receiver::start(|_| Reply::Status(503)).await?;
    let node = world.delivering("one").await?;
    let spec = r#""partitions": 2, "retry": {"delay_min_ms": 10, "delay_max_ms": 100,
        "attempts_max": 1000}"#;
    world.queue(&node, &receiver.url, spec).await?;
    for number in 0..9 {
        node.accept(&world.queue, &format!("m{number}"), Some(&format!("k{number}"))).await?;
    }
    // Per partition the last word counts.
    let told = async || -> Result<(i64, i64)> {
        let events = node.events(&world, Kind::Queue).await?;
        let of = |partition| events.iter().rfind(|e| e.delivery_partition == Some(partition));
        let last = [of(0), of(1)].into_iter().flatten();
        let counts = last.filter_map(|e| Some((e.delivery_logged?, e.delivery_waiting?)));
        Ok(counts.fold((0, 0), |all, of| (all.0 + of.0, all.1 + of.1)))
    };
    node.eventually("all wait", async || Ok(told().await? == (9, 9))).await?;
    receiver.set(|_| Reply::Status(200));
    node.eventually("none waits", async || Ok(told().await? == (9, 0))).await?;
    let before = node.events(&world, Kind::Queue).await?.len();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let after = node.events(&world, Kind::Queue).await?.len();
    ensure!(before == after, "{before} events, then {after}: nothing has changed");
    node.stop().await
}

async fn a_large_backlog_stays_within_the_window(world: World) -> Result<()> {
    let receiver = Receiver::start(|_| Reply::Status(503)).await?;
    let mut node = world.node("one").await?;
    let spec = r#""partitions": 1, "retry": {"delay_min_ms": 50, "delay_max_ms": 100,
        "attempts_max": 1000}"#;
    world.queue(&node, &receiver.url, spec).await?;
    let count = 3_000u64;
    let mut accepting = Vec::new();
    for number in 0..count {
        let (queues, queue) = (node.queues.clone(), world.queue.clone());
        let id = format!("m{number:06}{}", "x".repeat(80));
        let message = crate::world::message(&id, Some(&format!("k{}", number % 50)))?;
        accepting.push(tokio::spawn(async move { queues.accept(&queue, message).await }));
    }
    for accepted in accepting {
        accepted.await??;
    }
    let config = mediator::deliver::Config {
        window_records_max: 300,
        window_bytes_max: 1 << 20,
        read_bytes: 8 * 1024,
        ..config()
    };
    node.deliver(config);
    let delivery = node.delivery.as_ref().context("it delivers")?;
    // Longer than a member may be silent on the embedded log: it goes on polling.
    let start = Instant::now();
    let mut most = 0;
    let mut fullest = 0;
    while start.elapsed() < Duration::from_secs(7) {
        let status = delivery.status().await;
        if let Some(partition) = status.first().and_then(|s| s.partitions.get(&0)) {
            most = most.max(partition.messages);
            fullest = fullest.max(partition.messages as u64 + partition.completed_ahead);
        }
        ensure!(status.iter().all(|s| s.fault.is_none()), "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // 8 KiB are 91 messages where headers do not count.
    ensure!((300..=300 + 3 * 92).contains(&most), "{most} messages in the window");
    let epochs: BTreeSet<u64> = receiver.attempts().iter().map(|a| a.epoch).collect();
    ensure!(epochs.len() == 1, "the partition was lost: {epochs:?}");
    receiver.set(|_| Reply::Status(200));
    receiver.wait_for(count as usize).await?;
    check_order(&receiver)?;
    node.is_drained(&world, 1).await?;
    node.eventually("what is delivered is trimmed", async || {
        let partition = ingest::log::Partition::new(world.topic(""), 0);
        Ok(node.log.bounds(&partition).await?.first >= count - 200)
    })
    .await?;
    node.stop().await
}

async fn a_queue_added_while_running_is_delivered(mut world: World) -> Result<()> {
    let receiver = Receiver::willing().await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, QUICK).await?;
    node.accept(&world.queue, "first", None).await?;
    receiver.wait_for(1).await?;
    world.queue = Name::new(&format!("{}.added", world.queue))?;
    world.queue(&node, &receiver.url, QUICK).await?;
    node.accept(&world.queue, "second", None).await?;
    receiver.wait_for(2).await?;
    let status = node.delivery.as_ref().context("it delivers")?.status().await;
    ensure!(status.len() == 2, "{status:?}");
    node.stop().await
}
