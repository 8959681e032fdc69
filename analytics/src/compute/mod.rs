//! Where and how the SQL of people computes, so that it takes nothing from anybody else.
//!
//! Queries have threads of their own, which the system gives less time than others while it is
//! short. A step of a plan may make very many batches out of a few, as a join does, without ever
//! waiting for anything; so each gives way after some batches, and a query that is to end does.
//! One that has run for a while leaves most of the time to those that have just begun, so that
//! who asks little waits little, whatever others ask. What no batch ends is one call of a
//! function over up to 8,192 rows.

mod step;
mod way;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use self::way::{Way, Young};

/// What a part of a query would make is more than it may be at once, which is told to who asks.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TooMuch(pub(crate) String);

impl From<TooMuch> for DataFusionError {
    fn from(error: TooMuch) -> Self {
        Self::External(Box::new(error))
    }
}

/// How much less the threads of queries count than others: the system's nice value.
const NICE: i32 = 10;

/// How many threads there are beyond the processors: what one call of a function does not give
/// back, the system takes from it for others.
const HELD: usize = 8;

/// How large their stacks are, in bytes: a plan is worked through by calls within calls.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// Threads that queries compute on, some more than there are processors. Cheap to clone; they end
/// when the last clone is dropped, at their next step.
#[derive(Clone)]
pub struct Threads(Arc<Owned>);

struct Owned(Option<Runtime>);

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new() -> std::io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = processors + HELD;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("weir-query")
            .worker_threads(threads)
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(|| {
                // On Linux of this thread alone; without it queries compute all the same.
                if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                    tracing::debug!(%error, "queries count as much as everything else");
                }
            })
            .build()?;
        Ok(Self(Arc::new(Owned(Some(runtime)))))
    }

    /// Runs a task there.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.0.as_ref().expect("it is there until the last clone is dropped").spawn(task)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Without waiting for what does not end.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs a query, each step of which gives way.
///
/// # Errors
/// If it cannot be planned.
pub(crate) async fn stream(query: DataFrame) -> Result<SendableRecordBatchStream> {
    /// Of the process, whose processors they share.
    static YOUNG: LazyLock<Young> = LazyLock::new(Young::default);
    let context = Arc::new(query.task_ctx());
    let way = Way::new(&YOUNG);
    execute_stream(step::giving_way(query.create_physical_plan().await?, &way)?, context)
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Threads")
    }
}
