//! Rows become files of the table.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{SortColumn, concat, interleave, lexsort_to_indices};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use deltalake::kernel::Add;
use deltalake::writer::{DeltaWriter as _, RecordBatchWriter};
use deltalake::{DeltaTable, DeltaTableError};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tokio::runtime::Handle;

use crate::intake::Nulls;

/// What the rows of a file are in the order of: readers of one API then skip the rest.
const ORDER: [&str; 2] = ["api_name", "event_time"];
/// How many rows are put in order at a time; only so many are in memory twice.
const RUN_ROWS: usize = 8_192;

/// Writes rows of the table's columns to files, one for each day, in order. They are no part
/// of the table before a commit adds them.
///
/// # Errors
/// Those of storage; what was written stays, and is swept later.
pub(super) async fn written(
    table: &DeltaTable,
    rows: Vec<RecordBatch>,
) -> Result<Vec<Add>, DeltaTableError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let writer = RecordBatchWriter::for_table(table)?;
    let mut writer = writer.with_writer_properties(writer_properties());
    let (runtime, schema) = (Handle::current(), writer.arrow_schema());
    // Off the runtime's threads: they may be 256 MB.
    let writing = tokio::task::spawn_blocking(move || {
        let rows = InOrder::new(rows)?;
        for run in rows.runs() {
            runtime.block_on(writer.write(with_columns(&run?, &schema)?))?;
        }
        runtime.block_on(writer.flush())
    });
    writing.await.map_err(|error| DeltaTableError::generic(error.to_string()))?
}

/// Rows with all columns of the table: those of a newer Weir have no value.
fn with_columns(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let has = rows.schema();
    if schema.fields().iter().all(|field| has.index_of(field.name()).is_ok()) {
        return Ok(rows.clone());
    }
    let (mut fields, mut columns) = (has.fields().to_vec(), rows.columns().to_vec());
    for field in schema.fields().iter().filter(|field| has.index_of(field.name()).is_err()) {
        fields.push(field.clone());
        columns.push(new_null_array(field.data_type(), rows.num_rows()));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Small files that are read often: compressed well, with what lets readers skip.
fn writer_properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("3 is a level")));
    for column in ["correlation_id", "client_address", "trace_id"] {
        properties = properties.set_column_bloom_filter_enabled(column.into(), true);
    }
    properties.build()
}

/// Rows, and the order that they are to be in.
struct InOrder {
    /// At least one, all of the same columns.
    rows: Vec<RecordBatch>,
    /// Which rows come one after another: of which batch, and at which place of it.
    order: Vec<(usize, usize)>,
}

impl InOrder {
    fn new(rows: Vec<RecordBatch>) -> Result<Self, ArrowError> {
        let mut by = Vec::new();
        for name in ORDER {
            let column =
                |rows: &RecordBatch| rows.column_by_name(name).expect("the table has it").clone();
            let columns: Vec<ArrayRef> = rows.iter().map(column).collect();
            let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
            by.push(SortColumn { values: concat(&columns)?, options: None });
        }
        let lengths = rows.iter().map(RecordBatch::num_rows).enumerate();
        let places: Vec<(usize, usize)> =
            lengths.flat_map(|(batch, length)| (0..length).map(move |at| (batch, at))).collect();
        let order = lexsort_to_indices(&by, None)?;
        let order = order.values().iter().map(|place| places[*place as usize]).collect();
        Ok(Self { rows, order })
    }

    /// The rows in their order, some thousands at a time.
    fn runs(&self) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        let schema = self.rows[0].schema();
        let columns: Vec<Vec<&dyn Array>> = (0..schema.fields().len())
            .map(|at| self.rows.iter().map(|rows| rows.column(at).as_ref()).collect())
            .collect();
        let mut nulls = Nulls::default();
        self.order.chunks(RUN_ROWS).map(move |run| {
            let column = |of: &Vec<&dyn Array>| {
                if of.iter().all(|part| part.null_count() == part.len()) {
                    return Ok(nulls.of(of[0].data_type(), run.len()));
                }
                interleave(of, run)
            };
            let columns = columns.iter().map(column).collect::<Result<_, _>>()?;
            RecordBatch::try_new(schema.clone(), columns)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray as _, Int64Array, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(rows: &[(Option<&str>, i64)]) -> RecordBatch {
        let apis: StringArray = rows.iter().map(|(api, _)| *api).collect();
        let times: Int64Array = rows.iter().map(|(_, time)| Some(*time)).collect();
        let notes = StringArray::new_null(rows.len());
        let columns: [(&str, ArrayRef); 3] = [
            ("api_name", Arc::new(apis)),
            ("event_time", Arc::new(times)),
            ("note", Arc::new(notes)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, of)| (name, of, true)))
            .unwrap()
    }

    #[test]
    fn rows_of_many_batches_come_by_api_and_time() {
        let apis = [Some("b"), Some("a"), None];
        let all: Vec<(Option<&str>, i64)> =
            (0..20_000_i64).map(|n| (apis[(n % 3) as usize], n * 7_919 % 20_000)).collect();
        let parts: Vec<RecordBatch> = all.chunks(777).map(batch).collect();
        let rows = InOrder::new(parts).unwrap();
        let runs: Vec<RecordBatch> = rows.runs().collect::<Result<_, _>>().unwrap();
        let lengths: Vec<usize> = runs.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(lengths, [8_192, 8_192, 3_616]);
        let written = concat_batches(&runs[0].schema(), &runs).unwrap();
        let (apis, times) = (written.column(0).as_string::<i32>(), written.column(1));
        let times = times.as_primitive::<Int64Type>().values();
        let found: Vec<_> = apis.iter().zip(times.iter().copied()).collect();
        let mut expected = all;
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(written.column(2).null_count(), 20_000);
    }
}
