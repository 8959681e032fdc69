use std::net::IpAddr;

use serde::{Deserialize, Serialize};

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
        if let Some(cidr) = &self.matches.cidr
            && !is_network(cidr)
        {
            let mend =
                "give an address and a prefix length, as 192.0.2.0/24, no bits beyond it set";
            faults.add("match.cidr", "is not a network", mend);
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

/// Whether a text is a network (RFC 4632, section 3.1), its host bits all zero.
fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match address {
        IpAddr::V4(v4) => length <= 32 && v4.to_bits().checked_shl(length).unwrap_or(0) == 0,
        IpAddr::V6(v6) => length <= 128 && v6.to_bits().checked_shl(length).unwrap_or(0) == 0,
    }
}
