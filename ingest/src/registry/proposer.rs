use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::change::SET_BYTES_MAX;
use super::{ChangeSet, Error, Fault, Faults, Refusal, Topics, Verdict};
use crate::log::{EventLog, Outcome, ReadLimit, Reader};

/// Proposes change sets and waits for the verdict.
#[derive(Debug, Clone)]
pub struct Proposer {
    log: Arc<dyn EventLog>,
    topics: Topics,
    timeout: Duration,
}

impl Proposer {
    /// A proposer that waits `timeout` for a verdict. The topics must be there:
    /// see [`Topics::create`].
    pub fn new(log: Arc<dyn EventLog>, topics: Topics, timeout: Duration) -> Self {
        Self { log, topics, timeout }
    }

    /// Proposes a change set. A refusal is a verdict, not an error.
    ///
    /// # Errors
    /// [`Error::Invalid`] and most of [`Error::Log`]: nothing was proposed.
    /// [`Error::NoVerdict`]: it may be made, now or later; propose it again under
    /// the same id to learn.
    pub async fn propose(&self, set: &ChangeSet) -> Result<Verdict, Error> {
        let deadline = Instant::now() + self.timeout;
        let record = set.encode();
        check(set, record.bytes())?;
        let failed = || Error::log("propose a change set");
        let end = self.log.bounds(&self.topics.verdicts).await.map_err(failed())?.end;
        let from = vec![(self.topics.verdicts.clone(), end)];
        let mut verdicts = self.log.reader(from).await.map_err(failed())?;
        let proposal = match self.log.append(vec![(self.topics.proposals.clone(), record)]).await {
            Err(error) if error.outcome() == Outcome::NotWritten => return Err(failed()(error)),
            // It may be there: the verdict will tell.
            Err(error) => {
                tracing::warn!(id = %set.id, %error, "proposal not confirmed");
                None
            }
            Ok(appended) => appended.first().map(|appended| appended.offset),
        };
        match timeout_at(deadline, answer(&mut *verdicts, set, proposal)).await {
            Ok(verdict) => verdict,
            Err(_) => Err(Error::NoVerdict { id: set.id.clone(), waited: self.timeout }),
        }
    }
}

/// The first verdict on this set, or on what is at the offset of its proposal: an
/// applier that cannot read the set does not know its digest.
async fn answer(
    verdicts: &mut dyn Reader,
    set: &ChangeSet,
    proposal: Option<u64>,
) -> Result<Verdict, Error> {
    let digest = set.digest();
    loop {
        // The set is in the log by now: what fails here leaves its outcome unknown,
        // and the caller waits out its time rather than being told otherwise.
        let batch = match verdicts.next(ReadLimit::default()).await {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(id = %set.id, %error, "verdicts cannot be read");
                std::future::pending().await
            }
        };
        for record in batch.into_iter().flat_map(|batch| batch.records) {
            let value = record.value.as_deref().unwrap_or_default();
            if let Ok(verdict) = serde_json::from_slice::<Verdict>(value)
                && (proposal == Some(verdict.proposal)
                    || (verdict.id == set.id && verdict.digest == Some(digest)))
            {
                return Ok(verdict);
            }
        }
    }
}

/// Refuses what no applier would take, before it is in the log for ever.
fn check(set: &ChangeSet, bytes: usize) -> Result<(), Error> {
    let mut faults = Faults::default();
    set.check(&mut faults);
    let mut reasons = faults.into_result().err().unwrap_or_default();
    if bytes > SET_BYTES_MAX {
        let mend = format!("propose at most {SET_BYTES_MAX} bytes at once");
        reasons.push(Fault::new("", format!("has {bytes} bytes"), mend));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let reasons = reasons.into_iter().map(|fault| Refusal { entity: None, fault }).collect();
    Err(Error::Invalid { id: set.id.clone(), reasons })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::embedded::EmbeddedLog;
    use crate::registry::tests::set_called;

    /// As an older release answers, to which a change of this one is unknown.
    #[tokio::test]
    async fn the_verdict_on_a_set_that_was_not_understood_is_seen() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        topics.create(&*log).await.unwrap();
        let proposer = Proposer::new(log.clone(), topics.clone(), Duration::from_secs(30));
        let set = set_called("s1", r#"+ tier/gold {"burst_requests_max": 5}"#);
        let older = async {
            let verdict = || {
                let refused = crate::registry::Outcome::Refused { reasons: Vec::new() };
                Verdict { id: set.id.clone(), digest: None, proposal: 0, outcome: refused }.encode()
            };
            while log.bounds(&topics.proposals).await.unwrap().end == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            log.append(vec![(topics.verdicts.clone(), verdict())]).await.unwrap();
        };
        let (told, ()) = tokio::join!(proposer.propose(&set), older);
        assert_eq!(told.unwrap().proposal, 0);
    }
}
