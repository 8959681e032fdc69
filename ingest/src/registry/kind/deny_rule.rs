use serde::{Deserialize, Serialize};

use super::network::check_network;
use super::{Kind, KindSpec, Name, Reference};
use crate::registry::Faults;

/// Who is not served. A request is denied if everything that is given fits it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenyRule {
    /// What a request looks like.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Why, for those who read the events: 1 to 256 bytes.
    pub reason: String,
}

/// What a request looks like: at least one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// A network that the client's address is in, as `192.0.2.0/24`.
    pub cidr: Option<String>,
    /// The application.
    pub application: Option<Name>,
    /// The API.
    pub api: Option<Name>,
    /// The user's name, 1 to 256 bytes.
    pub user: Option<String>,
    /// A part of the User-Agent, 1 to 256 bytes.
    pub user_agent_contains: Option<String>,
}

impl KindSpec for DenyRule {
    fn validate(&self, faults: &mut Faults) {
        faults.text("reason", &self.reason, 256);
        if self.matches == Match::default() {
            faults.add("match", "would deny everybody", "give at least one of its keys");
        }
        if let Some(cidr) = &self.matches.cidr {
            check_network(faults, "match.cidr", cidr);
        }
        let texts = [
            ("match.user", &self.matches.user),
            ("match.user_agent_contains", &self.matches.user_agent_contains),
        ];
        for (at, text) in texts {
            if let Some(text) = text {
                faults.text(at, text, 256);
            }
        }
    }

    fn references(&self) -> Vec<Reference> {
        let application = self.matches.application.iter();
        let api = self.matches.api.iter();
        application
            .map(|name| Reference::new("match.application", Kind::Application, name))
            .chain(api.map(|name| Reference::new("match.api", Kind::Api, name)))
            .collect()
    }
}
