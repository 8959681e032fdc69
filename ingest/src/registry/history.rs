//! What entities were at each revision: for those who join what happened with what was
//! configured then.
//!
//! `weir.registry` is compacted, so it has the last version of each entity alone. The
//! applier writes what each change set makes of some kinds to `weir.registry.history` too, in
//! the same transaction: so whoever has seen a revision finds it there. The topic is kept; it
//! has of each kind the fields of the table below, and nothing else that a spec may hold. Where
//! sets may be missing, as those of before there was this topic, all that there is comes anew.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Entity, EntityKey, Kind, Snapshot, Spec, Written};
use crate::log::{NewRecord, Record};

/// A field of the history: what it is called, its type, and where it is in a spec (RFC 6901).
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What values it has, or null.
    pub of: Type,
    at: &'static str,
}

/// What values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Texts.
    Text,
    /// Whole numbers, from 0 on.
    Number,
    /// True or false.
    Bool,
}

const fn text(name: &'static str, at: &'static str) -> Field {
    Field { name, of: Type::Text, at }
}

const fn number(name: &'static str, at: &'static str) -> Field {
    Field { name, of: Type::Number, at }
}

const fn bool(name: &'static str, at: &'static str) -> Field {
    Field { name, of: Type::Bool, at }
}

/// The kinds that are in it, and what of each.
pub const KINDS: &[(Kind, &[Field])] = &[
    (
        Kind::Api,
        &[
            text("context", "/context"),
            text("api_version", "/version"),
            bool("is_default_version", "/default_version"),
            text("lifecycle", "/lifecycle"),
            text("upstream", "/upstream"),
            text("tier", "/tier"),
            number("timeout_ms", "/timeout_ms"),
            number("body_bytes_max", "/body_bytes_max"),
        ],
    ),
    (Kind::Application, &[text("owner", "/owner"), text("tier", "/tier")]),
    (
        Kind::Route,
        &[
            text("path", "/from/http/path"),
            number("timeout_ms", "/timeout_ms"),
            text("file", "/source/file"),
        ],
    ),
    (
        Kind::Subscription,
        &[
            text("api", "/api"),
            text("application", "/application"),
            text("tier", "/tier"),
            text("state", "/state"),
        ],
    ),
    (
        Kind::Tier,
        &[
            number("requests_max", "/requests/max"),
            number("requests_window_ms", "/requests/window_ms"),
            number("bytes_max", "/bytes/max"),
            number("bytes_window_ms", "/bytes/window_ms"),
            number("burst_requests_max", "/burst_requests_max"),
        ],
    ),
    (
        Kind::Upstream,
        &[
            text("balance", "/balance"),
            number("connect_timeout_ms", "/connect_timeout_ms"),
            number("response_timeout_ms", "/response_timeout_ms"),
            number("retries_max", "/retries_max"),
        ],
    ),
];

/// The key of the record before all that there is.
const ANEW_KEY: &[u8] = b".anew";
/// The key of the record that ends a revision.
const END_KEY: &[u8] = b".end";

/// What one record says. They count from the [`Entry::End`] on that follows.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// What follows is all that there is.
    Anew,
    /// An entity is that.
    Is {
        /// Its kind and name.
        key: EntityKey,
        /// Its version.
        version: u64,
        /// Its fields, with what they are by default.
        fields: Map<String, Value>,
    },
    /// An entity is there no more.
    Gone(EntityKey),
    /// That was of this revision.
    End(u64),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u64,
    fields: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct End {
    revision: u64,
}

impl Entry {
    /// Reads a record. One that says nothing that this release knows is passed over.
    pub fn read(record: &Record) -> Option<Self> {
        let key = record.key.as_deref()?;
        match (key, record.value.as_deref()) {
            (ANEW_KEY, _) => Some(Self::Anew),
            (END_KEY, Some(value)) => {
                serde_json::from_slice(value).ok().map(|End { revision }| Self::End(revision))
            }
            (_, value) => {
                let key = EntityKey::parse(std::str::from_utf8(key).ok()?)?;
                let Some(value) = value else { return Some(Self::Gone(key)) };
                let Stored { version, fields } = serde_json::from_slice(value).ok()?;
                Some(Self::Is { key, version, fields })
            }
        }
    }
}

