//! The window, case by case, and beside a model.

mod model;

use bytes::Bytes;
use ingest::event::Timestamp;
use ingest::log::{Headers, LogTime, Record};

use super::{Id, Limits, Obeyed, Progress, Window};
use crate::deliver::stored::Message;

const LIMITS: Limits = Limits { records: 40, bytes: 1 << 20, parked_keys: 3 };

fn message(offset: u64, key: Option<u8>) -> Message {
    Message::of(&Record {
        offset,
        time: LogTime(0),
        key: key.map(|key| Bytes::from(vec![key])),
        value: Some(Bytes::from_static(b"body")),
        headers: Headers::default(),
    })
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn window(keys: &[Option<u8>]) -> Window {
    let mut window = Window::new(LIMITS, Progress::default());
    for (offset, key) in keys.iter().enumerate() {
        window.load(message(offset as u64, *key));
    }
    window
}

/// Starts everything that is ready.
fn start_all(window: &mut Window) -> Vec<(u64, u64)> {
    let mut started = Vec::new();
    while let Some(start) = window.start() {
        started.push((start.message.offset(), start.attempt));
    }
    started
}

#[test]
fn a_key_that_waits_holds_back_only_itself() {
    let mut window = window(&[Some(1), Some(1), Some(2), None, None]);
    assert_eq!(start_all(&mut window), [(0, 1), (2, 1), (3, 1), (4, 1)]);
    window.retry(0, at(100));
    for offset in [2, 3, 4] {
        window.complete(offset);
    }
    assert_eq!(start_all(&mut window), []);
    assert_eq!((window.committed(), window.counts().completed_ahead), (0, 3));
    window.wake(at(99));
    assert_eq!(start_all(&mut window), []);
    assert_eq!(window.next_due(), Some(at(100)));
    window.wake(at(100));
    assert_eq!(start_all(&mut window), [(0, 2)]);
    window.complete(0);
    assert_eq!(window.committed(), 1);
    assert_eq!(start_all(&mut window), [(1, 1)]);
    window.complete(1);
    assert_eq!((window.committed(), window.counts().bytes), (5, 0));
}

#[test]
fn a_held_message_stays_and_is_seen() {
    let mut before = window(&[Some(1), Some(1), Some(2)]);
    start_all(&mut before);
    before.hold(0);
    before.complete(2);
    assert_eq!(before.counts().held, 1);
    let progress = before.progress(1);
    let mut after = Window::new(LIMITS, progress);
    for (offset, key) in [(0, 1), (1, 1), (2, 2)] {
        after.load(message(offset, Some(key)));
    }
    assert_eq!(start_all(&mut after), []);
    assert_eq!((after.counts().held, after.committed()), (1, 0));
}

#[test]
fn attempts_that_were_started_are_known_to_the_next_owner() {
    let mut before = window(&[Some(1), Some(2), Some(3)]);
    start_all(&mut before);
    before.retry(1, at(500));
    // 0 and 2 are under way when the owner is killed.
    let progress = before.progress(1);
    let mut after = Window::new(LIMITS, progress.clone());
    assert_eq!(after.progress(1), progress, "nothing is forgotten before it is read");
    for (offset, key) in [(0, 1), (1, 2), (2, 3)] {
        after.load(message(offset, Some(key)));
    }
    assert_eq!(start_all(&mut after), [(0, 2), (2, 2)]);
    after.wake(at(500));
    assert_eq!(start_all(&mut after), [(1, 2)]);
}

#[test]
fn an_attempt_that_is_withdrawn_does_not_count() {
    let mut window = window(&[Some(1), Some(1)]);
    assert_eq!(start_all(&mut window), [(0, 1)]);
    window.withdraw(0);
    assert_eq!(window.progress(1).heads, []);
    assert_eq!(start_all(&mut window), [(0, 1)]);
    window.retry(0, at(1));
    window.wake(at(1));
    assert_eq!(start_all(&mut window), [(0, 2)]);
    window.withdraw(0);
    assert_eq!(window.progress(1).heads[0].attempts, 1);
}

#[test]
fn first_attempts_go_before_retries_but_not_for_ever() {
    let mut window = window(&[Some(0), Some(1)]);
    start_all(&mut window);
    for offset in [0, 1] {
        window.retry(offset, at(1));
    }
    (2..20).for_each(|offset| window.load(message(offset, None)));
    window.wake(at(1));
    let started: Vec<u64> = start_all(&mut window).into_iter().map(|(offset, _)| offset).collect();
    // Two began before the retries waited, and count.
    let expected: Vec<u64> = [2, 3, 4, 5, 6].into_iter().chain([0]).chain(7..14).collect();
    assert_eq!(started[..13], expected);
    assert_eq!((started[13], started.len()), (1, 20));
}

/// The messages that end without an attempt, with how many they had.
fn endings(window: &mut Window) -> Vec<(u64, u64)> {
    let mut endings = Vec::new();
    while let Some(start) = window.next_ending() {
        assert!(start.ending.is_some());
        endings.push((start.message.offset(), start.attempt));
    }
    endings
}

#[test]
fn what_somebody_orders_is_done_when_it_can_be() {
    let mut window = window(&[Some(1), Some(1), Some(2)]);
    assert_eq!(window.retry_now(9), Obeyed::Later, "it is not read");
    assert_eq!(window.give_up(9), Obeyed::Later);
    start_all(&mut window);
    // Under way: there may be an answer yet.
    assert_eq!((window.give_up(0), window.retry_now(0)), (Obeyed::Later, Obeyed::Later));
    window.hold(0);
    window.retry(2, at(1_000));
    assert_eq!(window.retry_now(0), Obeyed::Now);
    assert_eq!(start_all(&mut window), [(0, 1)], "its attempts are counted anew");
    window.hold(0);
    assert_eq!((window.give_up(0), window.give_up(2)), (Obeyed::AtEnd, Obeyed::AtEnd));
    // What is said later counts, before it has ended.
    assert_eq!(window.retry_now(2), Obeyed::Now);
    assert_eq!(start_all(&mut window), [(2, 1)]);
    assert_eq!(endings(&mut window), [(0, 1)]);
    window.complete(0);
    assert_eq!(start_all(&mut window), [(1, 1)], "what is behind goes on");
    window.complete(2);
    assert_eq!(window.give_up(2), Obeyed::Now, "there is nothing to do");
    // Of what is behind another it is done in its turn.
    let mut window = self::window(&[Some(1), Some(1)]);
    start_all(&mut window);
    assert_eq!(window.give_up(1), Obeyed::AtEnd);
    assert_eq!(endings(&mut window), []);
    window.complete(0);
    assert!(!window.has_ready());
    assert_eq!(endings(&mut window), [(1, 0)]);
    // One that could not be told of ends again.
    window.retry(1, at(5));
    window.wake(at(5));
    assert_eq!(endings(&mut window), [(1, 0)]);
    assert_eq!((window.committed(), window.counts().messages), (1, 1));
}

#[test]
fn what_has_expired_ends_wherever_it_waits() {
    let expiring = |offset: u64, key: u8| {
        let time = Timestamp::from_micros(100).to_string();
        Message::of(&Record {
            offset,
            time: LogTime(0),
            key: Some(Bytes::from(vec![key])),
            value: None,
            headers: Headers::new([("weir_expires_time", time.as_str())]),
        })
    };
    let mut window = Window::new(LIMITS, Progress::default());
    for (offset, key) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3)] {
        window.load(expiring(offset, key));
    }
    let started: Vec<u64> =
        (0..3).filter_map(|_| window.start()).map(|start| start.message.offset()).collect();
    assert_eq!(started, [0, 1, 2]);
    window.hold(0);
    window.retry(1, at(1_000));
    assert_eq!(window.next_due(), Some(at(100)));
    window.wake(at(99));
    assert_eq!(endings(&mut window), []);
    window.wake(at(100));
    // One under way may still succeed; what is behind it ends in its turn.
    assert_eq!(endings(&mut window), [(0, 1), (1, 1), (4, 0)]);
    for offset in [0, 1, 4, 2] {
        window.complete(offset);
    }
    assert_eq!(window.retry_now(3), Obeyed::Now);
    window.wake(at(101));
    assert_eq!(endings(&mut window), [(3, 0)]);
    window.complete(3);
    assert_eq!((window.committed(), window.next_due(), window.has_ready()), (5, None, false));
}

