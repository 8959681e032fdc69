//! Messages whose attempts kill who makes them.

use std::time::Duration;

use anyhow::{Result, ensure};
use rig::victim;

use crate::account;
use crate::kill::{ABORTS, VICTIM, tell, tell_the_rest};
use crate::receiver::{Receiver, Reply};
use crate::world::{Subject, config};

type Case = fn(&Subject) -> Result<()>;

pub(crate) fn cases(subject: &Subject) -> Vec<(&'static str, Case)> {
    match subject {
        Subject::Embedded => vec![
            ("a_message_that_kills_is_dead_after_its_attempts", poison),
            ("a_message_that_kills_at_once_is_dead_too", poison_at_once),
        ],
        Subject::Kafka(_) => Vec::new(),
    }
}

/// A message whose attempt ends in the death of its process: it is under way when
/// the kill comes, each time.
fn poison(subject: &Subject) -> Result<()> {
    const ATTEMPTS_MAX: usize = 3;
    let world = subject.world("poison")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let receiver = runtime.block_on(Receiver::start(|attempt| match attempt.id.as_str() {
        "poison" => Reply::Hang,
        _ => Reply::Status(200),
    }))?;
    runtime.block_on(async {
        let node = world.node("setup").await?;
        let spec = format!(r#""partitions": 1, "retry": {{"attempts_max": {ATTEMPTS_MAX}}}"#);
        world.queue(&node, &receiver.url, &spec).await?;
        node.accept(&world.queue, "poison", Some("k")).await?;
        node.accept(&world.queue, "behind", Some("k")).await?;
        node.stop().await
    })?;
    let spool = tempfile::tempdir()?;
    let dir = spool.path().display().to_string();
    for kill in 0..ATTEMPTS_MAX {
        let told = tell(&world, &dir, kill, "");
        victim::kill_after(VICTIM, told, Duration::from_millis(1_500))?;
        ensure!(receiver.of("poison").len() == kill + 1, "one attempt for each life");
    }
    runtime.block_on(async {
        tell_the_rest(&world, spool.path(), "").await?;
        let node = world.delivering("last").await?;
        receiver.wait_for(1).await?;
        node.is_drained(&world, 1).await?;
        ensure!(receiver.of("poison").len() == ATTEMPTS_MAX, "and no more");
        let dead = node.dead(&world).await?;
        let expected = ("poison".to_owned(), "attempts_used_up".to_owned(), "3".to_owned());
        ensure!(dead == [expected], "{dead:?}");
        let told = account::holds(&world, &node).await?;
        ensure!(told == [2, 1, 1], "accepted, delivered and dead: {told:?}");
        node.stop().await
    })
}

/// A message whose attempt kills the process within the moment, before a commit
/// that would come by itself.
fn poison_at_once(subject: &Subject) -> Result<()> {
    let spec = r#""partitions": 1, "retry": {"attempts_max": 3}"#;
    let world = subject.world("abort")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let receiver = runtime.block_on(Receiver::willing())?;
    runtime.block_on(async {
        let node = world.node("setup").await?;
        world.queue(&node, &receiver.url, spec).await?;
        for id in ["before", "poison", "behind"] {
            node.accept(&world.queue, id, Some("k")).await?;
        }
        node.stop().await
    })?;
    let spool = tempfile::tempdir()?;
    let dir = spool.path().display().to_string();
    for attempt in 1..=3 {
        let told = tell(&world, &dir, attempt, ABORTS);
        let said = victim::kill_after(VICTIM, told, Duration::from_millis(1_500))?;
        ensure!(said == [format!("attempt {attempt}")], "life {attempt}: {said:?}");
    }
    runtime.block_on(async {
        tell_the_rest(&world, spool.path(), ABORTS).await?;
        let mut node = world.node("last").await?;
        world.queue(&node, &receiver.url, spec).await?;
        node.deliver(config());
        node.is_drained(&world, 1).await?;
        let dead = node.dead(&world).await?;
        let expected = ("poison".to_owned(), "attempts_used_up".to_owned(), "3".to_owned());
        ensure!(dead == [expected], "{dead:?}");
        ensure!(receiver.delivered() == ["behind"], "{:?}", receiver.delivered());
        let told = account::holds(&world, &node).await?;
        ensure!(told == [3, 2, 1], "accepted, delivered and dead: {told:?}");
        node.stop().await
    })
}
