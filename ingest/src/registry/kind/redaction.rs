use serde::{Deserialize, Serialize};

use super::{Kind, KindSpec, Name, Reference};
use crate::redact::{Pseudonyms, RULES_MAX, Redactor, Rule};
use crate::registry::{Faults, Snapshot};

/// What is taken out of events before they are written, or kept in them though it looks
/// like a secret. Where rules of several entities name the same, the strictest holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redaction {
    /// The APIs whose events it is for, 0 to 1,000; none: all events, also those of no API.
    #[serde(default)]
    pub apis: Vec<Name>,
    /// What is to become of what, 1 to 100 rules.
    pub rules: Vec<Rule>,
}

impl Redaction {
    /// What all of a snapshot's rules take out.
    pub fn redactor(snapshot: &Snapshot, pseudonyms: Option<&Pseudonyms>) -> Redactor {
        let sets = snapshot
            .all::<Self>()
            .map(|(_, spec)| (spec.apis.iter().map(Name::as_str).collect(), &*spec.rules));
        Redactor::new(sets, pseudonyms)
    }
}

impl KindSpec for Redaction {
    fn validate(&self, faults: &mut Faults) {
        faults.count("apis", self.apis.len(), 0, 1_000);
        faults.count("rules", self.rules.len(), 1, RULES_MAX);
        for (i, rule) in self.rules.iter().enumerate().take(RULES_MAX) {
            if let Err(fault) = rule.check() {
                let at = match fault.key {
                    "" => format!("rules[{i}]"),
                    key => format!("rules[{i}].{key}"),
                };
                faults.add(at, fault.what, fault.mend);
            }
        }
    }

    fn references(&self) -> Vec<Reference> {
        let apis = self.apis.iter().enumerate();
        apis.map(|(i, api)| Reference::new(format!("apis[{i}]"), Kind::Api, api)).collect()
    }
}
