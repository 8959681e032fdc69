//! Opening: a new boot over what earlier ones left.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::dir::{Dir, Position, segment_name};
use super::writer::Writer;
use super::{Reader, Spool, frame};
use crate::emit::metrics::Counters;
use crate::emit::{Config, Error};
use crate::event::Clock;

/// Opens the spool under a new boot. Blocks while it looks for the end of the
/// file that was written last.
pub(in crate::emit) fn open(
    mut config: Config,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<Spool>, Reader), Error> {
    config.check()?;
    config.producer = config.producer.shared();
    let dir = Dir::open(&config.dir)?;
    let counters = Counters::default();
    let segments = dir.segments()?;
    if let Some(&last) = segments.last() {
        counters.cut_bytes.add(cut_tail(&dir, last)?);
    }
    // A directory that was lost must not give a boot that was had before, whose
    // events readers would take for repetitions: so a boot is no less than the
    // time in milliseconds.
    let boot = dir.next_boot(clock.now().as_micros() / 1000)?;

    dir.prepare_position()?;
    let stored = dir.position();
    let past = stored.map_or(0, |position| position.segment);
    let mut position = stored.unwrap_or_default();
    let first = segments.iter().copied().find(|segment| *segment >= past);
    if let Some(segment) = first.filter(|segment| *segment != position.segment) {
        position = Position { segment, offset: 0, ..position };
    }
    for &segment in &segments {
        if segment < position.segment {
            dir.remove_segment(segment)?;
            continue;
        }
        let bytes = sync_segment(&dir, segment)?;
        counters.spooled_bytes.add(bytes);
        let acknowledged = if segment == position.segment { position.offset } else { 0 };
        counters.lag_bytes.add(bytes.saturating_sub(acknowledged));
    }

    let number = segments.last().copied().unwrap_or(0).max(past) + 1;
    if position.segment == 0 {
        position.segment = number;
    }
    let name = segment_name(number);
    let file = dir.create_segment(number).map_err(Error::io("create", &name))?;
    dir.sync().map_err(Error::io("sync", dir.place()))?;
    let writer = Mutex::new(Writer::begin(&config, boot, number, Arc::new(file)));
    let lost_untold = Mutex::default();
    let reserved = dir.take_reserve(config.segment_bytes);
    if let Err(error) = &reserved {
        tracing::error!(place = dir.place(), %error, "the spool's disk is full; new work is refused");
    }
    let has_reserve = AtomicBool::new(reserved.is_ok());
    let spool =
        Arc::new(Spool { config, clock, counters, boot, lost_untold, dir, writer, has_reserve });
    Ok((spool.clone(), Reader::new(spool, position)))
}

/// Makes durable what an earlier boot left, and answers how many bytes it is.
fn sync_segment(dir: &Dir, segment: u64) -> Result<u64, Error> {
    let file = dir.open_segment(segment)?;
    file.sync_data().map_err(Error::io("sync", segment_name(segment)))?;
    Ok(file.metadata().map_err(Error::io("measure", segment_name(segment)))?.len())
}

/// Cuts what follows the last intact frame, which no emit had answered for.
/// Answers how much was cut.
fn cut_tail(dir: &Dir, segment: u64) -> Result<u64, Error> {
    let name = segment_name(segment);
    let file = dir.open_segment(segment)?;
    let content = super::reader::read_all(&file).map_err(Error::io("read", &name))?;
    let mut end = frame::intact_bytes(&content);
    while let Some(next) = frame::find_in(&content[end..]) {
        // Damage in the middle: the drainer comes to it, and tells.
        end += next;
        end += frame::intact_bytes(&content[end..]);
    }
    let torn = (content.len() - end) as u64;
    if torn > 0 {
        tracing::warn!(file = name, bytes = torn, "cut an unfinished write from the spool");
        file.set_len(end as u64).map_err(Error::io("cut", &name))?;
    }
    Ok(torn)
}
