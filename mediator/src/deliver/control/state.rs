//! The records of the topic, and what they come to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

use ingest::log::{Error, EventLog, NewRecord, Partition, Record, Result, TopicSpec};
use ingest::registry::Name;
use serde::{Deserialize, Serialize};

const TOPIC: &str = "weir.delivery.control";
/// How often the topic is looked for while another node makes it, and how long after
/// each other.
const TRIES_MAX: u32 = 20;
const TRY_PAUSE: Duration = Duration::from_millis(100);

/// Where all of it is.
pub(super) static CONTROL: LazyLock<Partition> = LazyLock::new(|| Partition::new(TOPIC, 0));

/// Since when, by whom and why a queue is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// An RFC 3339 time.
    pub since: String,
    /// Who paused it.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

/// What is to become of a message that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Retry,
    GiveUp,
}

impl Order {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::GiveUp => "give_up",
        }
    }
}

/// What is decided of one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OfQueue {
    pub(super) pause: Option<Pause>,
    /// Behind the record that said so last.
    pause_at: u64,
    orders: BTreeMap<(u32, OrderId), Ordered>,
    /// The partitions whose schedule is full.
    full: BTreeSet<u32>,
}

/// Which order: the offset of its message in the partition, and a number of its own.
pub(super) type OrderId = (u64, i64);

/// What is ordered, and where in the topic: of two for a message the later counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ordered {
    pub(super) order: Order,
    pub(super) at: u64,
}

/// What is decided, by queue.
#[derive(Debug, Clone, Default)]
pub(in crate::deliver) struct All {
    pub(super) queues: HashMap<Name, OfQueue>,
    /// Everything before this offset of the topic is in it.
    pub(super) next: u64,
}

impl All {
    pub(super) const fn end(&self) -> u64 {
        self.next
    }
}

/// Whether a queue is paused, as the later of the two knows.
pub(super) fn is_paused(one: &All, other: &All, queue: &Name) -> bool {
    let of = [one, other].into_iter().filter_map(|all| all.queues.get(queue));
    of.max_by_key(|of| of.pause_at).is_some_and(|of| of.pause.is_some())
}

/// The orders for a partition of a queue.
pub(super) fn orders_for(all: &All, queue: &Name, partition: u32) -> BTreeMap<OrderId, Ordered> {
    let Some(of) = all.queues.get(queue) else { return BTreeMap::new() };
    let range = of.orders.range((partition, (0, i64::MIN))..=(partition, (u64::MAX, i64::MAX)));
    range.map(|((_, id), ordered)| (*id, *ordered)).collect()
}

/// Whether no more is scheduled for a partition of a queue.
pub(in crate::deliver) fn is_full(all: &All, queue: &Name, partition: u32) -> bool {
    all.queues.get(queue).is_some_and(|of| of.full.contains(&partition))
}

/// What says whether more is scheduled for a partition of a queue.
pub(in crate::deliver) fn full_record(
    queue: &Name,
    partition: u32,
    is_full: bool,
) -> (Partition, NewRecord) {
    (CONTROL.clone(), record(format!("{queue}/full/{partition}"), is_full.then_some(&true)))
}

/// Makes the topic, unless it is there.
pub(super) async fn prepare(log: &dyn EventLog) -> Result<()> {
    let mut tries = 1;
    loop {
        match log.create_topic(&TopicSpec::compacted(TOPIC, 1)).await {
            Err(Error::UnknownTopic(_)) if tries < TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(TRY_PAUSE).await;
            }
            made => return made,
        }
    }
}

pub(super) fn pause_record(queue: &Name, pause: Option<&Pause>) -> NewRecord {
    record(format!("{queue}/paused"), pause)
}

pub(super) fn order_record(
    queue: &Name,
    partition: u32,
    (offset, given): OrderId,
    order: Option<Order>,
) -> NewRecord {
    record(format!("{queue}/waiting/{partition}/{offset}/{given}"), order.as_ref())
}

/// What takes an order out of the topic, once it is obeyed.
pub(super) fn forget(queue: &Name, partition: u32, id: OrderId) -> (Partition, NewRecord) {
    (CONTROL.clone(), order_record(queue, partition, id, None))
}

fn record<T: Serialize>(key: String, value: Option<&T>) -> NewRecord {
    let value = value.map(|value| serde_json::to_vec(value).expect("it is JSON").into());
    NewRecord { value, ..NewRecord::keyed(key.into_bytes(), Vec::new()) }
}

