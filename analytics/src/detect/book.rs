use std::collections::BTreeMap;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use ingest::event::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::detection::SEVERITY;
use super::{Alert, Column, Detection, State, evidence};
use crate::query::{WINDOW_END, WINDOW_START};

/// How many alerts of a detection are open at once, on a timeline.
const OPEN_MAX: usize = 50;
/// The subject of the alert about all beyond them, as it is told.
const OTHERS: &str = "others";
/// And as it is kept: no subject is called so, though one may be called `others`.
const OTHERS_PLACE: &str = "\u{1}others";

/// The alerts of a detection that are open.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    /// By timeline, the live one under an empty name, and subject.
    open: BTreeMap<String, BTreeMap<String, Alert>>,
}

/// An alert that has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// As it is now.
    pub alert: Alert,
    /// Whether it has just opened: somebody is to be told.
    pub opens: bool,
}

impl Book {
    /// Takes the findings of windows that have closed, in the order in which they answer.
    ///
    /// # Errors
    /// None of rows that the detection was made for.
    pub fn take(
        &mut self,
        detection: &Detection,
        replay: Option<&str>,
        rows: &RecordBatch,
    ) -> Result<Vec<Change>, ArrowError> {
        let times = |name: &str| -> Result<Vec<i64>, ArrowError> {
            let column = rows.column(rows.schema().index_of(name)?);
            Ok(column.as_primitive::<TimestampMicrosecondType>().values().to_vec())
        };
        let (starts, ends) = (times(WINDOW_START)?, times(WINDOW_END)?);
        let subjects = rows.column(rows.schema().index_of(&detection.subject)?);
        let subjects = subjects.as_string::<i32>();
        let mut changes = Vec::new();
        for (row, found) in evidence::rows(rows)?.into_iter().enumerate() {
            let window = (starts[row], ends[row]);
            // Until there the windows before it have answered.
            self.pass(detection, replay, detection.order.answered(window), &mut changes);
            let subject = if subjects.is_null(row) { "" } else { subjects.value(row) };
            changes.push(self.find(detection, replay, subject, window, found));
        }
        Ok(changes)
    }

    /// Resolves what has been quiet until a time up to which windows have answered, in
    /// microseconds since 1970.
    pub fn pass(
        &mut self,
        detection: &Detection,
        replay: Option<&str>,
        time_us: i64,
        changes: &mut Vec<Change>,
    ) {
        let Some(open) = self.open.get_mut(replay.unwrap_or_default()) else { return };
        let over =
            |alert: &Alert| alert.until.as_micros().saturating_add(detection.quiet_us) <= time_us;
        let quiet: Vec<String> =
            open.iter().filter(|(_, of)| over(of)).map(|(subject, _)| subject.clone()).collect();
        for subject in quiet {
            changes.extend(open.remove(&subject).map(resolved));
        }
    }

    /// Resolves all alerts.
    pub fn leave(&mut self, changes: &mut Vec<Change>) {
        let open = std::mem::take(&mut self.open).into_values().flatten();
        changes.extend(open.map(|(_, alert)| resolved(alert)));
    }

    /// Resolves all alerts of a replay that has ended.
    pub fn end(&mut self, replay: &str, changes: &mut Vec<Change>) {
        let open = self.open.remove(replay).unwrap_or_default();
        changes.extend(open.into_values().map(resolved));
    }

    fn find(
        &mut self,
        detection: &Detection,
        replay: Option<&str>,
        subject: &str,
        (start, end): (i64, i64),
        mut found: Vec<Column>,
    ) -> Change {
        let open = self.open.entry(replay.unwrap_or_default().to_owned()).or_default();
        let is_full = open.len() >= OPEN_MAX && !open.contains_key(subject);
        let place = if is_full { OTHERS_PLACE } else { subject };
        let (from, until) = (Timestamp::from_micros(start), Timestamp::from_micros(end));
        if let Some(alert) = open.get_mut(place) {
            alert.revision += 1;
            alert.findings += 1;
            // Of sessions a later one may have begun before.
            alert.from = alert.from.min(from);
            alert.until = alert.until.max(until);
            alert.severity = alert.severity.max(detection.severity(&found));
            return Change { alert: alert.clone(), opens: false };
        }
        let message = if is_full {
            format!(
                "{}: more than {OPEN_MAX} alerts are open. The first of the others: {}",
                detection.title,
                detection.message(&found)
            )
        } else {
            detection.message(&found)
        };
        let named = (!is_full).then_some(subject);
        let severity = detection.severity(&found);
        found.retain(|of| of.name != SEVERITY);
        let alert = Alert {
            id: id(&detection.name, replay, place, detection.order.place((start, end))),
            revision: 1,
            state: State::Open,
            detection: detection.name.clone(),
            title: detection.title.clone(),
            severity,
            owner: detection.owner.clone(),
            recipients: detection.recipients.clone(),
            replay_id: replay.map(str::to_owned),
            subject_kind: detection.subject.clone(),
            subject: if is_full { OTHERS } else { subject }.to_owned(),
            of_others: is_full,
            from,
            until,
            findings: 1,
            message,
            evidence: found,
            query: evidence::query(&detection.subject, named, replay, from, until),
            decision: None,
        };
        open.insert(place.to_owned(), alert.clone());
        Change { alert, opens: true }
    }
}

fn resolved(mut alert: Alert) -> Change {
    alert.revision += 1;
    alert.state = State::Resolved;
    Change { alert, opens: false }
}

/// The same for the same first finding, wherever and however often it is found. `time_us` tells
/// its window from others.
fn id(detection: &str, replay: Option<&str>, subject: &str, time_us: i64) -> String {
    let mut hash = Sha256::new();
    for part in [detection, replay.unwrap_or_default(), subject] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update([u8::from(replay.is_some())]);
    hash.update(time_us.to_be_bytes());
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
