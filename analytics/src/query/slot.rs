use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures_util::stream;
use parking_lot::Mutex;

/// Where a plan that was made once finds the rows of its next run.
#[derive(Clone)]
pub(super) struct Slot {
    schema: SchemaRef,
    rows: Arc<Mutex<Vec<RecordBatch>>>,
}

impl Slot {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, rows: Arc::default() }
    }

    pub(super) fn put(&self, rows: Vec<RecordBatch>) {
        *self.rows.lock() = rows;
    }

    /// It as a table that a plan can be made over.
    pub(super) fn table(&self) -> Result<Arc<dyn TableProvider>> {
        let partition: Arc<dyn PartitionStream> = Arc::new(self.clone());
        Ok(Arc::new(StreamingTable::try_new(self.schema.clone(), vec![partition])?))
    }

    /// It as a part of a plan.
    pub(super) fn scan(&self) -> Result<Arc<dyn ExecutionPlan>> {
        let partition: Arc<dyn PartitionStream> = Arc::new(self.clone());
        let unordered = Vec::<LexOrdering>::new();
        let scan = StreamingTableExec::try_new(
            self.schema.clone(),
            vec![partition],
            None,
            unordered,
            false,
            None,
        )?;
        Ok(Arc::new(scan))
    }
}

impl PartitionStream for Slot {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes the rows: a run reads them once, and they are not held after it.
    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = std::mem::take(&mut *self.rows.lock());
        let rows = stream::iter(rows.into_iter().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}
