//! A query file that can run: its text, planned once.

mod faults;
mod groups;
mod held;
mod identity;
mod tables;
mod time;
mod versions;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use futures_util::TryStreamExt as _;

use self::faults::{fault, refused};
use self::groups::Groups;
use self::held::Held;
use self::identity::hash;
pub(super) use self::tables::of_timeline;
pub(crate) use self::tables::with_replay;
use self::tables::{Tables, logical, session};
pub use self::time::Order;
use super::dialect::{Rows, SomeWindows, WINDOW_END, WINDOW_START};
use super::sessions::Sessions;
use super::shape::{self, Refusal, Shape, Windows};
use super::slot::Slot;
use super::sources::{REVISION, Sources};
use super::{Error, Fault, QueryFile, Reference};
use crate::compute;

/// Making all that a query may hold smaller takes more than that: so many times as much.
const WORK_TIMES: usize = 2;

/// How many windows a window reads whose rows are corrected, at most.
const CORRECTED_MAX: i64 = 8_192;

/// How many views lie below one another, at most.
const READERS_MAX: usize = 4;

/// A query file that can run.
#[derive(Debug)]
pub struct Plan {
    file: QueryFile,
    shape: Shape,
    context: Arc<TaskContext>,
    rows: Slot,
    work: Work,
    hash: String,
    first_hash: String,
    /// The view that it reads, if it does not read events.
    below: Option<Arc<Plan>>,
    /// The tables that it is joined with.
    joined: Vec<Reference>,
}

/// What it runs, and over what.
#[derive(Debug)]
enum Work {
    Groups(Groups),
    Rows(Held),
}

impl Plan {
    /// Plans a query file, which may read `sources` beside events.
    ///
    /// # Errors
    /// Why it cannot run.
    pub async fn new(file: QueryFile, sources: &Sources) -> Result<Self, Fault> {
        Self::above(file, sources, &BTreeSet::new()).await
    }

    /// Plans one that is read by others, which it cannot read itself.
    async fn above(
        file: QueryFile,
        sources: &Sources,
        readers: &BTreeSet<String>,
    ) -> Result<Self, Fault> {
        let mut readers = readers.clone();
        readers.insert(file.name.clone());
        let mut tables = Tables::new(sources);
        for view in sources.views_in(&file.text) {
            if readers.len() > READERS_MAX {
                let why =
                    format!("{} would be the {}th view below another", view.name, readers.len());
                tables.unreadable.push(why);
                continue;
            }
            if readers.contains(&view.name) {
                tables.unreadable.push(format!("{} reads this query itself", view.name));
                continue;
            }
            match Box::pin(Self::above(view.clone(), sources, &readers)).await {
                Ok(plan) => tables.views.push(Arc::new(plan)),
                Err(fault) => tables.unreadable.push(format!("{}: {fault}", view.name)),
            }
        }
        let session = session(&file, &tables, Rows::ForState).map_err(|e| fault(&file, &e))?;
        let logical = logical(&session, &file).await.map_err(|fault| tables.explain(fault))?;
        let shape =
            shape::of(&logical, &tables.known()).map_err(|refusal| refused(&file, refusal))?;
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
        tables.read(&shape.stream);
        if tables.below().is_some_and(|below| below.sessions().is_some()) {
            let what = format!("reads the sessions of {}, which is not there yet", shape.stream);
            let mend = "do both in one query, or read a view over TUMBLE or HOP".to_owned();
            return Err(refused(&file, Refusal { at: shape.stream, what, mend }));
        }
        if file.header.corrections.is_some() {
            let gives_revision = logical.schema().has_column_with_unqualified_name(REVISION);
            let what = match (&shape.windows, tables.below()) {
                (Windows::Sessions { .. }, _) => "are for windows of a fixed length, not sessions",
                (_, Some(_)) => "are for queries of events: what a view gives is not late",
                (Windows::Fixed { slide_us, width_us }, _)
                    if (shape.horizon_us + width_us) / slide_us > CORRECTED_MAX =>
                {
                    "are for windows that read 8,192 windows at most"
                }
                _ if gives_revision => "add a column revision, and it gives one by that name",
                _ => "",
            };
            if !what.is_empty() {
                let what = format!("corrections: {what}");
                return Err(file.fault("corrections", what, "leave them out"));
            }
        }
        // Once more over the columns that it reads, so that no others are carried; unless it
        // names one that it does not need.
        let optimized = session.state().optimize(&logical).map_err(|error| fault(&file, &error))?;
        let some = tables.over(Slot::new(read_by(&optimized, &shape)));
        match Self::work(file.clone(), shape.clone(), some).await {
            Ok(plan) => Ok(plan),
            Err(_) => Self::work(file, shape, tables).await,
        }
    }

