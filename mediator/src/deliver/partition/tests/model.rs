//! The window beside a model that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::{Obeyed, Progress, Window};
use super::{LIMITS, at, endings, message, read_parked};
use crate::deliver::stored::Message;

/// What the log and the target have.
#[derive(Default)]
struct Model {
    keys: Vec<Option<u8>>,
    completed: BTreeSet<u64>,
    /// Per message the attempts that were started.
    attempts: BTreeMap<u64, u64>,
    under_way: BTreeSet<u64>,
    held: BTreeSet<u64>,
    /// Messages that are in the parked topic.
    moved: BTreeSet<u64>,
    /// Messages that somebody wants no attempt of any more.
    given_up: BTreeSet<u64>,
    due: BTreeMap<u64, i64>,
    now: i64,
    /// First attempts that began since the last retry did.
    firsts: u32,
}

impl Model {
    fn is_head(&self, offset: u64) -> bool {
        let key = self.keys[offset as usize];
        let before = (0..offset).filter(|o| key.is_some() && self.keys[*o as usize] == key);
        before.into_iter().all(|o| self.completed.contains(&o))
    }

    fn may_start(&self, offset: u64) -> bool {
        self.may_begin(offset) && !self.given_up.contains(&offset)
    }

    fn may_begin(&self, offset: u64) -> bool {
        !self.completed.contains(&offset)
            && !self.under_way.contains(&offset)
            && !self.held.contains(&offset)
            && self.is_head(offset)
            && self.due.get(&offset).is_none_or(|due| *due <= self.now)
    }

    /// The messages that are read, from the queue or as parked ones.
    fn read(&self, read: u64) -> impl Iterator<Item = u64> {
        (0..120).filter(move |offset| *offset < read || self.moved.contains(offset))
    }

    /// The message whose attempt begins next.
    fn next(&self, read: u64) -> Option<u64> {
        let tried = |offset: &u64| self.attempts.get(offset).is_some_and(|made| *made > 0);
        let may_start = || self.read(read).filter(|offset| self.may_start(*offset));
        let first = may_start().find(|offset| !tried(offset));
        let retry = may_start().find(tried);
        if self.firsts >= 7 { retry.or(first) } else { first.or(retry) }
    }

    fn is_in_queue(&self, offset: u64) -> bool {
        !self.completed.contains(&offset) && !self.moved.contains(&offset)
    }

    fn committed(&self, read: u64) -> u64 {
        (0..read).find(|offset| self.is_in_queue(*offset)).unwrap_or(read)
    }
}

#[test]
fn a_window_does_what_the_model_does_through_restarts() {
    let cases = std::env::var("WEIR_MODEL_CASES").map_or(50, |cases| cases.parse().unwrap());
    let seed = fastrand::u64(..);
    let parked: usize =
        (0..cases).map(|round| run_beside_the_model(seed.wrapping_add(round))).sum();
    assert!(parked > cases as usize, "seed {seed}: {parked} messages were parked");
}

