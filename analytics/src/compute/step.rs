use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream,
    SendableRecordBatchStream,
};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::{Sleep, sleep_until};

use super::TooMuch;
use super::way::Way;

/// The largest batch that a step may make of others, in bytes: it is not counted as memory of
/// the query while it is handed on.
const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The steps that keep all of their input, and count none of it as memory of the query.
const KEEPING: [&str; 1] = ["WindowAggExec"];

/// A plan whose steps give way.
pub(super) fn giving_way(
    plan: Arc<dyn ExecutionPlan>,
    way: &Arc<Way>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let giving_way = |input: &Arc<dyn ExecutionPlan>, keeps: bool| -> Arc<dyn ExecutionPlan> {
        Arc::new(GivingWayExec { input: input.clone(), way: way.clone(), is_kept: keeps })
    };
    let plan = plan.transform_up(|step| {
        let keeps = KEEPING.contains(&step.name());
        let inputs = step.children().into_iter().map(|input| giving_way(input, keeps));
        let inputs: Vec<_> = inputs.collect();
        if inputs.is_empty() {
            return Ok(Transformed::no(step));
        }
        replace_children_if_necessary(step, inputs).map(Transformed::yes)
    })?;
    Ok(giving_way(&plan.data, false))
}

#[derive(Debug)]
struct GivingWayExec {
    input: Arc<dyn ExecutionPlan>,
    way: Arc<Way>,
    /// Whether the step above keeps all of it without counting it as memory.
    is_kept: bool,
}

impl DisplayAs for GivingWayExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for GivingWayExec {
    fn name(&self) -> &'static str {
        "GivingWayExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
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
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                Ok(Arc::new(Self { input, way: self.way.clone(), is_kept: self.is_kept }))
            }
            _ => internal_err!("{} has one input", self.name()),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let is_made = !self.input.children().is_empty();
        let kept = self
            .is_kept
            .then(|| MemoryConsumer::new("rows that a step keeps").register(context.memory_pool()));
        let (way, rows_max) = (self.way.clone(), context.session_config().batch_size());
        let rows = make_cooperative(self.input.execute(partition, context)?);
        let (pause, left) = (None, None);
        Ok(Box::pin(GivingWay { rows, way, pause, is_made, kept, rows_max, left }))
    }
}

/// The rows of a step.
struct GivingWay {
    rows: SendableRecordBatchStream,
    way: Arc<Way>,
    pause: Option<Pin<Box<Sleep>>>,
    /// Whether they were made of others, not read.
    is_made: bool,
    /// What of them is kept above.
    kept: Option<MemoryReservation>,
    /// How many are handed on at a time: a step may make one batch of all.
    rows_max: usize,
    /// What is left of such a batch.
    left: Option<RecordBatch>,
}

impl GivingWay {
    /// As much of a batch as may be handed on; the rest is kept.
    fn part_of(&mut self, batch: RecordBatch) -> RecordBatch {
        if batch.num_rows() <= self.rows_max {
            return batch;
        }
        let rest = batch.num_rows() - self.rows_max;
        self.left = Some(batch.slice(self.rows_max, rest));
        batch.slice(0, self.rows_max)
    }
}

impl Stream for GivingWay {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.pause.is_none() {
            this.pause = this.way.pause().map(|until| Box::pin(sleep_until(until)));
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.poll_unpin(cx));
            this.pause = None;
        }
        if let Some(left) = this.left.take() {
            return Poll::Ready(Some(Ok(this.part_of(left))));
        }
        let batch = ready!(this.rows.poll_next_unpin(cx));
        if this.is_made
            && let Some(Ok(batch)) = &batch
            && batch.get_array_memory_size() > BATCH_BYTES_MAX
        {
            let what = format!(
                "a step makes more than {BATCH_BYTES_MAX} bytes of rows at a time; ask for fewer or \
                 shorter columns"
            );
            return Poll::Ready(Some(Err(TooMuch(what).into())));
        }
        if let (Some(kept), Some(Ok(batch))) = (&mut this.kept, &batch)
            && let Err(error) = kept.try_grow(batch.get_array_memory_size())
        {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(batch.map(|batch| batch.map(|batch| this.part_of(batch))))
    }
}

impl RecordBatchStream for GivingWay {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}
