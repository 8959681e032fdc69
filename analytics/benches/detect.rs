//! How soon an email of an alert is handed over after the event that it is about.
//!
//! `./dev bench` runs it. A gateway's emitter writes 200 events a second; once a second
//! a new address sends five at once, which a detection with windows of a second and a lateness
//! of a second finds. Each is told of by an email with its chart, over SMTP to a real server
//! (`aiosmtpd`) on this machine, which keeps when it took it. What is measured is from the time of
//! the event that made it a finding to then, less the lateness, which the detection declares.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use analytics::serve::{Analytics, Config, Parts};
use anyhow::{Context as _, Result, ensure};
use ingest::decision::Decisions;
use ingest::emit::{self, Emitter, TOPIC};
use ingest::event::{Kind, Outcome, Producer, SystemClock};
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::{EventLog, TopicSpec};
use ingest::registry::{Topics, View, no_deep_check, run_applier};
use rig::Smtp;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

const PARTITIONS: NonZeroU32 = NonZeroU32::new(4).unwrap();
/// How many alerts are waited for; the first are not counted, as connections are made then.
const ALERTS: usize = 70;
const FIRST: usize = 10;
const EACH: Duration = Duration::from_millis(1_000);
const BETWEEN: Duration = Duration::from_millis(5);
/// How many events at once are a finding.
const BURST: usize = 5;
const LATENESS: Duration = Duration::from_secs(1);
const DETECTION: &str = "-- title: A burst
-- owner: benches
-- lateness: 1 s
-- severity: low
-- subject: client_address
-- quiet: 1 s
-- message: \"{{ client_address }} sent {{ n }}\"
SELECT window_start, window_end, client_address, count(*) AS n
FROM TUMBLE(events, event_time, INTERVAL '1 second')
WHERE kind = 'request' AND client_address LIKE '198.51.%'
GROUP BY window_start, window_end, client_address HAVING count(*) >= 3";

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let base = std::env::var_os("WEIR_BENCH_DIR").unwrap_or_else(|| std::env::temp_dir().into());
    let dir = tempfile::tempdir_in(base)?;
    tokio::runtime::Runtime::new()?.block_on(Box::pin(run(dir.path())))
}

async fn run(dir: &Path) -> Result<()> {
    let log = EmbeddedLog::open(&embedded::Config::new(dir.join("log")))?;
    let log: Arc<dyn EventLog> = Arc::new(log);
    log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await?;
    let settings = emit::Config::new(Producer::new("edge.0")?, dir.join("spool"), PARTITIONS);
    let (emitter, service) = emit::open(settings, log.clone(), Arc::new(SystemClock))?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let draining = tokio::spawn(service.run(async move { drop(stopped.await) }));

    let smtp = Smtp::start(&[])?;
    let queries = dir.join("queries");
    std::fs::create_dir_all(&queries)?;
    std::fs::write(queries.join("burst.sql"), DETECTION)?;
    let mail = serde_json::json!({
        "host": "127.0.0.1", "port": smtp.port(), "security": "none",
        "from": "weir@example.org", "recipients": ["security@example.org"],
    });
    let config = Config {
        address: "127.0.0.1:0".parse()?,
        queries_dir: Some(queries),
        shipped: Vec::new(),
        mail: Some(serde_json::from_value(mail)?),
        ..Config::default()
    };
    let topics = Topics::default();
    topics.create(&*log).await?;
    let applier = run_applier(log.clone(), topics.clone(), no_deep_check);
    let _applier = AbortOnDropHandle::new(tokio::spawn(applier));
    let view = View::open(log.clone(), topics).await?;
    let decisions = Decisions::open(&*log).await?;
    let parts = Parts {
        decisions,
        log,
        lake_dir: dir.join("lake"),
        search_dir: dir.join("search"),
        token: "a token of the bench, long enough".to_owned(),
        view,
        emitter: emitter.clone(),
    };
    let analytics = Analytics::start(&config, parts).await?;
    let found = traffic(&emitter).await?;
    let late = told(&smtp, &found).await?;
    analytics.shutdown().await;
    drop(stop);
    draining.await??;
    smtp.stop()?;
    say(late)
}

/// Sends events until there are bursts enough; answers when the finding was made of each, by
/// its address.
async fn traffic(emitter: &Emitter) -> Result<HashMap<String, SystemTime>> {
    let mut found = HashMap::new();
    let mut timer = tokio::time::interval(BETWEEN);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = Instant::now();
    let mut number = 0_usize;
    // It has learnt where it stands before anything is told.
    let begin = Instant::now() + Duration::from_secs(5);
    while found.len() < ALERTS + FIRST {
        timer.tick().await;
        number += 1;
        request(emitter, &format!("203.0.113.{}", number % 250))?;
        if last.elapsed() >= EACH && Instant::now() > begin {
            last = Instant::now();
            let address = format!("198.51.{}.{}", found.len() / 250, found.len() % 250);
            let mut at = UNIX_EPOCH;
            for sent in 0..BURST {
                let time = request(emitter, &address)?;
                // By the third it is one.
                if sent < 3 {
                    at = time;
                }
            }
            found.insert(address, at);
        }
    }
    // Windows close by what comes after them.
    for _ in 0..1_000 {
        timer.tick().await;
        request(emitter, "203.0.113.251")?;
    }
    Ok(found)
}

fn request(emitter: &Emitter, address: &str) -> Result<SystemTime> {
    let mut event = emitter.event(Kind::Request, Outcome::Success);
    let micros = u64::try_from(event.event_time.as_micros()).context("it is after 1970")?;
    event.client_address = Some(address.to_owned().into());
    // By it events are spread over partitions, as those of a gateway are.
    event.correlation_id = Some(format!("{:016x}", fastrand::u64(..)).into());
    event.api_name = Some("orders".into());
    event.http_response_status_code = Some(200);
    let _ = emitter.emit(event)?;
    Ok(UNIX_EPOCH + Duration::from_micros(micros))
}

/// How long after its event the first email of each was handed over.
async fn told(smtp: &Smtp, found: &HashMap<String, SystemTime>) -> Result<Vec<Duration>> {
    let began = Instant::now();
    loop {
        let mut first: HashMap<&str, SystemTime> = HashMap::new();
        for kept in smtp.kept()? {
            let subject = kept.email.lines().find_map(|line| line.strip_prefix("Subject      "));
            let address = subject.and_then(|line| line.split(' ').next()).unwrap_or_default();
            if let Some((address, _)) = found.get_key_value(address.trim()) {
                let at = first.entry(address).or_insert(kept.at);
                *at = kept.at.min(*at);
            }
        }
        if first.len() >= ALERTS {
            let mut by_time: Vec<(&str, SystemTime)> = first.into_iter().collect();
            by_time.sort_by_key(|(_, at)| *at);
            let late = by_time.into_iter().skip(FIRST);
            return late.map(|(address, at)| Ok(at.duration_since(found[address])?)).collect();
        }
        ensure!(began.elapsed() < Duration::from_secs(60), "{} are told of", first.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn say(mut late: Vec<Duration>) -> Result<()> {
    late.sort_unstable();
    let ms = |of: Duration| of.saturating_sub(LATENESS).as_secs_f64() * 1e3;
    let last = *late.last().context("there are some")?;
    println!(
        "{} alerts, by email {:.0} ms at p50, {:.0} ms at p99, {:.0} ms at most after the event, \
         beyond the lateness of {LATENESS:?}",
        late.len(),
        ms(late[late.len() / 2]),
        ms(late[late.len() * 99 / 100]),
        ms(last)
    );
    Ok(())
}
