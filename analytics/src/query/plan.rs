//! One text, planned once, taken apart into what makes partial aggregates of rows, what
//! makes fewer of more of them, and what makes the answer of them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use arrow::row::{RowConverter, SortField};
use datafusion::common::SchemaError;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::execution::TaskContext;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

use super::dialect::{self, WINDOW_END, WINDOW_START};
use super::sessions::Sessions;
use super::shape::{self, Refusal, Shape, Windows};
use super::slot::Slot;
use super::{Error, Fault, QueryFile};
use crate::compute;
use crate::intake::stamped_schema;

/// Goes up when state that an older program kept is no longer understood.
const STATE_VERSION: u32 = 1;

/// Making all that a query may hold smaller takes more than that: so many times as much.
const WORK_TIMES: usize = 2;

/// In how many steps at least the sessions of one gap are closed that end within it.
const PARTS_OF_GAP: i64 = 256;

/// The table that continuous queries read.
pub(super) const EVENTS: &str = "events";

/// A query file that can run.
#[derive(Debug)]
pub struct Plan {
    file: QueryFile,
    shape: Shape,
    context: Arc<TaskContext>,
    rows: Slot,
    partial: Arc<dyn ExecutionPlan>,
    reduce: Arc<dyn ExecutionPlan>,
    finish: Arc<dyn ExecutionPlan>,
    state: Slot,
    /// Where in state the window's beginning and its end stand.
    bounds: (usize, Option<usize>),
    /// If its windows are sessions.
    sessions: Option<Sessions>,
    hash: String,
}

impl Plan {
    /// Plans a query file.
    ///
    /// # Errors
    /// Why it cannot run.
    pub async fn new(file: QueryFile) -> Result<Self, Fault> {
        let all = Slot::new(stamped_schema());
        let session = session(&file, &all).map_err(|error| fault(&file, &error))?;
        let logical = logical(&session, &file).await?;
        let shape = shape::of(&logical).map_err(|refusal| refused(&file, refusal))?;
        let horizon_us = micros(file.header.horizon);
        if shape.horizon_us > horizon_us {
            let needs = std::time::Duration::from_micros(shape.horizon_us.unsigned_abs());
            return Err(refused(
                &file,
                Refusal {
                    at: "horizon:".to_owned(),
                    what: format!(
                        "its window functions read {needs:?} back, more than its horizon of {:?}",
                        file.header.horizon
                    ),
                    mend: format!("write `-- horizon: {} s` in the header", needs.as_secs()),
                },
            ));
        }
        if matches!(shape.windows, Windows::Sessions { .. }) && file.header.severity.is_some() {
            let what = "finds sessions, which is not there yet: they do not end in the order in \
                        which they begin, and alerts are opened and resolved in that order";
            let mend = "use TUMBLE or HOP, or make it a view";
            let (at, what) = ("SESSION".to_owned(), what.to_owned());
            return Err(refused(&file, Refusal { at, what, mend: mend.to_owned() }));
        }
        // Once more over the columns that it reads, so that no others are carried; unless it
        // names one that it does not need.
        let optimized = session.state().optimize(&logical).map_err(|error| fault(&file, &error))?;
        let some = Slot::new(read_by(&optimized));
        match Self::split(file.clone(), shape.clone(), some).await {
            Ok(plan) => Ok(plan),
            Err(_) => Self::split(file, shape, all).await,
        }
    }

    /// Plans it over some columns of the rows, and takes it apart.
    async fn split(file: QueryFile, shape: Shape, rows: Slot) -> Result<Self, Fault> {
        let failed = |error: &DataFusionError| fault(&file, error);
        let session = session(&file, &rows).map_err(|error| failed(&error))?;
        let logical = self::logical(&session, &file).await?;
        let frame = DataFrame::new(session.state(), logical);
        let physical = frame.create_physical_plan().await.map_err(|error| failed(&error))?;
        let parts = Parts::of(&physical).map_err(|error| failed(&error))?;
        let hash = hash(&file);
        let sessions = match &shape.windows {
            Windows::Fixed { .. } => None,
            Windows::Sessions { gap_us, keys } => {
                Some(parts.sessions(*gap_us, keys).map_err(|error| failed(&error))?)
            }
        };
        let Parts { partial, reduce, finish, state, bounds, .. } = parts;
        let context = session.task_ctx();
        Ok(Self {
            file,
            shape,
            context,
            rows,
            partial,
            reduce,
            finish,
            state,
            bounds,
            sessions,
            hash,
        })
    }

    /// The file that it was made of.
    pub fn file(&self) -> &QueryFile {
        &self.file
    }

    /// The columns of its answer.
    pub fn schema(&self) -> SchemaRef {
        self.finish.schema()
    }

