//! The owner of a partition: one task.
//!
//! ```text
//!  worker ─ records ─► window ─► attempts (tasks) ─► ends ─► window
//!                        │  every 20 ms, or 500 ends
//!                        ▼
//!                    one transaction: progress, dead letters, group's offset
//! ```
//!
//! It first becomes the partition's one writer, which refuses every later commit
//! of a former owner; only then it reads how far that came. A commit that fails
//! ends the owner, since nobody knows then what a next one would find; but for a
//! refused one, which a rebalance under way explains: it waits for the membership
//! to be renewed, starts nothing meanwhile, and gives up after 5 s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fail::fail_point;
use futures_util::future::BoxFuture;
use ingest::event::Timestamp;
use ingest::log::{
    Appended, Error, GroupOffsets, Membership, NewRecord, Partition, Record, Transaction, Writer,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::attempt::{Attempt, Done};
use super::control::{self, Controls, Orders};
use super::dead::{self, Death};
use super::gap;
use super::parking::Parking;
use super::partition::{Start, Window};
use super::retry::Verdict;
use super::status::PartitionStatus;
use super::take_over::{PARKED_KEY, PROGRESS_KEY, TakenOver, take_over};
use super::trim::Trimmer;
use super::turns::Turn;
use super::worker::Shared;

/// Commits that are refused for so long end the owner. A rebalance of Kafka takes
/// a second or two between its new generation and the member's learning of it.
const REFUSED_PATIENCE: Duration = Duration::from_secs(5);
/// The wait between two commits that are refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// How long a refused commit waits for a new membership.
const REFUSED_WAIT: Duration = Duration::from_millis(500);
/// The longest sleep, since the clock may be set.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// A larger progress is written less often: 20 ms more for each so many bytes.
const PROGRESS_BYTES_PER_INTERVAL: usize = 16 * 1024;
/// For so long after it took over, an owner writes attempts down before it makes
/// them: what kills a process at once is counted too.
const CAUTIOUS: Duration = Duration::from_secs(1);
/// No more messages end without an attempt while so many attempts are under way.
const ENDINGS_MAX: usize = 2_000;
/// The most dead letters of one transaction, in bytes.
const DEAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a worker tells an owner.
#[derive(Debug)]
pub(super) enum Command {
    Records {
        records: Vec<Record>,
        next: u64,
    },
    /// Give the partition up: end what is under way, commit, answer.
    Release(oneshot::Sender<()>),
}

/// What an owner works with.
#[derive(Debug)]
pub(super) struct Owning {
    pub(super) shared: Arc<Shared>,
    pub(super) partition: u32,
    /// Where the group said to go on from.
    pub(super) from: u64,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) membership: watch::Receiver<Membership>,
    pub(super) controls: Controls,
    /// Whether the worker is to read records.
    pub(super) has_room: Arc<AtomicBool>,
}

type Committed = (Box<dyn Writer>, Result<Vec<Appended>, Error>);

struct Owner {
    with: Owning,
    messages: Partition,
    epoch: u64,
    window: Window,
    /// None while a commit is under way.
    writer: Option<Box<dyn Writer>>,
    commit: Option<JoinHandle<Committed>>,
    attempts: JoinSet<Done>,
    /// The place in the line for the next attempt, as long as there is one to make.
    next_turn: Option<BoxFuture<'static, Turn>>,
    /// Attempts that are made once they are written down, and how many of them the
    /// commit under way has.
    announced: Vec<(Start, Turn)>,
    announced_under_way: usize,
    cautious_until: Instant,
    /// Dead letters that no commit has, and those of the commit under way.
    dead: Vec<NewRecord>,
    dead_under_way: usize,
    parking: Parking,
    orders: Orders,
    /// Whether there is something to commit, and how many ends of attempts.
    is_changed: bool,
    ends: usize,
    /// When the next commit may begin.
    commit_at: Instant,
    committing: u64,
    trimmer: Trimmer,
    /// Since when commits are refused.
    refused: Option<Instant>,
    random: fastrand::Rng,
}

