//! A text that needs all rows of a window at once: they are held as they came, of each the
//! columns that it reads, and the whole text runs over them as windows close.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::super::dialect::SomeWindows;
use super::super::slot::Slot;

/// What holds rows, and what runs over them.
#[derive(Debug)]
pub(super) struct Held {
    /// Leaves out what no part of the text reads.
    pub(super) keep: Arc<dyn ExecutionPlan>,
    /// Where the whole text finds what is held.
    pub(super) state: Slot,
    pub(super) whole: Arc<dyn ExecutionPlan>,
    /// Which windows it answers.
    pub(super) asked: SomeWindows,
    /// The column by which rows have their time.
    time: usize,
}

impl Held {
    /// Of a text that was planned over `state`, in a session where `table` is that: what is
    /// kept of the rows that come into `rows`, by the time in their column `time`.
    pub(super) async fn of(
        session: &SessionContext,
        logical: LogicalPlan,
        (table, rows): (&str, &Slot),
        (state, asked): (Slot, SomeWindows),
        time: &str,
    ) -> Result<Self> {
        let is_kept = filter(&session.state().optimize(&logical)?, table);
        let whole = DataFrame::new(session.state(), logical).create_physical_plan().await?;
        let columns = state.columns().clone();
        let names: Vec<&str> = columns.fields().iter().map(|of| of.name().as_str()).collect();
        session.deregister_table(table)?;
        session.register_table(table, rows.table()?)?;
        let mut kept = session.table(table).await?;
        if let Some(is_kept) = is_kept {
            kept = kept.filter(is_kept)?;
        }
        let keep = kept.select_columns(&names)?.create_physical_plan().await?;
        if keep.schema().fields() != columns.fields() {
            let what = "the rows that are kept have other columns than those that are read";
            return Err(DataFusionError::Internal(what.to_owned()));
        }
        Ok(Self { keep, state, whole, asked, time: columns.index_of(time)? })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.state.columns().clone()
    }

    /// The column of state by which rows have their time.
    pub(super) fn time_column(&self) -> usize {
        self.time
    }

    /// Rows in one piece.
    pub(super) fn reduce(&self, state: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        Ok(vec![concat_batches(&self.schema(), state)?])
    }
}

/// Which rows of a table an optimized plan reads at all: those that one of its scans does not
/// leave out at once. Absent if one of them reads all.
fn filter(optimized: &LogicalPlan, table: &str) -> Option<Expr> {
    let (mut scans, mut filters) = (0, Vec::<Expr>::new());
    optimized
        .apply(|node| {
            match node {
                LogicalPlan::TableScan(scan) if scan.table_name.table() == table => scans += 1,
                LogicalPlan::Filter(filter) if matches!(&*filter.input, LogicalPlan::TableScan(of) if of.table_name.table() == table) => {
                    filters.push(filter.predicate.clone());
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .expect("the closure gives no error");
    if filters.len() < scans { None } else { filters.into_iter().reduce(Expr::or) }
}
