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
//! 4. `position` moves only after the log's acknowledgement, and a file is
//!    removed only after `position` has passed it.

mod dir;
mod frame;
mod open;
mod reader;
mod writer;

use std::sync::Arc;

use parking_lot::Mutex;

pub(super) use dir::{Position, segment_name};
pub(super) use frame::{FRAME_BYTES_MAX, Head};
pub(super) use open::open;
pub(super) use reader::{Lost, Pulled, Reader, Spooled};
pub(super) use writer::Room;

use self::dir::Dir;
use self::writer::Writer;
use super::Config;
use super::metrics::Counters;
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
}

impl Spool {
    /// For messages: where this is.
    pub(super) fn place(&self) -> String {
        self.dir.place()
    }
}