/// Owns a partition until it is released; returns before only with an error.
pub(super) async fn own(with: Owning) -> Result<(), Error> {
    let TakenOver { writer, epoch, progress, parked_end } = take_over(&with).await?;
    fail_point!("owner::took_over");
    let parked = with.shared.topics.parked(with.partition);
    let parking = Parking::new(parked, &progress, parked_end);
    // After that nobody else forgets what it has obeyed.
    let decided = control::read_through(&*with.shared.parts.log, &with.controls).await?;
    let orders = Orders::new(with.shared.queue.clone(), with.partition, decided);
    let seed = with.shared.config.seed ^ epoch ^ u64::from(with.partition).rotate_left(32);
    let committed = progress.committed;
    with.has_room.store(true, Ordering::Release);
    let mut owner = Owner {
        messages: with.shared.topics.messages(with.partition),
        epoch,
        window: Window::new(with.shared.config.limits(), progress),
        writer: Some(writer),
        commit: None,
        attempts: JoinSet::new(),
        next_turn: None,
        announced: Vec::new(),
        announced_under_way: 0,
        cautious_until: Instant::now() + CAUTIOUS,
        dead: Vec::new(),
        dead_under_way: 0,
        parking,
        orders,
        is_changed: false,
        ends: 0,
        commit_at: Instant::now(),
        committing: committed,
        trimmer: Trimmer::new(with.shared.clone(), with.partition, committed),
        refused: None,
        random: fastrand::Rng::with_seed(seed),
        with,
    };
    owner.show();
    let ended = owner.work().await;
    let Owning { shared, partition, .. } = &owner.with;
    shared.status.lock().partitions.remove(partition);
    ended
}

