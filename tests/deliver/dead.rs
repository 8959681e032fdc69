//! Dead letters: listed, put back, dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ingest::event::{Kind, Outcome, SystemClock, Timestamp};
use ingest::http::{Code, Correlation};
use ingest::log::{Headers, NewRecord, Partition};
use mediator::deliver::{
    By, DeadLetterError, DeadLetters, Decision, MESSAGE_BYTES_MAX, NewMessage, Which,
};

use crate::account;
use crate::cases::QUICK;
use crate::receiver::{Receiver, Reply};
use crate::world::{Case, Node, World, message};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("dead_letters_are_listed_and_put_back", |w| Box::pin(put_back(w))),
        ("a_letter_says_what_came_of_the_last_attempt", |w| Box::pin(last_attempt(w))),
        ("what_is_tried_for_too_long_is_dead", |w| Box::pin(too_old(w))),
        ("a_dead_letter_goes_back_with_another_body", |w| Box::pin(another_body(w))),
        ("dropped_letters_are_listed_no_more", |w| Box::pin(dropped(w))),
        ("a_letter_as_large_as_a_message_goes_back", |w| Box::pin(large(w))),
        ("what_others_write_settles_no_letter", |w| Box::pin(foreign(w))),
        ("letters_that_many_put_back_at_once_come_once", |w| Box::pin(at_once(w))),
        ("a_removed_queue_keeps_what_it_has_until_it_is_back", |w| Box::pin(removed(w))),
    ]
}

pub(crate) fn letters(node: &Node) -> DeadLetters {
    let clock = Arc::new(SystemClock);
    DeadLetters::new(node.log.clone(), node.view.clone(), node.emitter.clone(), clock)
}

fn by() -> By {
    let correlation = Correlation::of(&Default::default(), || 7);
    By { actor: "ada".to_owned(), service: "a case", correlation }
}

fn ids(ids: &[&str]) -> Which {
    Which::Ids(ids.iter().map(|id| (*id).to_owned()).collect())
}

/// A queue whose target refuses these ids, with one letter for each.
async fn dead_world(world: &World, refused: usize) -> Result<(Node, Receiver)> {
    let receiver = Receiver::start(|attempt| {
        Reply::Status(if attempt.id.starts_with("bad") { 422 } else { 200 })
    })
    .await?;
    let node = world.delivering("one").await?;
    world.queue(&node, &receiver.url, &format!(r#""partitions": 2, {QUICK}"#)).await?;
    for number in 0..refused {
        node.accept(&world.queue, &format!("good-{number}"), Some("k")).await?;
        node.accept(&world.queue, &format!("bad-{number}"), Some("k")).await?;
    }
    receiver.wait_for(refused).await?;
    listed(world, &node, refused).await?;
    Ok((node, receiver))
}

/// Waits until so many are listed, and answers their ids.
async fn listed(world: &World, node: &Node, count: usize) -> Result<Vec<String>> {
    let letters = letters(node);
    let mut found = Vec::new();
    node.eventually(&format!("{count} dead letters"), async || {
        let listing = letters.list(&world.queue, 1_000).await?;
        ensure!(listing.total == listing.letters.len() as u64, "all of them are shown");
        found = listing.letters.into_iter().map(|letter| letter.id).collect();
        Ok(found.len() == count)
    })
    .await?;
    Ok(found)
}

async fn last_attempt(world: World) -> Result<()> {
    let receiver = Receiver::start(|attempt| match attempt.id.as_str() {
        "answers" => Reply::Status(503),
        _ => Reply::Break(500),
    })
    .await?;
    let node = world.delivering("one").await?;
    let spec = r#""partitions": 1, "retry": {"attempts_max": 1}"#;
    world.queue(&node, &receiver.url, spec).await?;
    node.accept(&world.queue, "answers", None).await?;
    node.accept(&world.queue, "breaks", None).await?;
    listed(&world, &node, 2).await?;
    let mut found = letters(&node).list(&world.queue, 10).await?.letters;
    found.sort_by(|one, other| one.id.cmp(&other.id));
    let told: Vec<_> =
        found.iter().map(|of| (of.reason.as_str(), of.status, of.error.as_deref())).collect();
    let broken = Code::UpstreamBroken.text();
    let expected =
        [("attempts_used_up", Some(503), None), ("attempts_used_up", None, Some(broken))];
    ensure!(told == expected, "{told:?}");
    node.stop().await
}

/// The age counts from acceptance, whatever waits behind it of its key.
async fn too_old(world: World) -> Result<()> {
    const AGE: Duration = Duration::from_secs(1);
    let receiver =
        Receiver::start(|attempt| Reply::Status(if attempt.id == "ages" { 503 } else { 200 }))
            .await?;
    let node = world.delivering("one").await?;
    let spec = format!(
        r#""partitions": 1, "retry": {{"attempts_max": 1000, "age_max_ms": {},
        "delay_min_ms": 50, "delay_max_ms": 100}}"#,
        AGE.as_millis()
    );
    world.queue(&node, &receiver.url, &spec).await?;
    node.accept(&world.queue, "before", Some("k")).await?;
    receiver.wait_for(1).await?;
    node.accept(&world.queue, "ages", Some("k")).await?;
    node.accept(&world.queue, "behind", Some("k")).await?;
    receiver.wait_for(2).await?;
    listed(&world, &node, 1).await?;
    let letter = letters(&node).list(&world.queue, 1).await?.letters.remove(0);
    let died = letter.died.context("a time of death")?;
    ensure!(
        (letter.id.as_str(), letter.reason.as_str()) == ("ages", "too_old")
            && letter.attempts as usize == receiver.of("ages").len()
            && letter.attempts > 1
            && died >= letter.accepted.after(AGE),
        "{letter:?}"
    );
    ensure!(account::holds(&world, &node).await? == [3, 2, 1], "two are delivered, one is dead");
    node.stop().await
}

