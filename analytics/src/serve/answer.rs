//! The rows of an answer, as the caller wants to read them.

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::ArrayWriter;
use arrow::util::pretty::pretty_format_batches_with_schema;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

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
}

impl Format {
    pub(super) const TYPES: [&str; 4] =
        ["application/json", "text/csv", "text/plain", "application/vnd.apache.arrow.stream"];
    const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::Table, Self::Arrow];

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

pub(super) fn encode(answer: &Answer, format: Format) -> Result<Response, ArrowError> {
    let batches: Vec<&RecordBatch> = answer.batches.iter().collect();
    let body = match format {
        Format::Json => {
            let mut writer = ArrayWriter::new(Vec::new());
            writer.write_batches(&batches)?;
            writer.finish()?;
            writer.into_inner()
        }
        Format::Csv => {
            let mut writer = WriterBuilder::new().with_header(true).build(Vec::new());
            if batches.is_empty() {
                writer.write(&RecordBatch::new_empty(answer.schema.clone()))?;
            }
            for batch in batches {
                writer.write(batch)?;
            }
            writer.into_inner()
        }
        Format::Table => {
            let table = pretty_format_batches_with_schema(answer.schema.clone(), &answer.batches)?;
            format!("{table}\n").into_bytes()
        }
        Format::Arrow => {
            let mut writer = StreamWriter::try_new(Vec::new(), &answer.schema)?;
            for batch in batches {
                writer.write(batch)?;
            }
            writer.finish()?;
            writer.into_inner()?
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    if answer.cut {
        headers.insert(CUT_HEADER, HeaderValue::from_static("true"));
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
            ("image/png", None),
        ] {
            assert_eq!(Format::of(accept), expected, "{accept}");
        }
    }
}
