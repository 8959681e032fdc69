//! Records of the log that are no events as a table of queries.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures_util::stream;

use crate::lake::{Quarantine, Quarantined};

static COLUMNS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let field = |name: &str, of: DataType| Field::new(name, of, false);
    Arc::new(Schema::new(vec![
        field("log_partition", DataType::Int32),
        field("log_offset", DataType::Int64),
        field("log_time", time),
        field("why", DataType::Utf8),
        field("bytes", DataType::Int64),
        field("value", DataType::Utf8),
        field("value_base64", DataType::Utf8),
    ]))
});

/// The table, with the records that there are when it is read.
pub(super) fn provider(quarantine: &Quarantine) -> Arc<dyn TableProvider> {
    let records = Arc::new(Records(quarantine.clone()));
    let table = StreamingTable::try_new(COLUMNS.clone(), vec![records]);
    Arc::new(table.expect("the records are of these columns"))
}

#[derive(Debug)]
struct Records(Quarantine);

impl PartitionStream for Records {
    fn schema(&self) -> &SchemaRef {
        &COLUMNS
    }

    /// One after another, so that no more than one is in memory.
    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = match self.0.files() {
            Ok(files) => stream::iter(files.into_iter().filter_map(|file| row(&file).transpose())),
            Err(error) => {
                let told = stream::iter([Err(DataFusionError::IoError(error))]);
                return Box::pin(RecordBatchStreamAdapter::new(COLUMNS.clone(), told));
            }
        };
        Box::pin(RecordBatchStreamAdapter::new(COLUMNS.clone(), rows))
    }
}

fn row(file: &Path) -> Planned<Option<RecordBatch>> {
    let Some(of) = Quarantine::read(file).map_err(DataFusionError::IoError)? else {
        return Ok(None);
    };
    let Quarantined { log_partition, log_offset, log_time, why, value } = of;
    let number = |of: u64| Arc::new(Int64Array::from(vec![i64::try_from(of).unwrap_or(i64::MAX)]));
    let text = |of: String| Arc::new(StringArray::from(vec![of]));
    let partition = Int32Array::from(vec![i32::try_from(log_partition).unwrap_or(i32::MAX)]);
    let time = TimestampMicrosecondArray::from(vec![log_time.as_micros()]).with_timezone("UTC");
    let row = RecordBatch::try_new(
        COLUMNS.clone(),
        vec![
            Arc::new(partition),
            number(log_offset),
            Arc::new(time),
            text(why),
            number(value.len() as u64),
            text(String::from_utf8_lossy(&value).into_owned()),
            text(BASE64_STANDARD.encode(&value)),
        ],
    );
    Ok(Some(row?))
}
