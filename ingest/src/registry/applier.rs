use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::entity::OPENED_KEY;
use super::judge::{Judged, judge};
use super::load::{load, read_through};
use super::memory::Memory;
use super::{
    ChangeSet, DeepCheck, Digest, Error, Fault, Name, Outcome, Refusal, Snapshot, Topics, Verdict,
    history, no_deep_check,
};
use crate::log::{
    EventLog, GroupOffsets, NewRecord, Partition, ReadLimit, Reader, Record, Transaction, Writer,
};

/// How long an applier waits, when it opens, for records that are there.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many entities are written to the history in one transaction.
const TOLD_AT_ONCE: usize = 1_000;

/// Judges proposals in their order. There is one that counts: the last opened.
///
/// Each proposal is one transaction of the changed entities, the end of the set,
/// the verdict and the offset to go on from; so a crash at any point neither
/// loses nor doubles a change, and a fenced applier changes nothing.
pub struct Applier {
    topics: Topics,
    writer: Box<dyn Writer>,
    proposals: Box<dyn Reader>,
    now: Snapshot,
    memory: Memory,
    check: DeepCheck,
    /// A commit failed: whether it was made, only the log knows.
    spent: bool,
}

impl Applier {
    /// Makes the topics, reads what is accepted and fences every earlier applier.
    ///
    /// # Errors
    /// [`Error::Log`]; [`Error::Unread`]; [`Error::Damaged`] if the accepted
    /// entities are not what the last change set left: an applier does not build
    /// on what is not whole. One that cannot read, as of an older release, fences
    /// nobody.
    pub async fn open(log: &Arc<dyn EventLog>, topics: Topics) -> Result<Self, Error> {
        topics.create(&**log).await?;
        let damaged = |detail| Error::damaged(&topics.entities, detail);
        let mut loaded = load(&**log, &topics.entities).await?;
        loaded.replica.whole().map_err(damaged)?;
        let writer_id = &topics.applier;
        let mut writer = log.writer(writer_id).await.map_err(Error::log("fence appliers"))?;

        // From here on nobody else writes, and what is below these records is all there is.
        let opened = || NewRecord::keyed(OPENED_KEY, &b"{}"[..]);
        let records = [&topics.entities, &topics.verdicts].map(|of| (of.clone(), opened()));
        let transaction = Transaction { records: records.into(), offsets: Vec::new() };
        let appended = writer.commit(transaction).await.map_err(Error::log("open the applier"))?;

        let (mut replica, next) = (loaded.replica, loaded.next);
        let take = |record: &Record| {
            replica.take(record);
        };
        let span = (next, appended[0].offset);
        read_through(&mut *loaded.reader, &topics.entities, span, PATIENCE, take).await?;
        let now = replica.whole().map_err(damaged)?.clone();
        let told = log.bounds(&topics.history).await.map_err(Error::log("read the history"))?;
        if let Some(end) = replica.end_without_history(told.first == told.end) {
            tell_anew(&mut *writer, &topics, &now, end).await?;
        }

        let mut memory = Memory::default();
        let take = |record: &Record| {
            let value = record.value.clone().unwrap_or_default();
            if let Ok(verdict) = serde_json::from_slice::<Verdict>(&value) {
                // Copied, since a part of a read keeps all of it.
                memory.remember(&verdict, value.to_vec().into());
            }
        };
        let failed = || Error::log("read verdicts");
        let first = log.bounds(&topics.verdicts).await.map_err(failed())?.first;
        let from = vec![(topics.verdicts.clone(), first)];
        let mut verdicts = log.reader(from).await.map_err(failed())?;
        let span = (first, appended[1].offset);
        read_through(&mut *verdicts, &topics.verdicts, span, PATIENCE, take).await?;

        let start = next_proposal(&**log, &topics).await?;
        let from = vec![(topics.proposals.clone(), start)];
        let proposals = log.reader(from).await.map_err(Error::log("read proposals"))?;
        tracing::info!(revision = now.revision, proposal = start, "registry applier opened");
        Ok(Self { topics, writer, proposals, now, memory, check: no_deep_check, spent: false })
    }

