//! The search for events. It is for sessions that an admin token has opened, as what is found
//! may be what callers sent.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use axum::Router;
use axum::extract::{Query, State};
use axum::middleware::from_fn_with_state;
use axum::response::Html;
use axum::routing::get;
use serde::Deserialize;

use super::api::Shared;
use super::login;
use crate::page::search::{self as page, Found, Results, SHOWN_MAX, Within};

const CURRENT: &str = "/search";
/// How much of a body is shown, in characters.
const BODY_CHARS_MAX: usize = 4_000;

pub(super) fn router(shared: Arc<Shared>) -> Router<Arc<Shared>> {
    Router::new().route(CURRENT, get(search)).layer(from_fn_with_state(shared, login::admit_admin))
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    q: String,
    within: Option<String>,
}

async fn search(State(shared): State<Arc<Shared>>, Query(asked): Query<Asked>) -> Html<String> {
    let within = asked.within.as_deref().and_then(Within::parse).unwrap_or(Within::Day);
    let text = asked.q.trim();
    let results = match text.is_empty() {
        true => None,
        false => Some(shared.source.found(sql(text, within)).await.and_then(|rows| read(&rows))),
    };
    let nav = shared.nav(CURRENT);
    Html(page::page(&nav, text, within, results.as_ref()).into_string())
}

/// The columns that are shown, in the order of [`Found`].
const COLUMNS: [&str; 13] = [
    "CAST(event_time AS VARCHAR)",
    "kind",
    "outcome",
    "coalesce(api_name, mediation_route, delivery_queue, external_source, service_name)",
    "http_request_method",
    "coalesce(url_path, external_type)",
    "http_response_status_code",
    "coalesce(error_type, fault_code, auth_reason)",
    "fault_message",
    "correlation_id",
    "payload_request",
    "payload_response",
    "external_data",
];

fn sql(text: &str, within: Within) -> String {
    let columns = COLUMNS.iter().enumerate().map(|(at, of)| format!("{of} AS c{at}"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let since = within.interval().map_or_else(String::new, |interval| {
        format!("WHERE event_time >= now() - INTERVAL '{interval}'")
    });
    format!(
        "SELECT {columns}, count(*) OVER () AS found FROM search('{}') {since}
         ORDER BY event_time DESC LIMIT {SHOWN_MAX}",
        text.replace('\'', "''")
    )
}

fn read(batches: &[RecordBatch]) -> Result<Results, String> {
    let mut results = Results::default();
    for batch in batches {
        let texts = batch.columns()[..COLUMNS.len()]
            .iter()
            .map(|column| cast(column, &DataType::Utf8).map_err(|error| error.to_string()))
            .collect::<Result<Vec<_>, _>>()?;
        let counts = batch.column(COLUMNS.len()).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let mut texts = texts.iter().map(|texts| {
                let texts = texts.as_string::<i32>();
                if texts.is_null(row) { String::new() } else { texts.value(row).to_owned() }
            });
            let mut next = || texts.next().unwrap_or_default();
            let mut event = Found {
                time: next(),
                kind: next(),
                outcome: next(),
                of: next(),
                method: next(),
                path: next(),
                status: next(),
                error: next(),
                message: next(),
                correlation: next(),
                bodies: Vec::new(),
            };
            for title in ["Request", "Answer", "Data"] {
                let body = next();
                if !body.is_empty() {
                    event.bodies.push((title, body.chars().take(BODY_CHARS_MAX).collect()));
                }
            }
            results.count = u64::try_from(counts.value(row)).unwrap_or_default();
            results.shown.push(event);
        }
    }
    Ok(results)
}
