//! The outside checker: from what callers were told, what the log holds, and what the target
//! saw at each attempt, whether a queue has kept what it promises. It knows nothing of how.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use anyhow::{Result, bail};

use crate::receiver::Attempt;

/// Of so many faults each is told.
const TOLD_MAX: usize = 10;

/// Of one owner, at most so many attempts come behind one of its successor: those that it had
/// under way, and as many that it began before it knew.
const LATE_MAX: usize = 24;

/// A message as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) body: String,
}

/// Everything that is known of a queue from outside.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    /// The messages that callers saw accepted: their ids, and their ordering keys; of a key in
    /// the order in which its caller, who waited for each, was told.
    pub(crate) told: Vec<(String, String)>,
    /// The keys whose messages wait for times of their own, by which they come.
    pub(crate) scheduled: BTreeSet<String>,
    /// The queue's topic, in its order.
    pub(crate) logged: Vec<Logged>,
    /// Whether nothing was removed from it.
    pub(crate) is_whole: bool,
    /// In the order of their arrival.
    pub(crate) attempts: Vec<Attempt>,
    /// The ids of the dead letters.
    pub(crate) dead: BTreeSet<String>,
}

/// What was found in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) told: usize,
    pub(crate) delivered: usize,
    pub(crate) dead: usize,
    pub(crate) attempts: usize,
    /// Successes of what had been a success before.
    pub(crate) repeated: usize,
    /// Attempts of an owner that came behind one of its successor.
    pub(crate) late: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, delivered, dead, attempts, repeated, late } = self;
        write!(
            f,
            "{told} accepted, {delivered} delivered, {dead} dead, {attempts} attempts, \
             {repeated} repeated, {late} late"
        )
    }
}

/// Checks it all.
///
/// # Errors
/// What was not kept.
pub(crate) fn check(book: &Book) -> Result<Summary> {
    let mut faults = Vec::new();
    one_id_is_one_message(book, &mut faults);
    keys_are_in_the_order_that_was_told(book, &mut faults);
    attempts_are_of_what_is_logged(book, &mut faults);
    none_is_lost(book, &mut faults);
    let late = none_overtakes(book, &mut faults);
    for (owner, count) in late.iter().filter(|(_, count)| **count > LATE_MAX) {
        faults.push(format!("{count} attempts of the owner {owner} came behind its successor's"));
    }
    owners_repeat_no_success(book, &mut faults);
    none_overlap(book, &mut faults);
    if !faults.is_empty() {
        let told = faults.iter().take(TOLD_MAX).map(String::as_str).collect::<Vec<_>>();
        bail!("{} faults:\n{}", faults.len(), told.join("\n"));
    }
    let delivered = successes(book);
    let all = book.attempts.iter().filter(|attempt| is_success(attempt)).count();
    Ok(Summary {
        told: book.told.len(),
        delivered: delivered.len(),
        dead: book.dead.len(),
        attempts: book.attempts.len(),
        repeated: all - delivered.len(),
        late: late.values().sum(),
    })
}

fn is_success(attempt: &Attempt) -> bool {
    (200..300).contains(&attempt.status)
}

/// Whether no attempt follows by itself: taken, or refused for good.
fn is_final(attempt: &Attempt) -> bool {
    is_success(attempt)
        || (400..500).contains(&attempt.status) && !matches!(attempt.status, 408 | 425 | 429)
}

fn key_of(attempt: &Attempt) -> &str {
    attempt.key.as_deref().unwrap_or_default()
}

fn successes(book: &Book) -> BTreeSet<&str> {
    let taken = book.attempts.iter().filter(|attempt| is_success(attempt));
    taken.map(|attempt| attempt.id.as_str()).collect()
}

