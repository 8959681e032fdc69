use serde::Deserialize;

/// What queries may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long one may run, in milliseconds, from its first step.
    pub time_ms: u64,
    /// How much memory one may hold, in bytes. One that needs more is refused it, not
    /// written to disk.
    pub memory_bytes_max: usize,
    /// How many rows one may answer.
    pub rows_max: usize,
    /// How many run at once. Others wait, at most as long as one may run.
    pub at_once_max: usize,
    /// How many of them may be of one user.
    pub at_once_per_user_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time_ms: 30_000,
            memory_bytes_max: 256 * 1024 * 1024,
            rows_max: 100_000,
            at_once_max: 4,
            at_once_per_user_max: 2,
        }
    }
}