    /// Plans what it runs over some columns of the rows.
    async fn work(file: QueryFile, shape: Shape, tables: Tables) -> Result<Self, Fault> {
        let failed = |error: &DataFusionError| fault(&file, error);
        let rows = tables.rows.clone();
        let (work, context, joined) = match shape.work {
            shape::Work::Groups => {
                let session =
                    session(&file, &tables, Rows::ForState).map_err(|error| failed(&error))?;
                let logical = logical(&session, &file).await?;
                let joined = tables.joined(&logical);
                let frame = DataFrame::new(session.state(), logical);
                let physical = frame.create_physical_plan().await.map_err(|e| failed(&e))?;
                let groups = Groups::of(&physical, &shape.windows).map_err(|e| failed(&e))?;
                (Work::Groups(groups), session.task_ctx(), joined)
            }
            shape::Work::Rows => {
                let state = Slot::shared(rows.columns().clone());
                let (over, asked) = (tables.over(state.clone()), SomeWindows::default());
                let given = Rows::OfSome(asked.clone());
                let session = session(&file, &over, given).map_err(|error| failed(&error))?;
                let logical = logical(&session, &file).await?;
                let joined = tables.joined(&logical);
                let time = shape::time_of(&shape.stream);
                let held =
                    Held::of(&session, logical, (&shape.stream, &rows), (state, asked), time).await;
                (Work::Rows(held.map_err(|error| failed(&error))?), session.task_ctx(), joined)
            }
        };
        let below = tables.below().cloned();
        let joined: Vec<_> = joined.into_iter().cloned().collect();
        let hash_with = |corrections| hash(&file, corrections, below.as_deref(), &joined);
        let (hash, first_hash) = (hash_with(file.header.corrections), hash_with(None));
        Ok(Self { file, shape, context, rows, work, hash, first_hash, below, joined })
    }

    /// The file that it was made of.
    pub fn file(&self) -> &QueryFile {
        &self.file
    }

    /// The columns of its answer.
    pub fn schema(&self) -> SchemaRef {
        match &self.work {
            Work::Groups(groups) => groups.finish.schema(),
            Work::Rows(held) => held.whole.schema(),
        }
    }

    /// The view that it reads, if it does not read events.
    pub(super) fn below(&self) -> Option<&Arc<Plan>> {
        self.below.as_ref()
    }

    /// The tables that it is joined with.
    pub(super) fn joined(&self) -> &[Reference] {
        &self.joined
    }

    /// Whether it holds rows as they came, and no partial aggregates.
    pub(super) fn holds_rows(&self) -> bool {
        matches!(self.work, Work::Rows(_))
    }

    /// Names the text, and what else state depends on: state that another plan kept is
    /// of no use to it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The same of what its windows answer first, whether they are corrected or not.
    pub fn first_hash(&self) -> &str {
        &self.first_hash
    }

    /// How much it may hold, in bytes.
    pub fn memory_max(&self) -> usize {
        self.file.header.memory_mib * 1024 * 1024
    }

    /// The names of the columns that it reads of events, with those by which rows are told to
    /// be in time and of a timeline.
    pub fn columns(&self) -> Vec<String> {
        match &self.below {
            None => {
                let own = self.reads().fields().iter().map(|of| of.name().as_str());
                let all: BTreeSet<&str> = own.chain(["lag_us", "replay_id"]).collect();
                all.into_iter().map(str::to_owned).collect()
            }
            Some(below) => below.columns(),
        }
    }

    /// The columns that it reads.
    pub(super) fn reads(&self) -> &SchemaRef {
        self.rows.columns()
    }

    /// If its windows are sessions.
    pub(super) fn sessions(&self) -> Option<&Sessions> {
        match &self.work {
            Work::Groups(groups) => groups.sessions.as_ref(),
            Work::Rows(_) => None,
        }
    }

    /// The columns of state.
    pub(super) fn state_schema(&self) -> SchemaRef {
        match &self.work {
            Work::Groups(groups) => groups.schema(),
            Work::Rows(held) => held.schema(),
        }
    }

    /// The column of state that says of which pane a row is, and how long panes are by which
    /// its times are told apart.
    pub(super) fn pane_column(&self) -> (usize, i64) {
        match &self.work {
            Work::Groups(groups) => (groups.pane_column(), 1),
            Work::Rows(held) => (held.time_column(), self.slide_us()),
        }
    }

