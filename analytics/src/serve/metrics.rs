//! How the continuous queries of this node fare, for Prometheus: its text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use ingest::event::Timestamp;

use super::api::Shared;
use crate::run::{QueryState, QueryStatus};

const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A value of a query; nothing if there is none.
type Read = fn(&QueryStatus) -> Option<f64>;

/// Name, type, what it is, and its value.
const METRICS: &[(&str, &str, &str, Read)] = &[
    (
        "weir_query_running",
        "gauge",
        "1 if the query runs, 0 if it starts, failed, or rests.",
        |of| Some(if of.state == QueryState::Running { 1.0 } else { 0.0 }),
    ),
    ("weir_query_failed", "gauge", "1 if the query failed.", |of| {
        Some(if of.state == QueryState::Failed { 1.0 } else { 0.0 })
    }),
    ("weir_query_paused", "gauge", "1 if somebody lets the query rest.", |of| {
        Some(if of.state == QueryState::Paused { 1.0 } else { 0.0 })
    }),
    (
        "weir_query_rows_in_total",
        "counter",
        "Rows that it took in since this node took it up.",
        |of| Some(of.rows as f64),
    ),
    (
        "weir_query_rows_out_total",
        "counter",
        "Rows of answers committed since this node took it up.",
        |of| Some(of.answered as f64),
    ),
    (
        "weir_query_rows_late_total",
        "counter",
        "Rows that came too late for their windows, since the query is what it is.",
        |of| Some(of.late as f64),
    ),
    ("weir_query_behind_records", "gauge", "Records of the log that it has not read.", |of| {
        Some(of.behind as f64)
    }),
    ("weir_query_state_bytes", "gauge", "What it holds in memory.", |of| {
        Some(of.state_bytes as f64)
    }),
    ("weir_query_replays_given_up", "gauge", "Replays that give no answer.", |of| {
        Some(of.given_up as f64)
    }),
    (
        "weir_query_watermark_seconds",
        "gauge",
        "What all live sources have passed, by event time, in seconds since 1970.",
        |of| of.watermark.map(seconds),
    ),
    (
        "weir_query_closed_until_seconds",
        "gauge",
        "Until when windows of live traffic have answered, by event time, in seconds since 1970.",
        |of| of.closed_until.map(seconds),
    ),
    (
        "weir_query_committed_seconds",
        "gauge",
        "When its last checkpoint was committed, in seconds since 1970.",
        |of| of.committed.map(seconds),
    ),
];

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let queries = shared.queries.now();
    let mut text = text(&queries);
    let library = shared.control.library.borrow().library.clone();
    let memory = library.queries().iter().filter(|(name, _)| queries.contains_key(*name));
    text.push_str("# HELP weir_query_memory_bytes What it may hold in memory.\n");
    text.push_str("# TYPE weir_query_memory_bytes gauge\n");
    for (query, of) in memory {
        let bytes = of.file.header.memory_mib * 1024 * 1024;
        let _ = writeln!(text, "weir_query_memory_bytes{{query=\"{query}\"}} {bytes}");
    }
    ([(CONTENT_TYPE, TYPE)], text).into_response()
}

/// Of the queries that this node owns, by name. Their names are letters, digits and `_`.
fn text(queries: &BTreeMap<String, QueryStatus>) -> String {
    let mut text = String::new();
    for (metric, kind, help, read) in METRICS {
        let of_node = queries.iter().filter(|(_, of)| of.state != QueryState::Elsewhere);
        let values = of_node.filter_map(|(query, of)| Some((query, read(of)?)));
        let mut is_first = true;
        for (query, value) in values {
            if std::mem::take(&mut is_first) {
                let _ = writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} {kind}");
            }
            let _ = writeln!(text, "{metric}{{query=\"{query}\"}} {value}");
        }
    }
    text
}

fn seconds(time: Timestamp) -> f64 {
    time.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_query_of_this_node_has_its_values() {
        let calls = QueryStatus {
            state: QueryState::Running,
            rows: 12,
            watermark: Some(Timestamp::from_micros(1_500_000)),
            ..QueryStatus::default()
        };
        let of = |state| QueryStatus { state, ..QueryStatus::default() };
        let queries = [
            ("calls".to_owned(), calls),
            ("rests".to_owned(), of(QueryState::Paused)),
            ("other".to_owned(), of(QueryState::Elsewhere)),
        ];
        let text = text(&queries.into());
        for line in [
            "# TYPE weir_query_rows_in_total counter",
            "weir_query_running{query=\"calls\"} 1",
            "weir_query_running{query=\"rests\"} 0",
            "weir_query_paused{query=\"rests\"} 1",
            "weir_query_rows_in_total{query=\"calls\"} 12",
            "weir_query_watermark_seconds{query=\"calls\"} 1.5",
        ] {
            assert!(text.lines().any(|of| of == line), "{line}: {text}");
        }
        assert!(!text.contains("\"other\"") && !text.contains("weir_query_committed"), "{text}");
    }
}
