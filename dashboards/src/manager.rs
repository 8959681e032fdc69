//! Who decides of queues and of callers: a manager node, over its admin API.

pub(crate) mod decisions;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, StatusCode};
use ingest::http::{CORRELATION_HEADER, Correlation};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::client;

/// How many messages a page lists.
pub(crate) const LISTED_MAX: usize = 100;

/// A manager node that is asked.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    /// Of the admin API.
    base: Url,
    client: reqwest::Client,
}

/// Somebody asks it, by an admin token.
#[derive(Clone)]
pub(crate) struct Asking {
    manager: Manager,
    token: String,
    correlation: Correlation,
}

/// Why it was not done, for people.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) why: String,
}

/// How far a queue is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Overview {
    pub(crate) queue: String,
    pub(crate) paused: Option<Pause>,
    pub(crate) waiting: u64,
    pub(crate) scheduled: u64,
    pub(crate) parked: u64,
    pub(crate) retrying: u64,
    pub(crate) held: u64,
    pub(crate) oldest: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pause {
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) since: String,
}

#[derive(Debug, Deserialize)]
struct Queues {
    queues: Vec<Overview>,
}

/// Some of the messages of a queue, and how many there are.
#[derive(Debug, Deserialize)]
pub(crate) struct Letters {
    pub(crate) total: u64,
    pub(crate) letters: Vec<Letter>,
}

/// A dead letter.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) key: Option<String>,
    pub(crate) reason: String,
    pub(crate) attempts: u64,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
    pub(crate) accepted: String,
    pub(crate) died: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) body_bytes: u64,
    /// If it was asked for, and is text.
    pub(crate) body: Option<String>,
    /// If it was asked for, and is none.
    body_base64: Option<String>,
}

impl Letter {
    /// A body that is no text.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        BASE64_STANDARD.decode(self.body_base64.as_ref()?).ok()
    }
}

/// Some of the messages of a queue that had an attempt and wait, and how many there are.
#[derive(Debug, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) total: u64,
    pub(crate) messages: Vec<Message>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) key: Option<String>,
    pub(crate) state: String,
    pub(crate) due: Option<String>,
    pub(crate) attempts: u64,
    pub(crate) accepted: String,
    pub(crate) body_bytes: u64,
}

/// Which messages are decided of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    Ids(Vec<String>),
    /// All dead letters, or all that is held.
    All,
}

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Dead letters go back into the queue.
    Replay,
    /// Dead letters are listed no more.
    Drop,
    /// What waits is attempted at once.
    Retry,
    /// What waits is attempted no more.
    GiveUp,
}

impl Decision {
    /// Its name in addresses and forms.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Drop => "drop",
            Self::Retry => "retry",
            Self::GiveUp => "give-up",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let all = [Self::Replay, Self::Drop, Self::Retry, Self::GiveUp];
        all.into_iter().find(|of| of.name() == name)
    }

    /// Whether it is of dead letters.
    pub(crate) fn is_of_dead(self) -> bool {
        matches!(self, Self::Replay | Self::Drop)
    }
}

type Answer<T> = Result<T, Refused>;

impl Manager {
    /// # Errors
    /// If there is no client for it, or it is no address.
    pub(crate) fn new(url: &str) -> Result<Self, reqwest::Error> {
        let client = client::of_nodes()?;
        let base = format!("{}/admin/v1", url.trim_end_matches('/'));
        // What is no address is told by the settings.
        let base = client.get(base).build()?.url().clone();
        Ok(Self { base, client })
    }

    /// The node as somebody asks it who has an admin token.
    pub(crate) fn asked_by(&self, token: &str, correlation: &Correlation) -> Asking {
        let (token, correlation) = (token.to_owned(), correlation.clone());
        Asking { manager: self.clone(), token, correlation }
    }
}