/// The records of a change set.
pub(super) fn of_set(next: &Snapshot, written: &[Written]) -> Vec<NewRecord> {
    let records = written.iter().filter_map(|written| match next.entity(&written.entity) {
        Some(entity) => is(entity),
        None => {
            let is_told = KINDS.iter().any(|(kind, _)| *kind == written.entity.kind);
            is_told.then(|| NewRecord::tombstone(written.entity.to_string()))
        }
    });
    records.chain([end(next)]).collect()
}

/// The records of all that there is.
pub(super) fn anew(now: &Snapshot) -> Vec<NewRecord> {
    let begin = NewRecord::keyed(ANEW_KEY, &b"{}"[..]);
    std::iter::once(begin).chain(now.entities().filter_map(is)).chain([end(now)]).collect()
}

/// What is told of an entity, if anything is.
fn is(entity: &Entity) -> Option<NewRecord> {
    let (_, fields) = KINDS.iter().find(|(kind, _)| *kind == entity.key.kind)?;
    let spec = match &entity.spec {
        Spec::Api(of) => json(of),
        Spec::Application(of) => json(of),
        Spec::Route(of) => json(of),
        Spec::Subscription(of) => json(of),
        Spec::Tier(of) => json(of),
        Spec::Upstream(of) => json(of),
        _ => unreachable!("the table of fields has no other kind"),
    };
    let value = |field: &Field| spec.pointer(field.at).cloned().unwrap_or_default();
    let fields = fields.iter().map(|field| (field.name.to_owned(), value(field))).collect();
    let stored = Stored { version: entity.version, fields };
    Some(NewRecord::keyed(entity.key.to_string(), json(&stored).to_string()))
}

fn end(now: &Snapshot) -> NewRecord {
    NewRecord::keyed(END_KEY, json(&End { revision: now.revision() }).to_string())
}