#[test]
fn a_window_is_full_by_offsets_or_bytes() {
    let mut window = Window::new(Limits { records: 3, ..LIMITS }, Progress::default());
    for offset in 0..3 {
        assert!(!window.is_full());
        window.load(message(offset, Some(offset as u8)));
    }
    assert!(window.is_full());
    start_all(&mut window);
    // What has completed ahead counts on: it has to be written down.
    window.complete(1);
    window.complete(2);
    assert!(window.is_full());
    window.complete(0);
    assert!(!window.is_full());

    let mut window = Window::new(Limits { bytes: 10, ..LIMITS }, Progress::default());
    (0..2).for_each(|offset| window.load(message(offset, None)));
    assert!(!window.is_full());
    window.load(message(2, None));
    assert!(window.is_full());
}

#[test]
fn offsets_without_records_are_passed_over() {
    let mut window = window(&[Some(1)]);
    window.load(message(5, Some(2)));
    window.read_to(9);
    start_all(&mut window);
    window.complete(0);
    assert_eq!(window.committed(), 5);
    window.complete(5);
    assert_eq!(window.committed(), 9);
}

/// Reads what the window needs of what is parked, a few messages at a time.
fn read_parked(window: &mut Window, parked: &[Message]) {
    for need in window.parked_needs() {
        let is_wanted =
            |message: &Message| Id::of(message) == need.id && message.offset() >= need.next;
        let places = (need.from as usize..parked.len()).filter(|at| is_wanted(&parked[*at]));
        let places: Vec<usize> = places.take(2).collect();
        assert!(!places.is_empty(), "{need:?} is not there");
        for place in places {
            window.load_parked(parked[place].clone(), place as u64);
        }
    }
}

