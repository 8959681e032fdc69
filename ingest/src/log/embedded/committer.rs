//! The thread that owns the journal, and the one that looks after it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::journal::Journal;
use super::maintain::Maintenance;
use super::request::{Answer, Request};
use crate::log::{Error, Result};

/// So many requests may wait for the committer; more callers wait to hand theirs in.
const REQUESTS_MAX: usize = 4096;
/// So much may wait for the committer, in KiB; more callers wait to hand theirs in.
const WAITING_KIB_MAX: usize = 64 * 1024;

/// A request, whom to answer, and the room that it takes while it waits.
type Job = (Request, (oneshot::Sender<Result<Answer>>, Option<OwnedSemaphorePermit>));

/// Hands requests to the committer thread.
#[derive(Debug, Clone)]
pub(super) struct Committer {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    /// Held from asking for room to handing in, so that nobody overtakes.
    turn: Arc<Mutex<()>>,
}

impl Committer {
    /// Starts the thread. It ends when the last handle is gone.
    pub(super) fn start(mut journal: Journal) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(REQUESTS_MAX);
        let run = move || {
            while let Some(first) = waiting.blocking_recv() {
                let more = std::iter::from_fn(|| waiting.try_recv().ok());
                journal.carry_out(std::iter::once(first).chain(more), |(reply, _room), result| {
                    // A caller who has gone does not want to know.
                    drop(reply.send(result));
                });
            }
            journal.carry_out([(Request::Confirm, ())], |(), result| {
                if let Err(error) = result {
                    tracing::warn!(%error, "the log was closed without confirming its last frame");
                }
            });
            if let Err(error) = journal.mark() {
                tracing::warn!(%error, "the log was closed without saying how far it is");
            }
        };
        let thread = std::thread::Builder::new().name("log-committer".to_owned()).spawn(run)?;
        let room = Arc::new(Semaphore::new(WAITING_KIB_MAX));
        let turn = Arc::default();
        Ok((Self { jobs, room, turn }, thread))
    }

    /// Has a request carried out; waits while too much is waiting already.
    pub(super) async fn submit(&self, request: Request) -> Result<Answer> {
        let kib = (request.bytes() / 1024 + 1).min(WAITING_KIB_MAX);
        let kib = u32::try_from(kib).expect("it is bounded");
        let (reply, answer) = oneshot::channel();
        {
            let _turn = self.turn.lock().await;
            let room = self.room.clone().acquire_many_owned(kib).await;
            let room = Some(room.map_err(|_| Error::Closed)?);
            self.jobs.send((request, (reply, room))).await.map_err(|_| Error::Closed)?;
        }
        answer.await.map_err(|_| Error::Closed)?
    }

    /// The same, from a thread of its own.
    pub(super) fn submit_blocking(&self, request: Request) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        self.jobs.blocking_send((request, (reply, None))).map_err(|_| Error::Closed)?;
        answer.blocking_recv().map_err(|_| Error::Closed)?
    }
}

/// Runs the maintenance every so often, until it is dropped.
pub(super) struct Caretaker {
    stop: Option<std_mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Caretaker {
    pub(super) fn start<S>(
        mut maintenance: Maintenance<S>,
        interval: Duration,
    ) -> std::io::Result<Self>
    where
        S: FnMut(Request) -> Result<Answer> + Send + 'static,
    {
        let (stop, stopped) = std_mpsc::channel::<()>();
        let run = move || {
            let mut last_failure = String::new();
            loop {
                let failure = maintenance.run().err().map(|e| e.to_string()).unwrap_or_default();
                if failure != last_failure && !failure.is_empty() {
                    tracing::warn!(error = %failure, "log maintenance failed, will try again");
                }
                last_failure = failure;
                match stopped.recv_timeout(interval) {
                    Err(std_mpsc::RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("log-maintenance".to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Caretaker {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("log maintenance panicked");
        }
    }
}

impl fmt::Debug for Caretaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caretaker")
    }
}
