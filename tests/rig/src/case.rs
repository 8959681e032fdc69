use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Builder;
use tokio::time::timeout;

/// The longest that a case may take, and then what it leaves behind.
const CASE_MAX: Duration = Duration::from_mins(10);
const REST_MAX: Duration = Duration::from_secs(60);

/// Runs a case on a runtime of its own, on two threads. What hangs is told as that case's
/// failure: the case itself, or work that it gave up and that has to end by itself.
pub fn run_case<T>(case: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async { timeout(CASE_MAX, case).await });
    let began = Instant::now();
    runtime.shutdown_timeout(REST_MAX);
    let ended = ended.with_context(|| format!("the case has not ended within {CASE_MAX:?}"))??;
    let has_ended = began.elapsed() < REST_MAX;
    ensure!(has_ended, "what the case left behind has not ended within {REST_MAX:?}");
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_tells_what_it_came_to() {
        assert_eq!(run_case(async { Ok(7) }).unwrap(), 7);
        let failed = run_case::<()>(async { anyhow::bail!("no") }).unwrap_err();
        assert_eq!(failed.to_string(), "no");
    }
}
