use std::collections::HashMap;
use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use datafusion::common::ParamValues;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::scalar::ScalarValue;
use prost::Message as _;
use tonic::Status;

use super::status::{malformed, unwritten};

/// The longest statement, and the most of its parameters, in bytes.
const STATEMENT_BYTES_MAX: usize = 1024 * 1024;
const PARAMETERS_BYTES_MAX: usize = 1024 * 1024;

/// A statement, as a client keeps it between requests.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Handle {
    #[prost(string, tag = "1")]
    pub(super) statement: String,
    /// A row of them, as an Arrow stream; empty if there are none.
    #[prost(bytes = "bytes", tag = "2")]
    parameters: Bytes,
}

impl Handle {
    pub(super) fn new(statement: String) -> Result<Self, Status> {
        if statement.len() > STATEMENT_BYTES_MAX {
            return Err(malformed(format!(
                "the statement has {} bytes, and may have {STATEMENT_BYTES_MAX}",
                statement.len()
            )));
        }
        Ok(Self { statement, parameters: Bytes::new() })
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, Status> {
        Self::decode(bytes).map_err(|_| malformed("it is no statement of this server"))
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// With values for the statement's parameters: the columns of one row, in their order.
    pub(super) fn with(self, rows: &[RecordBatch]) -> Result<Self, Status> {
        let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
        let row = match (rows.iter().find(|batch| batch.num_rows() > 0), count) {
            (Some(row), 1) => row,
            _ => {
                let what = format!("there are {count} rows of parameters; give one at a time");
                return Err(malformed(what));
            }
        };
        let mut parameters = Vec::new();
        let written = StreamWriter::try_new(&mut parameters, &row.schema())
            .and_then(|mut writer| writer.write(row).and_then(|()| writer.finish()));
        written.map_err(unwritten)?;
        if parameters.len() > PARAMETERS_BYTES_MAX {
            return Err(malformed(format!(
                "the parameters have {} bytes, and may have {PARAMETERS_BYTES_MAX}",
                parameters.len()
            )));
        }
        Ok(Self { parameters: parameters.into(), ..self })
    }

    /// The values, if there are any: by position, and by name where they have one.
    pub(super) fn values(&self) -> Result<Option<ParamValues>, Status> {
        if self.parameters.is_empty() {
            return Ok(None);
        }
        let mut reader =
            StreamReader::try_new(Cursor::new(&self.parameters), None).map_err(malformed)?;
        let Some(row) = reader.next() else { return Ok(None) };
        let row = row.map_err(malformed)?;
        let values = row.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
        let values = values.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        let schema = row.schema();
        let names = schema.fields().iter().map(|field| field.name().trim_start_matches('$'));
        let are_named =
            names.clone().all(|name| !name.is_empty() && name.parse::<usize>().is_err());
        Ok(Some(match are_named {
            true => {
                let named = names.map(str::to_owned).zip(values.into_iter().map(Into::into));
                ParamValues::Map(named.collect::<HashMap<String, ScalarAndMetadata>>())
            }
            false => ParamValues::List(values.into_iter().map(Into::into).collect()),
        }))
    }
}
