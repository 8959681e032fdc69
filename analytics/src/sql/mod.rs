//! Ad-hoc SQL over the history.
//!
//! The dialect is DataFusion's, with the windows of continuous queries
//! ([`crate::query`]). The tables are `events`, with the columns of `docs/events.md` and
//! those that are stamped on them, `alerts`, one for each view, and `delivery_account`, which
//! says of each queue whether every message is accounted for; `information_schema` tells of
//! them. A query sees what was read from the log when it begins, and nothing later.
//!
//! Limits: only queries, no statement that makes, changes or copies anything; time,
//! memory, rows, and how many run at once ([`Limits`]). A query that passes one ends
//! with an error that says which; others go on, and so does everything else: queries have
//! threads of their own ([`crate::compute`]).

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext, col, lit};
use datafusion::sql::parser::{DFParser, Statement as ParsedStatement};
use datafusion::sql::sqlparser::ast::Statement;
use futures_util::StreamExt as _;
use ingest::registry::nearest;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::alert::AlertTable;
use crate::compute::{self, Threads};
use crate::lake::{self, History, Snapshot};
use crate::query::{self, Plan, QueryFile, Span};
use crate::run::{QueryTable, Tables};
use crate::search::{SEARCH, Search, SearchFunction};

/// Where the tables are, as `information_schema` has it.
const CATALOG: &str = "weir";
const SCHEMA: &str = "public";

/// The table of events.
const EVENTS: &str = "events";

/// The table of alerts; no query may be called so.
pub const ALERTS: &str = "alerts";
/// The table of silences; no query may be called so.
pub const SILENCES: &str = "silences";

/// The account of each queue; no query may be called so.
pub const ACCOUNT: &str = "delivery_account";
/// The table of the continuous queries.
pub const QUERIES: &str = "weir_queries";
const ACCOUNT_SQL: &str = include_str!("delivery_account.sql");

/// What queries may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long one may run, in milliseconds, from its first step.
    pub time_ms: u64,
    /// How much memory all of them may hold, in bytes. One that needs more is refused
    /// it, not written to disk.
    pub memory_bytes_max: usize,
    /// How many rows one may answer.
    pub rows_max: usize,
    /// How many run at once. Others wait, at most as long as one may run.
    pub at_once_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time_ms: 30_000,
            memory_bytes_max: 512 * 1024 * 1024,
            rows_max: 100_000,
            at_once_max: 4,
        }
    }
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no query, names what is not there, or is not allowed.
    #[error("{0}")]
    Query(String),
    /// It passed the limit of time.
    #[error("the query took longer than {} s; ask for less time or fewer columns", .0.as_secs_f64())]
    Time(Duration),
    /// It passed the limit of memory.
    #[error(
        "the query needs more than {0} bytes of memory; group by fewer values, or ask for less time"
    )]
    Memory(usize),
    /// It waited for its turn as long as a query may run.
    #[error("too many queries run at once; try again later")]
    Busy,
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] lake::Error),
    /// Something else failed while it ran.
    #[error("the query failed: {0}")]
    Failed(String),
}

/// What a query answers.
#[derive(Debug)]
pub struct Answer {
    /// The columns, also where there is no row.
    pub schema: SchemaRef,
    /// The rows, at most [`Limits::rows_max`].
    pub batches: Vec<RecordBatch>,
    /// Whether there are more rows than these.
    pub cut: bool,
    /// Per partition of the log, the offset after the last event that it is of.
    pub offsets: Vec<u64>,
}

/// Answers queries. Cheap to clone; clones share the limits.
#[derive(Debug, Clone)]
pub struct Sql {
    history: Arc<History>,
    limits: Limits,
    threads: Threads,
    runtime: Arc<RuntimeEnv>,
    places: Arc<Semaphore>,
    tables: Option<Tables>,
    alerts: Option<AlertTable>,
    queries: Option<QueryTable>,
    search: Option<Search>,
}

