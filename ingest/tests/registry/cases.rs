//! What the registry promises, a function a promise.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ingest::log::{NewRecord, ReadLimit};
use ingest::registry::{
    Applier, ChangeSet, Error, Outcome, Proposer, Topics, Verdict, View, no_deep_check, run_applier,
};

use crate::world::{Case, PATIENCE, World, put, set};

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        vec![$((stringify!($case), (|world| Box::pin($case(world))) as Case)),+]
    };
}

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    cases![
        what_is_accepted_is_there_after_reopening,
        a_set_is_made_once_however_often_it_is_proposed,
        a_fenced_applier_changes_nothing,
        a_standby_takes_over,
        an_unreadable_proposal_is_refused_and_stops_nothing,
        a_view_is_right_after_compaction,
        what_is_not_whole_never_replaces_what_is,
    ]
}

fn tier(id: &str, expected: Option<u64>, burst: u64) -> ChangeSet {
    set(id, vec![put("tier/gold", expected, &format!(r#"{{"burst_requests_max":{burst}}}"#))])
}

/// Steps until something was judged.
async fn judged(applier: &mut Applier) -> Result<usize> {
    let count = applier.step(PATIENCE).await?;
    ensure!(count > 0, "no proposal came");
    Ok(count)
}

async fn append(world: &World, set: &ChangeSet) -> Result<()> {
    let value = serde_json::to_vec(set)?;
    let record = NewRecord::keyed(set.id.as_str().to_owned(), value);
    world.log.append(vec![(world.topics.proposals.clone(), record)]).await?;
    Ok(())
}

/// The verdicts, read until `count` have come.
async fn verdicts(world: &World, count: usize) -> Result<Vec<Verdict>> {
    let partition = world.topics.verdicts.clone();
    let mut reader = world.log.reader(vec![(partition, 0)]).await?;
    let mut found = Vec::new();
    let start = Instant::now();
    loop {
        let wait = Duration::from_secs(2);
        let batch = reader.next(ReadLimit { wait, ..ReadLimit::default() }).await?;
        let was_idle = batch.is_none();
        for record in batch.into_iter().flat_map(|batch| batch.records) {
            found.extend(serde_json::from_slice(record.value.as_deref().unwrap_or_default()).ok());
        }
        // A moment longer, for what should not be there.
        if was_idle && found.len() >= count {
            return Ok(found);
        }
        ensure!(start.elapsed() < PATIENCE, "{} of {count} verdicts came", found.len());
    }
}

fn revision(verdict: &Verdict) -> Result<u64> {
    match &verdict.outcome {
        Outcome::Accepted { revision, .. } => Ok(*revision),
        Outcome::Refused { reasons } => bail!("refused: {}", reasons[0]),
    }
}

async fn what_is_accepted_is_there_after_reopening(mut world: World) -> Result<()> {
    let view = View::open(world.log.clone(), world.topics.clone()).await?;
    ensure!(view.status().revision == 0);
    let applier = tokio::spawn(run_applier(world.log.clone(), world.topics.clone(), no_deep_check));
    let accepted = world.proposer().propose(&tier("s1", None, 5)).await?;
    let shown = view.wait_for(revision(&accepted)?).await?;
    let refused = world.proposer().propose(&tier("s2", None, 6)).await?;
    ensure!(!refused.is_accepted(), "{refused:?}");
    revision(&world.proposer().propose(&tier("s3", Some(1), 7)).await?)?;
    let hash = view.wait_for(2).await?.config_hash();
    ensure!(hash != shown.config_hash());
    applier.abort();
    drop((view, applier.await));

    // One more waits for an applier when the log is closed.
    append(&world, &tier("s4", Some(2), 8)).await?;
    world.reopen().await?;
    let view = View::open(world.log.clone(), world.topics.clone()).await?;
    ensure!(view.status().revision == 2 && view.snapshot().config_hash() == hash);
    let mut applier = Applier::open(&world.log, world.topics.clone()).await?;
    judged(&mut applier).await?;
    let shown = view.wait_for(3).await?;
    ensure!(*shown == *applier.now());
    ensure!(verdicts(&world, 4).await?.len() == 4);
    Ok(())
}

async fn a_set_is_made_once_however_often_it_is_proposed(world: World) -> Result<()> {
    let applier = tokio::spawn(run_applier(world.log.clone(), world.topics.clone(), no_deep_check));
    let first = world.proposer().propose(&tier("s1", None, 5)).await?;
    applier.abort();
    drop(applier.await);
    // The next applier knows the verdict from the log.
    let applier = tokio::spawn(run_applier(world.log.clone(), world.topics.clone(), no_deep_check));
    let second = world.proposer().propose(&tier("s1", None, 5)).await?;
    ensure!(second.outcome == first.outcome && second.proposal != first.proposal, "{second:?}");
    let other = world.proposer().propose(&tier("s1", None, 6)).await?;
    ensure!(!other.is_accepted(), "another set of the same id: {other:?}");
    applier.abort();

    let impatient =
        Proposer::new(world.log.clone(), world.topics.clone(), Duration::from_millis(300));
    drop(applier.await);
    let unknown = impatient.propose(&tier("s2", Some(1), 7)).await;
    ensure!(matches!(unknown, Err(Error::NoVerdict { .. })), "{unknown:?}");
    tokio::spawn(run_applier(world.log.clone(), world.topics.clone(), no_deep_check));
    let told = world.proposer().propose(&tier("s2", Some(1), 7)).await?;
    ensure!(revision(&told)? == 2);
    ensure!(verdicts(&world, 5).await?.len() == 5, "one for each proposal");
    Ok(())
}

async fn a_fenced_applier_changes_nothing(world: World) -> Result<()> {
    let mut zombie = Applier::open(&world.log, world.topics.clone()).await?;
    append(&world, &tier("s1", None, 5)).await?;
    judged(&mut zombie).await?;
    let mut heir = Applier::open(&world.log, world.topics.clone()).await?;
    append(&world, &tier("s2", Some(1), 6)).await?;
    let refused = judged(&mut zombie).await.err().context("the zombie went on")?;
    let refused = refused.downcast::<Error>()?;
    ensure!(refused.is_fenced(), "{refused}");
    let spent = zombie.step(PATIENCE).await;
    ensure!(matches!(spent, Err(Error::Spent)), "{spent:?}");
    judged(&mut heir).await?;
    ensure!(heir.now().revision() == 2);
    let found = verdicts(&world, 2).await?;
    ensure!(found.len() == 2 && found.iter().all(Verdict::is_accepted), "{found:?}");
    Ok(())
}

async fn a_standby_takes_over(world: World) -> Result<()> {
    let run = || tokio::spawn(run_applier(world.log.clone(), world.topics.clone(), no_deep_check));
    let nodes = [run(), run()];
    for i in 0..4 {
        let expected = (i > 0).then_some(i);
        revision(&world.proposer().propose(&tier(&format!("s{i}"), expected, i + 1)).await?)?;
    }
    let [first, second] = nodes;
    for (i, node) in [(4, first), (5, second)] {
        let heir = (i == 5).then(run);
        node.abort();
        drop(node.await);
        let set = tier(&format!("s{i}"), Some(i), i + 1);
        ensure!(revision(&world.proposer().propose(&set).await?)? == i + 1);
        drop(heir);
    }
    Ok(())
}

async fn an_unreadable_proposal_is_refused_and_stops_nothing(world: World) -> Result<()> {
    let bad = [
        NewRecord::keyed("b1", r#"{"id":"b1","hush":"hush"}"#),
        NewRecord::unkeyed(&b"\xff hush"[..]),
        NewRecord::tombstone("b2"),
    ];
    let records = bad.map(|record| (world.topics.proposals.clone(), record));
    world.log.append(records.into()).await?;
    append(&world, &tier("s1", None, 5)).await?;
    let mut applier = Applier::open(&world.log, world.topics.clone()).await?;
    let mut count = 0;
    while count < 4 {
        count += judged(&mut applier).await?;
    }
    let found = verdicts(&world, 4).await?;
    let told: Vec<_> = found.iter().map(|v| (v.id.as_str(), v.is_accepted())).collect();
    let expected = [("b1", false), ("unread-1", false), ("b2", false), ("s1", true)];
    ensure!(told == expected, "{told:?}");
    ensure!(!format!("{found:?}").contains("hush"));
    Ok(())
}

async fn a_view_is_right_after_compaction(world: World) -> Result<()> {
    let applier = tokio::spawn(run_applier(world.log.clone(), world.topics.clone(), no_deep_check));
    let follower = View::open(world.log.clone(), world.topics.clone()).await?;
    let targets = |i: u64| {
        let target = |j| format!(r#"{{"url":"http://host-{i}-{j}:8080/{}"}}"#, "x".repeat(600));
        format!(r#"{{"targets":[{}]}}"#, (0..100).map(target).collect::<Vec<_>>().join(","))
    };
    let start = Instant::now();
    let mut revisions = 0;
    // Files are cleaned when they are full, so something has to fill them.
    loop {
        for _ in 0..10 {
            let expected = (revisions > 0).then_some(revisions);
            let changes = vec![
                put("upstream/u", expected, &targets(revisions)),
                put(
                    "tier/gold",
                    expected,
                    &format!(r#"{{"burst_requests_max":{}}}"#, revisions + 1),
                ),
            ];
            let set = set(&format!("s{revisions}"), changes);
            revisions = revision(&world.proposer().propose(&set).await?)?;
            let view = View::open(world.log.clone(), world.topics.clone()).await?;
            let (loaded, followed) =
                (view.wait_for(revisions).await?, follower.wait_for(revisions).await?);
            ensure!(loaded == followed, "{loaded:?} {followed:?}");
        }
        if upstreams(&world, revisions).await? < revisions {
            break;
        }
        ensure!(start.elapsed() < 2 * PATIENCE, "nothing was compacted");
    }
    applier.abort();
    drop(applier.await);
    let applier = Applier::open(&world.log, world.topics.clone()).await?;
    ensure!(*applier.now() == *follower.snapshot());
    Ok(())
}

/// How many versions of the upstream are still there, up to the last.
async fn upstreams(world: &World, revisions: u64) -> Result<u64> {
    let mut reader = world.log.reader(vec![(world.topics.entities.clone(), 0)]).await?;
    let last = format!(r#"{{"version":{revisions},"#);
    let mut count = 0;
    loop {
        let limit = ReadLimit { wait: PATIENCE, ..ReadLimit::default() };
        let batch = reader.next(limit).await?.context("the last is there")?;
        for record in batch.records.iter().filter(|r| r.key.as_deref() == Some(b"upstream/u")) {
            count += 1;
            if record.value.as_deref().unwrap_or_default().starts_with(last.as_bytes()) {
                return Ok(count);
            }
        }
    }
}

async fn what_is_not_whole_never_replaces_what_is(world: World) -> Result<()> {
    let mut applier = Applier::open(&world.log, world.topics.clone()).await?;
    append(&world, &tier("s1", None, 5)).await?;
    judged(&mut applier).await?;
    let view = View::open(world.log.clone(), world.topics.clone()).await?;
    let good = view.wait_for(1).await?;
    // Somebody writes past the applier.
    let foreign = |burst: u64| {
        let value = format!(r#"{{"version":2,"spec":{{"burst_requests_max":{burst}}}}}"#);
        (world.topics.entities.clone(), NewRecord::keyed("tier/gold", value))
    };
    world.log.append(vec![foreign(6)]).await?;
    view.changes().wait_for(|status| status.fault.is_some()).await?;
    ensure!(*view.snapshot() == *good);
    let opened = Applier::open(&world.log, Topics::clone(&world.topics)).await;
    ensure!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
    Ok(())
}
