//! Ad-hoc SQL over the history.
//!
//! The dialect is DataFusion's, with the windows of continuous queries
//! ([`crate::query`]). The tables are `events`, with the columns of `docs/events.md` and
//! those that are stamped on them, `alerts`, `weir_decisions`, one for each view, and `delivery_account`, which
//! says of each queue whether every message is accounted for; `information_schema` tells of
//! them. A query sees what was read from the log when it begins, and nothing later.
//!
//! Who has the node's token asks of everything, a user of what its roles give
//! ([`crate::rights`]).
//!
//! Limits: only queries, no statement that makes, changes or copies anything; how much a text
//! asks for (`measure`); time, memory, rows, how many run at once, and of one user
//! ([`Limits`]); how much one call of a function may make of little (`guard`). A query that
//! passes one ends with an error that says which; others go on, and so does everything else:
//! queries have threads of their own, where those that have run for long give way to others
//! ([`crate::compute`]).

mod backtest;
mod decisions;
mod described;
mod error;
mod guard;
mod limits;
mod measure;
mod places;
mod quarantine;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, ParamValues, plan_err};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::Statement;
use futures_util::StreamExt as _;
use ingest::decision::Decisions;
use ingest::http::Caller;
use ingest::registry::{Name, View};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::described::Described;
pub use self::error::Error;
use self::error::not_planned;
pub(crate) use self::error::plain;
pub(crate) use self::guard::register as bound;
pub use self::limits::Limits;
use self::measure::check_statement;
pub(crate) use self::measure::{OPERATORS_MAX, check_text};
use self::places::Places;
pub(crate) use self::session::named_user;
use crate::alert::AlertTable;
use crate::compute::{self, Threads, TooMuch};
use crate::lake::{self, History};
use crate::rights;
use crate::run::{QueryTable, Tables};
use crate::search::Search;

/// Where the tables are, as `information_schema` has it.
const CATALOG: &str = "weir";
const SCHEMA: &str = "public";

/// The table of events.
pub(crate) const EVENTS: &str = "events";

/// The table of alerts; no query may be called so.
pub const ALERTS: &str = "alerts";
/// The table of silences; no query may be called so.
pub const SILENCES: &str = "silences";

/// The account of each queue; no query may be called so.
pub const ACCOUNT: &str = "delivery_account";
/// The table of decisions against callers.
pub const DECISIONS: &str = "weir_decisions";
/// The table of the records that are no events.
pub const QUARANTINE: &str = "weir_quarantine";
/// The table of the continuous queries.
pub const QUERIES: &str = "weir_queries";
const ACCOUNT_SQL: &str = include_str!("delivery_account.sql");

/// What a text takes besides its bytes, in a column of views.
const VIEW_BYTES: usize = 16;

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
    places: Arc<Places>,
    registry: Option<View>,
    /// The user who asks; nothing, of who has the node's token.
    asker: Option<Name>,
    tables: Option<Tables>,
    alerts: Option<AlertTable>,
    queries: Option<QueryTable>,
    decisions: Option<(Decisions, View)>,
    search: Option<Search>,
}