async fn put_back(world: World) -> Result<()> {
    let (node, receiver) = dead_world(&world, 3).await?;
    let letters = letters(&node);
    let listing = letters.list(&world.queue, 2).await?;
    ensure!((listing.total, listing.letters.len()) == (3, 2), "a part of them is told as one");
    let first = &listing.letters[0];
    ensure!(
        (first.id.as_str(), first.key.as_deref(), first.reason.as_str())
            == ("bad-0", Some("k"), "refused")
            && (first.attempts, first.status, first.body_bytes) == (1, Some(422), 5)
            && first.died > Some(first.accepted),
        "{first:?}"
    );

    // One that is not there: nothing is done.
    let which = ids(&["bad-1", "none"]);
    match letters.settle(&world.queue, &which, &Decision::Replay, &by()).await {
        Err(DeadLetterError::Missing { ids, .. }) if ids == ["none"] => {}
        other => bail!("{other:?}"),
    }
    ensure!(listed(&world, &node, 3).await?.len() == 3, "nothing was done");

    receiver.set(|_| Reply::Status(200));
    let settled = letters.settle(&world.queue, &ids(&["bad-1"]), &Decision::Replay, &by()).await?;
    ensure!(settled == 1, "{settled}");
    receiver.wait_for(4).await?;
    ensure!(listed(&world, &node, 2).await? == ["bad-0", "bad-2"], "the others stay");
    let again = letters.settle(&world.queue, &ids(&["bad-1"]), &Decision::Replay, &by()).await;
    ensure!(matches!(again, Err(DeadLetterError::Missing { .. })), "once: {again:?}");

    let settled = letters.settle(&world.queue, &Which::All, &Decision::Replay, &by()).await?;
    ensure!(settled == 2, "{settled}");
    receiver.wait_for(6).await?;
    node.is_drained(&world, 2).await?;
    ensure!(listed(&world, &node, 0).await?.is_empty(), "all are gone");
    // Its attempts begin anew, under the same id, with its key and body, behind the rest.
    let attempts = receiver.attempts();
    let of = attempts.iter().filter(|a| a.id == "bad-1").collect::<Vec<_>>();
    ensure!(of.len() == 2 && of[1].number == 1 && of[1].body == "bad-1", "{of:?}");
    ensure!(of[1].key.as_deref() == Some("k") && of[1].sequence > of[0].sequence, "{of:?}");

    // Nothing of them is left in the log, and each has its events.
    for index in 0..2 {
        let bounds = node.log.bounds(&Partition::new(world.topic(".dead"), index)).await?;
        let left = bounds.end - bounds.first;
        ensure!(left <= 4, "{left} records are left of what was settled");
    }
    let accepted = node.events(&world, Kind::Accept).await?;
    let replayed: BTreeSet<_> = accepted
        .iter()
        .filter(|event| event.delivery_outcome.as_deref() == Some("replayed"))
        .filter_map(|event| event.messaging_message_id.as_deref())
        .collect();
    ensure!(replayed == BTreeSet::from(["bad-0", "bad-1", "bad-2"]), "{replayed:?}");
    let admin = node.events(&world, Kind::Admin).await?;
    ensure!(admin.len() == 3, "{} decisions", admin.len());
    let told = |event: &ingest::event::Event| {
        event.admin_action.as_deref() == Some("replay")
            && event.admin_actor.as_deref() == Some("ada")
    };
    ensure!(admin.iter().all(|event| told(event)), "{admin:?}");
    node.stop().await
}

