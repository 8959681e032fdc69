//! Members of the embedded log's groups.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use super::Inner;
use super::membership::Change;
use super::reader::Cursors;
use super::request::Request;
use crate::log::group::Proof;
use crate::log::{Error, GroupOffsets, Member, Membership, Partition, Polled, ReadLimit, Result};

pub(super) struct EmbeddedMember {
    log: Arc<Inner>,
    group: String,
    topics: BTreeSet<String>,
    partitions: Vec<Partition>,
    number: u64,
    cursors: Cursors,
    /// Assigned, but not handed to the caller yet.
    gained: Vec<Partition>,
}

impl EmbeddedMember {
    pub(super) fn join(log: Arc<Inner>, group: &str, topics: BTreeSet<String>) -> Result<Self> {
        let partitions = {
            let view = log.shared.view.read();
            for topic in &topics {
                view.state.topic(topic).ok_or_else(|| Error::UnknownTopic(topic.clone()))?;
            }
            let all = view.state.partitions().map(|(partition, ..)| partition);
            all.filter(|partition| topics.contains(&*partition.topic)).collect::<Vec<_>>()
        };
        let number = log.groups.join(group, &topics, &partitions)?;
        let (cursors, gained) = Default::default();
        Ok(Self { log, group: group.to_owned(), topics, partitions, number, cursors, gained })
    }

    /// Opens the partitions that were gained, where the group has left off.
    async fn open_gained(&mut self) -> Result<Polled> {
        // What a former owner has under way is either committed by now, or will
        // be refused.
        self.log.submit(Request::Barrier).await?;
        let view = self.log.shared.view.read();
        let mut assigned = Vec::new();
        for partition in std::mem::take(&mut self.gained) {
            let key = view.state.key(&partition)?;
            let committed = view.state.committed(&self.group, key);
            let from = committed.unwrap_or(view.state.ends(key).first);
            self.cursors.insert(partition.clone(), key, from);
            assigned.push((partition, from));
        }
        Ok(Polled::Assigned(assigned))
    }

    /// Joins again after having been put out.
    fn rejoin(&mut self) -> Result<Option<Polled>> {
        self.number = self.log.groups.join(&self.group, &self.topics, &self.partitions)?;
        self.gained.clear();
        let lost = self.cursors.take_all();
        Ok((!lost.is_empty()).then_some(Polled::Lost(lost)))
    }
}

/// A poll under way; the time until the next one counts from its end.
struct Polling<'a> {
    log: &'a Inner,
    group: String,
    number: u64,
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.log.groups.polled(&self.group, self.number);
    }
}

#[async_trait]
impl Member for EmbeddedMember {
    async fn poll(&mut self, limit: ReadLimit) -> Result<Polled> {
        let log = self.log.clone();
        let _polling = Polling { log: &log, group: self.group.clone(), number: self.number };
        let deadline = Instant::now() + limit.wait;
        let mut published = self.log.shared.published.subscribe();
        let mut changes = self.log.groups.changes();
        loop {
            published.mark_unchanged();
            changes.mark_unchanged();
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.groups.poll(&self.group, self.number, left) {
                Some(Change::Assigned(gained)) => self.gained.extend(gained),
                Some(Change::Revoked(revoked)) => {
                    self.gained.retain(|partition| !revoked.contains(partition));
                    revoked.iter().for_each(|partition| self.cursors.remove(partition));
                    return Ok(Polled::Revoked(revoked));
                }
                Some(Change::PutOut) => match self.rejoin()? {
                    Some(lost) => return Ok(lost),
                    None => continue,
                },
                None => {}
            }
            if !self.gained.is_empty() {
                return self.open_gained().await;
            }
            if let Some(batch) = self.cursors.read(&self.log, limit.bytes).await? {
                return Ok(Polled::Records(batch));
            }
            self.log.shared.check_writable()?;
            if left.is_zero() {
                return Ok(Polled::Idle);
            }
            // Others are put out by whoever looks, so somebody has to.
            let look = Instant::now() + self.log.groups.poll_interval_max / 4;
            tokio::select! {
                _ = published.changed() => {}
                _ = changes.changed() => {}
                () = sleep_until(deadline.min(look)) => {}
            }
        }
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<()> {
        self.cursors.set_paused(partitions, true);
        Ok(())
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<()> {
        self.cursors.set_paused(partitions, false);
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(Partition, u64)]) -> Result<()> {
        let membership = Some(self.membership());
        let (group, offsets) = (self.group.clone(), offsets.to_vec());
        self.log.submit(Request::Commit(GroupOffsets { group, membership, offsets })).await?;
        Ok(())
    }

    fn membership(&self) -> Membership {
        Membership(Proof::Local(self.number))
    }

    fn poll_interval_max(&self) -> Duration {
        self.log.groups.poll_interval_max
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Drop for EmbeddedMember {
    fn drop(&mut self) {
        self.log.groups.leave(&self.group, self.number);
    }
}

impl fmt::Debug for EmbeddedMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedMember")
            .field("group", &self.group)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