/// Answers how many messages were parked.
fn run_beside_the_model(seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model = Model::default();
    for _ in 0..120 {
        model.keys.push(random.bool().then(|| random.u8(..5)));
    }
    let mut window = Window::new(LIMITS, Progress::default());
    let mut parked: Vec<Message> = Vec::new();
    let mut read = 0u64;
    let mut restarts = 0;
    // In every other case much is held, so that much is parked.
    let holds = if seed.is_multiple_of(2) { 2 } else { 6 };
    for step in 0.. {
        assert!(step < 20_000, "seed {seed}: it never ends");
        let case = format!("seed {seed}, step {step}");
        match random.u8(..12) {
            0..=3 if !window.is_full() && read < 120 => {
                window.load(message(read, model.keys[read as usize]));
                read += 1;
            }
            4..=6 => {
                window.wake(at(model.now));
                let is_ending =
                    |offset: &u64| model.given_up.contains(offset) && model.may_begin(*offset);
                let ending: Vec<u64> = model.read(read).filter(is_ending).collect();
                let attempts = |offset: &u64| model.attempts.get(offset).copied().unwrap_or(0);
                let expected: Vec<_> = ending.iter().map(|of| (*of, attempts(of))).collect();
                assert_eq!(endings(&mut window), expected, "{case}");
                model.under_way.extend(ending);
                let expected = model.next(read);
                let started = window.start();
                assert_eq!(started.as_ref().map(|s| s.message.offset()), expected, "{case}");
                if let Some(start) = started {
                    let offset = start.message.offset();
                    let attempts = model.attempts.entry(offset).or_default();
                    model.firsts = if *attempts > 0 { 0 } else { model.firsts + 1 };
                    *attempts += 1;
                    assert_eq!((start.attempt, start.ending), (*attempts, None), "{case}");
                    assert_eq!(Arc::strong_count(&start.message), 2, "{case}: one copy only");
                    model.under_way.insert(offset);
                    model.due.remove(&offset);
                }
            }
            7..=9 => {
                let under_way: Vec<u64> = model.under_way.iter().copied().collect();
                let Some(offset) = random.choice(under_way) else { continue };
                model.under_way.remove(&offset);
                match random.u8(..10) {
                    _ if model.given_up.contains(&offset) => {
                        window.complete(offset);
                        model.completed.insert(offset);
                    }
                    0..=1 => {
                        let due = model.now + random.i64(0..20);
                        window.retry(offset, at(due));
                        model.due.insert(offset, due);
                    }
                    n if n <= holds && model.held.len() < 4 => {
                        window.hold(offset);
                        model.held.insert(offset);
                    }
                    _ => {
                        window.complete(offset);
                        model.completed.insert(offset);
                    }
                }
            }
            10 => model.now += random.i64(0..10),
            _ if random.u8(..8) == 0 => {
                let progress = window.progress(restarts);
                let (value, of_keys) = (progress.encode(), progress.encode_parked());
                let decoded = Progress::decode(&value, Some(&of_keys)).unwrap();
                assert_eq!(decoded, progress, "{case}");
                window = Window::new(LIMITS, progress);
                restarts += 1;
                model.firsts = 0;
                model.under_way.clear();
                // Read from further back than needed, as a member may.
                read = window.committed().saturating_sub(random.u64(..3));
                while read < window.committed() {
                    window.load(message(read, model.keys[read as usize]));
                    read += 1;
                }
            }
            _ => {}
        }
        let moved = window.park(parked.len() as u64);
        model.moved.extend(moved.iter().map(|message| message.offset()));
        parked.extend(moved.iter().map(|message| Message::clone(message)));
        read_parked(&mut window, &parked);
        assert_eq!(window.committed(), model.committed(read), "{case}");
        let counts = window.counts();
        assert_eq!(counts.under_way, model.under_way.len(), "{case}");
        let ahead: BTreeSet<u64> = model.completed.union(&model.moved).copied().collect();
        let ahead = ahead.range(window.committed()..).count() as u64;
        let progress = window.progress(0);
        assert_eq!(progress.completed.count(), ahead, "{case}");
        assert!(read - window.committed() <= LIMITS.records, "{case}");
        if random.u8(..16) == 0 {
            let held = model.held.first().copied().filter(|_| random.bool());
            let offset = held.unwrap_or_else(|| random.u64(..120));
            let waits = model.held.contains(&offset) || model.due.contains_key(&offset);
            match random.bool() {
                true => {
                    model.given_up.insert(offset);
                }
                false if waits && offset < read => {
                    assert_eq!(window.retry_now(offset), Obeyed::Now, "{case}");
                    model.held.remove(&offset);
                    model.due.remove(&offset);
                    model.attempts.insert(offset, 0);
                }
                false => {}
            }
        }
        // What is ordered is ordered again until it is done, also of a new owner.
        for offset in model.given_up.difference(&model.completed) {
            let obeyed = window.give_up(*offset);
            assert!(*offset >= read || obeyed != Obeyed::Now, "{case}");
            if obeyed == Obeyed::AtEnd {
                model.held.remove(offset);
                model.due.remove(offset);
            }
        }
        if model.completed.len() == 120 {
            break;
        }
    }
    assert_eq!((window.counts().messages, window.counts().parked), (0, 0), "seed {seed}");
    model.moved.len()
}
