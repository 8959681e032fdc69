//! What people order of the queries: that one rests, or goes on; and what a change would do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingest::emit::{self, Emitter};
use ingest::event::{Kind, Outcome};
use ingest::http::Correlation;
use ingest::log::{self, EventLog, NewRecord, Partition};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::foresee::{self, Fate, Foreseen};
use super::{Current, Given, Library, Pause, Pauses, QueryTable, Tables, pauses};
use crate::alert::AlertTable;
use crate::lake::History;
use crate::query::{QueryFile, Reference};
use crate::time;
use crate::word::Word;

/// How long to wait until an order is known on this node.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Takes orders. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Control {
    /// Where they are written.
    pub log: Arc<dyn EventLog>,
    /// Where rows come from.
    pub history: Arc<History>,
    /// What runs.
    pub library: watch::Receiver<Current>,
    /// What comes from the node itself, whatever the registry says.
    pub base: Arc<Library>,
    /// What rests.
    pub pauses: Pauses,
    /// How the queries fare.
    pub queries: QueryTable,
    /// The answers of views.
    pub tables: Tables,
    /// What detections have found.
    pub alerts: AlertTable,
    /// Where orders are told of.
    pub emitter: Emitter,
    /// The service that is asked, for the events.
    pub service: &'static str,
}

/// What the registry is to have of queries: what it has, but for these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The queries that are to be there: their texts, by name.
    #[serde(default)]
    pub queries: BTreeMap<String, String>,
    /// The tables that are to be there: CSV, by name.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
    /// The queries and tables that are to be gone.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// What becomes of a query, and of what it holds.
#[derive(Debug, Clone, Serialize)]
pub struct Effect {
    #[serde(flatten)]
    foreseen: Foreseen,
    /// The state that it has, in bytes.
    state_bytes: u64,
    /// The rows that its table has on this node.
    rows: usize,
    /// Its alerts that are open.
    alerts: usize,
    /// The records of events that there have been; one that begins reads those that are kept.
    events: u64,
    /// Whether it rests, and goes on resting.
    paused: bool,
    /// All that for people, in a line.
    told: String,
}

/// Why an order was not taken. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such query.
    #[error("there is no query {name}; there are {known}")]
    Unknown {
        /// What was named.
        name: String,
        /// What there is.
        known: String,
    },
    /// It cannot be so.
    #[error("{0}")]
    Invalid(String),
    /// It is not known whether it was written.
    #[error("the log does not take it: {0}")]
    Log(#[from] log::Error),
}

