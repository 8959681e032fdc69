//! The disk by itself: how long a write of 1 KiB and its sync take.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;

const WRITES: usize = 2_000;

/// In microseconds.
pub(super) fn syncs(dir: &Path) -> Result<Histogram<u64>> {
    let mut file = File::create(dir.join("disk"))?;
    let mut times = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    for _ in 0..WRITES {
        let began = Instant::now();
        file.write_all(&[7; 1_024])?;
        file.sync_data()?;
        times.saturating_record(began.elapsed().as_micros() as u64);
    }
    Ok(times)
}
