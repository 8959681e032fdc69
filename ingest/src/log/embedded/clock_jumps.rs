//! A wall clock that jumps ahead.

use std::time::{Duration, Instant};

use crate::log::LogTime;

/// Notices when the wall clock jumps ahead of the time that has really passed,
/// so that a clock that is days ahead for a moment does not empty what is kept
/// by age.
#[derive(Debug, Default)]
pub(super) struct ClockJumps {
    last: Option<(LogTime, Instant)>,
    /// A jump that lasts this long is the right time.
    suspect_until: Option<Instant>,
}

impl ClockJumps {
    const JUMP: Duration = Duration::from_secs(5 * 60);
    const BELIEVED_AFTER: Duration = Duration::from_secs(10 * 60);

    /// Whether ages may be reckoned by the wall clock now.
    pub(super) fn is_trusted(&mut self, wall: LogTime, now: Instant) -> bool {
        if let Some((last_wall, last)) = self.last {
            let passed = i64::try_from((now - last + Self::JUMP).as_millis()).unwrap_or(i64::MAX);
            if wall.0.saturating_sub(last_wall.0) > passed {
                tracing::error!(from = last_wall.0, to = wall.0, "the clock has jumped ahead");
                self.suspect_until = Some(now + Self::BELIEVED_AFTER);
            }
        }
        self.last = Some((wall, now));
        self.suspect_until.is_none_or(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_is_not_believed_at_once() {
        let minute = Duration::from_secs(60);
        let start = Instant::now();
        let mut jumps = ClockJumps::default();
        let mut check = |wall_minutes: i64, real_minutes: u32, trusted: bool| {
            let wall = LogTime(wall_minutes * 60_000);
            let is = jumps.is_trusted(wall, start + minute * real_minutes);
            assert_eq!(is, trusted, "{wall_minutes} after {real_minutes}");
        };
        check(0, 0, true);
        check(1, 1, true);
        check(10_000, 2, false);
        check(3, 3, false);
        check(12, 12, true);
        check(10_000, 13, false);
        check(10_010, 23, true);
    }
}
