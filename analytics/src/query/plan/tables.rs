//! What a query's text finds: the session that it is planned in, and its tables.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::super::dialect::{self, Rows};
use super::super::fault::NO_TABLE;
use super::super::shape::{self, Known};
use super::super::slot::Slot;
use super::super::sources::{REPLAY_ID, Sources};
use super::super::{EVENTS, Fault, QueryFile, Reference};
use super::faults::fault;
use super::{Plan, WORK_TIMES};
use crate::intake::stamped_schema;
use ingest::registry::nearest;

/// The tables of a query's session.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    sources: Sources,
    /// Where the rows come into that it reads.
    pub(super) rows: Slot,
    /// The views that its text may mean.
    pub(super) views: Vec<Arc<Plan>>,
    /// Those that cannot be read, and why.
    pub(super) unreadable: Vec<String>,
    /// The table that it reads, once it is known.
    stream: Option<String>,
}

impl Tables {
    pub(super) fn new(sources: &Sources) -> Self {
        let rows = Slot::new(stamped_schema());
        let sources = sources.clone();
        Self { sources, rows, views: Vec::new(), unreadable: Vec::new(), stream: None }
    }

    pub(super) fn known(&self) -> Known {
        let views = self.views.iter().map(|view| view.file.name.clone());
        let tables = self.sources.tables().iter();
        let entities = tables.clone().filter(|table| table.entities().is_some());
        let name = |table: &Reference| table.name().to_owned();
        Known {
            streams: views.chain([EVENTS.to_owned()]).collect(),
            tables: tables.map(name).collect(),
            entities: entities.map(name).collect(),
        }
    }

    /// From here on it reads that one, all columns of it.
    pub(super) fn read(&mut self, stream: &str) {
        self.stream = Some(stream.to_owned());
        if let Some(below) = self.below() {
            self.rows = Slot::new(with_replay(&below.schema()));
        }
    }

    pub(super) fn below(&self) -> Option<&Arc<Plan>> {
        self.views.iter().find(|view| self.stream.as_ref() == Some(&view.file.name))
    }

    /// The same, of which the rows come into another slot.
    pub(super) fn over(&self, rows: Slot) -> Self {
        Self { rows, ..self.clone() }
    }

    /// The tables that a plan reads beside the stream.
    pub(super) fn joined(&self, plan: &LogicalPlan) -> Vec<&Reference> {
        let tables = self.sources.tables().iter();
        tables.filter(|table| shape::reads(plan, table.name())).collect()
    }

    /// Of a text that cannot be planned, what may be the reason, or what would be right.
    pub(super) fn explain(&self, fault: Fault) -> Fault {
        let mut fault = fault;
        if let Some(why) = self.unreadable.first().filter(|_| fault.what.contains("table")) {
            fault.what = format!("{}: the view {why}", fault.what);
        } else if let Some(missing) = fault.what.strip_prefix(NO_TABLE) {
            let names = self.sources.names();
            let near = nearest(missing, names.iter().copied());
            let near = near.map_or(String::new(), |near| format!("did you mean {near}? "));
            fault.mend = format!("{near}there are {}", names.join(", "));
        }
        fault
    }

    fn register(&self, session: &SessionContext) -> Planned<()> {
        let stream = self.stream.as_deref();
        if stream.is_none_or(|stream| stream == EVENTS) {
            session.register_table(EVENTS, self.rows.table()?)?;
        }
        for view in &self.views {
            let name = view.file.name.as_str();
            match stream {
                None => {
                    let rows = Slot::new(with_replay(&view.schema()));
                    session.register_table(name, rows.table()?)?;
                }
                Some(stream) if stream == name => {
                    session.register_table(name, self.rows.table()?)?;
                }
                Some(_) => {}
            }
        }
        self.sources.register(session)
    }
}

/// The columns of a view's table.
pub(crate) fn with_replay(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    if schema.index_of(REPLAY_ID).is_err() {
        fields.push(Arc::new(Field::new(REPLAY_ID, DataType::Utf8, true)));
    }
    Arc::new(Schema::new(fields))
}

/// What a view gave for a timeline, as rows of its table.
pub(in super::super) fn of_timeline(
    rows: &RecordBatch,
    timeline: Option<&str>,
) -> Result<RecordBatch, ArrowError> {
    let schema = with_replay(&rows.schema());
    let mut columns = rows.columns().to_vec();
    if schema.fields().len() > columns.len() {
        columns.push(Arc::new(StringArray::from(vec![timeline; rows.num_rows()])));
    }
    RecordBatch::try_new(schema, columns)
}

/// A session of this query alone: what it holds counts against its own budget.
pub(super) fn session(file: &QueryFile, tables: &Tables, rows: Rows) -> Planned<SessionContext> {
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
    // A filter by the window stays above the groups: below them stand panes. And a filter that
    // a run has found is of no use to the next.
    let rules = state.physical_optimizers().iter();
    let rules = rules.filter(|rule| !rule.name().contains("FilterPushdown")).cloned().collect();
    let state =
        SessionStateBuilder::new_from_existing(state).with_physical_optimizer_rules(rules).build();
    let session = SessionContext::new_with_state(state);
    if rows == Rows::ForState {
        session.remove_optimizer_rule("push_down_filter");
        // It would make two aggregates of one.
        session.remove_optimizer_rule("single_distinct_aggregation_to_group_by");
    }
    dialect::register_as(&session, rows)?;
    tables.register(&session)?;
    Ok(session)
}

pub(super) async fn logical(
    session: &SessionContext,
    file: &QueryFile,
) -> Result<LogicalPlan, Fault> {
    let failed = |error: &DataFusionError| fault(file, error);
    let plan = session.state().create_logical_plan(&file.text).await;
    let plan = plan.map_err(|error| failed(&error))?;
    let queries_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    queries_only.verify_plan(&plan).map_err(|error| failed(&error))?;
    Ok(plan)
}