/// Takes a record in; answers whether it says anything.
pub(super) fn take(all: &mut All, record: &Record) -> bool {
    all.next = record.offset + 1;
    let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
    let Some((queue, what)) = key.and_then(|key| key.split_once('/')) else { return false };
    let Ok(queue) = Name::new(queue) else { return false };
    let of = all.queues.entry(queue).or_default();
    if what == "paused" {
        match read(record) {
            Ok(pause) => (of.pause, of.pause_at) = (pause, record.offset + 1),
            Err(()) => return false,
        }
        return true;
    }
    if let Some(partition) = what.strip_prefix("full/") {
        let (Ok(partition), Ok(is_full)) = (partition.parse(), read::<bool>(record)) else {
            return false;
        };
        match is_full {
            Some(_) => of.full.insert(partition),
            None => of.full.remove(&partition),
        };
        return true;
    }
    let (Some(which), Ok(order)) = (order_of(what), read(record)) else { return false };
    match order {
        Some(order) => of.orders.insert(which, Ordered { order, at: record.offset }),
        None => of.orders.remove(&which),
    };
    true
}

fn order_of(what: &str) -> Option<(u32, OrderId)> {
    let mut parts = what.strip_prefix("waiting/")?.splitn(3, '/');
    let partition = parts.next()?.parse().ok()?;
    Some((partition, (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)))
}

/// None of a record that takes back.
fn read<T: for<'a> Deserialize<'a>>(record: &Record) -> Result<Option<T>, ()> {
    let value = record.value.as_deref();
    value.map(|value| serde_json::from_slice(value).map_err(|_| ())).transpose()
}

#[cfg(test)]
mod tests {
    use ingest::log::{Headers, LogTime};

    use super::*;

    #[test]
    fn records_come_to_what_was_decided_last() {
        let queue = Name::new("orders").unwrap();
        let pause = Pause { since: "t".into(), by: "ada".into(), reason: "r".into() };
        let (mut all, mut offset) = (All::default(), 0);
        let mut took = |new: NewRecord| {
            let NewRecord { key, value, .. } = new;
            let (time, headers) = (LogTime(0), Headers::default());
            offset += 1;
            take(&mut all, &Record { offset, time, key, value, headers })
        };
        assert!(took(pause_record(&queue, Some(&pause))));
        assert!(took(order_record(&queue, 1, (7, 1), Some(Order::Retry))));
        assert!(took(order_record(&queue, 1, (9, 2), Some(Order::Retry))));
        assert!(took(order_record(&queue, 1, (9, 3), Some(Order::GiveUp))));
        assert!(took(order_record(&queue, 2, (0, 4), Some(Order::GiveUp))));
        assert!(took(forget(&queue, 1, (7, 1)).1));
        assert!(took(full_record(&queue, 1, true).1));
        assert!(took(full_record(&queue, 2, true).1));
        assert!(took(full_record(&queue, 1, false).1));
        for (key, value) in [
            ("orders", "{}"),
            ("orders/else", "1"),
            ("or ders/paused", "{}"),
            ("orders/paused", "1"),
            ("orders/waiting/1/8", "\"retry\""),
            ("orders/waiting/1/8/5", "\"forgive\""),
            ("orders/full/x", "true"),
        ] {
            assert!(!took(NewRecord::keyed(key.as_bytes(), value.as_bytes())), "{key} {value}");
        }
        assert!(is_paused(&all, &All::default(), &queue));
        assert_eq!([1, 2].map(|index| is_full(&all, &queue, index)), [false, true]);
        let mut later = All::default();
        let NewRecord { key, value, .. } = pause_record(&queue, None);
        let (time, headers) = (LogTime(0), Headers::default());
        assert!(take(&mut later, &Record { offset: 90, time, key, value, headers }));
        assert!(!is_paused(&all, &later, &queue) && !is_paused(&later, &all, &queue));
        let of = |queue: &Name, index| -> Vec<(OrderId, Order)> {
            let orders = orders_for(&all, queue, index).into_iter();
            orders.map(|(id, ordered)| (id, ordered.order)).collect()
        };
        assert!(orders_for(&all, &queue, 1).values().is_sorted_by_key(|ordered| ordered.at));
        assert_eq!(of(&queue, 1), [((9, 2), Order::Retry), ((9, 3), Order::GiveUp)]);
        assert_eq!(of(&queue, 2), [((0, 4), Order::GiveUp)]);
        assert_eq!(of(&Name::new("other").unwrap(), 1), []);
    }
}
