//! Reading what is there now, to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Batch, Error, EventLog, Partition, ReadLimit, Reader, Result};

/// How long nothing may come before the end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often to look whether an end is reached that no record comes to.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The records that partitions of a topic held when this was opened, each partition in
/// order. What is trimmed meanwhile is passed over.
#[derive(Debug)]
pub struct Scan<'a> {
    log: &'a dyn EventLog,
    reader: Option<Box<dyn Reader>>,
    /// Per partition that is not read to its end: where to go on, and the end.
    left: BTreeMap<Partition, (u64, u64)>,
}

impl<'a> Scan<'a> {
    /// Of the partitions, all of one topic, up to where they end now.
    ///
    /// # Errors
    /// As [`EventLog::bounds`].
    pub async fn open(
        log: &'a dyn EventLog,
        partitions: impl IntoIterator<Item = Partition>,
    ) -> Result<Self> {
        let mut left = BTreeMap::new();
        for partition in partitions {
            let bounds = log.bounds(&partition).await?;
            left.insert(partition, (bounds.first, bounds.end));
        }
        Ok(Self { log, reader: None, left })
    }

    /// As [`Self::open`], up to ends that [`Self::ends`] told earlier.
    ///
    /// # Errors
    /// As [`EventLog::bounds`].
    pub async fn up_to(log: &'a dyn EventLog, ends: &BTreeMap<Partition, u64>) -> Result<Self> {
        let mut scan = Self::open(log, ends.keys().cloned()).await?;
        for (partition, (_, end)) in &mut scan.left {
            *end = ends[partition];
        }
        Ok(scan)
    }

    /// Of the partitions, each from an offset up to another; what is trimmed is passed over.
    ///
    /// # Errors
    /// As [`EventLog::bounds`].
    pub async fn within(
        log: &'a dyn EventLog,
        spans: BTreeMap<Partition, (u64, u64)>,
    ) -> Result<Self> {
        let mut left = BTreeMap::new();
        for (partition, (from, to)) in spans {
            let bounds = log.bounds(&partition).await?;
            left.insert(partition, (from.max(bounds.first), to.min(bounds.end)));
        }
        Ok(Self { log, reader: None, left })
    }

    /// Where each of the partitions ends that are not read to their end.
    pub fn ends(&self) -> BTreeMap<Partition, u64> {
        self.left.iter().map(|(partition, (_, end))| (partition.clone(), *end)).collect()
    }

    /// The next records of one of the partitions; `None` at the end of all. Whoever goes on
    /// from there begins at [`Self::ends`] as it was at first: [`Batch::next`] may be past it.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if nothing comes for 20 s before the end: a part is never
    /// told as the whole.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.left.retain(|_, (next, end)| next < end);
            if self.left.is_empty() {
                return Ok(None);
            }
            let reader = match &mut self.reader {
                Some(reader) => reader,
                None => {
                    let from = self.left.iter().map(|(of, (next, _))| (of.clone(), *next));
                    self.reader.insert(self.log.reader(from.collect()).await?)
                }
            };
            let limit = ReadLimit { wait: LOOK_EVERY, ..ReadLimit::default() };
            match reader.next(limit).await {
                Ok(Some(mut batch)) => {
                    let Some((next, end)) = self.left.get_mut(&batch.partition) else {
                        // What is written to one that is done must not hide the ends of others.
                        self.reader = None;
                        continue;
                    };
                    *next = batch.next;
                    batch.records.retain(|record| record.offset < *end);
                    if !batch.records.is_empty() {
                        return Ok(Some(batch));
                    }
                }
                Ok(None) => self.left.retain(|of, (_, end)| !reader.has_reached(of, *end)),
                Err(Error::OutOfRange { partition, bounds, .. }) => {
                    self.reader = None;
                    if let Some((next, _)) = self.left.get_mut(&partition) {
                        *next = bounds.first;
                    }
                }
                Err(error) => return Err(error),
            }
            if Instant::now() > deadline {
                return Err(Error::TimedOut(PATIENCE));
            }
        }
    }
}
