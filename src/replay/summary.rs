use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use ingest::event::Timestamp;
use serde::Serialize;

/// How many lines are named of each kind that went wrong, and how many are shown.
const NAMED_MAX: usize = 1_000;
const SHOWN_MAX: usize = 20;
/// The longest time to an answer that is told apart.
const LONGEST_US: u64 = 600_000_000;

/// What a replay did.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// Its id, which its events carry.
    pub(crate) replay: String,
    /// Lines that tell of a request.
    pub(crate) requests: u64,
    /// Lines that could not be read.
    pub(crate) unread: Lines,
    /// Requests that were answered.
    pub(crate) answered: u64,
    /// How often, by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Answers whose status or size is not the file's.
    pub(crate) different: Lines,
    /// Requests that were not answered.
    pub(crate) unanswered: Lines,
    /// How often a request went out again, nothing of it having been sent.
    pub(crate) retried: u64,
    /// Requests that went out again though they may have been sent.
    pub(crate) resent: Lines,
    /// Bytes of answers' bodies.
    pub(crate) bytes: u64,
    /// The time of the first and the last request in the file.
    pub(crate) from: Option<String>,
    pub(crate) until: Option<String>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// From a request to the end of its answer, in milliseconds.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    #[serde(skip)]
    range: Option<(Timestamp, Timestamp)>,
    #[serde(skip)]
    latencies: Histogram<u64>,
}

/// Lines of the file, the first of which are named.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Lines {
    pub(crate) count: u64,
    first: Vec<Named>,
}

/// A line, and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    line: u64,
    why: String,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl Serialize for Named {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Lines {
    pub(super) fn add(&mut self, line: u64, why: impl fmt::Display) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(Named { line, why: why.to_string() });
        }
    }
}

impl Summary {
    pub(super) fn new(replay: String) -> Self {
        let latencies = Histogram::new_with_max(LONGEST_US, 3).expect("the bounds are fine");
        Self {
            replay,
            requests: 0,
            unread: Lines::default(),
            answered: 0,
            statuses: BTreeMap::new(),
            different: Lines::default(),
            unanswered: Lines::default(),
            retried: 0,
            resent: Lines::default(),
            bytes: 0,
            from: None,
            until: None,
            seconds: 0.0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            range: None,
            latencies,
        }
    }

    pub(super) fn asks(&mut self, time: Timestamp) {
        self.requests += 1;
        let (from, until) = self.range.unwrap_or((time, time));
        self.range = Some((from.min(time), until.max(time)));
    }

    pub(super) fn answered(&mut self, status: u16, bytes: u64, took: Duration) {
        self.answered += 1;
        *self.statuses.entry(status).or_default() += 1;
        self.bytes += bytes;
        let took = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
        self.latencies.saturating_record(took);
    }

    pub(super) fn end(&mut self, took: Duration) {
        let ms = |quantile: f64| self.latencies.value_at_quantile(quantile) as f64 / 1_000.0;
        (self.p50_ms, self.p99_ms) = (ms(0.5), ms(0.99));
        self.seconds = took.as_secs_f64();
        // They came as requests ended.
        for lines in [&mut self.unread, &mut self.different, &mut self.unanswered, &mut self.resent]
        {
            lines.first.sort();
        }
        self.from = self.range.map(|(from, _)| from.to_string());
        self.until = self.range.map(|(_, until)| until.to_string());
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.requests as f64 / self.seconds.max(0.001);
        write!(
            f,
            "replay {}: {} requests of {} to {}, sent in {:.1} s ({rate:.0} a second)",
            self.replay,
            self.requests,
            second(self.from.as_deref()),
            second(self.until.as_deref()),
            self.seconds,
        )?;
        let statuses: Vec<String> =
            self.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        let megabytes = self.bytes as f64 / 1e6;
        write!(f, "\n  answered   {} ({})", self.answered, statuses.join(", "))?;
        write!(
            f,
            "\n  received   {megabytes:.1} MB; half of the answers within {:.1} ms, 99 of 100 within {:.1} ms",
            self.p50_ms, self.p99_ms
        )?;
        if self.retried > 0 {
            write!(f, "\n  retried    {} times, when nothing had been sent", self.retried)?;
        }
        let all = [
            ("resent", &self.resent),
            ("unanswered", &self.unanswered),
            ("different", &self.different),
            ("unread", &self.unread),
        ];
        for (what, lines) in all.into_iter().filter(|(_, lines)| lines.count > 0) {
            write!(f, "\n  {what:<10} {}", lines.count)?;
            let shown = &lines.first[..lines.first.len().min(SHOWN_MAX)];
            for line in shown {
                write!(f, "\n    {line}")?;
            }
            if lines.count > shown.len() as u64 {
                write!(f, "\n    and {} more", lines.count - shown.len() as u64)?;
            }
        }
        if self.requests > 0 && self.statuses.get(&404) == Some(&self.requests) {
            write!(
                f,
                "\n  every answer was 404: --prefix names the API that the requests are for"
            )?;
        }
        Ok(())
    }
}

/// A time without what is finer than a second.
fn second(time: Option<&str>) -> String {
    let time = time.and_then(|time| time.split_once('.')).map(|(time, _)| time.replace('T', " "));
    time.unwrap_or_else(|| "no time".to_owned())
}
