//! Tables that queries are joined with: files that stay as they are while a node runs, and what
//! entities of the registry were at each revision.

use std::fs::File;
use std::io::{Cursor, Read as _};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{cast, concat_batches};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::MemTable;
use datafusion::error::Result as Planned;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures_util::stream;
use ingest::registry::Kind;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest as _, Sha256};

use super::{Fault, file};
use crate::entities::{self, Entities};

/// The largest file of a table, in bytes, and its most rows and columns: each query that reads
/// it has them in memory.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
const MEMORY_MAX: usize = 64 * 1024 * 1024;
const ROWS_MAX: usize = 200_000;
const COLUMNS_MAX: usize = 200;

/// A table of rows that stay as they are.
#[derive(Debug, Clone)]
pub struct Reference {
    name: String,
    rows: Rows,
    /// Of what it was read from: state of a query that read other rows is of no use.
    hash: [u8; 32],
}

/// Where its rows are.
#[derive(Debug, Clone)]
enum Rows {
    /// All that there are.
    Still(RecordBatch),
    /// More come, of later revisions.
    Versions(Entities, Kind),
}

impl Reference {
    /// Reads a file: `.csv` with the names of its columns in the first line, or `.parquet`.
    /// The table is called as the file is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        file::check_name(name, "table")?;
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| {
                Fault::of_file(format!("cannot be read: {error}"), "give a file of rows")
            })?;
        if bytes.len() as u64 > BYTES_MAX {
            let what = format!("is larger than {} MiB", BYTES_MAX >> 20);
            return Err(Fault::of_file(what, "leave out what no query reads"));
        }
        let is_csv = path.extension().is_some_and(|of| of.eq_ignore_ascii_case("csv"));
        let read = if is_csv { csv(&bytes) } else { in_parquet(bytes.clone()) };
        let mend = if is_csv { OF_CSV } else { "write it with another program, or as CSV" };
        let rows = read.map_err(|why| no_table(&why, mend))?;
        Self::new(name, rows, &bytes)
    }

    /// Reads CSV, with the names of its columns in the first line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of_csv(name: &str, text: &str) -> Result<Self, Fault> {
        file::check_name(name, "table")?;
        let rows = csv(text.as_bytes()).map_err(|why| no_table(&why, OF_CSV))?;
        Self::new(name, rows, text.as_bytes())
    }

    fn new(name: &str, rows: RecordBatch, bytes: &[u8]) -> Result<Self, Fault> {
        let (schema, mend) = (rows.schema(), "leave out what no query reads");
        if rows.num_rows() > ROWS_MAX {
            let what = format!("has {} rows, at most {ROWS_MAX}", rows.num_rows());
            return Err(Fault::of_file(what, mend));
        }
        let bytes_in_memory = rows.get_array_memory_size();
        if bytes_in_memory > MEMORY_MAX {
            let what = format!(
                "takes {} MiB of memory, at most {}",
                bytes_in_memory >> 20,
                MEMORY_MAX >> 20
            );
            return Err(Fault::of_file(what, mend));
        }
        let columns = schema.fields().len();
        if !(1..=COLUMNS_MAX).contains(&columns) {
            return Err(Fault::of_file(format!("has {columns} columns, 1 to {COLUMNS_MAX}"), mend));
        }
        let names = || schema.fields().iter().map(|field| field.name());
        for (at, name) in names().enumerate() {
            let is_twice = names().take(at).any(|other| other == name);
            if name.is_empty() || is_twice || super::dialect::is_bound(name) {
                let what = format!("`{name}` cannot be the name of a column");
                return Err(Fault::new(1, what, "give each column a name of its own"));
            }
        }
        let rows = Rows::Still(rows);
        Ok(Self { name: name.to_owned(), rows, hash: Sha256::digest(bytes).into() })
    }

    /// The tables of the registry's entities.
    pub(crate) fn of_registry(entities: &Entities) -> impl Iterator<Item = Self> {
        entities::tables().map(|(kind, name)| Self {
            hash: Sha256::digest(&name).into(),
            rows: Rows::Versions(entities.clone(), kind),
            name,
        })
    }

    /// The entities whose versions it has.
    pub(crate) fn entities(&self) -> Option<&Entities> {
        match &self.rows {
            Rows::Still(_) => None,
            Rows::Versions(entities, _) => Some(entities),
        }
    }

    /// What queries call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn hash(&self) -> &[u8] {
        &self.hash
    }

    /// It as a table of a session, with the rows that there are.
    pub(crate) fn table(&self) -> Arc<dyn TableProvider> {
        let rows = match &self.rows {
            Rows::Still(rows) => rows.clone(),
            Rows::Versions(entities, kind) => entities.rows(*kind),
        };
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]);
        Arc::new(table.expect("the rows are of their own schema"))
    }

    /// It as a table of a plan that runs again and again, with the rows that there are then.
    pub(super) fn of_each_run(&self) -> Planned<Arc<dyn TableProvider>> {
        let Rows::Versions(entities, kind) = &self.rows else { return Ok(self.table()) };
        let schema = Entities::columns(*kind);
        let partition = Versions { entities: entities.clone(), kind: *kind, schema };
        let schema = partition.schema.clone();
        Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(partition)])?))
    }
}

/// The versions of a kind's entities, as they are when they are read.
#[derive(Debug)]
struct Versions {
    entities: Entities,
    kind: Kind,
    schema: SchemaRef,
}

impl PartitionStream for Versions {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = stream::iter([Ok(self.entities.rows(self.kind))]);
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

/// What mends CSV that is none.
const OF_CSV: &str =
    "write the names of columns into the first line, and as many values into each other";

fn no_table(why: &ArrowError, mend: &str) -> Fault {
    Fault::of_file(format!("is no table: {}", told(why)), mend)
}

/// The rows, of types that all values of a column have.
fn csv(bytes: &[u8]) -> Result<RecordBatch, ArrowError> {
    let (schema, _) = Format::default().with_header(true).infer_schema(Cursor::new(bytes), None)?;
    let schema = Arc::new(schema);
    let reader = ReaderBuilder::new(schema.clone()).with_header(true).build(Cursor::new(bytes))?;
    together(&schema, reader)
}

fn in_parquet(bytes: Vec<u8>) -> Result<RecordBatch, ArrowError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?;
    let rows = reader.metadata().file_metadata().num_rows();
    if usize::try_from(rows).is_ok_and(|rows| rows > ROWS_MAX) {
        let why = format!("it has {rows} rows, at most {ROWS_MAX}");
        return Err(ArrowError::ParquetError(why));
    }
    let schema = reader.schema().clone();
    plain(together(&schema, reader.build()?)?)
}

/// The same without dictionaries, which what reads the answers of views as JSON does not know.
fn plain(rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let of = match field.data_type() {
            DataType::Dictionary(_, of) => (**of).clone(),
            other => other.clone(),
        };
        columns.push(cast(column, &of)?);
        fields.push(field.as_ref().clone().with_data_type(of));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn together(
    schema: &SchemaRef,
    rows: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<RecordBatch, ArrowError> {
    concat_batches(schema, &rows.collect::<Result<Vec<_>, _>>()?)
}

/// Without the name of the library's error.
fn told(error: &ArrowError) -> String {
    match error {
        ArrowError::CsvError(what) | ArrowError::ParquetError(what) => what.clone(),
        other => other.to_string(),
    }
}
