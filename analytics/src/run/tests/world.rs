//! Producers, and nodes that run queries.

use ingest::decision::Decisions;
use ingest::event::ManualClock;
use ingest::registry::{Topics, View};
use serde::de::DeserializeOwned;

use super::*;

/// How many rows of a history the nodes take in at once.
const SLICE_ROWS: u64 = 400;

/// The shipped queries, and [`DETECTION`] as `many`.
pub(super) async fn library(dir: &std::path::Path) -> Library {
    let queries = dir.join("queries");
    std::fs::create_dir_all(&queries).unwrap();
    std::fs::write(queries.join("many.sql"), DETECTION).unwrap();
    Library::load(Some(&queries), &super::shipped::by_default()).await.unwrap()
}

/// Producers that write to a log.
pub(super) struct Traffic {
    pub(super) log: Arc<dyn EventLog>,
    sequences: std::collections::BTreeMap<(&'static str, u32), i64>,
    pub(super) now: i64,
    pub(super) rng: Rng,
}

impl Traffic {
    pub(super) async fn new(seed: u64) -> Self {
        Self::over(seed, Arc::new(EmbeddedLog::in_memory())).await
    }

    pub(super) async fn over(seed: u64, log: Arc<dyn EventLog>) -> Self {
        log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await.unwrap();
        let sequences = std::collections::BTreeMap::new();
        let mut new = Self { log, sequences, now: BEGIN, rng: Rng::with_seed(seed) };
        new.all(Kind::SourceJoined).await;
        new
    }

    pub(super) async fn append(&mut self, events: Vec<Event>) {
        let record = |event: Event| {
            let partition = Partition::new(TOPIC, event.partition(PARTITIONS));
            let record = cloudevents::record(&event);
            let headers = record.headers.iter().map(|(name, value)| (*name, value.as_ref()));
            let headers = Headers::new(headers);
            (partition, NewRecord { key: Some(record.key), value: Some(record.value), headers })
        };
        self.log.append(events.into_iter().map(record).collect()).await.unwrap();
    }

    pub(super) fn event(
        &mut self,
        producer: &'static str,
        partition: u32,
        time: i64,
        kind: Kind,
    ) -> Event {
        let sequence = self.sequences.entry((producer, partition)).or_default();
        *sequence += 1;
        let boot = i64::from(partition) + 1;
        let id = EventId { producer: Producer::new(producer).unwrap(), boot, sequence: *sequence };
        let mut event = Event::new(id, Timestamp::from_micros(time), kind, Outcome::Success);
        event.sequence_before = (*sequence > 1).then_some(*sequence - 1);
        event.source_partition = Some(i64::from(partition));
        event
    }

    /// A word of both producers in each partition.
    pub(super) async fn all(&mut self, kind: Kind) {
        let mut events = Vec::new();
        for producer in ["a", "b"] {
            for partition in 0..PARTITIONS.get() {
                let mut event = self.event(producer, partition, self.now, kind);
                event.source_watermark_time = Some(Timestamp::from_micros(self.now));
                events.push(event);
            }
        }
        self.append(events).await;
    }

    pub(super) async fn requests(&mut self, count: usize) {
        let mut events = Vec::new();
        for _ in 0..count {
            self.now += self.rng.i64(0..3 * S);
            let late = if self.rng.u8(0..3) == 0 { self.rng.i64(0..70 * S) } else { 0 };
            let producer = if self.rng.bool() { "a" } else { "b" };
            let partition = self.rng.u32(0..PARTITIONS.get());
            let mut event = self.event(producer, partition, self.now - late, Kind::Request);
            event.replay_id = (self.rng.u8(0..5) == 0).then(|| "may".into());
            event.api_name = Some(["orders", "prices"][self.rng.usize(0..2)].into());
            event.client_address = Some(format!("198.51.100.{}", self.rng.u8(1..9)).into());
            event.http_response_status_code = Some([200, 404, 503][self.rng.usize(0..3)]);
            event.latency_total_us = Some(self.rng.i64(100..90_000));
            events.push(event);
        }
        self.append(events).await;
    }