fn json(of: &impl Serialize) -> Value {
    serde_json::to_value(of).expect("names are strings")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::log::embedded::EmbeddedLog;
    use crate::log::{EventLog, ReadLimit};
    use crate::registry::tests::set_called;
    use crate::registry::{Applier, Topics, View};

    async fn told(log: &Arc<dyn EventLog>) -> Vec<Entry> {
        let from = vec![(Topics::default().history, 0)];
        let mut reader = log.reader(from).await.unwrap();
        let limit = ReadLimit { wait: Duration::from_millis(1), ..ReadLimit::default() };
        let mut told = Vec::new();
        while let Some(batch) = reader.next(limit).await.unwrap() {
            let records = batch.records.iter();
            told.extend(records.map(|record| Entry::read(record).expect("it is of this release")));
        }
        told
    }

    async fn step(log: &Arc<dyn EventLog>, applier: &mut Applier, id: &str, change: &str) {
        let record = set_called(id, change).encode();
        log.append(vec![(Topics::default().proposals, record)]).await.unwrap();
        applier.step(Duration::from_secs(30)).await.unwrap();
    }

    fn is(key: &str, version: u64, fields: &str) -> Entry {
        let key = EntityKey::parse(key).unwrap();
        Entry::Is { key, version, fields: serde_json::from_str(fields).unwrap() }
    }

    const SHOP: &str = r#"{"owner":"ann","tier":null}"#;

    #[tokio::test]
    async fn each_set_is_told_of_without_secrets_and_a_refused_one_is_not() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let mut applier = Applier::open(&log, Topics::default()).await.unwrap();
        let secret = format!(r#"{{"sha256":"{}"}}"#, "a1".repeat(32));
        let application = format!(r#"+ application/shop {{"owner":"ann","secrets":[{secret}]}}"#);
        step(&log, &mut applier, "s1", &application).await;
        step(&log, &mut applier, "s2", r#"+ application/shop {"owner":"bob"}"#).await;
        step(&log, &mut applier, "s3", r#"+ role/r {"tables":{"events":{}}}"#).await;
        step(&log, &mut applier, "s4", "-1 application/shop").await;
        assert_eq!(applier.now().revision(), 3, "one of the four is refused");
        let gone = Entry::Gone(EntityKey::parse("application/shop").unwrap());
        let ends = [Entry::End(1), Entry::End(2), gone, Entry::End(3)];
        let expected = [vec![is("application/shop", 1, SHOP)], ends.to_vec()].concat();
        assert_eq!(told(&log).await, expected);
    }

    #[tokio::test]
    async fn each_kind_is_told_of_with_its_fields() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let mut applier = Applier::open(&log, Topics::default()).await.unwrap();
        let set = r#"
            + tier/gold {"requests": {"max": 7, "window_ms": 60000}, "burst_requests_max": 5}
            + upstream/orders {"targets": [{"url": "http://a"}], "retries_max": 1}
            + application/shop {"owner": "me", "tier": "gold"}
            + api/orders {"context": "/orders", "version": "v1", "upstream": "orders", "tiers": ["gold"], "default_version": true, "resources": [{"methods": ["GET"], "path": "/*"}]}
            + subscription/s {"api": "orders", "application": "shop", "tier": "gold"}
            + route/book {"from": {"http": {"methods": ["POST"], "path": "/book"}}, "steps": [{"log": {}}], "source": {"file": "book.yaml", "lines": {}}}"#;
        step(&log, &mut applier, "s1", set).await;
        assert_eq!(applier.now().entities().len(), 6);
        let expected = [
            is(
                "tier/gold",
                1,
                r#"{"requests_max":7,"requests_window_ms":60000,"bytes_max":null,"bytes_window_ms":null,"burst_requests_max":5}"#,
            ),
            is(
                "upstream/orders",
                1,
                r#"{"balance":"round_robin","connect_timeout_ms":2000,"response_timeout_ms":30000,"retries_max":1}"#,
            ),
            is("application/shop", 1, r#"{"owner":"me","tier":"gold"}"#),
            is(
                "api/orders",
                1,
                r#"{"context":"/orders","api_version":"v1","is_default_version":true,"lifecycle":"created","upstream":"orders","tier":null,"timeout_ms":30000,"body_bytes_max":10485760}"#,
            ),
            is(
                "subscription/s",
                1,
                r#"{"api":"orders","application":"shop","tier":"gold","state":"active"}"#,
            ),
            is("route/book", 1, r#"{"path":"/book","timeout_ms":60000,"file":"book.yaml"}"#),
            Entry::End(1),
        ];
        assert_eq!(told(&log).await, expected);
    }

    /// As an older release leaves it, which writes no history.
    #[tokio::test]
    async fn what_was_there_before_the_history_is_told_of_anew_and_once() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        let mut applier = Applier::open(&log, topics.clone()).await.unwrap();
        step(&log, &mut applier, "s1", r#"+ application/shop {"owner":"ann"}"#).await;
        let before = told(&log).await;
        drop(Applier::open(&log, topics.clone()).await.unwrap());
        assert_eq!(told(&log).await, before, "there is nothing that is missing");

        let now = applier.now().clone();
        let mut end = now.end(&crate::registry::Name::new("s1").unwrap());
        end.history = false;
        log.append(vec![(topics.entities.clone(), end.encode())]).await.unwrap();
        let anew = [Entry::Anew, is("application/shop", 1, SHOP), Entry::End(1)];
        for _ in 0..2 {
            drop(Applier::open(&log, topics.clone()).await.unwrap());
            assert_eq!(told(&log).await, [before.clone(), anew.to_vec()].concat());
        }
        let view = View::open(log, topics).await.unwrap();
        assert_eq!(*view.snapshot(), now, "and the registry is what it was");
    }

    #[tokio::test]
    async fn many_entities_are_told_of_anew_in_parts() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        let mut applier = Applier::open(&log, topics.clone()).await.unwrap();
        for part in 0..3 {
            let line = |at| format!("+ application/a{part}-{at} {{\"owner\":\"ann\"}}\n");
            let lines: String = (0..800).map(line).collect();
            step(&log, &mut applier, &format!("s{part}"), &lines).await;
        }
        let mut end = applier.now().end(&crate::registry::Name::new("s2").unwrap());
        end.history = false;
        log.append(vec![(topics.entities.clone(), end.encode())]).await.unwrap();
        let before = told(&log).await.len();
        drop(Applier::open(&log, topics).await.unwrap());
        let anew = told(&log).await.split_off(before);
        assert_eq!((anew.len(), anew.first()), (2 + 2_400, Some(&Entry::Anew)));
        assert_eq!(anew.last(), Some(&Entry::End(3)));
    }
}