/// One id never has two keys or bodies, and no body is under two ids.
fn one_id_is_one_message(book: &Book, faults: &mut Vec<String>) {
    let mut keys: HashMap<&str, &str> = HashMap::new();
    let mut bodies: HashMap<&str, &str> = HashMap::new();
    let mut ids: HashMap<&str, &str> = HashMap::new();
    let logged = book.logged.iter().map(|of| (&*of.id, &*of.key, &*of.body));
    let attempted = book.attempts.iter().map(|of| (&*of.id, key_of(of), &*of.body));
    for (id, key, body) in logged.chain(attempted) {
        if *keys.entry(id).or_insert(key) != key {
            faults.push(format!("id {id} has two ordering keys: {} and {key}", keys[id]));
        }
        if *bodies.entry(id).or_insert(body) != body {
            faults.push(format!("id {id} serves two messages: {} and {body}", bodies[id]));
        }
        if *ids.entry(body).or_insert(id) != id {
            faults.push(format!("message {body} has two ids: {} and {id}", ids[body]));
        }
    }
    for (id, key) in &book.told {
        if keys.get(&**id).is_some_and(|of| of != key) {
            faults.push(format!("id {id} was told with key {key}, and has {}", keys[&**id]));
        }
    }
}

/// What a key's caller was told first is before what it was told later, and all of a key is in
/// one partition.
fn keys_are_in_the_order_that_was_told(book: &Book, faults: &mut Vec<String>) {
    let mut partitions: HashMap<&str, u32> = HashMap::new();
    let mut places: HashMap<&str, u64> = HashMap::new();
    for of in &book.logged {
        let first = *partitions.entry(&of.key).or_insert(of.partition);
        if first != of.partition {
            let other = of.partition;
            faults.push(format!("key {} is in the partitions {first} and {other}", of.key));
        }
        places.entry(&of.id).or_insert(of.offset);
    }
    for attempt in &book.attempts {
        let place = places.entry(&attempt.id).or_insert(attempt.sequence);
        *place = attempt.sequence.min(*place);
    }
    let mut last: HashMap<&str, (u64, &str)> = HashMap::new();
    for (id, key) in book.told.iter().filter(|(_, key)| !book.scheduled.contains(key)) {
        // What has none is lost, which is told elsewhere.
        let Some(place) = places.get(&**id).copied() else { continue };
        match last.insert(key, (place, id)) {
            Some((before, first)) if before >= place => faults
                .push(format!("key {key}: {id} at {place} was accepted after {first} at {before}")),
            _ => {}
        }
    }
}

/// By its key and place, which each attempt tells, it is the message that the log has there.
fn attempts_are_of_what_is_logged(book: &Book, faults: &mut Vec<String>) {
    if !book.is_whole {
        return;
    }
    let logged: HashMap<(&str, u64), &str> =
        book.logged.iter().map(|of| ((&*of.key, of.offset), &*of.id)).collect();
    for attempt in &book.attempts {
        let (key, sequence) = (key_of(attempt), attempt.sequence);
        if logged.get(&(key, sequence)) != Some(&&*attempt.id) {
            let id = &attempt.id;
            faults.push(format!("{id} was attempted as {sequence} of {key}, where it is not"));
        }
    }
}

/// What was told, or is in the log, is delivered or dead, and not both.
fn none_is_lost(book: &Book, faults: &mut Vec<String>) {
    let taken = successes(book);
    let logged: BTreeSet<&str> = book.logged.iter().map(|of| &*of.id).collect();
    for (id, _) in &book.told {
        if !taken.contains(&**id) && !book.dead.contains(id) {
            faults.push(format!("{id} is lost: accepted, not delivered, and not dead"));
        }
        if book.is_whole && !logged.contains(&**id) {
            faults.push(format!("{id} was accepted, and is not in the log"));
        }
    }
    let unended = logged.iter().filter(|id| !taken.contains(*id) && !book.dead.contains(**id));
    faults.extend(unended.map(|id| format!("{id} is in the log, not delivered, and not dead")));
    let both = book.dead.iter().filter(|id| taken.contains(&***id));
    faults.extend(both.map(|id| format!("{id} is delivered and dead")));
    let refused: BTreeSet<&str> = book
        .attempts
        .iter()
        .filter(|attempt| is_final(attempt) && !is_success(attempt))
        .map(|attempt| &*attempt.id)
        .collect();
    let unasked = book.dead.iter().filter(|id| !refused.contains(&***id));
    faults.extend(unasked.map(|id| format!("{id} is dead, and its target did not refuse it")));
}

