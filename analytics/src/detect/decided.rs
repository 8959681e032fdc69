use ingest::event::Timestamp;
use serde::{Deserialize, Serialize};

/// What was decided of the subject of an alert, as of its last finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// What becomes of its requests: `blocked`, `slowed to 10 requests in 60 s`.
    pub does: String,
    /// Whether that holds.
    pub state: DecidedState,
    /// When it ends by itself; absent, if nothing was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why nothing was decided, or who took it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether what was decided holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedState {
    /// Gateways refuse by it.
    InForce,
    /// Gateways tell what they would refuse.
    DryRun,
    /// Somebody took it back.
    Lifted,
    /// It was not made.
    HeldBack,
}

impl Decided {
    /// In words, behind the subject, with times as a reader wants them.
    pub fn sentence(&self, time: impl Fn(Timestamp) -> String) -> String {
        let Self { does, state, until, why } = self;
        let until = until.map(|of| format!(" until {}", time(of))).unwrap_or_default();
        let why = why.as_deref().unwrap_or_default();
        match state {
            DecidedState::InForce => format!("{does}{until}"),
            DecidedState::DryRun => format!("would be {does}{until} (dry run: nothing is refused)"),
            DecidedState::Lifted => format!("no more {does}; lifted {why}"),
            DecidedState::HeldBack => format!("not {does}: {why}"),
        }
    }
}
