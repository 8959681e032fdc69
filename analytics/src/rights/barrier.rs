//! A table of which a user sees a part, and can ask nothing of the rest.
//!
//! An optimiser moves conditions to where rows are read, and a condition that fails on some
//! value, such as a division, would tell of rows that the user may not see. So what a
//! condition is made of decides whether it may go below (PostgreSQL, "Rules and Privileges",
//! calls this a security barrier).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, exec_datafusion_err, internal_err};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::execution::{
    SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext,
};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_util::TryStreamExt as _;

use crate::compute::TooMuch;

/// See the module.
#[derive(Debug)]
pub(super) struct Barrier {
    /// The part that is seen.
    part: LogicalPlan,
    schema: SchemaRef,
    /// The columns whose values are as they are in the table.
    plain: HashSet<String>,
}

impl Barrier {
    pub(super) fn new(part: LogicalPlan) -> Self {
        let schema = part.schema().inner().clone();
        let columns = match &part {
            LogicalPlan::Projection(of) => &of.expr[..],
            _ => &[],
        };
        let plain = schema.fields().iter().zip(columns);
        let plain = plain.filter(|(_, of)| matches!((*of).clone().unalias(), Expr::Column(_)));
        let plain = plain.map(|(field, _)| field.name().clone()).collect();
        Self { part, schema, plain }
    }
}

#[async_trait]
impl TableProvider for Barrier {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let are_plain = |filter: &&Expr| {
            filter.column_refs().iter().all(|column| self.plain.contains(&column.name))
        };
        let support = |filter: &&Expr| match fails_never(filter) && are_plain(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut part = LogicalPlanBuilder::from(self.part.clone());
        for filter in filters {
            part = part.filter(unqualified(filter)?)?;
        }
        if let Some(columns) = projection {
            let columns = columns
                .iter()
                .map(|at| Expr::Column(Column::from_name(self.schema.field(*at).name())));
            part = part.project(columns)?;
        }
        let plan = part.limit(0, limit)?.build()?;
        // Not optimised as a plan of its own: what it is a part of will be, and no plan can be
        // twice.
        let plan = match session.as_any().downcast_ref::<SessionState>() {
            None => session.create_physical_plan(&plan).await?,
            Some(state) => {
                let state = SessionStateBuilder::new_from_existing(state.clone());
                let state = state.with_physical_optimizer_rules(Vec::new()).build();
                state.create_physical_plan(&plan).await?
            }
        };
        Ok(Arc::new(BarrierExec(plan)))
    }
}

/// Whether a condition answers of any row, and never fails: comparisons of columns and values,
/// and what is made of them.
fn fails_never(expr: &Expr) -> bool {
    let is_plain = |of: &Expr| matches!(of, Expr::Column(_) | Expr::Literal(..));
    match expr {
        Expr::BinaryExpr(of) => match of.op {
            Operator::And | Operator::Or => fails_never(&of.left) && fails_never(&of.right),
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => is_plain(&of.left) && is_plain(&of.right),
            _ => false,
        },
        Expr::Not(of) => fails_never(of),
        Expr::IsNull(of) | Expr::IsNotNull(of) => is_plain(of),
        Expr::IsTrue(of) | Expr::IsFalse(of) | Expr::IsNotTrue(of) | Expr::IsNotFalse(of) => {
            fails_never(of)
        }
        Expr::Between(of) => is_plain(&of.expr) && is_plain(&of.low) && is_plain(&of.high),
        Expr::InList(of) => is_plain(&of.expr) && of.list.iter().all(is_plain),
        Expr::Column(_) | Expr::Literal(..) => true,
        _ => false,
    }
}

/// A condition on the table by whatever name it has in a query, as one on its columns.
fn unqualified(filter: &Expr) -> Result<Expr> {
    let bare = filter.clone().transform(|expr| {
        Ok(match expr {
            Expr::Column(column) if column.relation.is_some() => {
                let bare = Column::from_name(column.name);
                Transformed::yes(Expr::Column(bare))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(bare.data)
}

/// Whether a plan reads such a table.
pub(super) fn is_in(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|step| {
        if let LogicalPlan::TableScan(scan) = step
            && let Ok(provider) = source_as_provider(&scan.source)
            && provider.is::<Barrier>()
        {
            found = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The same once a plan is a physical one: nothing is moved through it.
#[derive(Debug)]
struct BarrierExec(Arc<dyn ExecutionPlan>);

impl DisplayAs for BarrierExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BarrierExec")
    }
}

impl ExecutionPlan for BarrierExec {
    fn name(&self) -> &'static str {
        "BarrierExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.0]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(child) if children.is_empty() => Ok(Arc::new(Self(child))),
            _ => internal_err!("a barrier has one input"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.0.execute(partition, context)?;
        let schema = rows.schema();
        // What fails may say on which value, and that may be of a row that is not seen.
        let rows = rows.map_err(|error| match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => error,
            DataFusionError::External(of) if of.is::<TooMuch>() => error,
            _ => exec_datafusion_err!("a rule of a role of yours, or its table, failed on a row"),
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
