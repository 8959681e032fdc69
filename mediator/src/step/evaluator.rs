//! Where expressions and templates are evaluated: off the runtime, a bounded number
//! at once.
//!
//! An evaluation cannot be stopped. One that does not end holds its place until the
//! process ends, and its run fails by the route's timeout; when all
//! [`EVALUATIONS_MAX`] places are so held, every further evaluation waits for its own
//! route's timeout. Templates have fuel, so this can be the work of jq only.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Fault;

/// The most evaluations at once.
const EVALUATIONS_MAX: usize = 32;

#[derive(Debug, Clone)]
pub(crate) struct Evaluator(Arc<Semaphore>);

impl Evaluator {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(EVALUATIONS_MAX)))
    }

    /// Evaluates on a thread where that may take its time.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = self.0.clone().acquire_owned().await.expect("nobody closes it");
        let evaluated = tokio::task::spawn_blocking(move || {
            let _held = permit;
            work()
        });
        match evaluated.await {
            Ok(result) => result.map_err(Fault::failed),
            Err(_) => Err(Fault::failed("the evaluation broke off")),
        }
    }
}
