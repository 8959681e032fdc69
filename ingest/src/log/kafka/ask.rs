//! Questions to Kafka's client, which blocks until they are answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::error::is_passing;

/// The pause before a question is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How often a question that nobody answers is asked within the timeout.
const QUESTIONS: u32 = 4;

/// Asks a client about a topic, and again while what is in the way is about to pass, as where
/// a partition has just got another leader; for the timeout, and one question more, at most.
/// Blocks.
///
/// A client keeps for minutes whom it knew as a partition's leader, or that it knew of none,
/// and goes on waiting for a broker that has gone: so it is told anew before it is asked again.
pub(super) fn ask_again<T>(
    client: &BaseConsumer,
    topic: &str,
    timeout: Duration,
    question: impl Fn(&BaseConsumer, Duration) -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let (began, once) = (Instant::now(), timeout / QUESTIONS);
    loop {
        let failed = match question(client, once) {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        if !failed.rdkafka_error_code().is_some_and(is_passing) {
            return Err(failed);
        }
        std::thread::sleep(ASK_AGAIN_AFTER);
        // Also before it is given up: the next question may be another's.
        if let Err(error) = client.fetch_metadata(Some(topic), once) {
            tracing::debug!(%error, topic, "the client may ask a broker that has gone");
        }
        if began.elapsed() > timeout {
            return Err(failed);
        }
    }
}

/// Runs a blocking question off the runtime's threads.
pub(super) async fn ask<T: Send + 'static>(
    client: &Arc<BaseConsumer>,
    question: impl FnOnce(&BaseConsumer) -> T + Send + 'static,
) -> T {
    let client = client.clone();
    run_blocking(move || question(&client)).await
}

pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("the client's calls do not panic, and the runtime outlives its callers")
}
