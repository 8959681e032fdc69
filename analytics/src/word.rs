//! Who says something, and why: the body of what people order.

use serde::Deserialize;

/// How long a name may be, and a note, in bytes.
const BY_BYTES_MAX: usize = 200;
const NOTE_BYTES_MAX: usize = 2_000;

/// Who says something, and why.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Who: 1 to 200 bytes.
    pub by: String,
    /// Why; up to 2,000 bytes.
    #[serde(default)]
    pub note: String,
}

impl Word {
    /// Refuses what nobody should have to read.
    ///
    /// # Errors
    /// What is wrong, and what to give.
    pub(crate) fn check(&self) -> Result<(), String> {
        check(&self.by, &self.note)
    }
}

/// The same, of a name and a note.
pub(crate) fn check(by: &str, note: &str) -> Result<(), String> {
    let plain = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
    if !(1..=BY_BYTES_MAX).contains(&by.trim().len()) || !plain(by) {
        return Err(format!("by: give 1 to {BY_BYTES_MAX} bytes of text"));
    }
    if note.len() > NOTE_BYTES_MAX || !plain(note) {
        return Err(format!("note: give up to {NOTE_BYTES_MAX} bytes of text"));
    }
    Ok(())
}