async fn another_body(world: World) -> Result<()> {
    let (node, receiver) = dead_world(&world, 2).await?;
    let letters = letters(&node);
    receiver.set(|_| Reply::Status(200));
    let shown = letters.show(&world.queue, "bad-1").await?;
    ensure!(shown.len() == 1 && shown[0].1 == "bad-1", "{shown:?}");
    let decision = Decision::ReplayWith("mended".into(), Some("text/csv".parse()?));
    let both = letters.settle(&world.queue, &Which::All, &decision, &by()).await;
    ensure!(matches!(both, Err(DeadLetterError::NotOne(2))), "{both:?}");
    let huge = Decision::ReplayWith(vec![b'x'; 1024 * 1024].into(), None);
    let huge = letters.settle(&world.queue, &ids(&["bad-1"]), &huge, &by()).await;
    ensure!(matches!(huge, Err(DeadLetterError::TooLarge { .. })), "{huge:?}");
    letters.settle(&world.queue, &ids(&["bad-1"]), &decision, &by()).await?;
    receiver.wait_for(3).await?;
    let attempts = receiver.attempts();
    let last = attempts.iter().rfind(|a| a.id == "bad-1").context("it came")?;
    ensure!(last.body == "mended" && last.status == 200, "{last:?}");
    ensure!(listed(&world, &node, 1).await? == ["bad-0"], "the other stays");
    node.stop().await
}

async fn dropped(world: World) -> Result<()> {
    let (node, receiver) = dead_world(&world, 3).await?;
    let letters = letters(&node);
    let before = receiver.attempts().len();
    let died: Vec<_> = letters.list(&world.queue, 9).await?.letters;
    let died = |id: &str| died.iter().find(|of| of.id == id).and_then(|of| of.died);
    let (first, second) = (died("bad-0").context("a time")?, died("bad-1").context("a time")?);
    // Before all of them, and what is none: nothing is chosen.
    let none = [Which::Died(Timestamp::MIN, first), Which::AnyOf(["none".to_owned()].into())];
    for which in none {
        let settled = letters.settle(&world.queue, &which, &Decision::Drop, &by()).await?;
        ensure!(settled == 0, "{which:?}: {settled}");
    }
    listed(&world, &node, 3).await?;
    ensure!(first < second, "they died one after another");
    let which = Which::AnyOf(["bad-1".to_owned(), "none".to_owned()].into());
    letters.settle(&world.queue, &which, &Decision::Drop, &by()).await?;
    ensure!(listed(&world, &node, 2).await? == ["bad-0", "bad-2"], "one is gone");
    let which = Which::Died(second, Timestamp::MAX);
    letters.settle(&world.queue, &which, &Decision::Drop, &by()).await?;
    ensure!(listed(&world, &node, 1).await? == ["bad-0"], "what died later is gone");
    letters.settle(&world.queue, &Which::All, &Decision::Drop, &by()).await?;
    listed(&world, &node, 0).await?;
    node.is_drained(&world, 2).await?;
    ensure!(receiver.attempts().len() == before, "nothing is sent again");
    let nobody = letters.list(&"nothing".parse()?, 1).await;
    ensure!(matches!(nobody, Err(DeadLetterError::NoQueue(_))), "{nobody:?}");
    node.stop().await
}

/// One after another: each letter comes back exactly once.
async fn at_once(world: World) -> Result<()> {
    const LETTERS: usize = 40;
    let (node, receiver) = dead_world(&world, LETTERS).await?;
    receiver.set(|_| Reply::Status(200));
    let letters = letters(&node);
    let people = (0..4).map(|_| {
        let (letters, queue) = (letters.clone(), world.queue.clone());
        tokio::spawn(
            async move { letters.settle(&queue, &Which::All, &Decision::Replay, &by()).await },
        )
    });
    let mut settled = 0;
    for person in people.collect::<Vec<_>>() {
        settled += person.await??;
    }
    ensure!(settled == LETTERS as u64, "{settled} were put back");
    receiver.wait_for(2 * LETTERS).await?;
    node.is_drained(&world, 2).await?;
    let mut taken = BTreeMap::<String, usize>::new();
    for attempt in receiver.attempts().into_iter().filter(|a| a.status == 200) {
        *taken.entry(attempt.id).or_default() += 1;
    }
    let twice: Vec<_> = taken.iter().filter(|(_, count)| **count != 1).collect();
    ensure!(twice.is_empty() && taken.len() == 2 * LETTERS, "{twice:?}");
    node.stop().await
}