    pub(super) async fn end_replay(&mut self) {
        let mut events = Vec::new();
        for partition in 0..PARTITIONS.get() {
            let mut event = self.event("a", partition, self.now, Kind::ReplayEnded);
            event.replay_id = Some("may".into());
            events.push(event);
        }
        self.append(events).await;
    }
}

/// A node that follows the log and takes part in running queries.
pub(super) struct Node {
    pub(super) history: Arc<History>,
    pub(super) tables: Tables,
    pub(super) status: Status,
    pub(super) queries: QueryTable,
    pub(super) base: Library,
    pub(super) library: watch::Sender<Current>,
    pub(super) pauses: Pauses,
    pub(super) decisions: Decisions,
    stop: watch::Sender<bool>,
    following: JoinHandle<Result<(), follow::Error>>,
    running: JoinHandle<()>,
}

impl Node {
    pub(super) async fn start(log: &Arc<dyn EventLog>, dir: &std::path::Path) -> Self {
        Self::with(log, dir, (0, &[])).await
    }

    /// With queries of the registry, by name and text, and how far it was read.
    pub(super) async fn with(
        log: &Arc<dyn EventLog>,
        dir: &std::path::Path,
        given: (u64, &[(&str, &str)]),
    ) -> Self {
        Self::by(log, dir, given, SLICE_ROWS, 40).await
    }

    /// As [`Self::with`]; of a history it takes in so many rows at once.
    pub(super) async fn by_slices(
        log: &Arc<dyn EventLog>,
        dir: &std::path::Path,
        given: (u64, &[(&str, &str)]),
        slice_rows: u64,
    ) -> Self {
        Self::by(log, dir, given, slice_rows, 40).await
    }