impl Sql {
    /// Queries over a history, which compute on threads of their own.
    pub fn new(history: Arc<History>, limits: Limits, threads: Threads) -> Self {
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disk)
            .build_arc()
            .expect("an environment without a disk is made of memory alone");
        let places = Arc::new(Places::new(&limits));
        Self {
            history,
            limits,
            threads,
            runtime,
            places,
            registry: None,
            asker: None,
            tables: None,
            alerts: None,
            queries: None,
            decisions: None,
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

    /// And over decisions against callers, under the safeguards of a registry.
    pub fn with_decisions(self, decisions: Decisions, registry: View) -> Self {
        Self { decisions: Some((decisions, registry)), ..self }
    }

    /// And for the users of a registry.
    #[must_use]
    pub fn with_users(self, registry: View) -> Self {
        Self { registry: Some(registry), ..self }
    }

    /// The same, as far as a caller may ask.
    #[must_use]
    pub fn asked_by(&self, caller: &Caller) -> Self {
        let asker = match caller {
            Caller::Admin => None,
            Caller::User(user) => Some(user.clone()),
        };
        Self { asker, ..self.clone() }
    }

    /// With the function [`crate::search::SEARCH`], over the same history.
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
    /// See [`Error`]; [`crate::lake::Error::Ahead`] if they were not read yet.
    pub async fn query_before(&self, text: &str, offsets: &[u64]) -> Result<Answer, Error> {
        let (sql, text, offsets) = (self.clone(), text.to_owned(), offsets.to_vec());
        self.within_limits(async move { sql.run(&text, Some(&offsets)).await }).await
    }

    /// Runs one query with values for its parameters.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn query_with(
        &self,
        text: &str,
        parameters: ParamValues,
    ) -> Result<Answer, Error> {
        let (sql, text) = (self.clone(), text.to_owned());
        let run = async move {
            let session = sql.session()?;
            let offsets = sql.fill(&session, None).await?;
            let plan = sql.plan_text(&session, &text).await?;
            guard::fit(&session, &text, bytes_of_values(&parameters));
            let plan = plan.replace_params_with_values(&parameters);
            let plan = plan.map_err(|error| Error::Query(plain(&error)))?;
            sql.answer(&session, plan, offsets).await
        };
        self.within_limits(run).await
    }

