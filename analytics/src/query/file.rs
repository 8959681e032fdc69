//! Query files: a header in comments, then one `SELECT`.
//!
//! ```sql
//! -- title: Traffic per API and minute
//! -- owner: integration
//! -- lateness: 60 s
//! SELECT …
//! ```
//!
//! The header is YAML behind `-- `, from the first line of the file to the first that is
//! no comment, or an empty one. A file with a `severity` is a detection: each row that it gives
//! is a finding. Without, it is a view.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Act, Fault};

/// The longest text of a query file, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
const NAME_BYTES_MAX: usize = 64;
/// The longest lateness and horizon: state is held in memory for as long.
const DURATION_MAX: Duration = Duration::from_secs(31 * 86_400);
const RECIPIENTS_MAX: usize = 20;

/// A query file whose header was read. Its SQL is not planned yet.
#[derive(Debug, Clone)]
pub struct QueryFile {
    /// The file's name without `.sql`.
    pub name: String,
    /// The header.
    pub header: Header,
    /// The whole text, header and all, so that places in it are those of the file.
    pub text: String,
}

/// What the header says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// What it shows, in a few words.
    pub title: String,
    /// Who answers for it.
    pub owner: String,
    /// How far an event may lie behind the latest of its source and still count.
    #[serde(default = "minute", deserialize_with = "duration")]
    pub lateness: Duration,
    /// How far an event may lie behind and still correct windows that have answered.
    #[serde(default, deserialize_with = "some_duration")]
    pub corrections: Option<Duration>,
    /// How long before a window the closed windows lie that a window function reads.
    #[serde(default, deserialize_with = "duration")]
    pub horizon: Duration,
    /// How much memory it may hold, in MiB.
    #[serde(default = "memory_mib")]
    pub memory_mib: usize,
    /// For a detection: how bad what it finds is.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// For a detection: the column that names whom a finding is about.
    #[serde(default)]
    pub subject: Option<String>,
    /// For a detection: the text of its alert, with the columns of the finding in `{{ }}`.
    #[serde(default)]
    pub message: Option<String>,
    /// For a detection: how long nothing may be found until its alert is over.
    #[serde(default, deserialize_with = "some_duration")]
    pub quiet: Option<Duration>,
    /// For a detection: who is written to, in place of the node's recipients.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// For a detection: what is decided of the subject of a finding.
    #[serde(default)]
    pub action: Option<Act>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look some day.
    #[default]
    Low,
    /// Worth a look today.
    Medium,
    /// Worth a look now.
    High,
    /// Worth waking somebody.
    Critical,
}

impl Severity {
    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn memory_mib() -> usize {
    64
}

fn some_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let read: Option<Duration> =
        text.parse::<SignedDuration>().ok().and_then(|of| of.try_into().ok());
    read.filter(|of| *of <= DURATION_MAX).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "`{text}` is no time of at most 744 h; write it as `90 s`, `15 min` or `6 h`"
        ))
    })
}

impl QueryFile {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<Fault>> {
        check_name(name, "query").map_err(|fault| vec![fault])?;
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("has {} bytes", text.len());
            return Err(vec![Fault::new(None, what, format!("use at most {TEXT_BYTES_MAX}"))]);
        }
        let header = header(text).map_err(|fault| vec![fault])?;
        let faults = header.faults(text);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { name: name.to_owned(), header, text: text.to_owned() })
    }

    /// Stands for a file whose header cannot be read, so that its name and its state are kept.
    pub(crate) fn unread(name: &str, text: &str) -> Self {
        let header = Header {
            title: name.to_owned(),
            owner: "?".to_owned(),
            lateness: minute(),
            corrections: None,
            horizon: Duration::ZERO,
            memory_mib: memory_mib(),
            severity: None,
            subject: None,
            message: None,
            quiet: None,
            recipients: Vec::new(),
            action: None,
        };
        Self { name: name.to_owned(), header, text: text.to_owned() }
    }

    /// A fault of a key of the header.
    pub fn fault(&self, key: &str, what: impl Into<String>, mend: impl Into<String>) -> Fault {
        Fault::new(line_of_key(&self.text, key), what, mend)
    }

    /// Whether what it gives are findings.
    pub fn is_detection(&self) -> bool {
        self.header.severity.is_some()
    }
}

