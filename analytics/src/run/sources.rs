//! Sources that fell silent without a word.
//!
//! A gateway that was killed and does not come back would hold the watermark for ever:
//! no clock of a reader decides what is late. So the owner of the queries says it, by a
//! record of the log, which all readers then count by.

use std::collections::HashMap;
use std::time::Duration;

use ingest::emit::Emitter;
use ingest::event::{Kind, Outcome};
use tokio::time::Instant;

/// A source is retired only while another of its partition was heard of so lately: it
/// may be the reader that hears nothing.
const HEARD: Duration = Duration::from_secs(10);

/// When each source was last seen to go on.
#[derive(Debug)]
pub(super) struct Sources {
    after: Duration,
    seen: HashMap<(u32, String), Seen>,
}

#[derive(Debug)]
struct Seen {
    time_us: i64,
    moved: Instant,
}

impl Sources {
    /// Sources that are retired after they were silent for `after`.
    pub(super) fn new(after: Duration) -> Self {
        Self { after, seen: HashMap::new() }
    }

    /// Looks at the live sources, and answers those to be retired: partition and producer.
    pub(super) fn look(
        &mut self,
        live: Vec<(u32, String, i64)>,
        now: Instant,
    ) -> Vec<(u32, String)> {
        let mut seen = HashMap::with_capacity(live.len());
        let mut heard: HashMap<u32, Instant> = HashMap::new();
        for (partition, producer, time_us) in live {
            let key = (partition, producer);
            let moved = match self.seen.remove(&key) {
                Some(before) if before.time_us >= time_us => before.moved,
                _ => now,
            };
            let latest = heard.entry(partition).or_insert(moved);
            *latest = moved.max(*latest);
            seen.insert(key, Seen { time_us, moved });
        }
        let mut silent = Vec::new();
        for ((partition, producer), of) in &mut seen {
            let is_heard = now - heard[partition] < HEARD;
            if is_heard && now - of.moved >= self.after {
                // It is not said again while the record is on its way.
                of.moved = now;
                silent.push((*partition, producer.clone()));
            }
        }
        self.seen = seen;
        silent.sort();
        silent
    }
}

/// Says that a source counts no longer.
pub(super) fn retire(emitter: &Emitter, partition: u32, producer: &str) {
    let mut event = emitter.event(Kind::SourceRetired, Outcome::Success);
    event.source_partition = Some(i64::from(partition));
    event.source_producer = Some(producer.to_owned().into());
    match emitter.emit(event) {
        Ok(_) => tracing::warn!(partition, producer, "a source fell silent, and counts no longer"),
        Err(error) => tracing::error!(%error, producer, "a silent source could not be retired"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At so many seconds: the live sources, and who is to be retired.
    type Look<'a> = (u64, &'a [(u32, &'a str, i64)], &'a [(u32, &'a str)]);

    fn check(looks: &[Look<'_>]) {
        let (begin, mut sources) = (Instant::now(), Sources::new(Duration::from_secs(60)));
        for (seconds, live, expected) in looks {
            let live = live.iter().map(|(at, name, time)| (*at, (*name).to_owned(), *time));
            let found = sources.look(live.collect(), begin + Duration::from_secs(*seconds));
            let found: Vec<_> = found.iter().map(|(at, name)| (*at, name.as_str())).collect();
            assert_eq!(found, *expected, "at {seconds} s");
        }
    }

    #[test]
    fn who_is_silent_while_others_speak_is_retired_once() {
        check(&[
            (0, &[(0, "a", 5), (0, "b", 5), (1, "a", 5)], &[]),
            (59, &[(0, "a", 5), (0, "b", 9), (1, "a", 5)], &[]),
            // In partition 1 nobody was heard: it may be the reader.
            (60, &[(0, "a", 5), (0, "b", 9), (1, "a", 5)], &[(0, "a")]),
            (61, &[(0, "a", 5), (0, "b", 10), (1, "a", 5)], &[]),
            (62, &[(0, "b", 11), (1, "a", 5)], &[]),
            // Who is back is looked at anew.
            (130, &[(0, "a", 6), (0, "b", 12), (1, "a", 5)], &[]),
            (189, &[(0, "a", 6), (0, "b", 13), (1, "a", 5)], &[]),
            (190, &[(0, "a", 6), (0, "b", 14), (1, "a", 5)], &[(0, "a")]),
        ]);
    }

    #[test]
    fn nobody_is_retired_when_nothing_is_heard() {
        check(&[
            (0, &[(0, "a", 5), (0, "b", 5)], &[]),
            (300, &[(0, "a", 5), (0, "b", 5)], &[]),
            (301, &[(0, "a", 6), (0, "b", 5)], &[(0, "b")]),
        ]);
    }
}