impl Asking {
    /// Whether the node takes the token: it is asked for what is not there, which costs
    /// nothing.
    pub(crate) async fn is_let_in(&self) -> Answer<bool> {
        let asked: Answer<Value> = self.ask(Method::GET, &["-"], &[], None).await;
        match asked {
            Ok(_) => Ok(true),
            Err(Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(true),
            Err(Refused {
                status: StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS,
                ..
            }) => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// How far all queues are.
    pub(crate) async fn queues(&self) -> Answer<Vec<Overview>> {
        let Queues { queues } = self.ask(Method::GET, &[], &[], None).await?;
        Ok(queues)
    }

    /// How far a queue is.
    pub(crate) async fn queue(&self, queue: &str) -> Answer<Overview> {
        self.ask(Method::GET, &[queue], &[], None).await
    }

    /// The dead letters of a queue, so many at most.
    pub(crate) async fn dead(&self, queue: &str, limit: usize) -> Answer<Letters> {
        let limit = limit.to_string();
        self.ask(Method::GET, &[queue, "dead"], &[("limit", &limit)], None).await
    }

    /// The dead letters of a message, with their bodies.
    pub(crate) async fn letters_of(&self, queue: &str, id: &str) -> Answer<Vec<Letter>> {
        let path = [queue, "dead"];
        let Letters { letters, .. } = self.ask(Method::GET, &path, &[("id", id)], None).await?;
        Ok(letters)
    }

    /// What had an attempt and waits.
    pub(crate) async fn waiting(&self, queue: &str) -> Answer<Waiting> {
        let limit = LISTED_MAX.to_string();
        self.ask(Method::GET, &[queue, "waiting"], &[("limit", &limit)], None).await
    }

    /// Lets no attempt begin, or lets them begin again if there is no reason.
    pub(crate) async fn pause(&self, queue: &str, reason: Option<&str>) -> Answer<()> {
        let (action, body) = match reason {
            Some(reason) => ("pause", json!({"reason": reason})),
            None => ("resume", json!({})),
        };
        let _: Value = self.ask(Method::POST, &[queue, action], &[], Some(body)).await?;
        Ok(())
    }

    /// Decides of messages: of how many.
    pub(crate) async fn decide(
        &self,
        queue: &str,
        which: &Which,
        decision: Decision,
    ) -> Answer<u64> {
        let (place, all) = match decision.is_of_dead() {
            true => ("dead", "all"),
            false => ("waiting", "held"),
        };
        let body = match which {
            Which::Ids(ids) => json!({"ids": ids}),
            Which::All => json!({all: true}),
        };
        self.settle(&[queue, place, decision.name()], body).await
    }

    /// Puts a letter back with another body.
    pub(crate) async fn replay_with(
        &self,
        queue: &str,
        id: &str,
        (body, content_type): (&str, Option<&str>),
    ) -> Answer<u64> {
        let mut wish = json!({"ids": [id], "body_base64": BASE64_STANDARD.encode(body)});
        if let Some(content_type) = content_type {
            wish["content_type"] = content_type.into();
        }
        self.settle(&[queue, "dead", "replay"], wish).await
    }

    async fn settle(&self, path: &[&str], body: Value) -> Answer<u64> {
        let done: Value = self.ask(Method::POST, path, &[], Some(body)).await?;
        Ok(["settled", "ordered"].iter().find_map(|of| done[of].as_u64()).unwrap_or(0))
    }

    /// Asks of queues.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer<T> {
        self.ask_of("queues", method, path, query, body).await
    }

    async fn ask_of<T: DeserializeOwned>(
        &self,
        section: &str,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer<T> {
        let Self { manager: Manager { base, client }, token, correlation } = self;
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(section).extend(path);
        }
        let mut asked = client
            .request(method, url)
            .query(query)
            .bearer_auth(token)
            .header(CORRELATION_HEADER, correlation.id_header());
        if let Some(body) = body {
            asked = asked.json(&body);
        }
        let unreachable = |error: reqwest::Error| {
            tracing::debug!(%error, "the manager node did not answer");
            let why = match error.is_timeout() {
                true => {
                    "The manager node did not answer in time. What was decided may be done yet."
                }
                false => "The manager node cannot be reached.",
            };
            Refused { status: StatusCode::BAD_GATEWAY, why: why.to_owned() }
        };
        let answer = asked.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            let said = ["detail", "title"].iter().find_map(|of| problem[of].as_str());
            let why = said.unwrap_or("The manager node refused without a reason.").to_owned();
            return Err(Refused { status, why });
        }
        serde_json::from_slice(&body).map_err(|error| {
            let why = format!("The manager node's answer cannot be read: {error}");
            Refused { status: StatusCode::BAD_GATEWAY, why }
        })
    }
}