    /// As [`Self::by_slices`]; it commits to the lake so often.
    pub(super) async fn by(
        log: &Arc<dyn EventLog>,
        dir: &std::path::Path,
        (revision, given): (u64, &[(&str, &str)]),
        slice_rows: u64,
        commit_ms: u64,
    ) -> Self {
        let base = library(dir).await;
        let library = Arc::new(base.with(&self::given(given)));
        make_topics(&**log).await.unwrap();
        for view in library.views() {
            make_topic_of(&**log, &view.name).await.unwrap();
        }
        let (library, current) = watch::channel(Current { library, revision });
        let pauses = Pauses::open(&**log).await.unwrap();
        let state_dir = dir.join("state");
        std::fs::create_dir_all(&state_dir).unwrap();
        let config = follow::Config { commit_ms, ..follow::Config::new(dir) };
        let (service, history, _) = follow::open(config, log.clone()).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let following = tokio::spawn(service.run(stopped.clone()));
        let (status, tables) =
            (Status::default(), Tables::new(&library.borrow().library.clone()).await);
        tokio::spawn(tables.clone().follow(log.clone(), stopped.clone()));
        tokio::spawn(pauses.clone().follow(log.clone(), stopped.clone()));
        let queries = QueryTable::default();
        tokio::spawn(queries.clone().follow(log.clone(), stopped.clone()));
        log.create_topic(&TopicSpec::compacted(ingest::decision::TOPIC, 1)).await.unwrap();
        // Not followed: who takes over has to read what others have written by itself.
        let decisions = Decisions::default();
        let topics = Topics::default();
        topics.create(&**log).await.unwrap();
        let view = View::open(log.clone(), topics).await.unwrap();
        let emitter = emitter(dir, log);
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(BEGIN)));
        let parts = Parts {
            log: log.clone(),
            threads: Threads::new().unwrap(),
            history: history.clone(),
            library: current,
            pauses: pauses.clone(),
            state_dir,
            status: status.clone(),
            told: queries.clone(),
            epoch: Duration::from_millis(5),
            checkpoint_every: Duration::from_millis(60),
            slice_rows,
            emitter: emitter.clone(),
            decider: Decider { decisions: decisions.clone(), view, emitter, clock },
            retire_after: Duration::from_secs(3_600),
        };
        let running = tokio::spawn(run(parts, stopped));
        Self {
            history,
            tables,
            status,
            queries,
            base,
            library,
            pauses,
            decisions,
            stop,
            following,
            running,
        }
    }

    /// As a kill: nothing is finished.
    pub(super) async fn kill(self) {
        for task in [self.running] {
            task.abort();
            let _ = task.await;
        }
        self.following.abort();
        let _ = self.following.await;
    }

    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
        self.following.await.unwrap().unwrap();
    }

    /// Has the registry give these queries, by name and text, one revision on.
    pub(super) async fn give(&self, log: &Arc<dyn EventLog>, given: &[(&str, &str)]) {
        let library = Arc::new(self.base.with(&self::given(given)));
        for view in library.views() {
            make_topic_of(&**log, &view.name).await.unwrap();
        }
        self.tables.show(&library).await;
        let revision = self.library.borrow().revision + 1;
        self.library.send_replace(Current { library, revision });
    }

    /// Lets a query rest, or go on.
    pub(super) async fn rest(&self, log: &Arc<dyn EventLog>, query: &str, rests: bool) {
        let at = Timestamp::from_micros(BEGIN);
        let pause = Pause { by: "ann".to_owned(), note: "too loud".to_owned(), at, revision: 0 };
        let record = if rests { pause.record(query) } else { pauses::ended(query) };
        log.append(vec![record]).await.unwrap();
        while self.pauses.of(query).is_some() != rests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The rows of the view, each column as text, in order.
    pub(super) async fn view(&self, replay: &str) -> Vec<String> {
        let sql = Sql::new(self.history.clone(), Limits::default(), Threads::new().unwrap())
            .with_tables(self.tables.clone());
        let text = format!(
            "SELECT * EXCLUDE (replay_id) FROM {VIEW} WHERE replay_id {replay} \
             ORDER BY window_start, api_name, api_version"
        );
        lines(&sql.query(&text).await.unwrap().batches)
    }

    /// What a query gives over all that was read, at once.
    pub(super) async fn at_once(&self, file: &QueryFile, span: &Span) -> (Plan, RecordBatch) {
        let plan = Plan::new(file.clone(), &self.tables.sources()).await.unwrap();
        let history = self.history.snapshot().await.unwrap().table;
        let answer = backtest(&plan, history, span, Arc::default()).await.unwrap();
        (plan, answer)
    }

    pub(super) async fn has_read(&self, rows: i64) {
        let sql = Sql::new(self.history.clone(), Limits::default(), Threads::new().unwrap());
        loop {
            let answer = sql.query("SELECT count(*) FROM events").await.unwrap();
            let count = answer.batches[0].column(0).as_primitive::<Int64Type>().value(0);
            if count >= rows {
                assert_eq!(count, rows);
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What a registry of these queries gives; of one that is no SQL it is a table.
pub(super) fn given(named: &[(&str, &str)]) -> Given {
    let mut given = Given::default();
    for (name, text) in named {
        let of = if text.starts_with("--") { &mut given.queries } else { &mut given.tables };
        of.insert((*name).to_owned(), (*text).to_owned());
    }
    given
}

/// An emitter whose events go nowhere: nothing is retired within the tests' time.
pub(super) fn emitter(dir: &std::path::Path, log: &Arc<dyn EventLog>) -> ingest::emit::Emitter {
    let producer = Producer::new("node").unwrap();
    let spool = tempfile::tempdir_in(dir).unwrap().keep();
    let settings = ingest::emit::Config::new(producer, spool, PARTITIONS);
    let clock = Arc::new(ingest::event::SystemClock);
    ingest::emit::open(settings, log.clone(), clock).unwrap().0
}

/// All values of a topic of one partition.
pub(super) async fn values<T: DeserializeOwned>(log: &Arc<dyn EventLog>, topic: &str) -> Vec<T> {
    let partition = Partition::new(topic, 0);
    let end = log.bounds(&partition).await.unwrap().end;
    let mut reader = log.reader(vec![(partition, 0)]).await.unwrap();
    let (mut values, mut next) = (Vec::new(), 0);
    while next < end {
        let Some(batch) = reader.next(ReadLimit::default()).await.unwrap() else { continue };
        next = batch.next;
        let of = batch.records.into_iter().filter_map(|record| record.value);
        values.extend(of.map(|value| serde_json::from_slice(&value).unwrap()));
    }
    values
}

pub(super) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let table = arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string();
    table.lines().filter(|line| !line.starts_with('+')).skip(1).map(str::to_owned).collect()
}
