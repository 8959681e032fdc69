//! What one user waits while another asks for all that there is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::sql::Sql;
use anyhow::{Context as _, Result, ensure};
use ingest::http::Caller;
use ingest::log::EventLog;
use ingest::log::embedded::EmbeddedLog;
use ingest::registry::{
    Change, ChangeSet, Json, Kind, Name, Proposer, Topics, View, no_deep_check, run_applier,
};
use tokio_util::task::AbortOnDropHandle;

/// Each would run for longer than a query may.
const HOSTILE: [&str; 4] = [
    "SELECT count(*) FROM events a, events b, events c",
    "SELECT count(DISTINCT a.value * b.value % 7) FROM range(10000000) a, range(10000000) b",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "SELECT array_agg(a.value::text || b.value) FROM range(100000) a, range(1000000) b",
];
const ASKED: &str = "SELECT http_route, count(*), max(latency_total_us) FROM events
    WHERE kind = 'request' GROUP BY http_route";
const TIMES: usize = 60;
/// When those that run for long have begun to give way.
const SETTLED: Duration = Duration::from_secs(3);

/// Asks alone, then beside as many hostile queries as a user may run, and more that wait.
pub(crate) async fn beside(sql: &Sql) -> Result<()> {
    let (registry, _applier) = registry().await?;
    let sql = sql.clone().with_users(registry);
    let [ann, eve] = ["ann", "eve"].map(|name| {
        let name = name.parse().expect("letters are a name");
        sql.asked_by(&Caller::User(name))
    });
    asked(&ann).await?;
    let alone = asked(&ann).await?;
    let hostile: Vec<AbortOnDropHandle<()>> = HOSTILE
        .map(|text| {
            let eve = eve.clone();
            AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    let _ = eve.query(text).await;
                }
            }))
        })
        .into();
    tokio::time::sleep(SETTLED).await;
    let beside = asked(&ann).await?;
    drop(hostile);
    let ms = |of: Duration| of.as_secs_f64() * 1e3;
    println!(
        "  a user's query takes {:.1} ms at p50, {:.1} ms at p95; beside another user's {} that do \
         not end, {:.1} and {:.1} ms: {:.2} of its speed",
        ms(alone.0),
        ms(alone.1),
        HOSTILE.len(),
        ms(beside.0),
        ms(beside.1),
        alone.0.as_secs_f64() / beside.0.as_secs_f64()
    );
    Ok(())
}

async fn asked(sql: &Sql) -> Result<(Duration, Duration)> {
    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let began = Instant::now();
        let answer = sql.query(ASKED).await?;
        took.push(began.elapsed());
        ensure!(!answer.batches.is_empty(), "there are no rows");
    }
    took.sort_unstable();
    Ok((took[TIMES / 2], took[TIMES * 95 / 100]))
}

/// Two users who may read everything.
async fn registry() -> Result<(View, AbortOnDropHandle<()>)> {
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
    let topics = Topics::default();
    topics.create(&*log).await?;
    let applier = run_applier(log.clone(), topics.clone(), no_deep_check);
    let applier = AbortOnDropHandle::new(tokio::spawn(applier));
    let view = View::open(log.clone(), topics.clone()).await?;
    let put = |kind: Kind, name: &str, spec: &str| {
        let spec = Json(serde_json::from_str(spec).expect("it is JSON"));
        let name: Name = name.parse().expect("letters are a name");
        Change::Put { kind, name, expected: None, spec }
    };
    let set = ChangeSet {
        id: "users".parse().expect("letters are a name"),
        author: "a bench".to_owned(),
        message: "users".to_owned(),
        changes: vec![
            put(Kind::Role, "all", r#"{"tables": {"*": {}}}"#),
            put(Kind::User, "ann", r#"{"roles": ["all"]}"#),
            put(Kind::User, "eve", r#"{"roles": ["all"]}"#),
        ],
    };
    let verdict = Proposer::new(log, topics, Duration::from_secs(10)).propose(&set).await?;
    let ingest::registry::Outcome::Accepted { revision, .. } = verdict.outcome else {
        anyhow::bail!("the users were refused");
    };
    view.wait_for(revision).await.context("the users are not shown")?;
    Ok((view, applier))
}