    /// Judges by a deep check too.
    #[must_use]
    pub fn checking(self, check: DeepCheck) -> Self {
        Self { check, ..self }
    }

    /// Judges the proposals that are there, or come within `wait`. Answers how many.
    ///
    /// # Errors
    /// [`Error::Log`], fenced among others. After any error this applier is spent:
    /// another, opened anew, finds out what was committed.
    pub async fn step(&mut self, wait: Duration) -> Result<usize, Error> {
        if self.spent {
            return Err(Error::Spent);
        }
        self.spent = true;
        let limit = ReadLimit { wait, ..ReadLimit::default() };
        let batch = self.proposals.next(limit).await.map_err(Error::log("read proposals"))?;
        let records = batch.map_or_else(Vec::new, |batch| batch.records);
        for record in &records {
            self.apply(record).await?;
        }
        self.spent = false;
        Ok(records.len())
    }

    /// The configuration that the next proposal is judged against.
    pub fn now(&self) -> &Snapshot {
        &self.now
    }

    async fn apply(&mut self, record: &Record) -> Result<(), Error> {
        let (verdict, judged) = self.judge(record);
        let answer = verdict.encode();
        let encoded = answer.value.clone().unwrap_or_default();
        let mut records: Vec<(Partition, NewRecord)> = Vec::new();
        if let Some(judged) = &judged {
            let of = |topic: &Partition, all: Vec<NewRecord>| {
                all.into_iter().map(|record| (topic.clone(), record)).collect::<Vec<_>>()
            };
            records.extend(of(&self.topics.entities, judged.records(&verdict.id)));
            let told = history::of_set(&judged.next, &judged.written);
            records.extend(of(&self.topics.history, told));
        }
        records.push((self.topics.verdicts.clone(), answer));
        let offsets = vec![GroupOffsets {
            group: self.topics.applier.clone(),
            membership: None,
            offsets: vec![(self.topics.proposals.clone(), record.offset + 1)],
        }];
        let transaction = Transaction { records, offsets };
        self.writer.commit(transaction).await.map_err(Error::log("commit a verdict"))?;

        let accepted = verdict.is_accepted();
        tracing::info!(id = %verdict.id, proposal = record.offset, accepted, "change set judged");
        self.memory.remember(&verdict, encoded);
        if let Some(judged) = judged {
            self.now = judged.next;
        }
        Ok(())
    }

    /// The verdict on a proposal, and what it comes to if it changes something.
    fn judge(&self, record: &Record) -> (Verdict, Option<Judged>) {
        let proposal = record.offset;
        let refused = |id: Name, digest: Option<Digest>, reasons| {
            let outcome = Outcome::Refused { reasons };
            (Verdict { id, digest, proposal, outcome }, None)
        };
        let value = record.value.as_deref().unwrap_or_default();
        let set: ChangeSet = match serde_json::from_slice(value) {
            Ok(set) => set,
            Err(error) => {
                // Without serde's words, which quote what they found.
                let what = format!("cannot be read at column {}", error.column());
                let reason = whole_set(&what, "propose a change set of this release of weir");
                return refused(unread_id(record), None, vec![reason]);
            }
        };
        let digest = set.digest();
        if let Some((known, verdict)) = self.memory.recall(&set.id) {
            if known == digest {
                return (Verdict { proposal, ..verdict }, None);
            }
            let reason = whole_set("has the id of another change set", "give each set its own id");
            return refused(set.id, Some(digest), vec![reason]);
        }
        match judge(&self.now, &set, self.check) {
            Err(reasons) => refused(set.id, Some(digest), reasons),
            Ok(judged) => {
                let revision = judged.next.revision;
                let outcome = Outcome::Accepted { revision, written: judged.written.clone() };
                let verdict = Verdict { id: set.id, digest: Some(digest), proposal, outcome };
                (verdict, Some(judged))
            }
        }
    }
}