    /// State of a pane as that of a window that it is in.
    pub(super) fn as_window(
        &self,
        state: &RecordBatch,
        start_us: i64,
    ) -> Result<RecordBatch, ArrowError> {
        match &self.work {
            Work::Groups(groups) if self.overlap_us() > 0 => {
                groups.as_window(state, start_us, self.width_us())
            }
            _ => Ok(state.clone()),
        }
    }

    /// Rows to state.
    pub(super) async fn partial(&self, rows: RecordBatch) -> Result<Vec<RecordBatch>, Error> {
        match &self.work {
            Work::Groups(groups) => self.run(&self.rows, vec![rows], &groups.partial).await,
            Work::Rows(held) => self.run(&self.rows, vec![rows], &held.keep).await,
        }
    }

    /// State to less state.
    pub(super) async fn reduce(&self, state: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, Error> {
        let groups = match &self.work {
            Work::Groups(groups) => groups,
            Work::Rows(held) => return Ok(held.reduce(&state)?),
        };
        let state = match &groups.sessions {
            Some(sessions) => sessions.join(&state)?.into_iter().collect(),
            None => state,
        };
        self.run(&groups.state, state, &groups.reduce).await
    }

    /// State to the answer of the windows that begin in a time, and perhaps of others.
    pub(super) async fn finish(
        &self,
        state: Vec<RecordBatch>,
        windows: Range<i64>,
    ) -> Result<RecordBatch, Error> {
        let rows = match &self.work {
            Work::Groups(groups) => self.run(&groups.state, state, &groups.finish).await?,
            Work::Rows(held) => {
                held.asked.ask(windows);
                let rows = self.run(&held.state, state, &held.whole).await;
                held.state.put(Vec::new());
                rows?
            }
        };
        Ok(self.in_order(&rows)?)
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
        let failed = |error: DataFusionError| match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => self.too_much(),
            _ => Error::Failed { name: self.file.name.clone(), source: Box::new(error) },
        };
        let mut stream = execute_stream(plan, self.context.clone()).map_err(failed)?;
        let (mut ran, mut bytes) = (Vec::new(), 0);
        // What it gives is in nobody's account but this one.
        while let Some(batch) = stream.try_next().await.map_err(failed)? {
            bytes += batch.get_array_memory_size();
            if bytes > WORK_TIMES * self.memory_max() {
                return Err(self.too_much());
            }
            ran.push(batch);
        }
        Ok(ran)
    }

    /// One batch of rows that it gives, in the order in which windows answer; and among those of
    /// one in an order that depends on nothing but the rows.
    fn in_order(&self, rows: &[RecordBatch]) -> Planned<RecordBatch> {
        let rows = concat_batches(&self.schema(), rows)?;
        let first = match self.order() {
            Order::Begin { .. } => WINDOW_START,
            Order::End => WINDOW_END,
        };
        let first = rows.schema().index_of(first)?;
        let by = std::iter::once(first).chain((0..rows.num_columns()).filter(|at| *at != first));
        let columns: Vec<_> = by.map(|at| rows.column(at).clone()).collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
        let keys = RowConverter::new(fields.collect())?.convert_columns(&columns)?;
        let mut order: Vec<u64> = (0..rows.num_rows() as u64).collect();
        order.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
        Ok(arrow::compute::take_record_batch(&rows, &arrow::array::UInt64Array::from(order))?)
    }

    pub(super) fn too_much(&self) -> Error {
        Error::Memory { name: self.file.name.clone(), mib: self.file.header.memory_mib }
    }
}

/// The columns that a plan reads of its stream, in the table's order; with the time of rows
/// that are held.
fn read_by(optimized: &LogicalPlan, shape: &Shape) -> SchemaRef {
    let (mut names, mut all) = (BTreeSet::new(), None);
    optimized
        .apply(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && scan.table_name.table() == shape.stream
            {
                all = Some(scan.source.schema());
                let read = scan.projected_schema.as_arrow().fields().iter();
                names.extend(read.map(|field| field.name().clone()));
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .expect("the closure gives no error");
    if shape.work == shape::Work::Rows {
        names.insert(shape::time_of(&shape.stream).to_owned());
    }
    let all = all.unwrap_or_else(|| Arc::new(Schema::empty()));
    let read = all.fields().iter().filter(|field| names.contains(field.name()));
    Arc::new(Schema::new(read.cloned().collect::<Vec<_>>()))
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
    Ok(plan.in_order(&rows)?)
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
