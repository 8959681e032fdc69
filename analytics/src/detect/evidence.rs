//! What stands behind a finding: its row, and SQL that shows the events.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::json::ArrayWriter;
use ingest::event::Timestamp;
use serde_json::{Map, Value};

use super::Column;
use crate::intake::stamped_schema;

/// The longest text of a value, in bytes; what is longer is cut.
const VALUE_BYTES_MAX: usize = 200;
/// How many columns of a row are kept.
const COLUMNS_MAX: usize = 20;

/// Rows as their columns, in order.
pub(super) fn rows(batch: &RecordBatch) -> Result<Vec<Vec<Column>>, ArrowError> {
    let kept: Vec<usize> = (0..batch.num_columns().min(COLUMNS_MAX)).collect();
    let batch = batch.project(&kept)?;
    let mut json = Vec::new();
    let mut writer = ArrayWriter::new(&mut json);
    writer.write(&batch)?;
    writer.finish()?;
    if json.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Map<String, Value>> =
        serde_json::from_slice(&json).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    let schema = batch.schema();
    let columns = |mut row: Map<String, Value>| {
        let column = |name: &String| {
            let value = row.remove(name).unwrap_or_default();
            Column { name: name.clone(), value: cut(value) }
        };
        schema.fields().iter().map(|field| field.name()).map(column).collect()
    };
    Ok(rows.into_iter().map(columns).collect())
}

fn cut(value: Value) -> Value {
    match value {
        Value::String(mut text) if text.len() > VALUE_BYTES_MAX => {
            text.truncate(text.floor_char_boundary(VALUE_BYTES_MAX - 3));
            text.push('…');
            text.into()
        }
        value => value,
    }
}

/// SQL that shows the events of a window that a finding is about.
pub(super) fn query(
    subject_kind: &str,
    subject: Option<&str>,
    replay: Option<&str>,
    from: Timestamp,
    until: Timestamp,
) -> String {
    let text = |value: &str| format!("'{}'", value.replace('\'', "''"));
    let mut conditions = vec![format!("event_time >= '{from}'"), format!("event_time < '{until}'")];
    if let Some(subject) = subject
        && stamped_schema().index_of(subject_kind).is_ok()
    {
        conditions.insert(0, format!("{subject_kind} = {}", text(subject)));
    }
    conditions.push(match replay {
        Some(replay) => format!("replay_id = {}", text(replay)),
        None => "replay_id IS NULL".to_owned(),
    });
    format!(
        "SELECT event_time, kind, client_address, http_request_method, url_path, \
         http_response_status_code, user_agent_original\nFROM events\nWHERE {}\nORDER BY event_time",
        conditions.join("\n  AND ")
    )
}

/// A number as people read it: 12,345.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
