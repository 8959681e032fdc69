//! JSON in lines: of each a CloudEvent, or any object.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::cloud;
use super::row::{Row, compact, invalid};
use crate::event::Timestamp;
use crate::http::Problem;

/// Where a line's time is looked for, if nobody says where.
const TIME_FIELDS: [&str; 3] = ["time", "timestamp", "@timestamp"];

/// What is said of lines that do not say it themselves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    /// Their source; the sender's application if it is left out.
    #[serde(default)]
    pub(super) source: Option<String>,
    /// Their type.
    #[serde(default = "default_type", rename = "type")]
    pub(super) kind: String,
    /// The field that has their time, as RFC 3339.
    #[serde(default)]
    pub(super) time_field: Option<String>,
}

fn default_type() -> String {
    "json".to_owned()
}

/// The lines that are not empty, with their numbers from 1.
pub(super) fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.enumerate().filter(|(_, line)| !line.is_empty()).map(|(at, line)| (at + 1, line))
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(line: &[u8], about: &About, source: &str) -> Result<Row, Problem> {
    let json: &RawValue = serde_json::from_slice(line)
        .map_err(|error| invalid(format_args!("it is not JSON: {error}")))?;
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json.get())
        .map_err(|_| invalid(format_args!("it is not a JSON object")))?;
    if members.contains_key("specversion") {
        return cloud::of_members(members);
    }
    let time_of = |name: &str| {
        let text: String = serde_json::from_str(members.get(name)?.get()).ok()?;
        text.parse::<Timestamp>().ok()
    };
    let time = match &about.time_field {
        Some(name) => {
            let expected = || invalid(format_args!("{name} is no time as in RFC 3339"));
            Some(time_of(name).ok_or_else(expected)?)
        }
        None => TIME_FIELDS.into_iter().find_map(time_of),
    };
    Ok(Row {
        source: about.source.clone().unwrap_or_else(|| source.to_owned()),
        kind: about.kind.clone(),
        time,
        data: Some(compact(json)),
        ..Row::default()
    })
}
