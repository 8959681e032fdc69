use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, REFERER, USER_AGENT};
use http::{Method, StatusCode};
use ingest::event::{Clock as _, SystemClock};
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{Answered, Client, Failed, Gateway};
use super::{Bar, Line, Source, Summary};

/// The first pause before a request goes out again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

const MINUTE_US: i64 = 60_000_000;

/// How fast the file's time goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// So many times as fast as it did.
    Times(f64),
    /// As fast as it can.
    Max,
}

impl Speed {
    /// How long after the beginning something is due that came so many microseconds of the
    /// file after its first minute had begun.
    fn after(self, micros: i64) -> Duration {
        match self {
            Self::Max => Duration::ZERO,
            Self::Times(times) => Duration::from_secs_f64(micros.max(0) as f64 / 1e6 / times),
        }
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<f64>()) {
            ("max", _) => Ok(Self::Max),
            (_, Ok(times)) if (0.001..=1e9).contains(&times) => Ok(Self::Times(times)),
            _ => Err("give a number from 0.001 to 1000000000, or max".to_owned()),
        }
    }
}

/// What is asked of a replay.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Its id, 1 to 64 of `a-z 0-9 . _ -`.
    pub(crate) id: String,
    /// The gateways; a client's requests stay at one of them as long as that answers.
    pub(crate) gateways: Vec<String>,
    /// The replay credential.
    pub(crate) credential: String,
    /// What comes before each target, such as an API's context.
    pub(crate) prefix: String,
    /// A bearer token, if the API asks for one.
    pub(crate) token: Option<String>,
    pub(crate) speed: Speed,
    /// How many requests may be under way at once.
    pub(crate) connections: usize,
    /// Whether what may have been sent is sent again, by the same correlation id, if no
    /// answer came.
    pub(crate) resend: bool,
    /// How long a request is tried.
    pub(crate) patience: Duration,
}

/// Sends all that a source tells of, and ends the replay.
pub(crate) async fn replay(wish: &Wish, source: Source, bar: &Bar) -> Result<Summary> {
    let sender = Sender::new(wish)?;
    // Who is not believed is told before, rather than after, a hundred thousand refusals.
    sender.control_all("flush").await?;
    let mut summary = Summary::new(wish.id.clone());
    let began = Instant::now();
    let mut first_minute = None;
    let mut batches = source.batches();
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        let first_minute = *first_minute.get_or_insert(batch.minute);
        for (number, why) in batch.unread {
            summary.unread.add(number, why);
            bar.done(1);
        }
        let in_time = futures_util::stream::iter(batch.lines).then(|(number, line)| {
            let due = began + wish.speed.after(line.time.as_micros() - first_minute * MINUTE_US);
            async move {
                // One that is late in the file's order goes at once.
                sleep_until(due).await;
                (number, line)
            }
        });
        let sent = in_time
            .map(|(number, line)| sender.send(number, line))
            .buffer_unordered(wish.connections);
        let mut sent = std::pin::pin!(sent);
        while let Some(ended) = sent.next().await {
            ended.count(&mut summary);
            bar.done(1);
            bar.say(format!("{} sent", summary.requests));
        }
    }
    summary.end(began.elapsed());
    sender.end().await?;
    bar.end();
    Ok(summary)
}

/// Ends a replay, such as one that was broken off.
pub(crate) async fn end(wish: &Wish) -> Result<()> {
    Sender::new(wish)?.end().await
}

struct Sender<'a> {
    wish: &'a Wish,
    client: Client,
    gateways: Vec<Gateway>,
    credential: HeaderValue,
    authorization: Option<HeaderValue>,
}

/// How a request ended.
struct Ended {
    number: u64,
    line: Line,
    retried: u64,
    /// By which gateway, when and why it was broken off, for each time that it was sent again
    /// though it may have been sent.
    resent: Vec<String>,
    outcome: Result<Answer, String>,
}

struct Answer {
    status: u16,
    bytes: u64,
    took: Duration,
}

/// A gateway does not believe the credential.
#[derive(Debug, thiserror::Error)]
#[error("{0} takes no replay by this credential; give the one in its replay_token_file")]
pub(crate) struct Refused(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unsent(why) | Self::Broken(why)) = self;
        f.write_str(why)
    }
}

impl<'a> Sender<'a> {
    fn new(wish: &'a Wish) -> Result<Self> {
        let secret = |text: String| {
            let mut value = HeaderValue::from_str(&text).context("use the token as a header")?;
            value.set_sensitive(true);
            Ok::<_, anyhow::Error>(value)
        };
        let token = wish.token.as_ref().map(|token| secret(format!("Bearer {token}")));
        let gateways = wish.gateways.iter().map(|url| Gateway::parse(url));
        Ok(Self {
            wish,
            client: Client::new(wish.connections)?,
            gateways: gateways.collect::<Result<_>>()?,
            credential: secret(wish.credential.clone())?,
            authorization: token.transpose()?,
        })
    }

