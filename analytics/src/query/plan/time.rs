//! When windows are, and by what they close; times and lengths in microseconds.

use super::{Plan, micros};
use crate::query::shape::Windows;

/// In how many steps at least the sessions of one gap are closed that end within it.
const PARTS_OF_GAP: i64 = 256;

/// In which order windows answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they begin, one behind the other.
    Begin {
        /// By how much a window overlaps the one that begins last in it.
        overlap_us: i64,
    },
    /// As they end: sessions.
    End,
}

impl Order {
    /// Of a window, by when it begins and ends: until when windows have answered that answer
    /// before it.
    pub fn answered(self, (start_us, end_us): (i64, i64)) -> i64 {
        match self {
            Self::Begin { overlap_us } => start_us.saturating_add(overlap_us),
            Self::End => end_us,
        }
    }

    /// The time by which one window of a subject is told from its others: no two have the same.
    pub fn place(self, (start_us, end_us): (i64, i64)) -> i64 {
        match self {
            Self::Begin { .. } => start_us,
            Self::End => end_us,
        }
    }
}

impl Plan {
    /// How long a window lasts, in microseconds; a session lasts that long at least.
    pub fn width_us(&self) -> i64 {
        match self.shape.windows {
            Windows::Fixed { width_us, .. } => width_us,
            Windows::Sessions { gap_us, .. } => gap_us,
        }
    }

    /// How often a window begins, in microseconds; it lasts a multiple of that. Sessions
    /// begin at any time.
    pub fn slide_us(&self) -> i64 {
        match self.shape.windows {
            Windows::Fixed { slide_us, .. } => slide_us,
            Windows::Sessions { .. } => 1,
        }
    }

    /// By how much a window overlaps the one that begins last in it, in microseconds.
    pub fn overlap_us(&self) -> i64 {
        match self.shape.windows {
            Windows::Fixed { slide_us, width_us } => width_us - slide_us,
            Windows::Sessions { .. } => 0,
        }
    }

    /// Windows that begin before the answer are closed at a floor, and sessions that end
    /// by then; both in microseconds since 1970.
    pub fn closes(&self, floor_us: i64) -> i64 {
        let watermark = match &self.below {
            None => floor_us.saturating_sub(self.lateness_us()),
            Some(below) => below.closes(floor_us),
        };
        self.closes_by(watermark)
    }

    /// The same, by the time that all rows to come are at or after.
    pub(in crate::query) fn closes_by(&self, watermark_us: i64) -> i64 {
        let ended = watermark_us.saturating_sub(self.overlap_us());
        ended.div_euclid(self.slide_us()).saturating_mul(self.slide_us())
    }

    /// The end of the last window that begins before `closes_us`.
    pub fn answered_until(&self, closes_us: i64) -> i64 {
        closes_us.saturating_add(self.overlap_us())
    }

    /// The floor at which so many windows close, of which the first begins at `start_us`; or
    /// the sessions of which the last row came within so many 256ths of a gap after it.
    pub fn floor_of(&self, start_us: i64, windows: i64) -> i64 {
        let each = match self.shape.windows {
            Windows::Fixed { slide_us, .. } => slide_us,
            Windows::Sessions { gap_us, .. } => (gap_us / PARTS_OF_GAP).max(1),
        };
        // A session ends a gap after its last row at the earliest.
        let gap_us = self.sessions().map_or(0, |sessions| sessions.gap_us);
        self.floor_for(windows.saturating_mul(each).saturating_add(start_us + gap_us))
    }

    /// In which order its windows answer.
    pub fn order(&self) -> Order {
        match self.shape.windows {
            Windows::Fixed { .. } => Order::Begin { overlap_us: self.overlap_us() },
            Windows::Sessions { .. } => Order::End,
        }
    }

    /// The event time that all live sources have passed when a window answers, or a session,
    /// by when it begins and ends.
    pub(crate) fn told_us(&self, (start_us, end_us): (i64, i64)) -> i64 {
        match self.shape.windows {
            Windows::Fixed { slide_us, .. } => self.floor_for(start_us.saturating_add(slide_us)),
            Windows::Sessions { .. } => self.floor_for(end_us),
        }
    }

    /// The floor at which windows close that begin before a time.
    fn floor_for(&self, closes_us: i64) -> i64 {
        let watermark = self.answered_until(closes_us);
        match &self.below {
            None => watermark.saturating_add(self.lateness_us()),
            Some(below) => {
                // It closes its windows whole.
                let slide = below.slide_us();
                let up = watermark.saturating_add(slide - 1).div_euclid(slide);
                below.floor_for(up.saturating_mul(slide))
            }
        }
    }

    /// The floor until which no window closes that may have rows of an event time or later.
    pub fn floor_at(&self, time_us: i64) -> i64 {
        match &self.below {
            None => time_us.saturating_add(self.lateness_us()),
            Some(below) => below.floor_at(time_us),
        }
    }

    pub(in crate::query) fn horizon_us(&self) -> i64 {
        self.shape.horizon_us
    }

    /// How far a row may lie behind and still correct windows; absent if none does.
    pub(in crate::query) fn corrections_us(&self) -> Option<i64> {
        self.file.header.corrections.map(micros)
    }

    /// Windows that begin before the answer are corrected at a floor.
    pub(in crate::query) fn corrects(&self, floor_us: i64) -> i64 {
        let lag = self.corrections_us().unwrap_or(self.lateness_us());
        self.closes_by(floor_us.saturating_sub(lag))
    }

    pub(in crate::query) fn lateness_us(&self) -> i64 {
        micros(self.file.header.lateness)
    }
}
