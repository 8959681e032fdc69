//! The spool: events on their way to the log, in files of one directory.
//!
//! ```text
//!  emit ─► writer ─► 000000000004.spool   the boot's own, appended to
//!                    000000000003.spool   full, or of an earlier boot
//!          reader ◄─ 000000000002.spool   read from `position` on
//!                    (000000000001.spool) all in the log: removed
//! ```
//!
//! What holds:
//! 1. Within a boot, sequences are consecutive in the order of the frames; so
//!    what is missing between two frames is counted exactly.
//! 2. The reader sees no byte before its whole frame is written.
//! 3. A boot never appends to the file of another; opening cuts the torn tail of
//!    the last one.
//! 4. Of the disk a reserve of one file's size is kept, and given back when nothing else
//!    is left: what was let in can be told of, and nothing more is let in.
//! 5. `position` moves only after the log's acknowledgement, and a file is
//!    removed only after `position` has passed it.

mod dir;
mod frame;
mod open;
mod reader;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub(super) use dir::{Position, segment_name};
pub(super) use frame::{FRAME_BYTES_MAX, Head};
pub(super) use open::open;
pub(super) use reader::{Lost, Pulled, Reader, Spooled};
pub(super) use writer::Room;

use self::dir::Dir;
use self::writer::Writer;
use super::metrics::Counters;
use super::{Config, Error};
use crate::event::Clock;

/// A spool that is open: what the emitter and the drainer share.
pub(super) struct Spool {
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Counters,
    /// Which start of the producer this is.
    pub(super) boot: i64,
    /// What is lost, and no loss event has told of it.
    pub(super) lost_untold: Mutex<Vec<Lost>>,
    dir: Dir,
    writer: Mutex<Writer>,
    /// Whether there is room on the disk for the events of work that was let in.
    has_reserve: AtomicBool,
}

impl Spool {
    /// Whether new work may be let in, as far as the disk goes.
    pub(super) fn check_disk(&self) -> Result<(), Error> {
        match self.has_reserve.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(Error::DiskFull { place: self.place() }),
        }
    }

    /// Takes the reserve again, if it was used; blocks.
    pub(super) fn restore_reserve(&self) {
        if self.has_reserve.load(Ordering::Relaxed) {
            return;
        }
        match self.dir.take_reserve(self.config.segment_bytes) {
            Ok(()) => {
                self.has_reserve.store(true, Ordering::Relaxed);
                tracing::info!(place = self.place(), "the spool's disk has room again");
            }
            Err(error) => tracing::debug!(place = self.place(), %error, "no room for a reserve"),
        }
    }

    /// Gives the reserve back to the disk, which is full: whether there was one. New work is
    /// refused from then on.
    fn use_reserve(&self) -> bool {
        let had = self.has_reserve.swap(false, Ordering::Relaxed);
        if had {
            tracing::error!(place = self.place(), "the spool's disk is full; new work is refused");
        }
        had && self.dir.give_reserve().is_ok()
    }

    /// For messages: where this is.
    pub(super) fn place(&self) -> String {
        self.dir.place()
    }
}
