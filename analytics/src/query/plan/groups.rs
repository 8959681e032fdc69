//! A text with one aggregate, taken apart: rows become partial aggregates, these become fewer
//! of more, and the answer is made of what is left.

use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};

use super::super::dialect::{WINDOW_END, WINDOW_START};
use super::super::sessions::Sessions;
use super::super::shape::Windows;
use super::super::slot::Slot;

/// The three parts, and where the second and third find state.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) partial: Arc<dyn ExecutionPlan>,
    pub(super) reduce: Arc<dyn ExecutionPlan>,
    pub(super) finish: Arc<dyn ExecutionPlan>,
    pub(super) state: Slot,
    /// Where in state the window's beginning stands.
    start: usize,
    /// And where its end stands, if the query groups by it.
    end: Option<usize>,
    /// If its windows are sessions.
    pub(super) sessions: Option<Sessions>,
}

impl Groups {
    /// Takes a plan apart that has one aggregate, over rows of such windows.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>, windows: &Windows) -> Result<Self> {
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
        let end = place(WINDOW_END).filter(|at| is_time(*at));
        let sessions = match windows {
            Windows::Fixed { .. } => None,
            Windows::Sessions { gap_us, keys } => {
                let place = |key: &str| {
                    let no_such = || DataFusionError::Internal(format!("state has no {key}"));
                    place(key).ok_or_else(no_such)
                };
                let end = end.map_or_else(|| place(WINDOW_END), Ok)?;
                let keys = keys.iter().map(|key| place(key)).collect::<Result<_>>()?;
                Some(Sessions { gap_us: *gap_us, start, end, keys })
            }
        };
        let partial = Arc::new(partial);
        Ok(Self { partial, reduce, finish: finish.data, state, start, end, sessions })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.partial.schema()
    }

    /// The column of state that says of which pane a row is.
    pub(super) fn pane_column(&self) -> usize {
        self.start
    }

    /// State of a pane as that of a window that it is in.
    pub(super) fn as_window(
        &self,
        state: &RecordBatch,
        start_us: i64,
        width_us: i64,
    ) -> Result<RecordBatch, ArrowError> {
        let mut columns = state.columns().to_vec();
        let bounds = [(Some(self.start), start_us), (self.end, start_us + width_us)];
        for (column, time) in bounds.into_iter().filter_map(|(at, time)| Some((at?, time))) {
            let times = TimestampMicrosecondArray::from_value(time, state.num_rows());
            columns[column] = cast(&times, state.column(column).data_type())?;
        }
        RecordBatch::try_new(state.schema(), columns)
    }
}