#[test]
fn what_is_blocked_for_long_is_parked_and_holds_back_nobody_else() {
    // Of each ten one is of the key that is held.
    let key = |offset: u64| u8::from(!offset.is_multiple_of(10));
    let mut window = Window::new(LIMITS, Progress::default());
    let (mut parked, mut delivered) = (Vec::new(), Vec::new());
    for offset in 0..1_000 {
        assert!(!window.is_full(), "{offset}");
        window.load(message(offset, Some(key(offset))));
        while let Some(start) = window.start() {
            let offset = start.message.offset();
            match key(offset) {
                0 => window.hold(offset),
                _ => {
                    window.complete(offset);
                    delivered.push(offset);
                }
            }
        }
        let moved = window.park(parked.len() as u64);
        parked.extend(moved.iter().map(|message| Message::clone(message)));
    }
    assert_eq!(delivered, (0..1_000).filter(|offset| key(*offset) == 1).collect::<Vec<_>>());
    let counts = window.counts();
    assert!(counts.parked > 60 && counts.messages == 100 && counts.held == 1, "{counts:?}");
    // The next owner knows all of it, and what is in the queue comes after what is parked.
    let read_to = window.committed();
    let mut window = Window::new(LIMITS, window.progress(1));
    (read_to..1_000).for_each(|offset| window.load(message(offset, Some(key(offset)))));
    assert!(!window.has_ready());
    assert_eq!(window.retry_now(0), Obeyed::Later);
    read_parked(&mut window, &parked);
    assert_eq!(window.retry_now(0), Obeyed::Now);
    delivered.clear();
    while let Some(start) = window.start() {
        delivered.push(start.message.offset());
        window.complete(start.message.offset());
        read_parked(&mut window, &parked);
    }
    assert_eq!(delivered, (0..100).map(|n| n * 10).collect::<Vec<u64>>());
    assert_eq!((window.committed(), window.counts().messages), (1_000, 0));
    assert_eq!(window.progress(1).parked, []);
}

#[test]
fn a_window_that_works_parks_nothing() {
    let mut full = window(&[Some(1); 40]);
    assert!(full.is_full() && full.park(0).is_empty(), "something is ready");
    let start = full.start().unwrap();
    assert!(full.park(0).is_empty(), "it is under way");
    full.retry(start.message.offset(), at(5));
    full.wake(at(5));
    assert!(full.park(0).is_empty(), "it is due");
    full.start();
    full.hold(0);
    let moved: Vec<u64> = full.park(0).iter().map(|message| message.offset()).collect();
    assert_eq!(moved, (0..40).collect::<Vec<_>>(), "all of the key");
    assert_eq!((full.committed(), full.counts().parked), (40, 40));
    // More keys than may be parked: the others wait where they are.
    let keys: Vec<Option<u8>> = (0..40).map(Some).collect();
    let mut many = window(&keys);
    start_all(&mut many).iter().for_each(|(offset, _)| many.hold(*offset));
    let moved: Vec<u64> = many.park(0).iter().map(|message| message.offset()).collect();
    assert_eq!(moved, [0, 1, 2]);
    // A target that is away, and one that takes others.
    let mut away = window(&keys);
    start_all(&mut away).iter().for_each(|(offset, _)| away.retry(*offset, at(9)));
    assert!(away.park(0).is_empty());
    let mut one = window(&keys);
    let started = start_all(&mut one);
    started[..39].iter().for_each(|(offset, _)| one.retry(*offset, at(9)));
    one.complete(39);
    assert_eq!(one.park(0).len(), 3);
    assert!(many.park(3).is_empty());
}

#[test]
fn what_was_parked_and_is_gone_is_given_up() {
    let mut window = window(&[Some(1); 40]);
    window.start();
    window.hold(0);
    window.park(0);
    let mut after = Window::new(LIMITS, window.progress(1));
    (40..50).for_each(|offset| after.load(message(offset, Some(1))));
    assert!(!after.has_ready());
    let [need] = &after.parked_needs()[..] else { panic!("one key is parked") };
    after.forget_parked(&need.clone());
    assert_eq!(start_all(&mut after), [(40, 1)]);
    assert_eq!((after.counts().parked, after.parked_needs()), (0, vec![]));
}
