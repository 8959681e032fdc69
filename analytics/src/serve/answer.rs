//! The rows of an answer, as the caller wants to read them.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::ArrayWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_schema;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use ingest::http::Caller;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::sql::Answer;

/// There on answers that have fewer rows than the query: the limit was reached.
const CUT_HEADER: HeaderName = HeaderName::from_static("weir-rows-cut");

/// Which events an answer is of: per partition of the log, the offset after the last. A
/// query that is asked with it is of the same.
pub(super) const POSITION_HEADER: HeaderName = HeaderName::from_static("weir-position");

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
    Table,
    Arrow,
    Parquet,
}

impl Format {
    pub(super) const TYPES: [&str; 5] = [
        "application/json",
        "text/csv",
        "text/plain",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.parquet",
    ];
    const ALL: [Self; 5] = [Self::Json, Self::Csv, Self::Table, Self::Arrow, Self::Parquet];

    /// The first that `Accept` names and that there is; weights are passed over.
    pub(super) fn of(accept: &str) -> Option<Self> {
        if accept.trim().is_empty() {
            return Some(Self::Json);
        }
        let names = accept.split(',').map(|of| of.split(';').next().unwrap_or_default().trim());
        names.into_iter().find_map(|name| match name {
            "*/*" | "application/*" => Some(Self::Json),
            "text/*" => Some(Self::Csv),
            _ => Self::ALL.into_iter().find(|of| of.media_type().eq_ignore_ascii_case(name)),
        })
    }

    fn media_type(self) -> &'static str {
        Self::TYPES[self as usize]
    }
}

/// The most bytes of an answer, however they are written.
const BYTES_MAX: usize = 512 * 1024 * 1024;

/// Takes bytes up to the most that there may be.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.len() + bytes.len() <= BYTES_MAX {
            true => self.0.write(bytes),
            false => Err(io::Error::other(too_long())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_long() -> String {
    format!("the answer has more than {BYTES_MAX} bytes; ask for fewer rows or columns")
}

/// Refuses a table whose widest values would be too much, if each row were as wide.
fn check_width(answer: &Answer) -> Result<(), ArrowError> {
    let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
    let (mut width, options) = (0_usize, FormatOptions::default());
    for (at, field) in answer.schema.fields().iter().enumerate() {
        let mut widest = field.name().len();
        for batch in &answer.batches {
            let values = ArrayFormatter::try_new(batch.column(at), &options)?;
            for row in 0..batch.num_rows() {
                widest = widest.max(values.value(row).to_string().len());
            }
        }
        width = width.saturating_add(widest + 3);
    }
    match width.saturating_mul(rows + 4) <= BYTES_MAX {
        true => Ok(()),
        false => Err(ArrowError::ExternalError(too_long().into())),
    }
}

pub(super) fn encode(
    answer: &Answer,
    format: Format,
    caller: &Caller,
) -> Result<Response, ArrowError> {
    let batches: Vec<&RecordBatch> = answer.batches.iter().collect();
    let out = Bounded(Vec::new());
    let body = match format {
        Format::Json => {
            let mut writer = ArrayWriter::new(out);
            writer.write_batches(&batches)?;
            writer.finish()?;
            writer.into_inner().0
        }
        Format::Csv => {
            let mut writer = WriterBuilder::new().with_header(true).build(out);
            if batches.is_empty() {
                writer.write(&RecordBatch::new_empty(answer.schema.clone()))?;
            }
            for batch in batches {
                writer.write(batch)?;
            }
            writer.into_inner().0
        }
        Format::Table => {
            check_width(answer)?;
            let table = pretty_format_batches_with_schema(answer.schema.clone(), &answer.batches)?;
            format!("{table}\n").into_bytes()
        }
        Format::Arrow => {
            let mut writer = StreamWriter::try_new(out, &answer.schema)?;
            for batch in batches {
                writer.write(batch)?;
            }
            writer.finish()?;
            writer.into_inner()?.0
        }
        Format::Parquet => {
            let compressed = Compression::ZSTD(ZstdLevel::default());
            let properties = WriterProperties::builder().set_compression(compressed).build();
            let mut writer = ArrowWriter::try_new(out, answer.schema.clone(), Some(properties))?;
            for batch in batches {
                writer.write(batch)?;
            }
            writer.into_inner()?.0
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    if answer.cut {
        headers.insert(CUT_HEADER, HeaderValue::from_static("true"));
    }
    // How many events there are is not for who may read some of them.
    if *caller != Caller::Admin {
        return Ok(response);
    }
    let offsets: Vec<String> = answer.offsets.iter().map(u64::to_string).collect();
    if let Ok(position) = HeaderValue::try_from(offsets.join(",")) {
        headers.insert(POSITION_HEADER, position);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_asked_for_and_there_is() {
        for (accept, expected) in [
            ("", Some(Format::Json)),
            ("*/*", Some(Format::Json)),
            ("text/html, text/csv;q=0.5", Some(Format::Csv)),
            ("Text/Plain", Some(Format::Table)),
            ("application/vnd.apache.arrow.stream", Some(Format::Arrow)),
            ("application/vnd.apache.parquet", Some(Format::Parquet)),
            ("image/png", None),
        ] {
            assert_eq!(Format::of(accept), expected, "{accept}");
        }
    }
}