    /// What a query would give.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn describe(&self, text: &str) -> Result<Described, Error> {
        let (sql, text) = (self.clone(), text.to_owned());
        let run = async move {
            let session = sql.session()?;
            sql.fill(&session, None).await?;
            Described::of(&sql.plan_text(&session, &text).await?)
        };
        self.within_limits(run).await
    }

    /// The tables that may be read, by name.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn listed(&self) -> Result<BTreeMap<String, SchemaRef>, Error> {
        let sql = self.clone();
        let run = async move {
            let session = sql.session()?;
            sql.fill(&session, None).await?;
            let mut tables = BTreeMap::new();
            let schema = session.catalog(CATALOG).and_then(|catalog| catalog.schema(SCHEMA));
            for name in schema.map_or_else(Vec::new, |schema| schema.table_names()) {
                let table = session.table_provider(&*name).await;
                tables.insert(name, table.map_err(|error| sql.planned(&error))?.schema());
            }
            Ok(tables)
        };
        self.within_limits(run).await
    }

    /// Whoever drops it, as a caller who hangs up does, breaks the query off.
    pub(crate) async fn within_limits<T: Send + 'static>(
        &self,
        run: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let limit = self.time_max();
        let place = self.places.take(self.asker.as_ref()).await?;
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

    async fn run(&self, text: &str, before: Option<&[u64]>) -> Result<Answer, Error> {
        let session = self.session()?;
        let offsets = self.fill(&session, before).await?;
        let plan = self.plan_text(&session, text).await?;
        self.answer(&session, plan, offsets).await
    }

    async fn plan_text(&self, session: &SessionContext, text: &str) -> Result<LogicalPlan, Error> {
        check_text(text, OPERATORS_MAX)?;
        guard::fit(session, text, 0);
        let state = session.state();
        let parsed = state.sql_to_statement(text, &state.config_options().sql_parser.dialect);
        let parsed = parsed.map_err(|error| not_planned(session, text, &error))?;
        check_statement(&parsed)?;
        let planned = state.statement_to_plan(parsed).await;
        planned
            .and_then(|plan| self.checked(plan))
            .map_err(|error| not_planned(session, text, &error))
    }

    /// How long one may run.
    pub(crate) fn time_max(&self) -> Duration {
        Duration::from_millis(self.limits.time_ms)
    }

    /// How many bytes one answer may have.
    pub(crate) fn bytes_max(&self) -> usize {
        self.limits.memory_bytes_max
    }

    /// How many rows one query may answer.
    pub(crate) fn rows_max(&self) -> usize {
        self.limits.rows_max
    }

    /// The plan of one query that was parsed, whose values for its parameters have so many
    /// bytes.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub(crate) async fn plan(
        &self,
        session: &SessionContext,
        statement: Statement,
        parameters: usize,
    ) -> Result<LogicalPlan, Error> {
        let text = statement.to_string();
        guard::fit(session, &text, parameters);
        let parsed = ParsedStatement::Statement(Box::new(statement));
        check_statement(&parsed)?;
        let planned = session.state().statement_to_plan(parsed).await;
        planned
            .and_then(|plan| self.checked(plan))
            .map_err(|error| not_planned(session, &text, &error))
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
        let schema = plan.schema().inner().clone();
        let planned = session.execute_logical_plan(plan).await;
        let planned = planned.map_err(|error| self.planned(&error))?;
        let stream = compute::stream(planned).await.map_err(|error| self.failed(&error))?;
        self.collect(stream, schema, offsets).await
    }

    /// The rows of a query that was described by a schema.
    async fn collect(
        &self,
        mut stream: SendableRecordBatchStream,
        schema: SchemaRef,
        offsets: Vec<u64>,
    ) -> Result<Answer, Error> {
        let (mut batches, mut left, mut bytes) = (Vec::new(), self.limits.rows_max, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|error| self.failed(&error))?;
            let batch = as_described(&batch, &schema);
            let batch = batch.map_err(|error| self.failed(&error.into()))?;
            let cut = batch.num_rows() > left;
            let batch = if cut { batch.slice(0, left) } else { batch };
            bytes += bytes_of(&batch);
            if bytes > self.limits.memory_bytes_max {
                return Err(Error::Memory(self.limits.memory_bytes_max));
            }
            left -= batch.num_rows();
            batches.push(batch);
            if cut {
                return Ok(Answer { schema, batches, cut, offsets });
            }
        }
        Ok(Answer { schema, batches, cut: false, offsets })
    }

    /// A plan that changes nothing, and tells of no more than the rows that it may read.
    fn checked(&self, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let reads = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        reads.verify_plan(&plan)?;
        let tells_how = matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
        if tells_how && (!self.may_read_all() || rights::is_bound(&plan)?) {
            return plan_err!(
                "EXPLAIN is for those who may read every table: it tells of every row"
            );
        }
        Ok(plan)
    }

    fn planned(&self, error: &DataFusionError) -> Error {
        Error::Query(plain(error))
    }

    fn failed(&self, error: &DataFusionError) -> Error {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Error::Memory(self.limits.memory_bytes_max),
            DataFusionError::External(error) if error.is::<TooMuch>() => {
                Error::TooMuch(error.to_string())
            }
            // What can be known only when a table is read, such as what is searched for.
            DataFusionError::Plan(what) => Error::Query(what.clone()),
            _ => match lake::unreadable(error) {
                Some(unreadable) => unreadable.into(),
                None => Error::Failed(plain(error)),
            },
        }
    }
}

/// Rows as their query was described. Whether nulls are possible is known better when it runs
/// than before it does, and files may give texts by another type than they are planned by.
fn as_described(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if rows.schema_ref() == schema {
        return Ok(rows.clone());
    }
    let columns = rows.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| match column.data_type() == field.data_type() {
        true => Ok(column.clone()),
        false => cast(column, field.data_type()),
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}

/// How many bytes the values of parameters have.
pub(crate) fn bytes_of_values(values: &ParamValues) -> usize {
    match values {
        ParamValues::List(of) => of.iter().map(|of| of.value.size()).sum(),
        ParamValues::Map(of) => of.values().map(|of| of.value.size()).sum(),
    }
}

/// How many bytes the values of rows have, also where they share what they stand in with
/// others.
pub(crate) fn bytes_of(rows: &RecordBatch) -> usize {
    let of_column = |column: &ArrayRef| match column.as_string_view_opt() {
        Some(texts) => texts.iter().map(|text| VIEW_BYTES + text.map_or(0, str::len)).sum(),
        // What has no bytes to count has no values.
        None => column.to_data().get_slice_memory_size().unwrap_or(0),
    };
    rows.columns().iter().map(of_column).sum()
}

#[cfg(test)]
mod tests;
