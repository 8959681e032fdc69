use std::sync::Arc;

// Who calls chooses none of the keys, so they need no guard against collisions.
use foldhash::HashMap;
use ingest::registry::kind::{Api, Application, Authentication, Resource, Subscription, Tier};
use ingest::registry::{Name, Snapshot};

use crate::auth::{Denied, DenyRules, Networks, Subscriptions};
use crate::throttle::{Counters, Level, Limit};

/// Who may call at all, and how much each caller may, as of one snapshot.
#[derive(Default)]
pub(crate) struct Access {
    /// Who is not served.
    pub(crate) deny: DenyRules,
    subscriptions: Subscriptions,
    /// By the subscription's name.
    subscribed: HashMap<Name, Arc<Subscribed>>,
    applications: HashMap<Box<str>, Arc<Known>>,
}

/// An application, as a request needs it.
pub(crate) struct Known {
    pub(crate) owner: Arc<str>,
    pub(crate) limits: Vec<Limit>,
}

/// A subscription, as a request needs it.
pub(crate) struct Subscribed {
    pub(crate) name: Arc<str>,
    pub(crate) tier: Arc<str>,
    pub(crate) limits: Vec<Limit>,
}

/// Who may call an API, whoever it is otherwise, and how much all may together.
pub(crate) struct ApiAccess {
    /// From where; `None`: from anywhere.
    pub(crate) allow: Option<Networks>,
    pub(crate) limits: Vec<Limit>,
}

/// How callers of a resource prove who they are, and how much all may together.
pub(crate) struct ResourceAccess {
    pub(crate) way: Way,
    pub(crate) limits: Vec<Limit>,
}

/// How callers prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Not at all.
    Open,
    /// By a bearer token.
    Token,
    /// By a way that this release does not know: nobody is let in.
    Unknown,
}

impl Access {
    pub(crate) fn compile(snapshot: &Snapshot, counters: &Counters) -> Self {
        let limits = limits_of(snapshot, counters);
        let mut access = Self {
            deny: DenyRules::compile(snapshot),
            subscriptions: Subscriptions::compile(snapshot),
            ..Self::default()
        };
        for (name, application) in snapshot.all::<Application>() {
            let limits = limits(Level::Application, name.as_str(), application.tier.as_ref());
            let known = Known { owner: application.owner.as_str().into(), limits };
            access.applications.insert(name.as_str().into(), Arc::new(known));
        }
        for (name, subscription) in snapshot.all::<Subscription>() {
            let tier = &subscription.tier;
            let subscribed = Subscribed {
                name: name.as_str().into(),
                tier: tier.as_str().into(),
                limits: limits(Level::Subscription, name.as_str(), Some(tier)),
            };
            access.subscribed.insert(name.clone(), Arc::new(subscribed));
        }
        access
    }

    /// An application by its name.
    pub(crate) fn application(&self, name: &str) -> Option<&Arc<Known>> {
        self.applications.get(name)
    }

    /// The subscription by which an application calls an API.
    pub(crate) fn subscription(
        &self,
        api: &str,
        application: &str,
    ) -> Result<&Arc<Subscribed>, Denied> {
        let held = self.subscriptions.check(api, application)?;
        Ok(self.subscribed.get(&held.name).expect("both are of one snapshot"))
    }
}

impl ApiAccess {
    /// # Errors
    /// If a network of the list is none: an API is not opened by a list that
    /// cannot be read.
    pub(crate) fn compile(
        name: &Name,
        api: &Api,
        snapshot: &Snapshot,
        counters: &Counters,
    ) -> Result<Self, String> {
        let allow = match api.allow.as_slice() {
            [] => None,
            texts => {
                Some(Networks::parse(texts).map_err(|i| format!("allow[{i}] is not a network"))?)
            }
        };
        let limits = limits_of(snapshot, counters)(Level::Api, name.as_str(), api.tier.as_ref());
        Ok(Self { allow, limits })
    }
}

impl ResourceAccess {
    pub(crate) fn compile(
        name: &Name,
        api: &Api,
        resource: &Resource,
        snapshot: &Snapshot,
        counters: &Counters,
    ) -> Self {
        let ways = resource.authentication.as_ref().unwrap_or(&api.authentication);
        let way = if ways.contains(&Authentication::None) {
            Way::Open
        } else if ways.contains(&Authentication::Oauth2) {
            Way::Token
        } else {
            Way::Unknown
        };
        let methods: Vec<String> =
            resource.methods.iter().map(|method| format!("{method:?}")).collect();
        let subject = format!("{name} {} {}", methods.join(","), resource.path);
        let limits =
            limits_of(snapshot, counters)(Level::Resource, &subject, resource.tier.as_ref());
        Self { way, limits }
    }
}

/// Makes limits of a tier, if there is one. The registry has seen to it that a tier
/// that is named is there.
fn limits_of<'a>(
    snapshot: &'a Snapshot,
    counters: &'a Counters,
) -> impl Fn(Level, &str, Option<&Name>) -> Vec<Limit> + 'a {
    move |level, subject, tier| {
        let Some((name, tier)) = tier.and_then(|name| Some((name, snapshot.get::<Tier>(name)?)))
        else {
            return Vec::new();
        };
        counters.limits(level, subject, name, tier)
    }
}