/// No attempt comes before the end of what is before it of its key, but for those of an owner
/// that came late; how many these are, by owner.
fn none_overtakes(book: &Book, faults: &mut Vec<String>) -> BTreeMap<u64, usize> {
    // By key: what was attempted at which place, in the order of places.
    let mut places: BTreeMap<&str, BTreeMap<u64, &str>> = BTreeMap::new();
    for attempt in &book.attempts {
        places.entry(key_of(attempt)).or_default().insert(attempt.sequence, &attempt.id);
    }
    for of in &book.logged {
        places.entry(&of.key).or_default().insert(of.offset, &of.id);
    }
    let mut epochs: HashMap<&str, u64> = HashMap::new();
    // By key: the first place that is not known to have ended.
    let mut open: HashMap<&str, u64> = HashMap::new();
    let mut ended: BTreeSet<&str> = BTreeSet::new();
    let mut late = BTreeMap::new();
    for attempt in &book.attempts {
        let key = key_of(attempt);
        let epoch = epochs.entry(key).or_default();
        if attempt.epoch < *epoch {
            *late.entry(attempt.epoch).or_default() += 1;
        } else {
            *epoch = attempt.epoch;
            let before = open.entry(key).or_default();
            let of_key = &places[key];
            // One that is made again is before what is known to have ended.
            for (place, id) in of_key.range(*before..attempt.sequence.max(*before)) {
                if !ended.contains(id) {
                    let (id_of, at) = (&attempt.id, attempt.sequence);
                    faults.push(format!(
                        "key {key}: {id_of} at {at} was attempted before {id} at {place} ended"
                    ));
                    break;
                }
                *before = place + 1;
            }
        }
        if is_final(attempt) {
            ended.insert(&attempt.id);
        }
    }
    late
}

/// An owner knows what it has delivered: it does not make an attempt again that was a success,
/// and its attempts are numbered upwards.
fn owners_repeat_no_success(book: &Book, faults: &mut Vec<String>) {
    let mut last: HashMap<(&str, u64, u64), &Attempt> = HashMap::new();
    for attempt in &book.attempts {
        let place = (key_of(attempt), attempt.sequence, attempt.epoch);
        let Some(before) = last.insert(place, attempt) else { continue };
        let id = &attempt.id;
        // One whose answer was not whole may be a failure to who asked.
        if is_success(before) {
            faults.push(format!("{id} was delivered twice by the owner {}", attempt.epoch));
        }
        if attempt.number <= before.number {
            faults.push(format!("{id}: attempt {} after {}", attempt.number, before.number));
        }
    }
}

/// An owner has one attempt of a key under way at a time.
fn none_overlap(book: &Book, faults: &mut Vec<String>) {
    let mut last: HashMap<(&str, u64), &Attempt> = HashMap::new();
    for attempt in &book.attempts {
        let owner = (key_of(attempt), attempt.epoch);
        let Some(before) = last.insert(owner, attempt) else { continue };
        if before.ended.is_none_or(|ended| ended > attempt.began) {
            faults.push(format!("{} was attempted while {} was under way", attempt.id, before.id));
        }
    }
}

pub(crate) mod broken {
    //! That the checker finds what is broken.

    use std::time::Instant;

    use anyhow::ensure;

    use super::*;

    fn attempt(id: &str, sequence: u64, (number, epoch): (u64, u64), status: u16) -> Attempt {
        let (id, key) = (id.to_owned(), id.split('-').next().unwrap_or_default().to_owned());
        Attempt {
            body: format!("body of {id}"),
            id,
            key: Some(key),
            sequence,
            epoch,
            number,
            seen: 1,
            headers: Default::default(),
            at: Instant::now(),
            status,
            began: 0,
            ended: Some(0),
        }
    }

