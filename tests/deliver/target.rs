//! What a target takes of several queues, and what one that is down costs the others.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ingest::event::Kind;
use ingest::registry::Name;
use tokio::time::sleep;

use crate::account;
use crate::receiver::{Receiver, Reply};
use crate::world::{Case, Node, World, check_order};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("two_queues_share_what_their_target_takes", |w| Box::pin(shared(w))),
        ("a_target_that_is_down_costs_the_others_nothing", |w| Box::pin(down(w))),
        ("a_target_that_takes_no_connection_is_probed_until_it_does", |w| Box::pin(away(w))),
    ]
}

async fn upstream(node: &Node, name: &str, url: &str, rest: &str) -> Result<()> {
    let spec = format!(r#"{{"targets": [{{"url": "{url}"}}] {rest}}}"#);
    node.put(&format!("upstream/{name}"), &spec).await
}

/// A queue of one partition, beside the case's own.
async fn queue(world: &World, node: &Node, suffix: &str, upstream: &str) -> Result<Name> {
    let name = Name::new(&format!("{}-{suffix}", world.queue))?;
    let deliver = format!(r#""deliver": {{"upstream": "{upstream}", "path": "/orders"}}"#);
    let retry = r#""retry": {"delay_min_ms": 10, "delay_max_ms": 40, "attempts_max": 1000}"#;
    let spec = format!(r#"{{{deliver}, "partitions": 1, "concurrency_max": 50, {retry}}}"#);
    node.put(&format!("queue/{name}"), &spec).await?;
    Ok(name)
}

async fn shared(world: World) -> Result<()> {
    const MANY: usize = 150;
    let slow = Reply::Slow(200, Duration::from_millis(20));
    let receiver = Receiver::start(move |_| slow.clone()).await?;
    let node = world.delivering("one").await?;
    let limit = r#", "deliveries": {"concurrency_max": 3}"#;
    upstream(&node, "shop", &receiver.url, limit).await?;
    let many = queue(&world, &node, "many", "shop").await?;
    let few = queue(&world, &node, "few", "shop").await?;
    for number in 0..MANY {
        node.accept(&many, &format!("many-{number}"), None).await?;
    }
    receiver.wait_for(10).await?;
    for number in 0..10 {
        node.accept(&few, &format!("few-{number}"), None).await?;
    }
    receiver.wait_for(MANY + 10).await?;
    ensure!(receiver.under_way_max() == 3, "{} at once", receiver.under_way_max());
    // The few did not wait for the many.
    let order = receiver.delivered();
    let last = order.iter().rposition(|id| id.starts_with("few-"));
    ensure!(last.is_some_and(|last| last < MANY / 2 + 10), "the last of few came as {last:?}");

    // More at once, but not more often; it counts from the next attempt on.
    receiver.set(|_| Reply::Status(200));
    let limit = r#", "deliveries": {"rate": {"max": 20, "window_ms": 1000}}"#;
    upstream(&node, "shop", &receiver.url, limit).await?;
    sleep(Duration::from_secs(1)).await;
    let before = receiver.attempts().len();
    for number in 0..30 {
        node.accept(&many, &format!("later-many-{number}"), None).await?;
        node.accept(&few, &format!("later-few-{number}"), None).await?;
    }
    receiver.wait_for(MANY + 10 + 60).await?;
    let at: Vec<_> = receiver.attempts()[before..].iter().map(|attempt| attempt.at).collect();
    let took = at[at.len() - 1] - at[0];
    ensure!(took >= Duration::from_millis(2_700), "60 at 20 a second came within {took:?}");

    // Without a limit as before.
    upstream(&node, "shop", &receiver.url, "").await?;
    for number in 0..100 {
        node.accept(&many, &format!("last-{number}"), None).await?;
    }
    receiver.wait_for(MANY + 10 + 60 + 100).await?;
    node.stop().await
}

async fn down(world: World) -> Result<()> {
    const OTHERS: usize = 200;
    let (hanging, willing) = (Receiver::start(|_| Reply::Hang).await?, Receiver::willing().await?);
    let node = world.delivering("one").await?;
    upstream(&node, "down", &hanging.url, "").await?;
    // Nothing listens there.
    upstream(&node, "gone", "http://127.0.0.1:9", "").await?;
    upstream(&node, "up", &willing.url, "").await?;
    let queues = [
        queue(&world, &node, "down", "down").await?,
        queue(&world, &node, "gone", "gone").await?,
        queue(&world, &node, "up", "up").await?,
    ];
    for number in 0..OTHERS {
        for queue in &queues {
            node.accept(queue, &format!("{queue}-{number}"), None).await?;
        }
    }
    willing.wait_for(OTHERS).await?;
    ensure!(hanging.under_way_max() == 50, "{} hang", hanging.under_way_max());
    ensure!(willing.attempts().len() == OTHERS, "none was made twice");
    // Back again, it gets what it missed.
    hanging.set(|_| Reply::Status(200));
    upstream(&node, "gone", &willing.url, "").await?;
    willing.wait_for(2 * OTHERS).await?;
    node.stop().await
}

/// Its messages are due all the time, and their attempts would be thousands a second.
async fn away(world: World) -> Result<()> {
    const MESSAGES: usize = 300;
    const PROBE_EVERY: Duration = Duration::from_millis(100);
    /// Between the sixteenth attempt and what sees it.
    const PROBES_BEFORE: usize = 20;
    let receiver = Receiver::willing().await?;
    let node = world.delivering("one").await?;
    // Nothing listens there.
    upstream(&node, "shop", "http://127.0.0.1:9", "").await?;
    let deliver = r#""deliver": {"upstream": "shop", "path": "/orders"}"#;
    let retry = r#""retry": {"delay_min_ms": 10, "delay_max_ms": 40, "attempts_max": 1000}"#;
    let spec = format!(r#"{{{deliver}, "partitions": 3, "concurrency_max": 8, {retry}}}"#);
    node.put(&format!("queue/{}", world.queue), &spec).await?;
    for number in 0..MESSAGES {
        node.accept(&world.queue, &number.to_string(), Some(&format!("k{}", number % 50))).await?;
    }
    let attempts =
        async || Ok::<_, anyhow::Error>(node.events(&world, Kind::Delivery).await?.len());
    node.eventually("it is known to be away", async || Ok(attempts().await? >= 16)).await?;
    let began = Instant::now();
    sleep(Duration::from_secs(2)).await;
    let (before, after) = (began.elapsed(), attempts().await?);
    sleep(Duration::from_secs(2)).await;
    let later = attempts().await?;
    let probes = |time: Duration| time.as_millis() / PROBE_EVERY.as_millis();
    // Sixteen, those that were under way with the last of them, and what began since.
    let most = 16 + 8 + probes(began.elapsed()) as usize + PROBES_BEFORE;
    ensure!(later <= most, "{later} attempts, {most} at most");
    ensure!(later - after >= probes(before) as usize / 4, "{after} attempts, then {later}");

    upstream(&node, "shop", &receiver.url, "").await?;
    receiver.wait_for(MESSAGES).await?;
    check_order(&receiver)?;
    node.is_drained(&world, 3).await?;
    let told = account::holds(&world, &node).await?;
    ensure!(told == [MESSAGES as u64, MESSAGES as u64, 0], "{told:?}");
    node.stop().await
}