/// Writes all that there is to the history, which may not have it; `end` of the entities says
/// that it has.
async fn tell_anew(
    writer: &mut dyn Writer,
    topics: &Topics,
    now: &Snapshot,
    end: NewRecord,
) -> Result<(), Error> {
    // Until its end is there nothing of it counts, so it may be in parts.
    let anew = history::anew(now);
    let mut parts = anew.chunks(TOLD_AT_ONCE).peekable();
    while let Some(part) = parts.next() {
        let told = part.iter().map(|record| (topics.history.clone(), record.clone()));
        let end = parts.peek().is_none().then(|| (topics.entities.clone(), end.clone()));
        let transaction = Transaction { records: told.chain(end).collect(), offsets: Vec::new() };
        writer.commit(transaction).await.map_err(Error::log("write the history"))?;
    }
    Ok(())
}

/// The offset of the first proposal that has no verdict.
pub(super) async fn next_proposal(log: &dyn EventLog, topics: &Topics) -> Result<u64, Error> {
    let failed = || Error::log("find the next proposal");
    let committed = log.committed(&topics.applier, &topics.proposals).await.map_err(failed())?;
    match committed {
        Some(offset) => Ok(offset),
        None => Ok(log.bounds(&topics.proposals).await.map_err(failed())?.first),
    }
}

fn whole_set(what: &str, mend: &str) -> Refusal {
    Refusal { entity: None, fault: Fault::new("", what, mend) }
}

/// The id of a proposal that cannot be read: its key, else its offset.
fn unread_id(record: &Record) -> Name {
    let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
    let offset = || format!("unread-{}", record.offset);
    Name::new(&key).or_else(|_| Name::new(&offset())).expect("letters and digits are a name")
}

impl fmt::Debug for Applier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applier")
            .field("revision", &self.now.revision)
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::embedded::EmbeddedLog;
    use crate::registry::tests::set_called;

    const TIER: &str = r#"+ tier/gold {"burst_requests_max": 5}"#;

    async fn propose(log: &Arc<dyn EventLog>, record: NewRecord) {
        log.append(vec![(Topics::default().proposals, record)]).await.unwrap();
    }

    #[tokio::test]
    async fn an_applier_that_cannot_read_fences_nobody() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        let mut newer = Applier::open(&log, topics.clone()).await.unwrap();
        // As an older release sees a kind that it does not know.
        let record = NewRecord::keyed("gadget/g", &b"{}"[..]);
        log.append(vec![(topics.entities.clone(), record)]).await.unwrap();
        let opened = Applier::open(&log, topics.clone()).await;
        assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
        propose(&log, set_called("s1", TIER).encode()).await;
        assert_eq!(newer.step(PATIENCE).await.unwrap(), 1);
        assert_eq!(newer.now().revision(), 1);
    }

    /// Of another release, say; this one's own set of that id is still to be made.
    #[tokio::test]
    async fn a_set_that_cannot_be_read_does_not_take_its_id() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        let mut applier = Applier::open(&log, topics.clone()).await.unwrap();
        for id in ["s1", "s2"] {
            propose(&log, NewRecord::keyed(id, &b"{}"[..])).await;
        }
        while applier.step(Duration::from_millis(1)).await.unwrap() > 0 {}
        propose(&log, set_called("s1", TIER).encode()).await;
        applier.step(PATIENCE).await.unwrap();
        assert_eq!(applier.now().revision(), 1);
        // The next applier learns the same from the log.
        let mut heir = Applier::open(&log, topics).await.unwrap();
        propose(&log, set_called("s2", &TIER.replace("gold", "silver")).encode()).await;
        heir.step(PATIENCE).await.unwrap();
        assert_eq!(heir.now().revision(), 2);
    }
}