async fn large(world: World) -> Result<()> {
    let (node, receiver) = dead_world(&world, 0).await?;
    // The largest that is taken, whatever its headers have.
    let mut bytes = MESSAGE_BYTES_MAX;
    loop {
        let message = NewMessage { body: vec![b'x'; bytes].into(), ..message("bad-large", None)? };
        match node.queues.accept(&world.queue, message).await {
            Ok(_) => break,
            Err(error) => ensure!(error.code == Code::MessageTooLarge, "{error}"),
        }
        bytes -= 1;
    }
    let letters = letters(&node);
    for _ in 0..2 {
        listed(&world, &node, 1).await?;
        letters.settle(&world.queue, &Which::All, &Decision::Replay, &by()).await?;
    }
    listed(&world, &node, 1).await?;
    receiver.set(|_| Reply::Status(200));
    letters.settle(&world.queue, &Which::All, &Decision::Replay, &by()).await?;
    node.is_drained(&world, 2).await?;
    let bodies: Vec<_> = receiver.attempts().iter().map(|attempt| attempt.body.len()).collect();
    ensure!(bodies == [bytes; 4], "{bodies:?}");
    node.stop().await
}

/// A program that writes into the queue's topic itself, in the words of a letter.
async fn foreign(world: World) -> Result<()> {
    let (node, _receiver) = dead_world(&world, 1).await?;
    let letters = letters(&node);
    let settled = letters.list(&world.queue, 1).await?.letters.remove(0);
    let forged = [
        ("weir_message_id", "bad-forged"),
        ("weir_settles", &settled.offset.to_string()),
        ("weir_dead_reason", "none"),
        ("weir_attempts", "0"),
        ("header_x", "kept"),
    ];
    let record = NewRecord { headers: Headers::new(forged), ..NewRecord::unkeyed("x") };
    let partition = Partition::new(world.topic(""), settled.partition);
    node.log.append(vec![(partition, record)]).await?;
    ensure!(listed(&world, &node, 2).await? == ["bad-0", "bad-forged"], "both are there");
    let told = letters.show(&world.queue, "bad-forged").await?.remove(0).0;
    ensure!((told.reason.as_str(), told.attempts) == ("refused", 1), "{told:?}");
    node.stop().await
}

async fn removed(world: World) -> Result<()> {
    let (node, receiver) = dead_world(&world, 2).await?;
    receiver.set(|_| Reply::Status(503));
    node.accept(&world.queue, "later", Some("other")).await?;
    receiver
        .wait_until("an attempt of the later one", |of| {
            of.attempts().iter().any(|attempt| attempt.id == "later")
        })
        .await?;
    let key = format!("queue/{}", world.queue);
    node.remove(&key).await?;

    // It takes nothing, and what is there is shown and stays.
    let refused = node.queues.accept(&world.queue, message("new", None)?).await;
    ensure!(refused.is_err_and(|error| error.code == Code::QueueUnavailable), "it is gone");
    listed(&world, &node, 2).await?;
    let letters = letters(&node);
    for decision in [Decision::Replay, Decision::ReplayWith("x".into(), None)] {
        let refused = letters.settle(&world.queue, &ids(&["bad-0"]), &decision, &by()).await;
        ensure!(matches!(refused, Err(DeadLetterError::Removed(_))), "{refused:?}");
    }
    listed(&world, &node, 2).await?;
    node.eventually("both refusals are told", async || {
        let told = node.events(&world, Kind::Admin).await?;
        let refused = told.iter().filter(|of| of.outcome == Outcome::Refused);
        Ok(refused.filter(|of| of.admin_action.as_deref() == Some("replay")).count() == 2)
    })
    .await?;

    // Back again, it goes on where it was.
    receiver.set(|_| Reply::Status(200));
    world.queue(&node, &receiver.url, &format!(r#""partitions": 2, {QUICK}"#)).await?;
    letters.settle(&world.queue, &Which::All, &Decision::Replay, &by()).await?;
    node.is_drained(&world, 2).await?;
    let attempts = receiver.attempts().into_iter().filter(|attempt| attempt.status == 200);
    let delivered: BTreeSet<String> = attempts.map(|attempt| attempt.id).collect();
    let expected = ["bad-0", "bad-1", "good-0", "good-1", "later"].map(str::to_owned);
    ensure!(delivered == BTreeSet::from(expected), "{delivered:?}");
    node.stop().await
}
