//! The decisions for one partition, as its owner obeys them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingest::log::{NewRecord, Partition};
use ingest::registry::Name;

use super::state::{All, Order, OrderId, Ordered, forget, is_paused, orders_for};
use crate::deliver::partition::{Obeyed, Window};

/// What is decided of a partition, and how far it is obeyed.
#[derive(Debug)]
pub(in crate::deliver) struct Orders {
    queue: Name,
    partition: u32,
    /// What was decided when the owner took over.
    decided: Arc<All>,
    is_paused: bool,
    /// Orders that are being obeyed, or are.
    obeying: BTreeMap<OrderId, Obeyed>,
    /// Whether there are others, which cannot be obeyed by now.
    has_later: bool,
    /// Those that are obeyed and of which no commit says so, and how many of them the
    /// commit under way has.
    untold: Vec<OrderId>,
    under_way: usize,
}

impl Orders {
    pub(in crate::deliver) fn new(queue: Name, partition: u32, decided: Arc<All>) -> Self {
        Self {
            queue,
            partition,
            decided,
            is_paused: false,
            obeying: BTreeMap::new(),
            has_later: false,
            untold: Vec::new(),
            under_way: 0,
        }
    }

    /// Whether somebody has paused the queue.
    pub(in crate::deliver) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether there is an order that could not be obeyed yet.
    pub(in crate::deliver) fn has_later(&self) -> bool {
        self.has_later
    }

    /// Whether there is something that the next commit is to tell, and the one under way
    /// does not.
    pub(in crate::deliver) fn has_untold(&self) -> bool {
        self.untold.len() > self.under_way
    }

    /// Does what was decided, as far as that can be done by now. Of several orders for a
    /// message the last is obeyed, and the others with it.
    pub(in crate::deliver) fn obey(&mut self, known: &All, window: &mut Window) {
        self.is_paused = is_paused(known, &self.decided, &self.queue);
        self.has_later = false;
        let orders = self.orders(known);
        if orders.is_empty() && self.obeying.is_empty() {
            return;
        }
        self.obeying.retain(|id, _| orders.contains_key(id));
        let mut orders = orders.into_iter().peekable();
        while let Some(&((offset, _), _)) = orders.peek() {
            let mut of_message = Vec::new();
            while let Some(next) = orders.next_if(|((of, _), _)| *of == offset) {
                of_message.push(next);
            }
            of_message.sort_by_key(|(_, of)| of.at);
            let Some(&(last, of)) = of_message.last() else { continue };
            if self.obeying.contains_key(&last) {
                continue;
            }
            let obeyed = match of.order {
                Order::Retry => window.retry_now(offset),
                Order::GiveUp => window.give_up(offset),
            };
            self.has_later |= obeyed == Obeyed::Later;
            for (id, _) in of_message {
                self.is_obeyed(id, obeyed);
            }
        }
    }

    fn orders(&self, known: &All) -> BTreeMap<OrderId, Ordered> {
        let mut orders = orders_for(known, &self.queue, self.partition);
        // What a former owner has obeyed this node may not have heard of yet; and it may
        // not have heard of what was ordered before this owner began.
        let decided = orders_for(&self.decided, &self.queue, self.partition);
        orders.retain(|id, of| of.at >= self.decided.end() || decided.contains_key(id));
        if known.end() < self.decided.end() {
            orders.extend(decided);
        }
        orders
    }

    fn is_obeyed(&mut self, id: OrderId, obeyed: Obeyed) {
        if obeyed == Obeyed::Later {
            return;
        }
        let before = self.obeying.insert(id, obeyed);
        if obeyed == Obeyed::Now && before != Some(Obeyed::Now) {
            self.untold.push(id);
        }
    }

    /// A message is completed, and with it what was ordered of it.
    pub(in crate::deliver) fn is_over(&mut self, offset: u64) {
        let of_message = self.obeying.range((offset, i64::MIN)..=(offset, i64::MAX));
        for id in of_message.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.is_obeyed(id, Obeyed::Now);
        }
    }

    /// What a commit takes out of the topic.
    pub(in crate::deliver) fn begin_commit(&mut self) -> Vec<(Partition, NewRecord)> {
        self.under_way = self.untold.len();
        self.untold.iter().map(|id| forget(&self.queue, self.partition, *id)).collect()
    }

    /// The commit that began last says nothing of orders.
    pub(in crate::deliver) fn begin_other_commit(&mut self) {
        self.under_way = 0;
    }

    pub(in crate::deliver) fn end_commit(&mut self) {
        self.untold.drain(..self.under_way);
        self.under_way = 0;
    }
}