impl Sql {
    /// Queries over a history, which compute on threads of their own.
    pub fn new(history: Arc<History>, limits: Limits, threads: Threads) -> Self {
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes_max)))
            .with_disk_manager_builder(disk)
            .build_arc()
            .expect("an environment without a disk is made of memory alone");
        let places = Arc::new(Semaphore::new(limits.at_once_max));
        Self {
            history,
            limits,
            threads,
            runtime,
            places,
            tables: None,
            alerts: None,
            queries: None,
            search: None,
        }
    }

    /// And over the answers of views.
    pub fn with_tables(self, tables: Tables) -> Self {
        Self { tables: Some(tables), ..self }
    }

    /// And over alerts.
    pub fn with_alerts(self, alerts: AlertTable) -> Self {
        Self { alerts: Some(alerts), ..self }
    }

    /// And over how the continuous queries fare.
    pub fn with_queries(self, queries: QueryTable) -> Self {
        Self { queries: Some(queries), ..self }
    }

    /// With the function [`SEARCH`], over the same history.
    #[must_use]
    pub fn with_search(self, search: Search) -> Self {
        Self { search: Some(search), ..self }
    }

    /// Runs one query to its end.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn query(&self, text: &str) -> Result<Answer, Error> {
        let (sql, text) = (self.clone(), text.to_owned());
        self.within_limits(async move { sql.run(&text, None).await }).await
    }

    /// Runs one query over the events before some offsets, one for each partition of the
    /// log: over those that an earlier [`Answer`] was of, its `offsets`.
    ///
    /// # Errors
    /// See [`Error`]; [`lake::Error::Ahead`] if they were not read yet.
    pub async fn query_before(&self, text: &str, offsets: &[u64]) -> Result<Answer, Error> {
        let (sql, text, offsets) = (self.clone(), text.to_owned(), offsets.to_vec());
        self.within_limits(async move { sql.run(&text, Some(&offsets)).await }).await
    }

    /// Runs a query file over a part of the history, as [`query::backtest`] does: of
    /// live traffic, those windows that are closed by now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn backtest(&self, file: QueryFile, span: Span) -> Result<Answer, Error> {
        let sql = self.clone();
        let run = async move {
            let sources = sql.tables.as_ref().map(Tables::sources).cloned().unwrap_or_default();
            let plan =
                Plan::new(file, &sources).await.map_err(|fault| Error::Query(fault.to_string()))?;
            sql.run_backtest(&plan, span).await
        };
        self.within_limits(run).await
    }

    /// Whoever drops it, as a caller who hangs up does, breaks the query off.
    pub(crate) async fn within_limits<T: Send + 'static>(
        &self,
        run: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let limit = Duration::from_millis(self.limits.time_ms);
        let place = tokio::time::timeout(limit, self.places.clone().acquire_owned()).await;
        let place = place.map_err(|_| Error::Busy)?.expect("nobody closes it");
        // The place is taken until the query has ended, however long that takes.
        let running = self.threads.spawn(async move {
            let _place = place;
            run.await
        });
        match tokio::time::timeout(limit, AbortOnDropHandle::new(running)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Failed("it broke off; the node's log says where".to_owned())),
            Err(_) => Err(Error::Time(limit)),
        }
    }

    async fn run_backtest(&self, plan: &Plan, mut span: Span) -> Result<Answer, Error> {
        if span.replay.is_none() {
            span.floor_us = Some(self.history.floor().await.unwrap_or(i64::MIN));
        }
        let Snapshot { table: history, offsets } = self.history.snapshot().await?;
        if let Some(replay) = &span.replay {
            self.refuse_unknown(replay).await?;
        }
        let ran = query::backtest(plan, history, &span, self.runtime.clone()).await;
        let rows = ran.map_err(|error| match error {
            query::Error::Failed { source, .. } => self.failed(&source),
            query::Error::Plan(source) => self.failed(&source),
            other => Error::Failed(other.to_string()),
        })?;
        let cut = rows.num_rows() > self.limits.rows_max;
        let rows = rows.slice(0, rows.num_rows().min(self.limits.rows_max));
        Ok(Answer { schema: rows.schema(), batches: vec![rows], cut, offsets })
    }

    /// Refuses a replay of which there is no event.
    async fn refuse_unknown(&self, replay: &str) -> Result<(), Error> {
        let events = self.history.snapshot().await?.table;
        let session = SessionContext::new_with_config_rt(
            SessionConfig::new().with_target_partitions(2),
            self.runtime.clone(),
        );
        let of_replay = session
            .read_table(events)
            .and_then(|events| events.filter(col("replay_id").eq(lit(replay))))
            .and_then(|events| events.limit(0, Some(1)))
            .map_err(|error| self.planned(&error))?;
        match of_replay.count().await.map_err(|error| self.failed(&error))? {
            0 => Err(Error::Query(format!(
                "there is no event of a replay {replay}; `SELECT DISTINCT replay_id FROM events` \
                 has those that there are"
            ))),
            _ => Ok(()),
        }
    }

    async fn run(&self, text: &str, before: Option<&[u64]>) -> Result<Answer, Error> {
        let session = self.session()?;
        let offsets = self.fill(&session, before).await?;
        let planned = session.sql_with_options(text, queries_only()).await;
        let planned = planned.map_err(|error| not_planned(&session, text, &error))?;
        let stream = compute::stream(planned).await.map_err(|error| self.failed(&error))?;
        self.collect(stream, offsets).await
    }

    /// A session without tables, for queries within the limits.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub(crate) fn session(&self) -> Result<SessionContext, Error> {
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_target_partitions(2);
        let session = SessionContext::new_with_config_rt(config, self.runtime.clone());
        query::register(&session).map_err(|error| self.planned(&error))?;
        Ok(session)
    }

    /// Gives a session the tables with the rows that there are now, or that there were
    /// before some offsets, in place of those that it has. Answers the offsets.
    ///
    /// # Errors
    /// [`Error::Lake`].
    pub(crate) async fn fill(
        &self,
        session: &SessionContext,
        before: Option<&[u64]>,
    ) -> Result<Vec<u64>, Error> {
        let snapshot = match before {
            Some(offsets) => self.history.snapshot_before(offsets).await?,
            None => self.history.snapshot().await?,
        };
        if let Some(search) = &self.search {
            let function = SearchFunction::new(search.clone(), snapshot.clone());
            session.register_udtf(SEARCH, Arc::new(function));
        }
        let Snapshot { table: events, offsets } = snapshot;
        let put = |name: &str, table| {
            session.deregister_table(name)?;
            session.register_table(name, table)
        };
        put(EVENTS, events).map_err(|error| self.planned(&error))?;
        let alerts = self.alerts.iter().map(|of| (ALERTS.to_owned(), of.provider()));
        let queries = self.queries.iter().map(|of| (QUERIES.to_owned(), of.provider()));
        let views = self.tables.iter().flat_map(Tables::providers);
        let silences = self.alerts.iter().map(|of| (SILENCES.to_owned(), of.silences()));
        for (name, table) in views.chain(alerts).chain(silences).chain(queries) {
            put(&name, table).map_err(|error| self.planned(&error))?;
        }
        let account = session.sql(ACCOUNT_SQL).await.map_err(|error| self.planned(&error))?;
        put(ACCOUNT, account.into_view()).map_err(|error| self.planned(&error))?;
        Ok(offsets)
    }

    /// How many rows one query may answer.
    pub(crate) fn rows_max(&self) -> usize {
        self.limits.rows_max
    }

    /// Takes the tables from a session, so that it keeps no rows until it is filled anew.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub(crate) fn empty(&self, session: &SessionContext) -> Result<(), Error> {
        let schema = session.catalog(CATALOG).and_then(|catalog| catalog.schema(SCHEMA));
        for name in schema.map_or_else(Vec::new, |schema| schema.table_names()) {
            session.deregister_table(name).map_err(|error| self.planned(&error))?;
        }
        session.deregister_udtf(SEARCH);
        Ok(())
    }

    /// The plan of one query that was parsed.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub(crate) async fn plan(
        &self,
        session: &SessionContext,
        statement: Statement,
    ) -> Result<LogicalPlan, Error> {
        let text = statement.to_string();
        let parsed = ParsedStatement::Statement(Box::new(statement));
        let planned = session.state().statement_to_plan(parsed).await;
        let planned = planned.and_then(|plan| queries_only().verify_plan(&plan).map(|()| plan));
        planned.map_err(|error| not_planned(session, &text, &error))
    }

    /// Runs a plan of a session to its end.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn answer(
        &self,
        session: &SessionContext,
        plan: LogicalPlan,
        offsets: Vec<u64>,
    ) -> Result<Answer, Error> {
        let planned = session.execute_logical_plan(plan).await;
        let planned = planned.map_err(|error| self.planned(&error))?;
        let stream = compute::stream(planned).await.map_err(|error| self.failed(&error))?;
        self.collect(stream, offsets).await
    }

    async fn collect(
        &self,
        mut stream: SendableRecordBatchStream,
        offsets: Vec<u64>,
    ) -> Result<Answer, Error> {
        let (mut batches, mut left) = (Vec::new(), self.limits.rows_max);
        let schema = stream.schema();
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|error| self.failed(&error))?;
            if batch.num_rows() > left {
                batches.push(batch.slice(0, left));
                return Ok(Answer { schema, batches, cut: true, offsets });
            }
            left -= batch.num_rows();
            batches.push(batch);
        }
        Ok(Answer { schema, batches, cut: false, offsets })
    }

    fn planned(&self, error: &DataFusionError) -> Error {
        Error::Query(plain(error))
    }

    fn failed(&self, error: &DataFusionError) -> Error {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Error::Memory(self.limits.memory_bytes_max),
            // What can be known only when a table is read, such as what is searched for.
            DataFusionError::Plan(what) => Error::Query(what.clone()),
            _ => Error::Failed(plain(error)),
        }
    }
}

