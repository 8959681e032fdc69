//! Whether a member has passed records over: an owner would take what it was never given
//! for completed.

use std::time::Duration;

use ingest::log::{Error, EventLog, Partition, ReadLimit};
use tokio::time::Instant;

/// How long the log may take to give what it has.
const PATIENCE: Duration = Duration::from_secs(10);

/// Checks that the log has nothing from `next` on before `given`, the record that came next.
/// A partition that only appends write to has no gaps; in one that transactions write to,
/// their marks are some.
///
/// # Errors
/// [`Error::PassedOver`] if there is something.
pub(super) async fn check(
    log: &dyn EventLog,
    partition: &Partition,
    next: u64,
    given: u64,
) -> Result<(), Error> {
    let from = next.max(log.bounds(partition).await?.first);
    if from >= given {
        return Ok(());
    }
    let mut reader = log.reader(vec![(partition.clone(), from)]).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let batch = reader.next(ReadLimit::default()).await?;
        let first = batch.and_then(|batch| batch.records.first().map(|record| record.offset));
        match first {
            Some(first) if first < given => {
                let partition = partition.clone();
                return Err(Error::PassedOver { partition, offset: first });
            }
            Some(_) => return Ok(()),
            None if Instant::now() > deadline => return Err(Error::TimedOut(PATIENCE)),
            None => {}
        }
    }
}
