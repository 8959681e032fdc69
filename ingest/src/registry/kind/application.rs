use serde::{Deserialize, Serialize};

use super::{Kind, KindSpec, Name, Reference};
use crate::registry::Faults;

/// A caller of APIs: a program, with the people who answer for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Who answers for it: a user's name or an address, 1 to 256 bytes.
    pub owner: String,
    /// What it is for, up to 1,024 bytes.
    #[serde(default)]
    pub description: Option<String>,
    /// A tier that limits the whole application.
    #[serde(default)]
    pub tier: Option<Name>,
    /// Where the authorization code may be sent, 0 to 20 addresses, compared as
    /// they are written (RFC 9700, section 2.1).
    #[serde(default)]
    pub redirect_urls: Vec<String>,
}

impl KindSpec for Application {
    fn validate(&self, faults: &mut Faults) {
        faults.text("owner", &self.owner, 256);
        if let Some(description) = &self.description {
            faults.text("description", description, 1_024);
        }
        faults.count("redirect_urls", self.redirect_urls.len(), 0, 20);
        for (i, url) in self.redirect_urls.iter().enumerate().take(20) {
            let at = format!("redirect_urls[{i}]");
            faults.text(at.as_str(), url, 1_024);
            if !url.contains("://") || url.contains(['#', '*', ' ']) {
                faults.add(at, "is not an absolute address", "give it whole, without # and *");
            }
        }
    }

    fn references(&self) -> Vec<Reference> {
        self.tier.iter().map(|tier| Reference::new("tier", Kind::Tier, tier)).collect()
    }
}
