//! How a query takes in a long history: by event time, a slice at a time.
//!
//! ```text
//! slice ─ rows ─► query ─ windows that end in it ─► answers, checkpoint ─► next slice
//! ```
//!
//! So it holds a slice and its open windows, however long the history is; others have their
//! turn between two slices; and who takes it up goes on behind the last. Why the answers are
//! those of the log's order: `docs/decisions/0024`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::lake::{Backlog, Error, History, Slice, Which};

/// Rows of a history that are taken in at once, at most: of one that is longer the slices have
/// as many.
pub const SLICE_ROWS: u64 = 256 * 1024;
/// How many bytes a row of a slice may take of what its query may hold; there are fewer rows in
/// a slice of one that may hold little.
const ROW_BYTES: usize = 1024;

/// In how many parts a slice is cut, as there may be room for fewer of them.
const PARTS_OF_SLICE: u64 = 8;

/// A history that is being taken in, from the offsets that its query has reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CatchUp {
    pub(super) of: Backlog,
    /// Live rows with an event time before it are taken in.
    pub(super) before_us: i64,
    /// How many rows are left.
    pub(super) left: u64,
    /// The slices from there on, once they are known.
    #[serde(skip)]
    slices: Option<VecDeque<Slice>>,
    /// Whether windows may be left to close of what is taken in: before the next slice is.
    #[serde(skip, default = "yes")]
    pub(super) is_closing: bool,
}

fn yes() -> bool {
    true
}

/// How many rows a slice has of a query that may hold so many bytes.
pub(super) fn rows_of_slice(most: u64, memory_max: usize) -> u64 {
    most.min((memory_max / ROW_BYTES) as u64)
}

impl CatchUp {
    /// Begins with what the table has beyond the offsets that are reached, if that is more than
    /// so many rows.
    pub(super) async fn begin(history: &History, reached: &[u64], rows: u64) -> Option<Self> {
        let of = history.backlog(reached, rows).await?;
        let left = reached.iter().zip(&of.to).map(|(from, to)| to - from).sum();
        Some(Self { of, before_us: i64::MIN, left, slices: None, is_closing: false })
    }

    /// Whether anything of it is taken in.
    pub(super) fn has_begun(&self) -> bool {
        self.before_us > i64::MIN
    }

    /// What the table has got since somebody else began with it: up to where it goes on now, and
    /// which of the rows between are to be taken in first, as their time has been. What holds
    /// windows open may have gone meanwhile.
    pub(super) async fn extend(&mut self, history: &History) -> Option<(Vec<u64>, Which)> {
        // Behind the last slice it would be all that has come since: another history then.
        if self.slices.is_some() || !self.has_begun() || self.before_us == i64::MAX {
            return None;
        }
        let longer = history.backlog(&self.of.to, 0).await?;
        let from = std::mem::replace(&mut self.of, longer).to;
        Some((from, Which::Live(i64::MIN..self.before_us)))
    }

    /// Which rows are to be taken in next; those of replays are the last. `rows` is how many
    /// a slice may have, and for how many there is room now.
    pub(super) async fn next(
        &mut self,
        history: &History,
        reached: &[u64],
        (rows, room): (u64, u64),
    ) -> Result<Which, Error> {
        let slices = match &mut self.slices {
            Some(slices) => slices,
            None => {
                let backlog = (reached, &self.of);
                let part = (rows / PARTS_OF_SLICE).max(1);
                let (slices, replayed) = history.slices(backlog, self.before_us, part).await?;
                self.left = replayed + slices.iter().map(|slice| slice.rows).sum::<u64>();
                self.slices.insert(slices.into())
            }
        };
        // Behind the last of all there is nothing of live traffic.
        let first = slices.pop_front().filter(|_| self.before_us < i64::MAX);
        let Some(Slice { mut before_us, rows: mut taken }) = first else {
            return Ok(Which::Replays);
        };
        while let Some(next) = slices.pop_front_if(|next| taken + next.rows <= room) {
            taken += next.rows;
            before_us = next.before_us;
        }
        self.left = self.left.saturating_sub(taken);
        let after = std::mem::replace(&mut self.before_us, before_us);
        Ok(Which::Live(after..before_us))
    }
}
