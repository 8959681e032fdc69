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
    /// Whether several parts of a plan read the same rows.
    is_shared: bool,
}

impl Slot {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, rows: Arc::default(), is_shared: false }
    }

    /// One whose rows several parts of a plan read.
    pub(super) fn shared(schema: SchemaRef) -> Self {
        Self { is_shared: true, ..Self::new(schema) }
    }

    pub(super) fn columns(&self) -> &SchemaRef {
        &self.schema
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

    /// Takes the rows, unless they are read again: a run holds them no longer than it has to.
    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut rows = self.rows.lock();
        let rows = if self.is_shared { rows.clone() } else { std::mem::take(&mut *rows) };
        let rows = stream::iter(rows.into_iter().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}