/// Refuses what cannot be the name of a query or a table, which `what` says.
pub(super) fn check_name(name: &str, what: &str) -> Result<(), Fault> {
    let named = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !named {
        let mend = format!("use 1 to {NAME_BYTES_MAX} of a-z, 0-9 and _");
        return Err(Fault::new(None, format!("`{name}` is no name of a {what}"), mend));
    }
    if [
        super::EVENTS,
        crate::sql::ALERTS,
        crate::sql::SILENCES,
        crate::sql::ACCOUNT,
        crate::sql::QUERIES,
        crate::sql::DECISIONS,
        crate::sql::QUARANTINE,
    ]
    .contains(&name)
        || crate::entities::is_table(name)
    {
        let what = format!("`{name}` is a table already");
        return Err(Fault::new(None, what, "give the file another name"));
    }
    Ok(())
}

fn header(text: &str) -> Result<Header, Fault> {
    let mut yaml = String::new();
    let lines = text.lines().map_while(|line| line.strip_prefix("--"));
    for line in lines.take_while(|line| !line.trim().is_empty()) {
        yaml.push_str(line.strip_prefix(' ').unwrap_or(line));
        yaml.push('\n');
    }
    if yaml.trim().is_empty() {
        let mend =
            "begin it with lines such as `-- title: Traffic per API` and `-- owner: integration`";
        return Err(Fault::new(1, "has no header", mend));
    }
    serde_norway::from_str(&yaml).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or(&what).to_owned();
        // A text of our own says of which key it is, and has no place.
        let key = what.split(':').next().unwrap_or_default();
        let line = match line_of_key(text, key) {
            1 => error.location().map_or(1, |at| at.line()),
            line => line,
        };
        Fault::new(line, format!("the header: {what}"), "see docs/queries.md for its keys")
    })
}

impl Header {
    fn faults(&self, text: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut add = |key: &str, what: &str, mend: &str| {
            let line = line_of_key(text, key);
            faults.push(Fault::new(line, format!("{key}: {what}"), mend));
        };
        for (key, value) in [("title", &self.title), ("owner", &self.owner)] {
            if value.trim().is_empty() || value.len() > 200 || value.contains(char::is_control) {
                add(key, "is no line of text", "give 1 to 200 bytes");
            }
        }
        if !(1..=4096).contains(&self.memory_mib) {
            add("memory_mib", "is out of range", "use 1 to 4096");
        }
        if let Some(corrections) = self.corrections {
            if corrections <= self.lateness {
                add(
                    "corrections",
                    "corrects nothing",
                    "give more than the lateness, or leave it out",
                );
            } else if self.severity.is_some() {
                add("corrections", "is for views", "leave it out: what was found is told once");
            }
        }
        if self.severity.is_some() {
            if self.subject.is_none() {
                add("subject", "is missing", "name the column that a finding is about");
            }
            if self.message.as_ref().is_none_or(|message| message.trim().is_empty()) {
                add("message", "is missing", "say in a sentence what was found");
            }
            if self.quiet.is_some_and(|quiet| quiet.is_zero()) {
                add("quiet", "is nothing", "give a time, such as `30 min`");
            }
            if let Some((what, mend)) = self.action.as_ref().and_then(|of| of.misfit(self)) {
                add("action", &what, &mend);
            }
            if self.recipients.len() > RECIPIENTS_MAX {
                add("recipients", "are too many", "name at most 20, or a list's address");
            }
            return faults;
        }
        let only_detections = [
            ("subject", self.subject.is_some()),
            ("message", self.message.is_some()),
            ("quiet", self.quiet.is_some()),
            ("recipients", !self.recipients.is_empty()),
            ("action", self.action.is_some()),
        ];
        for (key, _) in only_detections.into_iter().filter(|(_, given)| *given) {
            add(key, "is for detections", "give a severity too, or leave it out");
        }
        faults
    }
}

/// The line, from 1, on which a key of the header stands; the first if it does not.
fn line_of_key(text: &str, key: &str) -> usize {
    let is_key = |line: &str| {
        let line = line.strip_prefix("--").map(str::trim_start);
        line.is_some_and(|line| line.starts_with(key) && line[key.len()..].starts_with(':'))
    };
    text.lines().position(is_key).map_or(1, |at| at + 1)
}
