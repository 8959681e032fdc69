//! One node: the embedded log, and queues on it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::http::HeaderMap;
use bytes::Bytes;
use hdrhistogram::Histogram;
use ingest::emit::{self, Emitter};
use ingest::event::{Producer, SystemClock, Timestamp};
use ingest::http::Correlation;
use ingest::log::embedded::{Config, EmbeddedLog};
use ingest::log::{EventLog, TopicSpec};
use ingest::registry::{
    Change, ChangeSet, EntityKey, Json, Name, Proposer, Topics, View, no_deep_check, run_applier,
};
use mediator::Mediator;
use mediator::deliver::{self, Delivery, MessageId, NewMessage, Queues};
use mediator::endpoint::http::Caller;

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Each with one message under way.
pub(crate) const CALLERS: usize = 64;
pub(crate) const BODY_BYTES: usize = 1_024;

pub(crate) struct Node {
    pub(crate) queues: Queues,
    pub(crate) delivery: Delivery,
    parts: deliver::Parts,
    view: View,
    emitter: Emitter,
    proposer: Proposer,
}

/// What accepting came to.
pub(crate) struct Accepted {
    pub(crate) per_s: f64,
    /// In microseconds.
    pub(crate) times: Histogram<u64>,
}

impl Accepted {
    pub(crate) fn ms(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

impl Node {
    pub(crate) async fn start(dir: &Path) -> Result<Self> {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(&Config::new(dir.join("log")))?);
        let topics = Topics::default();
        let view = View::open(log.clone(), topics.clone()).await?;
        tokio::spawn(run_applier(log.clone(), topics.clone(), no_deep_check));
        // Without it the events stay in the spool, and deliveries stop when that is full.
        log.create_topic(&TopicSpec::kept(emit::TOPIC, 1)).await?;
        let config = emit::Config::new(Producer::new("bench")?, dir.join("spool"), NonZeroU32::MIN);
        let clock = Arc::new(SystemClock);
        let (emitter, service) = emit::open(config, log.clone(), clock.clone())?;
        tokio::spawn(service.run(std::future::pending()));
        let queues = Queues::new(log.clone(), view.clone(), emitter.clone(), clock.clone());
        let proposer = Proposer::new(log.clone(), topics, PATIENCE);
        let (caller, of) = (Caller::new(), emitter.clone());
        let (view_of, taking) = (view.clone(), queues.clone());
        let parts =
            deliver::Parts { log, view: view_of, caller, emitter: of, clock, queues: taking };
        let delivery = Delivery::start(deliver::Config::default(), parts.clone());
        Ok(Self { queues, delivery, parts, view, emitter, proposer })
    }

    /// Stops deliveries in order, and starts them anew on the same log.
    pub(crate) async fn restart_delivery(&mut self) {
        let anew = Delivery::start(deliver::Config::default(), self.parts.clone());
        std::mem::replace(&mut self.delivery, anew).shutdown().await;
    }

    pub(crate) async fn upstream(&self, name: &str, at: SocketAddr) -> Result<()> {
        let spec = format!(r#"{{"targets": [{{"url": "http://{at}"}}]}}"#);
        self.put(&format!("upstream/{name}"), &spec).await
    }

    /// A queue to an upstream, of 4 partitions, with 64 attempts at once.
    pub(crate) async fn queue(&self, name: &Name, upstream: &str) -> Result<()> {
        let spec = format!(
            r#"{{"deliver": {{"upstream": "{upstream}", "path": "/"}}, "partitions": 4,
                "concurrency_max": 64,
                "retry": {{"delay_min_ms": 100, "delay_max_ms": 1000, "attempts_max": 1000}}}}"#
        );
        self.put(&format!("queue/{name}"), &spec).await?;
        self.queues.prepare().await?;
        Ok(())
    }

    /// A route that stores what is posted to `/NAME`, under the key of its header `key`, and
    /// what answers by it.
    pub(crate) async fn serve(&self, name: &Name) -> Result<Mediator> {
        let spec = format!(
            r#"{{"from": {{"http": {{"methods": ["POST"], "path": "/{name}"}}}},
                "steps": [{{"id": "keep", "store": {{"queue": "{name}", "key": "$headers.key"}}}}]}}"#
        );
        self.put(&format!("route/{name}"), &spec).await?;
        let parts = mediator::Parts {
            view: self.view.clone(),
            emitter: self.emitter.clone(),
            caller: Caller::new(),
            queues: self.queues.clone(),
            clock: Arc::new(SystemClock),
        };
        let config = mediator::Config { address: ([127, 0, 0, 1], 0).into(), ..Default::default() };
        Ok(Mediator::start(config, parts).await?)
    }

    async fn put(&self, key: &str, spec: &str) -> Result<()> {
        let EntityKey { kind, name } = EntityKey::parse(key).context("a key")?;
        let spec = Json(serde_json::from_str(spec)?);
        let changes = vec![Change::Put { kind, name, expected: None, spec }];
        let id = Name::new(&format!("put-{}", key.replace('/', "-")))?;
        let set = ChangeSet { id, author: "bench".into(), message: "m".into(), changes };
        let verdict = self.proposer.propose(&set).await?;
        let ingest::registry::Outcome::Accepted { revision, .. } = verdict.outcome else {
            anyhow::bail!("refused: {verdict:?}");
        };
        tokio::time::timeout(PATIENCE, self.view.wait_for(revision)).await??;
        Ok(())
    }

    /// Has messages accepted whose keys take turns: message `n` is of key `n % keys`.
    pub(crate) async fn accept(
        &self,
        queue: &Name,
        (first, count): (usize, usize),
        keys: usize,
    ) -> Result<Accepted> {
        self.accept_for(queue, (first, count), keys, None).await
    }

    /// As [`Self::accept`], scheduled for a time if one is given.
    pub(crate) async fn accept_for(
        &self,
        queue: &Name,
        (first, count): (usize, usize),
        keys: usize,
        due: Option<Timestamp>,
    ) -> Result<Accepted> {
        let next = Arc::new(AtomicUsize::new(first));
        let body = Bytes::from(vec![b'x'; BODY_BYTES]);
        let began = Instant::now();
        let callers = (0..CALLERS).map(|_| {
            let (queues, queue, next, body) =
                (self.queues.clone(), queue.clone(), next.clone(), body.clone());
            tokio::spawn(async move {
                let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= first + count {
                        return anyhow::Ok(times);
                    }
                    let message = NewMessage {
                        id: MessageId::new(&format!("{queue}-{number}"))?,
                        key: Some(format!("k{}", number % keys).into()),
                        expires_after: None,
                        due,
                        content_type: None,
                        headers: HeaderMap::new(),
                        body: body.clone(),
                        correlation: Correlation::of(&HeaderMap::new(), || number as u64),
                    };
                    let asked = Instant::now();
                    queues.accept(&queue, message).await?;
                    times.saturating_record(asked.elapsed().as_micros() as u64);
                }
            })
        });
        let mut times = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        for caller in callers.collect::<Vec<_>>() {
            times += caller.await??;
        }
        Ok(Accepted { per_s: count as f64 / began.elapsed().as_secs_f64(), times })
    }
}