    /// Names the text, and what else state depends on: state that another plan kept is
    /// of no use to it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// How long a window lasts, in microseconds; a session lasts that long at least.
    pub fn width_us(&self) -> i64 {
        match self.shape.windows {
            Windows::Fixed { width_us, .. } => width_us,
            Windows::Sessions { gap_us, .. } => gap_us,
        }
    }

    /// How often a window begins, in microseconds; it lasts a multiple of that. Sessions
    /// begin at any time.
    pub fn slide_us(&self) -> i64 {
        match self.shape.windows {
            Windows::Fixed { slide_us, .. } => slide_us,
            Windows::Sessions { .. } => 1,
        }
    }

    /// By how much a window overlaps the one that begins last in it, in microseconds.
    pub(super) fn overlap_us(&self) -> i64 {
        match self.shape.windows {
            Windows::Fixed { slide_us, width_us } => width_us - slide_us,
            Windows::Sessions { .. } => 0,
        }
    }

    /// Windows that begin before the answer are closed at a floor, and sessions that end
    /// by then; both in microseconds since 1970.
    pub fn closes(&self, floor_us: i64) -> i64 {
        let watermark = floor_us.saturating_sub(self.lateness_us());
        let ended = watermark.saturating_sub(self.overlap_us());
        ended.div_euclid(self.slide_us()).saturating_mul(self.slide_us())
    }

    /// The end of the last window that begins before `closes_us`.
    pub fn answered_until(&self, closes_us: i64) -> i64 {
        closes_us.saturating_add(self.overlap_us())
    }

    /// The floor at which so many windows close, of which the first begins at `start_us`; or
    /// the sessions of which the last row came within so many 256ths of a gap after it.
    pub fn floor_of(&self, start_us: i64, windows: i64) -> i64 {
        let each = match self.shape.windows {
            Windows::Fixed { slide_us, .. } => slide_us,
            Windows::Sessions { gap_us, .. } => (gap_us / PARTS_OF_GAP).max(1),
        };
        let closes = windows.saturating_mul(each).saturating_add(start_us);
        self.answered_until(closes).saturating_add(self.lateness_us())
    }

    pub(super) fn horizon_us(&self) -> i64 {
        self.shape.horizon_us
    }

    pub(super) fn lateness_us(&self) -> i64 {
        micros(self.file.header.lateness)
    }

    pub(super) fn memory_max(&self) -> usize {
        self.file.header.memory_mib * 1024 * 1024
    }

    /// The columns that it reads.
    pub(super) fn reads(&self) -> SchemaRef {
        datafusion::physical_plan::streaming::PartitionStream::schema(&self.rows).clone()
    }

    /// Where in a row of state the window's beginning stands.
    pub(super) fn window_column(&self) -> usize {
        self.bounds.0
    }

    /// And where its end stands, if the query groups by it.
    pub(super) fn end_column(&self) -> Option<usize> {
        self.bounds.1
    }

    /// If its windows are sessions.
    pub(super) fn sessions(&self) -> Option<&Sessions> {
        self.sessions.as_ref()
    }

    /// The columns of state.
    pub(super) fn state_schema(&self) -> SchemaRef {
        self.partial.schema()
    }

    /// Rows to state.
    pub(super) async fn partial(&self, rows: RecordBatch) -> Result<Vec<RecordBatch>, Error> {
        self.run(&self.rows, vec![rows], &self.partial).await
    }

    /// State to less state.
    pub(super) async fn reduce(&self, state: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, Error> {
        let state = match &self.sessions {
            Some(sessions) => sessions.join(&state)?.into_iter().collect(),
            None => state,
        };
        self.run(&self.state, state, &self.reduce).await
    }

    /// State to the answer.
    pub(super) async fn finish(&self, state: Vec<RecordBatch>) -> Result<RecordBatch, Error> {
        let rows = self.run(&self.state, state, &self.finish).await?;
        Ok(in_order(&self.schema(), &rows)?)
    }

    async fn run(
        &self,
        slot: &Slot,
        rows: Vec<RecordBatch>,
        plan: &Arc<dyn ExecutionPlan>,
    ) -> Result<Vec<RecordBatch>, Error> {
        slot.put(rows);
        // A plan that has run keeps what it had found, and panics or repeats it.
        let plan = reset_plan_states(plan.clone())?;
        let ran = datafusion::physical_plan::collect(plan, self.context.clone()).await;
        ran.map_err(|error| match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => self.too_much(),
            _ => Error::Failed { name: self.file.name.clone(), source: Box::new(error) },
        })
    }

    pub(super) fn too_much(&self) -> Error {
        Error::Memory { name: self.file.name.clone(), mib: self.file.header.memory_mib }
    }
}