/// What changes nothing.
fn queries_only() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

/// Words that a query begins with.
const STATEMENTS: [&str; 8] =
    ["select", "with", "explain", "show", "describe", "desc", "values", "table"];

/// Why a text is no query that can be run.
fn not_planned(session: &SessionContext, text: &str, error: &DataFusionError) -> Error {
    let statements = DFParser::parse_sql(text).map_or(1, |of| of.len());
    if statements > 1 {
        return Error::Query(format!("these are {statements} statements; ask one query at a time"));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    let first = lines.flat_map(str::split_whitespace).next().unwrap_or_default();
    let is_word = !first.is_empty() && first.chars().all(|c| c.is_ascii_alphabetic());
    if is_word && !STATEMENTS.contains(&first.to_ascii_lowercase().as_str()) {
        return Error::Query(format!(
            "{} is not run here: only queries are, which begin with SELECT, WITH, EXPLAIN, SHOW \
             or DESCRIBE, and change nothing",
            first.to_ascii_uppercase()
        ));
    }
    let told = plain(error);
    let missing = told
        .split_once(&format!("table '{CATALOG}.{SCHEMA}."))
        .and_then(|(_, rest)| rest.split_once("' not found").map(|(name, _)| name.to_owned()));
    let Some(missing) = missing else { return Error::Query(told) };
    let schema = session.catalog(CATALOG).and_then(|catalog| catalog.schema(SCHEMA));
    let mut tables = schema.map_or_else(Vec::new, |schema| schema.table_names());
    tables.sort_unstable();
    let mend = match nearest(&missing, tables.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}? "),
        None => String::new(),
    };
    Error::Query(format!("there is no table {missing}; {mend}there are {}", tables.join(", ")))
}

/// What an analyst needs of an error: neither where in the program it was made, nor
/// a trace.
fn plain(error: &DataFusionError) -> String {
    match error.find_root() {
        // It would list all hundred and fifty that there are.
        DataFusionError::SchemaError(missing, _) => match &**missing {
            SchemaError::FieldNotFound { field, .. } => format!(
                "there is no column {}; information_schema.columns has those that there are",
                field.flat_name()
            ),
            other => other.to_string(),
        },
        other => other.strip_backtrace(),
    }
}

#[cfg(test)]
mod tests;