    fn headers(&self, number: u64, line: &Line) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, text: String| {
            headers.insert(name, HeaderValue::from_str(&text).expect("it is visible ASCII"));
        };
        add("weir-replay-id", self.wish.id.clone());
        add("weir-replay-time", line.time.to_string());
        add("weir-replay-client", line.client.to_string());
        add("weir-replay-status", line.status.as_u16().to_string());
        add("weir-replay-size", line.size.unwrap_or(0).to_string());
        add("x-correlation-id", format!("{}-{number}", self.wish.id));
        headers.insert("weir-replay-credential", self.credential.clone());
        let own = [(REFERER, &line.referrer), (USER_AGENT, &line.agent)];
        for (name, value) in own {
            headers.extend(value.clone().map(|value| (name, value)));
        }
        headers.extend(self.authorization.clone().map(|value| (AUTHORIZATION, value)));
        headers
    }

    /// Sends a request until it is answered, or may not be sent again.
    async fn send(&self, number: u64, line: Line) -> Ended {
        let headers = self.headers(number, &line);
        let target = format!("{}{}", self.wish.prefix, line.target);
        let gateways = &self.gateways;
        let mut hasher = DefaultHasher::new();
        line.client.hash(&mut hasher);
        let first = usize::try_from(hasher.finish() % gateways.len() as u64).unwrap_or(0);
        let until = Instant::now() + self.wish.patience;
        let (mut turn, mut pause, mut retried, mut resent) = (first, PAUSES.0, 0, Vec::new());
        let outcome = loop {
            let failed = match self.ask(&gateways[turn], &target, &line, headers.clone()).await {
                Ok(answer) => break Ok(answer),
                Err(failed) => failed,
            };
            let may_go_on = match &failed {
                Failed::Unsent(_) => true,
                Failed::Broken(_) => self.wish.resend,
            };
            if !may_go_on || Instant::now() >= until {
                break Err(failed.to_string());
            }
            match failed {
                Failed::Unsent(_) => retried += 1,
                Failed::Broken(why) => {
                    let (by, at) = (&self.wish.gateways[turn], SystemClock.now());
                    resent.push(format!("{by} at {at}: {why}"));
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
            turn = (turn + 1) % gateways.len();
        };
        Ended { number, line, retried, resent, outcome }
    }

    async fn ask(
        &self,
        gateway: &Gateway,
        target: &str,
        line: &Line,
        headers: HeaderMap,
    ) -> Result<Answer, Failed> {
        let began = Instant::now();
        let asked = self.client.ask(gateway, line.method.clone(), target, headers).await?;
        let Answered { status, bytes } = asked;
        Ok(Answer { status: status.as_u16(), bytes, took: began.elapsed() })
    }

    /// Has every gateway's events in the log, and then the end of the replay.
    async fn end(&self) -> Result<()> {
        self.control_all("flush").await?;
        let mut refused = None;
        for gateway in 0..self.gateways.len() {
            match self.control(gateway, "end").await {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| anyhow::anyhow!("there is no gateway")))
    }

    async fn control_all(&self, what: &str) -> Result<()> {
        for gateway in 0..self.gateways.len() {
            self.control(gateway, what).await?;
        }
        Ok(())
    }

    /// Asks the gateway itself; both may be asked for twice.
    async fn control(&self, gateway: usize, what: &str) -> Result<()> {
        let target = format!("/.weir/replays/{}/{what}", self.wish.id);
        let mut headers = HeaderMap::new();
        headers.insert("weir-replay-credential", self.credential.clone());
        let id = HeaderValue::from_str(&self.wish.id).context("use the id as a header")?;
        headers.insert("weir-replay-id", id);
        headers.insert("weir-replay-time", HeaderValue::from_static("1970-01-01T00:00:00Z"));
        headers.insert("weir-replay-client", HeaderValue::from_static("127.0.0.1"));
        let (of, gateway) = (&self.gateways[gateway], &self.wish.gateways[gateway]);
        let until = Instant::now() + self.wish.patience;
        let mut pause = PAUSES.0;
        loop {
            let asked = self.client.ask(of, Method::POST, &target, headers.clone()).await;
            let failed = match asked {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) if answer.status == StatusCode::FORBIDDEN => {
                    return Err(Refused(gateway.clone()).into());
                }
                Ok(answer) => anyhow::anyhow!("it answered {}", answer.status),
                Err(failed) => anyhow::anyhow!("{failed}"),
            };
            if Instant::now() >= until {
                return Err(failed).with_context(|| format!("{what} the replay at {gateway}"));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

impl Ended {
    fn count(self, summary: &mut Summary) {
        let Self { number, line, retried, resent, outcome } = self;
        summary.asks(line.time);
        summary.retried += retried;
        if !resent.is_empty() {
            summary.resent.add(number, resent.join(", "));
        }
        match outcome {
            Err(why) => summary.unanswered.add(number, why),
            Ok(Answer { status, bytes, took }) => {
                summary.answered(status, bytes, took);
                let wanted = (line.status.as_u16(), line.size.unwrap_or(0));
                if (status, bytes) != wanted {
                    let (of_status, size) = wanted;
                    let what = format!(
                        "{} {} was {of_status} with {size} bytes, is {status} with {bytes}",
                        line.method, line.target
                    );
                    summary.different.add(number, what);
                }
            }
        }
    }
}

/// Refuses what could not be a replay's id.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if id.is_empty() || id.len() > 64 || !id.chars().all(is_part) {
        bail!("the replay's id {id:?} is to be 1 to 64 of a-z 0-9 . _ -");
    }
    Ok(())
}
