use serde::{Deserialize, Serialize};

use super::{Kind, KindSpec, Name, Reference};
use crate::registry::Faults;

/// The right of an application to call an API, at a tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// What may be called.
    pub api: Name,
    /// Who may call.
    pub application: Name,
    /// How much.
    pub tier: Name,
    /// Whether it holds.
    #[serde(default)]
    pub state: SubscriptionState,
}

/// Whether a subscription holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Waits for approval.
    Pending,
    /// Holds.
    #[default]
    Active,
    /// Was stopped.
    Blocked,
}

impl KindSpec for Subscription {
    fn validate(&self, _: &mut Faults) {}

    fn references(&self) -> Vec<Reference> {
        vec![
            Reference::new("api", Kind::Api, &self.api),
            Reference::new("application", Kind::Application, &self.application),
            Reference::new("tier", Kind::Tier, &self.tier),
        ]
    }
}
