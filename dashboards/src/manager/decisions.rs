//! Decisions against callers.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Asking};

/// The decisions that there are.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Listed {
    pub(crate) decisions: Vec<Against>,
    /// Whether what detections decide counts.
    pub(crate) detections_enforce: bool,
}

/// A decision against a caller.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Against {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) subject_kind: String,
    pub(crate) subject: String,
    /// What becomes of its requests, in words.
    pub(crate) does: String,
    /// Of a person's, who made it and why.
    pub(crate) by: Option<String>,
    pub(crate) note: Option<String>,
    /// Of a detection's, its name.
    pub(crate) detection: Option<String>,
    pub(crate) at: String,
    pub(crate) until: String,
    /// Whether a safeguard protects the subject.
    pub(crate) protected: bool,
    pub(crate) lifted: Option<Lift>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Lift {
    pub(crate) by: String,
    pub(crate) note: String,
    pub(crate) at: String,
}

const SECTION: &str = "decisions";

impl Asking {
    /// All decisions of the last days, the latest first.
    pub(crate) async fn decisions(&self) -> Answer<Listed> {
        self.ask_of(SECTION, Method::GET, &[], &[("all", "true")], None).await
    }

    /// Decides of a caller.
    pub(crate) async fn decide_against(&self, wish: Value) -> Answer<Against> {
        self.ask_of(SECTION, Method::POST, &[], &[], Some(wish)).await
    }

    /// Takes a decision back.
    pub(crate) async fn lift(&self, id: &str, by: &str, note: &str) -> Answer<()> {
        let word = json!({"by": by, "note": note});
        let lifted: Answer<Value> =
            self.ask_of(SECTION, Method::POST, &[id, "lift"], &[], Some(word)).await;
        lifted.map(drop)
    }
}