    /// Two keys of three messages each; one fails once, one is refused, and a kill repeats
    /// one under the next owner.
    fn kept() -> Book {
        let mut logged = Vec::new();
        for (at, id) in ["a-0", "b-0", "a-1", "b-1", "a-2", "b-2"].into_iter().enumerate() {
            let (key, _) = id.split_once('-').expect("a key");
            let (offset, body) = (at as u64, format!("body of {id}"));
            logged.push(Logged {
                partition: 0,
                offset,
                id: id.to_owned(),
                key: key.to_owned(),
                body,
            });
        }
        let told = logged.iter().map(|of| (of.id.clone(), of.key.clone())).collect();
        let attempts = vec![
            attempt("a-0", 0, (1, 1), 503),
            attempt("b-0", 1, (1, 1), 200),
            attempt("a-0", 0, (2, 1), 200),
            attempt("a-1", 2, (1, 1), 200),
            attempt("b-1", 3, (1, 1), 400),
            attempt("a-1", 2, (2, 9), 200),
            attempt("b-2", 5, (1, 9), 200),
            attempt("a-2", 4, (1, 9), 200),
        ];
        let dead = BTreeSet::from(["b-1".to_owned()]);
        Book { told, scheduled: BTreeSet::new(), logged, is_whole: true, attempts, dead }
    }

    type Breaking = fn(&mut Book);

    /// What is broken, and what is said of it.
    const BROKEN: [(&str, Breaking); 19] = [
        ("a-2 is lost", |book| drop(book.attempts.pop())),
        ("a-2 was accepted, and is not in the log", |book| {
            book.logged.retain(|of| of.id != "a-2");
        }),
        ("a-3 is in the log, not delivered", |book| {
            let id = "a-3".to_owned();
            let (key, body) = ("a".to_owned(), "body of a-3".to_owned());
            book.logged.push(Logged { partition: 0, offset: 6, id, key, body });
        }),
        ("b-1 is lost", |book| book.dead.clear()),
        ("b-2 is delivered and dead", |book| {
            book.dead.insert("b-2".to_owned());
        }),
        ("b-9 is dead, and its target did not refuse it", |book| {
            book.dead.insert("b-9".to_owned());
        }),
        ("a-2 at 4 was attempted before a-1 at 2 ended", |book| {
            let last = book.attempts.pop().expect("one");
            book.attempts.insert(3, Attempt { epoch: 1, ..last });
        }),
        ("a-1 at 2 was attempted before a-0 at 0 ended", |book| drop(book.attempts.remove(2))),
        ("a-1 was delivered twice by the owner 9", |book| {
            let again = Attempt { number: 3, ..book.attempts[5].clone() };
            book.attempts.insert(6, again);
        }),
        ("a-0: attempt 1 after 1", |book| book.attempts[2].number = 1),
        ("id b-2 has two ordering keys", |book| {
            let of = book.attempts.iter_mut().find(|of| of.id == "b-2").expect("one");
            of.key = Some("a".to_owned());
        }),
        ("id a-2 serves two messages", |book| {
            book.attempts[7].body = "body of another".to_owned();
        }),
        ("message body of a-2 has two ids", |book| book.attempts[7].id = "a-7".to_owned()),
        ("b-1 was attempted while b-0 was under way", |book| book.attempts[1].ended = None),
        ("a-2 was attempted while a-1 was under way", |book| {
            (book.attempts[5].ended, book.attempts[7].began) = (Some(9), 8);
        }),
        ("a-2 was attempted as 6 of a, where it is not", |book| book.attempts[7].sequence = 6),
        ("key a: a-1 at 2 was accepted after a-2 at 4", |book| book.told.swap(2, 4)),
        ("key b is in the partitions 0 and 1", |book| book.logged[5].partition = 1),
        ("25 attempts of the owner 1 came behind its successor's", |book| {
            let late = (0..=LATE_MAX).map(|number| attempt("a-2", 4, (number as u64 + 1, 1), 503));
            book.attempts.splice(6..6, late.collect::<Vec<_>>());
        }),
    ];

    pub(crate) fn is_found() -> Result<()> {
        let summary = check(&kept())?;
        let expected =
            Summary { told: 6, delivered: 5, dead: 1, attempts: 8, repeated: 1, late: 0 };
        ensure!(summary == expected, "{summary:?}");
        // One of the owner that was killed, which comes behind its successor's.
        let mut late = kept();
        late.attempts.insert(6, attempt("a-2", 4, (1, 1), 200));
        ensure!(check(&late)?.late == 1);
        for (expected, break_it) in BROKEN {
            let mut book = kept();
            break_it(&mut book);
            let said = check(&book).err().map(|error| error.to_string()).unwrap_or_default();
            ensure!(said.contains(expected), "{expected}: {said:?}");
        }
        Ok(())
    }
}
