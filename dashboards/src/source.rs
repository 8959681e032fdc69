//! Where rows come from: an analytics node, over HTTP, as Arrow.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array as _, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::ipc::reader::StreamReader;
use http::HeaderValue;
use http::header::{ACCEPT, HeaderName};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::client;
use crate::view::{Known, Timeline};

/// Which events an answer is of, and a query is to be.
const POSITION_HEADER: HeaderName = HeaderName::from_static("weir-position");
/// For how long it is remembered which timelines there are: finding them reads all events.
const TIMELINES_FOR: Duration = Duration::from_secs(10);
/// How many timelines may be chosen from.
const TIMELINES_MAX: usize = 50;

/// An analytics node that is asked.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    url: String,
    token: String,
    client: reqwest::Client,
    /// Which timelines there were, and when that was asked.
    timelines: Arc<Mutex<Option<Remembered>>>,
}

#[derive(Debug)]
struct Remembered {
    asked: Instant,
    known: Vec<Known>,
}

fn unreachable(error: reqwest::Error) -> String {
    tracing::debug!(%error, "the analytics node did not answer");
    match error.is_timeout() {
        true => "The analytics node did not answer in time.".to_owned(),
        false => "The analytics node cannot be reached.".to_owned(),
    }
}

/// Why a request was refused, by its problem details.
fn reason_of(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    problem["detail"].as_str().unwrap_or("without a reason").to_owned()
}

/// What stands in the columns of rows, as text; nothing where there is none.
pub(crate) fn texts_of(batch: &RecordBatch) -> impl Fn(&str, usize) -> String {
    let schema = batch.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    let texts = batch.columns().iter().map(|column| cast(column, &DataType::Utf8).ok());
    let columns: HashMap<_, _> = names.zip(texts).collect();
    move |name, row| {
        let texts = columns.get(name).and_then(Option::as_ref);
        let texts = texts.map(|texts| texts.as_string::<i32>());
        let text = texts.filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row));
        text.unwrap_or_default().to_owned()
    }
}

impl Source {
    pub(crate) fn new(url: &str, token: String) -> Result<Self, reqwest::Error> {
        let client = client::of_nodes()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { url, token, client, timelines: Arc::default() })
    }

    /// The place in the log that the node has come to.
    pub(crate) async fn position(&self) -> Result<HeaderValue, String> {
        let (_, position) = self.ask("SELECT 1".to_owned(), None).await?;
        position.ok_or_else(|| "The analytics node does not say of which events it is.".to_owned())
    }

    /// The rows of a query over the events up to a position, or why there are none, for who
    /// looks at the board.
    pub(crate) async fn rows(
        &self,
        sql: String,
        position: HeaderValue,
    ) -> Result<Vec<RecordBatch>, String> {
        self.ask(sql, Some(position)).await.map(|(rows, _)| rows)
    }

    /// The rows of a query over the events up to now, or why there are none.
    pub(crate) async fn found(&self, sql: String) -> Result<Vec<RecordBatch>, String> {
        self.ask(sql, None).await.map(|(rows, _)| rows)
    }

    /// Says something of alerts or queries, at a path below `/v1`; or why it was not taken.
    pub(crate) async fn tell(&self, path: &[&str], body: &Value) -> Result<Value, String> {
        let mut url: reqwest::Url = self.url.parse().map_err(|_| "It has no address.")?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        let asked = self.client.post(url).bearer_auth(&self.token).json(body);
        let answer = asked.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unreachable)?;
        match status.is_success() {
            true => serde_json::from_slice(&body).map_err(|error| error.to_string()),
            false => Err(format!("It was not taken: {}", reason_of(&body))),
        }
    }

    async fn ask(
        &self,
        sql: String,
        position: Option<HeaderValue>,
    ) -> Result<(Vec<RecordBatch>, Option<HeaderValue>), String> {
        let mut asked = self
            .client
            .post(format!("{}/v1/sql", self.url))
            .bearer_auth(&self.token)
            .header(ACCEPT, "application/vnd.apache.arrow.stream")
            .body(sql);
        if let Some(position) = position {
            asked = asked.header(POSITION_HEADER, position);
        }
        let answer = asked.send().await.map_err(unreachable)?;
        let status = answer.status();
        let position = answer.headers().get(POSITION_HEADER).cloned();
        let body = answer.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(format!("The query was refused: {}", reason_of(&body)));
        }
        let unread =
            |error: arrow::error::ArrowError| format!("The answer cannot be read: {error}");
        let reader = StreamReader::try_new(Cursor::new(body), None).map_err(unread)?;
        let rows = reader.collect::<Result<_, _>>().map_err(unread)?;
        Ok((rows, position))
    }

    /// As [`Self::timelines`], or as they were a few seconds ago.
    pub(crate) async fn recent_timelines(&self) -> Result<Vec<Known>, String> {
        // Held while it is asked, so that one asks for all.
        let mut remembered = self.timelines.lock().await;
        if let Some(Remembered { asked, known }) = &*remembered
            && asked.elapsed() < TIMELINES_FOR
        {
            return Ok(known.clone());
        }
        let known = self.timelines().await?;
        *remembered = Some(Remembered { asked: Instant::now(), known: known.clone() });
        Ok(known)
    }

    /// The timelines that there are, live traffic among them if there is any; of replays
    /// those that were sent last come first.
    pub(crate) async fn timelines(&self) -> Result<Vec<Known>, String> {
        let sql = format!(
            "SELECT replay_id, count(*) AS requests, min(event_time) AS begins,
                max(event_time) AS ends
             FROM events WHERE kind = 'request' GROUP BY replay_id
             ORDER BY max(log_time) DESC LIMIT {TIMELINES_MAX}"
        );
        let mut known = Vec::new();
        for batch in self.ask(sql, None).await?.0 {
            let read = |name: &str, to: &DataType| {
                let column = batch.column_by_name(name).ok_or("a column is missing")?;
                cast(column, to).map_err(|error| error.to_string())
            };
            let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let (replays, requests) =
                (read("replay_id", &DataType::Utf8)?, read("requests", &DataType::Int64)?);
            let (begins, ends) = (read("begins", &time)?, read("ends", &time)?);
            let replays = replays.as_string::<i32>();
            for (at, replay) in replays.iter().enumerate() {
                let timeline = match replay {
                    Some(id) => Timeline::Replay(id.to_owned()),
                    None => Timeline::Live,
                };
                known.push(Known {
                    timeline,
                    requests: requests.as_primitive::<Int64Type>().value(at),
                    from_us: begins.as_primitive::<TimestampMicrosecondType>().value(at),
                    until_us: ends.as_primitive::<TimestampMicrosecondType>().value(at),
                });
            }
        }
        Ok(known)
    }
}
