use std::collections::HashMap;

use ingest::http::Code;
use ingest::registry::kind::{Subscription, SubscriptionState};
use ingest::registry::{Name, Snapshot};

use super::Denied;

/// Which application may call which API, of a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions(HashMap<Box<str>, HashMap<Box<str>, Held>>);

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: Name,
    /// How much may be called.
    pub tier: Name,
    /// Whether it holds.
    pub state: SubscriptionState,
}

impl Subscriptions {
    /// The subscriptions of a snapshot. Of several of one application to one API,
    /// the first by name that is active counts; if none is, the first.
    pub fn compile(snapshot: &Snapshot) -> Self {
        let mut subscriptions = Self::default();
        for (name, subscription) in snapshot.all::<Subscription>() {
            subscriptions.add(name, subscription);
        }
        subscriptions
    }

    fn add(&mut self, name: &Name, subscription: &Subscription) {
        let Subscription { api, application, tier, state } = subscription;
        let held = Held { name: name.clone(), tier: tier.clone(), state: *state };
        let applications = self.0.entry(api.as_str().into()).or_default();
        let is_active = |held: &Held| held.state == SubscriptionState::Active;
        match applications.get_mut(application.as_str()) {
            Some(before) if is_active(&held) && !is_active(before) => *before = held,
            Some(_) => {}
            None => {
                applications.insert(application.as_str().into(), held);
            }
        }
    }

    /// The subscription of an application to an API, whether it holds or not.
    pub fn get(&self, api: &str, application: &str) -> Option<&Held> {
        self.0.get(api)?.get(application)
    }

    /// The subscription by which an application calls an API.
    ///
    /// # Errors
    /// [`Code::SubscriptionMissing`], [`Code::SubscriptionInactive`].
    pub fn check(&self, api: &str, application: &str) -> Result<&Held, Denied> {
        let reason = "the application has no subscription";
        let missing = Denied { code: Code::SubscriptionMissing, reason };
        let held = self.get(api, application).ok_or(missing)?;
        let inactive = |reason| Err(Denied { code: Code::SubscriptionInactive, reason });
        match held.state {
            SubscriptionState::Active => Ok(held),
            SubscriptionState::Pending => inactive("the subscription waits for approval"),
            SubscriptionState::Blocked => inactive("the subscription was stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_calls_by_an_active_subscription() {
        let mut subscriptions = Subscriptions::default();
        let mut add = |name: &str, application: &str, state| {
            let tier = "gold".parse().unwrap();
            let (api, application) = ("orders".parse().unwrap(), application.parse().unwrap());
            let subscription = Subscription { api, application, tier, state };
            subscriptions.add(&name.parse().unwrap(), &subscription);
        };
        add("s1", "shop", SubscriptionState::Blocked);
        add("s2", "shop", SubscriptionState::Active);
        add("s3", "shop", SubscriptionState::Active);
        add("s4", "late", SubscriptionState::Pending);
        add("s5", "late", SubscriptionState::Blocked);
        add("s6", "bad", SubscriptionState::Blocked);
        let check = |api: &str, application: &str, expected: Result<&str, Code>| {
            let found = subscriptions.check(api, application);
            let found = found.map(|held| held.name.as_str()).map_err(|denied| denied.code);
            assert_eq!(found, expected, "{api} {application}");
        };
        check("orders", "shop", Ok("s2"));
        check("orders", "late", Err(Code::SubscriptionInactive));
        check("orders", "bad", Err(Code::SubscriptionInactive));
        check("orders", "nobody", Err(Code::SubscriptionMissing));
        check("bills", "shop", Err(Code::SubscriptionMissing));
        assert_eq!(subscriptions.get("orders", "late").unwrap().name.as_str(), "s4");
    }
}
