//! Who reads which partition, for groups whose members live in this process.
//!
//! Partitions are spread evenly and stay where they are when they can. One that
//! has to move is first given up by its owner: [`Change::Revoked`] tells it, its
//! next poll hands it over. An owner that does not poll in time is put out by
//! the others, and what it commits afterwards is refused.
//!
//! Membership is not durable; committed offsets are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::log::group::Proof;
use crate::log::{Error, GroupOffsets, Partition, Result};

/// All groups of the process.
#[derive(Debug)]
pub(super) struct Coordinator {
    groups: Mutex<Groups>,
    /// Counts what changed; members that wait are woken by it.
    changed: watch::Sender<u64>,
    pub(super) poll_interval_max: Duration,
}

#[derive(Debug, Default)]
struct Groups {
    by_name: HashMap<String, Group>,
    next_member: u64,
}

#[derive(Debug)]
struct Group {
    topics: BTreeSet<String>,
    partitions: Vec<Partition>,
    members: BTreeMap<u64, MemberState>,
}

#[derive(Debug)]
struct MemberState {
    /// Put out after this.
    deadline: Instant,
    owned: BTreeSet<Partition>,
    /// Told to give up; still the member's until its next poll.
    leaving: BTreeSet<Partition>,
}

/// What a member is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
    /// The member was put out; it has to join again.
    PutOut,
}

impl Coordinator {
    pub(super) fn new(poll_interval_max: Duration) -> Self {
        Self { groups: Mutex::default(), changed: watch::Sender::new(0), poll_interval_max }
    }

    /// Wakes when any membership changes.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Adds a member; answers its number.
    pub(super) fn join(
        &self,
        group: &str,
        topics: &BTreeSet<String>,
        partitions: &[Partition],
    ) -> Result<u64> {
        let mut groups = self.groups.lock();
        groups.next_member += 1;
        let number = groups.next_member;
        let entry = groups.by_name.entry(group.to_owned()).or_insert_with(|| Group {
            topics: topics.clone(),
            partitions: partitions.to_vec(),
            members: BTreeMap::new(),
        });
        if entry.topics != *topics {
            let reason = format!("its members read {:?}, not {topics:?}", entry.topics);
            return Err(Error::InvalidGroup { group: group.to_owned(), reason });
        }
        let deadline = Instant::now() + self.poll_interval_max;
        let (owned, leaving) = Default::default();
        entry.members.insert(number, MemberState { deadline, owned, leaving });
        drop(groups);
        self.announce();
        Ok(number)
    }

    /// Takes note that a member polls, and will wait up to `wait`; answers what
    /// is new for it.
    pub(super) fn poll(&self, group: &str, member: u64, wait: Duration) -> Option<Change> {
        let now = Instant::now();
        let mut groups = self.groups.lock();
        let Some(group) = groups.by_name.get_mut(group) else {
            return Some(Change::PutOut);
        };
        let Some(state) = group.members.get_mut(&member) else {
            return Some(Change::PutOut);
        };
        state.deadline = now + wait + self.poll_interval_max;
        let mut freed = !std::mem::take(&mut state.leaving).is_empty();
        let before = group.members.len();
        group.members.retain(|_, state| state.deadline >= now);
        freed |= group.members.len() < before;
        let change = group.rebalance(member);
        drop(groups);
        if freed {
            self.announce();
        }
        change
    }

    /// Takes note that a poll has ended.
    pub(super) fn polled(&self, group: &str, member: u64) {
        let mut groups = self.groups.lock();
        let state = groups.by_name.get_mut(group).and_then(|g| g.members.get_mut(&member));
        if let Some(state) = state {
            state.deadline = Instant::now() + self.poll_interval_max;
        }
    }

    /// Takes a member out.
    pub(super) fn leave(&self, group: &str, member: u64) {
        let mut groups = self.groups.lock();
        if let Some(entry) = groups.by_name.get_mut(group) {
            entry.members.remove(&member);
            if entry.members.is_empty() {
                groups.by_name.remove(group);
            }
        }
        drop(groups);
        self.announce();
    }

    /// Whether a commit comes from who may make it.
    pub(super) fn check_commit(&self, commit: &GroupOffsets) -> Result<()> {
        let groups = self.groups.lock();
        let group = groups.by_name.get(&commit.group);
        let fenced = |who: String| Err(Error::Fenced(who));
        let Some(membership) = &commit.membership else {
            return match group {
                Some(_) => fenced(format!("a commit from outside of group {:?}", commit.group)),
                None => Ok(()),
            };
        };
        let member = match &membership.0 {
            Proof::Local(member) => group.and_then(|group| group.members.get(member)),
            Proof::Kafka(_) => None,
        };
        let Some(member) = member else {
            return fenced(format!("a member of group {:?}", commit.group));
        };
        for (partition, _) in &commit.offsets {
            if !member.owned.contains(partition) && !member.leaving.contains(partition) {
                return fenced(format!("a member of group {:?} for {partition}", commit.group));
            }
        }
        Ok(())
    }

    fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

impl Group {
    /// What a member is to take or give up, for the partitions to be spread evenly.
    fn rebalance(&mut self, member: u64) -> Option<Change> {
        let rank = self.members.keys().position(|number| *number == member)?;
        let (all, members) = (self.partitions.len(), self.members.len());
        let share = all / members + usize::from(rank < all % members);
        let owned = self.members[&member].owned.len();
        if owned > share {
            let state = self.members.get_mut(&member)?;
            let excess: Vec<_> = state.owned.iter().rev().take(owned - share).cloned().collect();
            for partition in &excess {
                state.owned.remove(partition);
                state.leaving.insert(partition.clone());
            }
            return Some(Change::Revoked(excess));
        }
        let taken = |partition: &Partition| {
            let has =
                |m: &MemberState| m.owned.contains(partition) || m.leaving.contains(partition);
            self.members.values().any(has)
        };
        let free = self.partitions.iter().filter(|partition| !taken(partition));
        let gained: Vec<_> = free.take(share - owned).cloned().collect();
        if gained.is_empty() {
            return None;
        }
        self.members.get_mut(&member)?.owned.extend(gained.iter().cloned());
        Some(Change::Assigned(gained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Membership;

    const SECOND: Duration = Duration::from_secs(1);

    fn partitions(count: u32) -> Vec<Partition> {
        (0..count).map(|index| Partition::new("t", index)).collect()
    }

    fn coordinator() -> (Coordinator, impl Fn(&Coordinator) -> u64) {
        let topics = BTreeSet::from(["t".to_owned()]);
        let join = move |c: &Coordinator| c.join("g", &topics, &partitions(3)).unwrap();
        (Coordinator::new(10 * SECOND), join)
    }

    fn commit(member: Option<u64>, index: u32) -> GroupOffsets {
        let membership = member.map(|member| Membership(Proof::Local(member)));
        let offsets = vec![(Partition::new("t", index), 1)];
        GroupOffsets { group: "g".to_owned(), membership, offsets }
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_moves_only_after_its_owner_has_given_it_up() {
        let (c, join) = coordinator();
        let p = partitions(3);
        let one = join(&c);
        assert_eq!(c.poll("g", one, SECOND), Some(Change::Assigned(p.clone())));
        let two = join(&c);
        assert_eq!(c.poll("g", two, SECOND), None, "all are taken");
        assert_eq!(c.poll("g", one, SECOND), Some(Change::Revoked(vec![p[2].clone()])));
        assert_eq!(c.poll("g", two, SECOND), None, "not given up yet");
        c.check_commit(&commit(Some(one), 2)).unwrap();
        assert_eq!(c.poll("g", one, SECOND), None);
        assert!(c.check_commit(&commit(Some(one), 2)).is_err());
        assert_eq!(c.poll("g", two, SECOND), Some(Change::Assigned(vec![p[2].clone()])));
        c.leave("g", two);
        assert_eq!(c.poll("g", one, SECOND), Some(Change::Assigned(vec![p[2].clone()])));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_poll_in_time_is_put_out_and_refused() {
        let (c, join) = coordinator();
        let one = join(&c);
        c.poll("g", one, Duration::ZERO);
        let two = join(&c);
        tokio::time::advance(11 * SECOND).await;
        c.check_commit(&commit(Some(one), 0)).unwrap();
        assert_eq!(c.poll("g", two, SECOND), Some(Change::Assigned(partitions(3))));
        assert!(matches!(c.check_commit(&commit(Some(one), 0)), Err(Error::Fenced(_))));
        assert_eq!(c.poll("g", one, SECOND), Some(Change::PutOut));
    }

    #[tokio::test(start_paused = true)]
    async fn outsiders_do_not_commit_for_a_group_with_members() {
        let (c, join) = coordinator();
        c.check_commit(&commit(None, 0)).unwrap();
        let one = join(&c);
        assert!(c.check_commit(&commit(None, 0)).is_err());
        c.leave("g", one);
        c.check_commit(&commit(None, 0)).unwrap();
    }

    #[test]
    fn all_members_read_the_same_topics() {
        let (c, join) = coordinator();
        join(&c);
        let other = BTreeSet::from(["u".to_owned()]);
        assert!(matches!(c.join("g", &other, &[]), Err(Error::InvalidGroup { .. })));
    }
}
