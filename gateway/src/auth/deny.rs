use std::collections::HashMap;
use std::net::IpAddr;

use ingest::registry::kind::{DenyRule, Match};
use ingest::registry::{Name, Snapshot};

use super::networks::{ByNetwork, number, range};

/// The deny rules of a snapshot, each to be found by the first of address,
/// application, user and API that it has; so a request looks at the rules that may
/// be meant for it, not at all of them. Rules by nothing but the User-Agent are
/// gone through one by one.
#[derive(Debug, Clone, Default)]
pub struct DenyRules {
    rules: Vec<Compiled>,
    networks: ByNetwork,
    applications: HashMap<Box<str>, Vec<usize>>,
    users: HashMap<Box<str>, Vec<usize>>,
    apis: HashMap<Box<str>, Vec<usize>>,
    agents: Vec<usize>,
}

/// A rule, as it is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: Name,
    /// Why.
    pub reason: Box<str>,
}

/// What is known of a request so far. What is not known fits no rule that asks for
/// it, so rules may be asked before and after the caller is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The application's name.
    pub application: Option<&'a str>,
    /// The API's name.
    pub api: Option<&'a str>,
    /// The user's name.
    pub user: Option<&'a str>,
    /// The User-Agent, as it came.
    pub user_agent: Option<&'a str>,
}

#[derive(Debug, Clone)]
struct Compiled {
    rule: Rule,
    network: Option<(u128, u128)>,
    matches: Match,
}

impl DenyRules {
    /// The rules of a snapshot.
    pub fn compile(snapshot: &Snapshot) -> Self {
        let mut rules = Self::default();
        for (name, rule) in snapshot.all::<DenyRule>() {
            rules.add(name, rule);
        }
        rules
    }

    fn add(&mut self, name: &Name, rule: &DenyRule) {
        let matches = rule.matches.clone();
        // The registry has found it to be a network; an empty range fits nobody.
        let network = matches.cidr.as_ref().map(|cidr| cidr.parse().map_or((1, 0), range));
        let i = self.rules.len();
        let by = |map: &mut HashMap<Box<str>, Vec<usize>>, key: &str| {
            map.entry(key.into()).or_default().push(i);
        };
        if let Some(network) = network {
            self.networks.add(network, i);
        } else if let Some(application) = &matches.application {
            by(&mut self.applications, application.as_str());
        } else if let Some(user) = &matches.user {
            by(&mut self.users, user);
        } else if let Some(api) = &matches.api {
            by(&mut self.apis, api.as_str());
        } else {
            self.agents.push(i);
        }
        let rule = Rule { name: name.clone(), reason: rule.reason.as_str().into() };
        self.rules.push(Compiled { rule, network, matches });
    }

    /// A rule that the request fits.
    pub fn find(&self, facts: &Facts<'_>) -> Option<&Rule> {
        let fits = |indices: &Vec<usize>| {
            let mut rules = indices.iter().map(|i| &self.rules[*i]);
            rules.find(|compiled| compiled.fits(facts)).map(|compiled| &compiled.rule)
        };
        if let Some(address) = facts.address {
            let mut rules = self.networks.of(address).map(|i| &self.rules[i]);
            if let Some(compiled) = rules.find(|compiled| compiled.fits(facts)) {
                return Some(&compiled.rule);
            }
        }
        let indexed = [
            (&self.applications, facts.application),
            (&self.users, facts.user),
            (&self.apis, facts.api),
        ];
        for (map, key) in indexed {
            if let Some(rule) = key.and_then(|key| map.get(key)).and_then(fits) {
                return Some(rule);
            }
        }
        fits(&self.agents)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Compiled {
    /// Everything that is given fits.
    fn fits(&self, facts: &Facts<'_>) -> bool {
        let Match { cidr: _, application, api, user, user_agent_contains } = &self.matches;
        let same = |asked: Option<&str>, found: Option<&str>| {
            asked.is_none_or(|asked| found == Some(asked))
        };
        let is_in = |(first, last): (u128, u128)| {
            let address = facts.address.map(number);
            address.is_some_and(|address| (first..=last).contains(&address))
        };
        self.network.is_none_or(is_in)
            && same(application.as_ref().map(Name::as_str), facts.application)
            && same(api.as_ref().map(Name::as_str), facts.api)
            && same(user.as_deref(), facts.user)
            && user_agent_contains.as_ref().is_none_or(|part| {
                facts.user_agent.is_some_and(|agent| agent.contains(part.as_str()))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(specs: &[&str]) -> DenyRules {
        let mut rules = DenyRules::default();
        for (i, spec) in specs.iter().enumerate() {
            let json = format!(r#"{{"match": {spec}, "reason": "r"}}"#);
            rules.add(&format!("r{i}").parse().unwrap(), &serde_json::from_str(&json).unwrap());
        }
        rules
    }

    #[test]
    fn a_rule_fits_if_everything_given_fits() {
        let rules = rules(&[
            r#"{"cidr": "192.0.2.0/24", "api": "orders"}"#,
            r#"{"cidr": "192.0.2.128/25"}"#,
            r#"{"application": "shop", "user": "eve"}"#,
            r#"{"user": "mallory"}"#,
            r#"{"api": "old"}"#,
            r#"{"user_agent_contains": "sqlmap"}"#,
            r#"{"cidr": "2001:db8::/32"}"#,
        ]);
        let check = |facts: [Option<&str>; 5], expected: Option<&str>| {
            let [address, application, api, user, user_agent] = facts;
            let address = address.map(|address| address.parse().unwrap());
            let facts = Facts { address, application, api, user, user_agent };
            let found = rules.find(&facts).map(|rule| rule.name.as_str());
            assert_eq!(found, expected, "{facts:?}");
        };
        let some = Some;
        check([None; 5], None);
        check([some("192.0.2.1"), None, None, None, None], None);
        check([some("192.0.2.1"), None, some("orders"), None, None], some("r0"));
        check([some("::ffff:192.0.2.1"), None, some("orders"), None, None], some("r0"));
        check([some("192.0.2.200"), None, some("other"), None, None], some("r1"));
        check([some("192.0.3.1"), None, some("orders"), None, None], None);
        check([some("2001:db8::1"), None, None, None, None], some("r6"));
        check([None, some("shop"), None, None, None], None);
        check([None, some("shop"), None, some("eve"), None], some("r2"));
        check([None, some("other"), None, some("eve"), None], None);
        check([None, None, None, some("mallory"), None], some("r3"));
        check([None, None, some("old"), None, None], some("r4"));
        check([None, None, None, None, some("x sqlmap/1")], some("r5"));
        check([None, None, None, None, some("curl")], None);
    }

    #[test]
    fn everybody_is_a_network_too() {
        let rules = rules(&[r#"{"cidr": "::/0"}"#]);
        let address = Some("198.51.100.7".parse().unwrap());
        assert!(rules.find(&Facts { address, ..Facts::default() }).is_some());
        assert!(rules.find(&Facts::default()).is_none());
    }
}
