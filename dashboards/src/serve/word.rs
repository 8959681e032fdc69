use serde::Deserialize;
use serde_json::{Value, json};

/// What somebody says by a form.
#[derive(Deserialize)]
pub(super) struct Word {
    pub(super) by: String,
    #[serde(default)]
    pub(super) note: String,
}

impl Word {
    /// As an analytics node is told it.
    pub(super) fn json(&self) -> Value {
        json!({"by": self.by.trim(), "note": self.note.trim()})
    }
}