impl Owner {
    async fn work(&mut self) -> Result<(), Error> {
        self.obey();
        loop {
            let now = self.with.shared.parts.clock.now();
            self.window.wake(now);
            if self.refused.is_none() && !self.orders.is_paused() {
                self.is_changed |= self.parking.park(&mut self.window);
            }
            self.parking.find(&self.window, &self.with.shared.parts.log);
            self.begin_commit();
            if self.refused.is_none() {
                self.end_without();
            }
            let may_start =
                self.refused.is_none() && !self.orders.is_paused() && self.window.has_ready();
            if !may_start {
                self.next_turn = None;
            } else if self.next_turn.is_none() {
                let turns = self.with.shared.turns.clone();
                self.next_turn = Some(Box::pin(async move { turns.take().await }));
            }
            let wake = self.wake_at(now);
            tokio::select! {
                biased;
                committed = join(&mut self.commit), if self.commit.is_some() => {
                    self.end_commit(committed).await?;
                }
                command = self.with.commands.recv() => match command {
                    Some(Command::Records { records, next }) => {
                        self.load(&records, next).await?;
                        self.obey();
                    }
                    Some(Command::Release(released)) => {
                        self.release().await?;
                        // Who has gone meanwhile takes no answer.
                        let _ = released.send(());
                        return Ok(());
                    }
                    None => return Ok(()),
                },
                Some(done) = self.attempts.join_next(), if !self.attempts.is_empty() => {
                    self.end_attempt(done.map_err(|_| Error::Closed)?);
                }
                decided = self.with.controls.changed() => {
                    decided.map_err(|_| Error::Closed)?;
                    self.obey();
                }
                found = self.parking.found(), if self.parking.is_finding() => {
                    self.is_changed |= self.parking.take(found?, &mut self.window);
                    self.obey();
                }
                turn = turn(&mut self.next_turn), if may_start => self.start(turn),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// When there is something to do that nobody tells of.
    fn wake_at(&self, now: Timestamp) -> Instant {
        let at = Instant::now();
        let mut wait = SLEEP_MAX;
        if let Some(due) = self.window.next_due() {
            wait = wait.min(Duration::from_micros(due.micros_since(now).max(0).unsigned_abs()));
        }
        if self.is_changed && self.commit.is_none() {
            wait = wait.min(self.commit_at.saturating_duration_since(at));
        }
        at + wait
    }

    async fn load(&mut self, records: &[Record], next: u64) -> Result<(), Error> {
        for record in records {
            let (expected, given) = (self.window.next(), record.offset);
            if given > expected {
                let log = &*self.with.shared.parts.log;
                gap::check(log, &self.messages, expected, given).await?;
            }
            self.window.load(super::stored::Message::of(record));
        }
        self.window.read_to(next);
        self.look_for_room();
        Ok(())
    }

    fn obey(&mut self) {
        let known = self.with.controls.borrow_and_update().clone().unwrap_or_default();
        self.orders.obey(&known, &mut self.window);
        self.is_changed |= self.orders.has_untold();
    }

    fn look_for_room(&self) {
        self.with.has_room.store(!self.window.is_full(), Ordering::Release);
    }

    fn start(&mut self, turn: Turn) {
        let Some(start) = self.window.start() else { return };
        self.is_changed = true;
        if Instant::now() < self.cautious_until {
            self.announced.push((start, turn));
        } else {
            self.make(start, Some(turn));
        }
    }

    /// Ends what needs no attempt: also while the queue is paused, and in nobody's place.
    fn end_without(&mut self) {
        while self.attempts.len() < ENDINGS_MAX
            && let Some(start) = self.window.next_ending()
        {
            self.is_changed = true;
            self.make(start, None);
        }
    }

    fn make(&mut self, start: Start, turn: Option<Turn>) {
        let attempt = Attempt {
            shared: self.with.shared.clone(),
            partition: self.with.partition,
            epoch: self.epoch,
            seed: self.random.u64(..),
        };
        self.attempts.spawn(async move {
            let done = attempt.run(start).await;
            drop(turn);
            done
        });
    }

    fn end_attempt(&mut self, done: Done) {
        let offset = done.message.offset();
        let is_over = matches!(done.verdict, Verdict::Delivered | Verdict::Dead(_));
        match done.verdict {
            Verdict::Delivered => self.window.complete(offset),
            Verdict::Retry { due } => self.window.retry(offset, due),
            Verdict::Held(_) => self.window.hold(offset),
            Verdict::Dead(reason) => {
                let (reason, attempts) = (reason.text(), done.attempts);
                let Done { at, status, error, .. } = done;
                let death = Death { reason, attempts, at, status, error };
                self.dead.push(dead::letter_of(&done.message, &death));
                self.window.complete(offset);
            }
        }
        if is_over {
            self.orders.is_over(offset);
        }
        self.is_changed = true;
        self.ends += 1;
        if self.orders.has_later() {
            self.obey();
        }
    }

    /// Begins a commit, if one is due.
    fn begin_commit(&mut self) {
        let Some(writer) = self.commit_is_due().then(|| self.writer.take()).flatten() else {
            return;
        };
        let Shared { topics, config, .. } = &*self.with.shared;
        let partition = self.with.partition;
        let mut dead_bytes = 0;
        let dead = self.dead.iter().take_while(|record| {
            dead_bytes += record.bytes();
            dead_bytes <= DEAD_BYTES_MAX
        });
        let dead: Vec<_> = dead.map(|record| (topics.dead(partition), record.clone())).collect();
        self.dead_under_way = dead.len();
        if dead.len() < self.dead.len() {
            // What does not fit goes before: killed here, it is there twice.
            self.announced_under_way = 0;
            self.orders.begin_other_commit();
            self.parking.begin_other_commit();
            let transaction = Transaction { records: dead, offsets: Vec::new() };
            self.commit = Some(tokio::spawn(commit(writer, transaction)));
            return;
        }
        let progress = self.window.progress(self.epoch);
        self.committing = progress.committed;
        self.announced_under_way = self.announced.len();
        let value = progress.encode();
        let parked = self.parking.begin_commit(&progress);
        if parked.is_some() {
            fail_point!("owner::parks");
        }
        let bytes = value.len() + parked.as_ref().map_or(0, Vec::len);
        let intervals = 1 + bytes / PROGRESS_BYTES_PER_INTERVAL;
        let interval = config.commit_interval.saturating_mul(intervals as u32);
        self.commit_at = Instant::now() + interval.min(SLEEP_MAX);
        let mut records = dead;
        records.extend(self.orders.begin_commit());
        records.push((topics.progress(partition), NewRecord::keyed(PROGRESS_KEY, value)));
        let parked = parked.map(|value| NewRecord::keyed(PARKED_KEY, value));
        records.extend(parked.map(|record| (topics.progress(partition), record)));
        // Last, so that the last offset is where the topic ends.
        records.extend(self.parking.records());
        let offsets = vec![GroupOffsets {
            group: topics.group().to_owned(),
            membership: Some(self.with.membership.borrow_and_update().clone()),
            offsets: vec![(self.messages.clone(), progress.committed)],
        }];
        (self.is_changed, self.ends) = (false, 0);
        self.commit = Some(tokio::spawn(commit(writer, Transaction { records, offsets })));
    }

    fn commit_is_due(&self) -> bool {
        let many = self.ends >= self.with.shared.config.commit_completions_max;
        // A refused commit waits its time, whatever has come about meanwhile.
        let is_time = Instant::now() >= self.commit_at || (many && self.refused.is_none());
        self.is_changed && self.commit.is_none() && is_time
    }

    async fn end_commit(&mut self, (writer, committed): Committed) -> Result<(), Error> {
        self.writer = Some(writer);
        match committed {
            Ok(appended) => {
                fail_point!("owner::committed");
                self.refused = None;
                self.parking.end_commit(&appended);
                self.dead.drain(..self.dead_under_way);
                self.orders.end_commit();
                let announced: Vec<_> = self.announced.drain(..self.announced_under_way).collect();
                for (start, turn) in announced {
                    match self.orders.is_paused() {
                        true => {
                            self.window.withdraw(start.message.offset());
                            self.is_changed = true;
                        }
                        false => self.make(start, Some(turn)),
                    }
                }
                self.announced_under_way = 0;
                self.look_for_room();
                self.show();
                self.trim(self.with.shared.config.trim_records);
                Ok(())
            }
            Err(Error::Fenced(_)) if self.has_patience() => {
                (self.is_changed, self.next_turn) = (true, None);
                // The worker that has lost the partition ends this task here.
                let renewed = timeout(REFUSED_WAIT, self.with.membership.changed()).await;
                self.commit_at = Instant::now() + REFUSED_PAUSE;
                match renewed {
                    Ok(Err(_)) => Err(Error::Closed),
                    _ => Ok(()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a refused commit is tried again.
    fn has_patience(&mut self) -> bool {
        let since = *self.refused.get_or_insert_with(Instant::now);
        since.elapsed() < REFUSED_PATIENCE
    }

    /// Removes what is completed from the topics, in steps.
    fn trim(&mut self, step: u64) {
        if let Some(before) = self.parking.trim(step) {
            self.trimmer.parked(self.parking.partition().clone(), before);
        }
        self.trimmer.messages(self.committing, step);
    }

    /// Starts nothing more, gives what is under way some time, and commits.
    async fn release(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.with.shared.config.release_timeout;
        (self.announced_under_way, self.next_turn) = (0, None);
        for (start, _turn) in std::mem::take(&mut self.announced) {
            self.window.withdraw(start.message.offset());
            self.is_changed = true;
        }
        while !self.attempts.is_empty() {
            tokio::select! {
                done = self.attempts.join_next() => {
                    if let Some(Ok(done)) = done {
                        self.end_attempt(done);
                    }
                }
                () = sleep_until(deadline) => break,
            }
        }
        self.attempts.abort_all();
        while self.is_changed || self.commit.is_some() {
            if self.commit.is_none() {
                sleep_until(self.commit_at).await;
                self.begin_commit();
            }
            if self.commit.is_some() {
                let committed = join(&mut self.commit).await;
                self.end_commit(committed).await?;
            }
        }
        self.trim(1);
        Ok(())
    }

    fn show(&self) {
        let counts = self.window.counts();
        let status = PartitionStatus {
            epoch: self.epoch,
            committed: self.window.committed(),
            end: 0,
            completed_ahead: counts.completed_ahead,
            under_way: counts.under_way,
            waiting: counts.waiting,
            held: counts.held,
            parked: counts.parked,
            messages: counts.messages,
            bytes: counts.bytes,
            oldest_accepted: self.window.oldest(),
        };
        self.with.shared.status.lock().partitions.insert(self.with.partition, status);
    }
}

async fn commit(mut writer: Box<dyn Writer>, transaction: Transaction) -> Committed {
    let committed = writer.commit(transaction).await;
    (writer, committed)
}

/// Waits for the next turn, and takes it.
async fn turn(next: &mut Option<BoxFuture<'static, Turn>>) -> Turn {
    let turn = match next.as_mut() {
        Some(next) => next.await,
        None => std::future::pending().await,
    };
    *next = None;
    turn
}

/// Waits for the commit under way, and takes it.
async fn join(commit: &mut Option<JoinHandle<Committed>>) -> Committed {
    let joined = match commit.as_mut() {
        Some(joining) => joining.await,
        None => std::future::pending().await,
    };
    *commit = None;
    joined.expect("a commit does not panic")
}
