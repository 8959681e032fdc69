use std::fmt;
use std::sync::Arc;

use arrow::array::{Float32Array, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, JoinType, Result, ScalarValue, plan_err};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{col, lit};

use super::index::Hits;
use super::{Error, SCORE, SEARCH, Search};
use crate::lake::Snapshot;
use crate::rights::Rights;
use crate::sql::EVENTS;

/// `search('…')`: the rows of a snapshot that fit, with how well they do.
#[derive(Debug)]
pub(crate) struct SearchFunction {
    search: Search,
    snapshot: Snapshot,
    /// Of who may not read everything.
    rights: Option<Rights>,
}

impl SearchFunction {
    pub(crate) fn new(search: Search, snapshot: Snapshot) -> Self {
        Self { search, snapshot, rights: None }
    }

    /// For those alone who may read all of the events: it looks at all that each says.
    pub(crate) fn within(self, rights: Option<Rights>) -> Self {
        Self { rights, ..self }
    }
}

impl TableFunctionImpl for SearchFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let text = match args.exprs() {
            [Expr::Literal(ScalarValue::Utf8(Some(text)), _)] => text.clone(),
            _ => return plan_err!("{SEARCH} takes one text, as in {SEARCH}('connection refused')"),
        };
        let events = self.snapshot.table.schema();
        let mut fields = events.fields().to_vec();
        fields.push(Arc::new(Field::new(SCORE, DataType::Float32, false)));
        let schema = Arc::new(Schema::new_with_metadata(fields, events.metadata().clone()));
        let (search, snapshot) = (self.search.clone(), self.snapshot.clone());
        let found = Arc::new(Found { text, schema, search, snapshot });
        match &self.rights {
            // How well a row fits depends on all that there are.
            Some(rights) if !rights.is_whole(EVENTS) => {
                plan_err!("{SEARCH} is for those who may read all of {EVENTS}")
            }
            _ => Ok(found),
        }
    }
}

struct Found {
    text: String,
    schema: SchemaRef,
    search: Search,
    snapshot: Snapshot,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what fits {:?}", self.text)
    }
}

#[async_trait]
impl TableProvider for Found {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let found = self.search.find(&self.text, &self.snapshot.offsets).await;
        let hits = found.map_err(|error| match error {
            Error::Text(what) => DataFusionError::Plan(what),
            other => DataFusionError::External(Box::new(other)),
        })?;
        let times = hits.times.clone();
        let mut events = LogicalPlanBuilder::scan(
            "events",
            provider_as_source(self.snapshot.table.clone()),
            None,
        )?;
        // Files of other times are not opened.
        let time = |us: i64| lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
        events = match times {
            Some(times) => events.filter(
                col("events.event_time").between(time(*times.start()), time(*times.end())),
            )?,
            None => events.filter(lit(false))?,
        };
        let hits = LogicalPlanBuilder::scan("hits", provider_as_source(table_of(&hits)?), None)?;
        let on = (
            vec!["events.log_partition", "events.log_offset"],
            vec!["hits.hit_partition", "hits.hit_offset"],
        );
        let joined = events.join(hits.build()?, JoinType::Inner, on, None)?;
        let all = 0..self.schema.fields().len();
        let columns = projection.cloned().unwrap_or_else(|| all.collect());
        let columns = columns.into_iter().map(|at| match self.schema.field(at).name().as_str() {
            SCORE => col("hits.score"),
            name => col(format!("events.{name}")),
        });
        let plan = joined.project(columns)?.limit(0, limit)?.build()?;
        // Not optimised as a plan of its own: what it is a part of will be, and no plan can be twice.
        let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
            return session.create_physical_plan(&plan).await;
        };
        let state = SessionStateBuilder::new_from_existing(state.clone());
        state.with_physical_optimizer_rules(Vec::new()).build().create_physical_plan(&plan).await
    }
}

/// What was found, as a table to join to.
fn table_of(hits: &Hits) -> Result<Arc<dyn TableProvider>> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("hit_partition", DataType::Int32, false),
        Field::new("hit_offset", DataType::Int64, false),
        Field::new(SCORE, DataType::Float32, false),
    ]));
    let rows = &hits.rows;
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(rows.iter().map(|hit| hit.partition).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|hit| hit.offset).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|hit| hit.score).collect::<Float32Array>()),
    ];
    let rows = RecordBatch::try_new(schema.clone(), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?))
}
