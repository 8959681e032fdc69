use std::fmt::{self, Write as _};

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::RETRY_AFTER;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::WAIT_S;
use super::row::Row;
use super::sender::Sender;
use crate::emit::{Emitter, Error};
use crate::event::Event;
use crate::http::{Code, Problem};

/// How many events are written at a time, and of how many bytes, about.
const WRITTEN_MAX: usize = 256;
const WRITTEN_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What became of the rows of a request.
#[derive(Debug, Default, Serialize)]
pub(super) struct Taken {
    /// How many are events now.
    pub(super) accepted: usize,
    /// Those that are not.
    pub(super) rejected: Vec<Rejected>,
}

/// A row that was not taken.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rejected {
    /// Its place: in a batch from 0, among lines their number from 1.
    pub(super) row: usize,
    #[serde(serialize_with = "by_text")]
    pub(super) code: Code,
    /// What is wrong, where, and how to mend it.
    pub(super) detail: String,
}

fn by_text<S: Serializer>(code: &Code, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(code.text())
}

impl Rejected {
    fn new(row: usize, problem: Problem) -> Self {
        let Problem { code, detail } = problem;
        Self { row, code, detail: detail.unwrap_or_else(|| code.title().to_owned()) }
    }

    /// There was no room for it, or its event could not be kept.
    fn by_emitter(row: usize, error: &Error) -> Self {
        let problem = match error {
            Error::TooLarge { .. } => Problem::new(Code::BodyTooLarge, error.to_string()),
            _ => Problem::new(Code::EventsUnavailable, "send it again later"),
        };
        Self::new(row, problem)
    }
}

/// Makes events of the rows that can be some, and writes them, each row with its place.
pub(super) async fn take(
    emitter: &Emitter,
    sender: &Sender,
    id: &RequestId,
    rows: impl IntoIterator<Item = (usize, Result<Row, Problem>)>,
) -> Taken {
    let mut taken = Taken::default();
    let (mut events, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (count, (place, row)) in rows.into_iter().enumerate() {
        if count % WRITTEN_MAX == 0 {
            tokio::task::yield_now().await;
        }
        let checked = row.and_then(|row| row.check().map(|()| row));
        let row = match checked {
            Ok(row) => row,
            Err(problem) => {
                taken.rejected.push(Rejected::new(place, problem));
                continue;
            }
        };
        bytes += row.bytes();
        events.push(row.event(emitter, sender, format_args!("{id}/{place}")));
        places.push(place);
        if events.len() >= WRITTEN_MAX || bytes >= WRITTEN_BYTES_MAX {
            taken.write(emitter, &mut events, &mut places);
            bytes = 0;
        }
    }
    taken.write(emitter, &mut events, &mut places);
    taken.rejected.sort_by_key(|rejected| rejected.row);
    taken
}

impl Taken {
    fn write(&mut self, emitter: &Emitter, events: &mut Vec<Event>, places: &mut Vec<usize>) {
        // The spool's reserve is for the events of work that others have done.
        match emitter.admit().and_then(|()| emitter.emit_all(events)) {
            Ok(ids) => self.accepted += ids.len(),
            Err(error) if error.is_full() => {
                tracing::warn!(%error, count = events.len(), "there is no room for others' events");
                let rejected = places.iter().map(|place| Rejected::by_emitter(*place, &error));
                self.rejected.extend(rejected);
            }
            // One of them may be the reason.
            Err(_) => {
                for (event, place) in events.drain(..).zip(places.iter()) {
                    match emitter.emit(event) {
                        Ok(_) => self.accepted += 1,
                        Err(error) => {
                            tracing::warn!(%error, "an event of others was not kept");
                            self.rejected.push(Rejected::by_emitter(*place, &error));
                        }
                    }
                }
            }
        }
        events.clear();
        places.clear();
    }

    /// Whether some had no room, and are to be sent again.
    pub(super) fn is_in_part_refused_for_now(&self) -> bool {
        self.rejected.iter().any(|rejected| rejected.code == Code::EventsUnavailable)
    }

    /// What is wrong, for people.
    pub(super) fn told(&self) -> String {
        let Some(first) = self.rejected.first() else { return String::new() };
        let more = match self.rejected.len() {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        format!("row {}: {}{more}", first.row, first.detail)
    }
}

/// 200 if all were taken, 207 if some, 422 if none, 503 if there was no room for any (RFC
/// 9110, section 15; RFC 4918, section 11.1).
impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        let has_no_room = self.is_in_part_refused_for_now();
        let status = match (self.accepted, self.rejected.len()) {
            (_, 0) => StatusCode::OK,
            (0, _) if has_no_room => StatusCode::SERVICE_UNAVAILABLE,
            (0, _) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::MULTI_STATUS,
        };
        let mut response = (status, Json(self)).into_response();
        if has_no_room {
            response.headers_mut().insert(RETRY_AFTER, WAIT_S.into());
        }
        response
    }
}

/// What the ids of rows begin with that have none of their own: the same for a request that is
/// sent again, since it is of who sent it and of what it holds.
#[derive(Debug)]
pub(super) struct RequestId(String);

impl RequestId {
    pub(super) fn of(sender: &Sender, body: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(&*sender.name).chain_update([0]).chain_update(body);
        let digits = hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a text takes all");
            text
        });
        Self(digits)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