/// The three parts, and where the second and third find state.
struct Parts {
    partial: Arc<dyn ExecutionPlan>,
    reduce: Arc<dyn ExecutionPlan>,
    finish: Arc<dyn ExecutionPlan>,
    state: Slot,
    bounds: (usize, Option<usize>),
    /// What state is grouped by, in the order of its columns.
    groups: Vec<String>,
}

impl Parts {
    /// Where in state the columns of sessions stand.
    fn sessions(&self, gap_us: i64, keys: &[String]) -> Planned<Sessions> {
        let (start, Some(end)) = self.bounds else {
            return Err(DataFusionError::Internal("state has no window_end".to_owned()));
        };
        let place = |key: &String| {
            let place = self.groups.iter().position(|group| group == key);
            place.ok_or_else(|| DataFusionError::Internal(format!("state has no {key}")))
        };
        let keys = keys.iter().map(place).collect::<Planned<_>>()?;
        Ok(Sessions { gap_us, start, end, keys })
    }

    fn of(plan: &Arc<dyn ExecutionPlan>) -> Planned<Self> {
        let mut found = Vec::new();
        plan.apply(|node| {
            if node.downcast_ref::<AggregateExec>().is_some() {
                found.push(node.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let [whole] = found.as_slice() else {
            let what = format!("{} aggregates where one was planned", found.len());
            return Err(DataFusionError::Internal(what));
        };
        let whole = whole.downcast_ref::<AggregateExec>().expect("it was found as one");
        let (group, input_schema) = (whole.group_expr(), whole.input_schema());
        let partial = AggregateExec::try_new(
            AggregateMode::Partial,
            group.clone(),
            whole.aggr_expr().to_vec(),
            whole.filter_expr().to_vec(),
            whole.input().clone(),
            input_schema.clone(),
        )?;
        // Making it may have reversed an aggregate: state is by these.
        let aggregates = partial.aggr_expr().to_vec();
        let state = Slot::new(partial.schema());
        let over_state = |mode| {
            AggregateExec::try_new(
                mode,
                group.as_final(),
                aggregates.clone(),
                vec![None; aggregates.len()],
                state.scan()?,
                input_schema.clone(),
            )
        };
        let reduce = Arc::new(over_state(AggregateMode::PartialReduce)?);
        let last: Arc<dyn ExecutionPlan> = Arc::new(over_state(AggregateMode::Final)?);
        let finish = plan.clone().transform_down(|node| {
            Ok(match node.downcast_ref::<AggregateExec>() {
                Some(_) => Transformed::new(last.clone(), true, TreeNodeRecursion::Stop),
                None => Transformed::no(node),
            })
        })?;
        // The optimizer may have left groups out that say nothing: by their names.
        let place = |name: &str| group.expr().iter().position(|(_, of)| of == name);
        let is_time = |at: usize| {
            let schema = partial.schema();
            matches!(schema.field(at).data_type(), DataType::Timestamp(TimeUnit::Microsecond, _))
        };
        let Some(start) = place(WINDOW_START).filter(|at| is_time(*at)) else {
            return Err(DataFusionError::Internal("state has no window_start".to_owned()));
        };
        let bounds = (start, place(WINDOW_END).filter(|at| is_time(*at)));
        let groups = group.expr().iter().map(|(_, name)| name.clone()).collect();
        Ok(Self { partial: Arc::new(partial), reduce, finish: finish.data, state, bounds, groups })
    }
}

/// A session of this query alone: what it holds counts against its own budget.
fn session(file: &QueryFile, rows: &Slot) -> Planned<SessionContext> {
    let memory = file.header.memory_mib * 1024 * 1024;
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(WORK_TIMES * memory)))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    let config = SessionConfig::new().with_target_partitions(1);
    let state = SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .build();
    // A filter by the window stays above the groups: below them stand panes.
    let rules = state.physical_optimizers().iter();
    let rules = rules.filter(|rule| !rule.name().contains("FilterPushdown")).cloned().collect();
    let state =
        SessionStateBuilder::new_from_existing(state).with_physical_optimizer_rules(rules).build();
    let session = SessionContext::new_with_state(state);
    session.remove_optimizer_rule("push_down_filter");
    // It would make two aggregates of one.
    session.remove_optimizer_rule("single_distinct_aggregation_to_group_by");
    dialect::register_as(&session, dialect::Rows::ForState)?;
    session.register_table(EVENTS, rows.table()?)?;
    Ok(session)
}

async fn logical(session: &SessionContext, file: &QueryFile) -> Result<LogicalPlan, Fault> {
    let failed = |error: &DataFusionError| fault(file, error);
    let plan = session.state().create_logical_plan(&file.text).await;
    let plan = plan.map_err(|error| failed(&error))?;
    let queries_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    queries_only.verify_plan(&plan).map_err(|error| failed(&error))?;
    Ok(plan)
}

/// The columns that a plan reads of its table, in the table's order.
fn read_by(optimized: &LogicalPlan) -> SchemaRef {
    let mut read = None;
    optimized
        .apply(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                read = Some(Arc::new(scan.projected_schema.as_arrow().clone()));
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .expect("the closure gives no error");
    read.unwrap_or_else(|| Arc::new(Schema::empty()))
}

/// The answer of a whole history at once: the text of a plan, over rows that have an
/// end. The columns are those that the plan gives.
pub(super) async fn over(plan: &Plan, session: &SessionContext) -> Result<RecordBatch, Error> {
    let file = &plan.file;
    let failed = |error| Error::Failed { name: file.name.clone(), source: Box::new(error) };
    let stream = compute::stream(session.sql(&file.text).await.map_err(failed)?).await;
    let rows: Vec<RecordBatch> = stream.map_err(failed)?.try_collect().await.map_err(failed)?;
    let schema = plan.schema();
    // A table at rest may give its texts by another type.
    let conform = |rows: &RecordBatch| {
        let fields = schema.fields().iter().zip(rows.columns());
        let columns = fields.map(|(field, column)| cast(column, field.data_type()));
        RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
    };
    let rows: Vec<RecordBatch> = rows.iter().map(conform).collect::<Result<_, _>>()?;
    Ok(in_order(&schema, &rows)?)
}

/// One batch, in an order of the rows that depends on nothing but the rows.
pub(super) fn in_order(schema: &SchemaRef, rows: &[RecordBatch]) -> Planned<RecordBatch> {
    let rows = concat_batches(schema, rows)?;
    let start = rows.schema().index_of(WINDOW_START)?;
    let by = std::iter::once(start).chain((0..rows.num_columns()).filter(|at| *at != start));
    let columns: Vec<_> = by.map(|at| rows.column(at).clone()).collect();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
    let keys = RowConverter::new(fields.collect())?.convert_columns(&columns)?;
    let mut order: Vec<u64> = (0..rows.num_rows() as u64).collect();
    order.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    Ok(arrow::compute::take_record_batch(&rows, &arrow::array::UInt64Array::from(order))?)
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Of the text what it means: not how it is laid out, nor its comments.
fn hash(file: &QueryFile) -> String {
    let mut hash = Sha256::new();
    hash.update(STATE_VERSION.to_be_bytes());
    hash.update(micros(file.header.lateness).to_be_bytes());
    let tokens = Tokenizer::new(&GenericDialect, &file.text).tokenize().unwrap_or_default();
    for token in tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))) {
        hash.update(token.to_string().as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn refused(file: &QueryFile, refusal: Refusal) -> Fault {
    Fault::new(line_of(&file.text, &refusal.at), refusal.what, refusal.mend)
}

fn fault(file: &QueryFile, error: &DataFusionError) -> Fault {
    match error.find_root() {
        DataFusionError::SchemaError(missing, _) => match &**missing {
            SchemaError::FieldNotFound { field, .. } => {
                let what = format!("there is no column {}", field.flat_name());
                let mend = "`weir query \"SELECT column_name FROM information_schema.columns\"` has those that there are";
                Fault::new(line_of(&file.text, &field.name), what, mend)
            }
            other => Fault::new(None, other.to_string(), ""),
        },
        DataFusionError::SQL(parse, _) => {
            let what = parse.to_string();
            let what = what.strip_prefix("sql parser error: ").unwrap_or(&what).to_owned();
            let line = what
                .split("at Line: ")
                .nth(1)
                .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
            let line = line.or(what.contains("EOF").then(|| file.text.lines().count()));
            Fault::new(line, what, "")
        }
        other => {
            let what = other.strip_backtrace();
            let known = ["TUMBLE", "HOP", "SESSION"].iter().find(|name| what.contains(**name));
            let line = known.and_then(|name| line_of(&file.text, name));
            let told = error.diagnostic().and_then(|told| told.span);
            let line = line.or(told.map(|span| span.start.line as usize));
            // After the first line it guesses what was meant, and often wrongly.
            let what = what.lines().next().unwrap_or_default();
            Fault::new(line, what.strip_prefix("Error during planning: ").unwrap_or(what), "")
        }
    }
}

/// The line, from 1, on which a word of the query stands.
fn line_of(text: &str, word: &str) -> Option<usize> {
    let word = word.to_ascii_lowercase();
    let header = word.ends_with(':');
    let holds = |line: &str| {
        line.trim_start().starts_with("--") == header && line.to_ascii_lowercase().contains(&word)
    };
    text.lines().position(holds).map(|at| at + 1)
}