impl Control {
    /// Lets a query rest. Said again, the first word stays.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pause(
        &self,
        query: &str,
        word: Word,
        journey: &Correlation,
    ) -> Result<Pause, Error> {
        self.check(query, &word)?;
        if let Some(pause) = self.pauses.of(query) {
            return Ok(pause);
        }
        let revision = self.library.borrow().revision;
        let pause = Pause { by: word.by, note: word.note, at: time::now(), revision };
        self.write(pause.record(query)).await?;
        self.tell("pause", query, &pause.by, journey);
        Ok(pause)
    }

    /// Lets a query go on where its last checkpoint is, if it rests.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resume(
        &self,
        query: &str,
        word: &Word,
        journey: &Correlation,
    ) -> Result<(), Error> {
        self.check(query, word)?;
        if self.pauses.of(query).is_some() {
            self.write(pauses::ended(query)).await?;
            self.tell("resume", query, &word.by, journey);
        }
        Ok(())
    }

    /// What would become of the queries if the registry had others.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn foresee(&self, wish: &Wish) -> Result<Vec<Effect>, Error> {
        let wrong = wish.queries.iter().flat_map(|(name, text)| {
            let faults = QueryFile::parse(name, text).err().unwrap_or_default();
            faults.into_iter().map(move |fault| format!("{name}: {fault}"))
        });
        let tables = wish.tables.iter().filter_map(|(name, csv)| {
            let fault = Reference::of_csv(name, csv).err()?;
            Some(format!("{name}: {fault}"))
        });
        let wrong: Vec<String> = wrong.chain(tables).collect();
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong.join("\n")));
        }
        let now = self.library.borrow().library.clone();
        let Given { mut queries, mut tables } = now.given().clone();
        queries.retain(|name, _| !wish.remove.contains(name));
        tables.retain(|name, _| !wish.remove.contains(name));
        queries.extend(wish.queries.clone());
        tables.extend(wish.tables.clone());
        let then = self.base.with(&Given { queries, tables });
        let events = self.events().await?;
        let foreseen = foresee::foresee(&now, &then).await;
        Ok(foreseen.into_iter().map(|foreseen| self.effect(foreseen, events)).collect())
    }

    fn effect(&self, foreseen: Foreseen, events: u64) -> Effect {
        let query = &foreseen.query;
        let mut effect = Effect {
            state_bytes: self.queries.state_bytes(query),
            rows: self.tables.rows(query),
            alerts: self.alerts.open_of(query),
            paused: self.pauses.of(query).is_some(),
            foreseen,
            events,
            told: String::new(),
        };
        effect.told = effect.say();
        effect
    }

    /// How many records of events there are.
    async fn events(&self) -> Result<u64, log::Error> {
        let mut events = 0;
        for partition in 0..self.history.partitions().await {
            let partition = Partition::new(emit::TOPIC, partition as u32);
            events += self.log.bounds(&partition).await?.end;
        }
        Ok(events)
    }

    fn check(&self, query: &str, word: &Word) -> Result<(), Error> {
        word.check().map_err(Error::Invalid)?;
        let library = self.library.borrow().library.clone();
        if !library.queries().contains_key(query) {
            let known: Vec<&str> = library.queries().keys().map(String::as_str).collect();
            return Err(Error::Unknown { name: query.to_owned(), known: known.join(", ") });
        }
        Ok(())
    }

    /// Writes an order down, and waits until this node knows it.
    async fn write(&self, record: (Partition, NewRecord)) -> Result<(), Error> {
        let appended = self.log.append(vec![record]).await?;
        let began = Instant::now();
        while appended.iter().any(|of| !self.pauses.has(of.offset)) {
            // It holds all the same.
            if began.elapsed() > KNOWN_WITHIN {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn tell(&self, action: &'static str, query: &str, by: &str, journey: &Correlation) {
        let mut event = self.emitter.event(Kind::Admin, Outcome::Success);
        journey.note(&mut event);
        event.service_name = Some(self.service.into());
        event.admin_action = Some(action.into());
        event.admin_actor = Some(by.to_owned().into());
        event.admin_entity_kind = Some("query".into());
        event.admin_entity_id = Some(query.to_owned().into());
        if let Err(error) = self.emitter.emit(event) {
            tracing::error!(%error, "the event of an order could not be kept");
        }
    }
}

impl Effect {
    fn say(&self) -> String {
        let Self { foreseen: Foreseen { query, fate }, rows, alerts, events, .. } = self;
        let state = bytes(self.state_bytes);
        let (is, are) = match alerts {
            1 => ("is", "alert"),
            _ => ("are", "alerts"),
        };
        let open = match alerts {
            0 => String::new(),
            _ => format!("; {alerts} open {are} {is} resolved"),
        };
        let rows = match rows {
            0 => String::new(),
            _ => format!("; the {rows} rows of its table"),
        };
        let mut said = match fate {
            Fate::Begins => format!("+ {query} begins, and reads {events} records of history"),
            Fate::GoesOn => {
                format!("~ {query} goes on with its state ({state}): its header alone is another")
            }
            Fate::BeginsAnew { since } => {
                let go = if rows.is_empty() { "" } else { " go as the first new ones come" };
                format!(
                    "! {query} begins anew: {since}; its state ({state}) is dropped, and it reads \
                     {events} records of history{rows}{go}{open}"
                )
            }
            Fate::Ends => {
                let go = if rows.is_empty() { "" } else { " are read no more" };
                format!("- {query} ends: its state ({state}) is dropped{rows}{go}{open}")
            }
            Fate::Fails { why } => format!("x {query} cannot run: {why}"),
        };
        if self.paused && *fate != Fate::Ends {
            said.push_str("; it rests until it is resumed");
        }
        said
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
