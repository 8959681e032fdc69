use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::{Digest, Name, Verdict};

/// How many verdicts an applier remembers, and in how many bytes.
const VERDICTS_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The verdicts on the last change sets, so that a set that is proposed again is
/// not judged again. The oldest are forgotten first, in the order of the log, so
/// every applier remembers the same.
#[derive(Debug, Default)]
pub(super) struct Memory {
    verdicts: HashMap<Name, (Digest, Bytes)>,
    order: VecDeque<Name>,
    bytes: usize,
}

impl Memory {
    /// Remembers the first verdict on an id, unless it is on what nobody could read.
    pub(super) fn remember(&mut self, verdict: &Verdict, encoded: Bytes) {
        let Some(digest) = verdict.digest else { return };
        if self.verdicts.contains_key(&verdict.id) {
            return;
        }
        self.bytes += encoded.len();
        self.verdicts.insert(verdict.id.clone(), (digest, encoded));
        self.order.push_back(verdict.id.clone());
        while self.order.len() > VERDICTS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            let forgotten = self.verdicts.remove(&oldest);
            self.bytes -= forgotten.map_or(0, |(_, encoded)| encoded.len());
        }
    }

    /// The digest of the set that has this id, and the verdict on it.
    pub(super) fn recall(&self, id: &Name) -> Option<(Digest, Verdict)> {
        let (digest, encoded) = self.verdicts.get(id)?;
        Some((*digest, serde_json::from_slice(encoded).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Outcome;

    #[test]
    fn the_oldest_are_forgotten_and_the_first_verdict_stays() {
        let mut memory = Memory::default();
        let outcome = Outcome::Refused { reasons: Vec::new() };
        for proposal in 0..=VERDICTS_MAX as u64 {
            let id = Name::new(&format!("s{proposal}")).unwrap();
            let digest = Some(Digest::of_parts([id.as_str().as_bytes()]));
            let verdict = Verdict { id, digest, proposal, outcome: outcome.clone() };
            memory.remember(&verdict, verdict.encode().value.unwrap());
            let again = Verdict { proposal: 999_999, ..verdict };
            memory.remember(&again, Bytes::from_static(b"{}"));
        }
        let recall = |id: &str| memory.recall(&Name::new(id).unwrap()).map(|(_, v)| v.proposal);
        assert_eq!((recall("s0"), recall("s1"), recall("s10000")), (None, Some(1), Some(10_000)));
    }
}
