//! The kinds of entities: one table, and a file with the spec of each.
//!
//! A spec is written as JSON and read once, where it enters, into the struct of
//! its kind. Adding a kind is a file and one line of the table below.

mod api;
mod application;
mod deny_rule;
mod key;
mod network;
mod parse;
mod query;
mod queue;
mod redaction;
mod role;
mod route;
mod safeguard;
mod subscription;
mod table;
mod tier;
mod upstream;
mod user;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::api::{Api, Authentication, Lifecycle, Method, Payload, PayloadOf, Resource};
pub use self::application::{Application, ClientSecret, Environment};
pub use self::deny_rule::{DenyRule, Match};
pub(in crate::registry) use self::key::check_new;
pub use self::key::{Algorithm, Key, KeyState, Secret};
pub use self::parse::explain;
pub(in crate::registry) use self::parse::read_typed;
pub use self::query::Query;
pub use self::queue::{Deliver, OnExhausted, Queue, Retry};
pub use self::redaction::Redaction;
pub use self::role::{Role, TableRights};
pub use self::route::{From, FromHttp, Route, Source, Step};
pub use self::safeguard::{Never, Safeguard};
pub use self::subscription::{Subscription, SubscriptionState};
pub use self::table::Table;
pub use self::tier::{Quota, Tier};
pub use self::upstream::{Balance, Deliveries, HealthCheck, RetryOn, Target, Upstream};
pub(crate) use self::user::KEY_PREFIX;
pub use self::user::{AccessKey, User};
use super::{EntityKey, Fault, Faults, Json, Name};

/// Makes the enums of kinds and specs from the table.
macro_rules! kinds {
    ($($kind:ident $text:literal,)+) => {
        /// A kind of entity.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $(
                #[doc = concat!("`", $text, "`: [`struct@", stringify!($kind), "`].")]
                #[serde(rename = $text)]
                $kind,
            )+
        }

        /// A spec that was read and found right.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Spec {
            $(
                #[doc = concat!("Of kind `", $text, "`.")]
                $kind(Box<$kind>),
            )+
        }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// The kind's name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $text,)+
                }
            }

            /// The top-level fields of the kind's spec that are never shown.
            pub fn secrets(self) -> &'static [&'static str] {
                match self {
                    $(Self::$kind => <$kind as KindSpec>::SECRETS,)+
                }
            }

            /// A spec with something in the place of each secret that it leaves out, by which
            /// the rest can be checked: a file need not repeat a secret that is there.
            pub fn without_its_secrets(self, json: &Json) -> Json {
                let mut json = json.clone();
                match self {
                    $(Self::$kind => for (name, value) in <$kind as KindSpec>::STAND_INS {
                        json.0.entry(*name).or_insert_with(|| (*value).into());
                    },)+
                }
                json
            }

            /// Reads a spec of this kind and says everything that is wrong with it.
            ///
            /// # Errors
            /// The faults, at least one; none of them shows a secret.
            pub fn read(self, json: &Json) -> Result<(Spec, Vec<Reference>), Vec<Fault>> {
                match self {
                    $(Self::$kind => {
                        let (spec, references) = parse::read::<$kind>(json)?;
                        Ok((Spec::$kind(Box::new(spec)), references))
                    })+
                }
            }
        }

        $(
            impl OfKind for $kind {
                const KIND: Kind = Kind::$kind;

                fn of(spec: &Spec) -> Option<&Self> {
                    match spec {
                        Spec::$kind(spec) => Some(spec),
                        _ => None,
                    }
                }
            }
        )+
    };
}

kinds! {
    Api "api",
    Application "application",
    DenyRule "deny_rule",
    Key "key",
    Query "query",
    Queue "queue",
    Redaction "redaction",
    Role "role",
    Route "route",
    Safeguard "safeguard",
    Subscription "subscription",
    Table "table",
    Tier "tier",
    Upstream "upstream",
    User "user",
}

/// What the table gives each spec.
pub trait OfKind: Sized {
    /// The kind whose spec this is.
    const KIND: Kind;

    /// This spec, if it is of this kind.
    fn of(spec: &Spec) -> Option<&Self>;
}

/// The spec of a kind.
pub trait KindSpec: OfKind + DeserializeOwned {
    /// The top-level fields that are never shown, in a plan or an error.
    const SECRETS: &'static [&'static str] = &[];

    /// What stands in the place of those of them that the kind cannot be without, while it is
    /// checked what a file says that does not repeat them.
    const STAND_INS: &'static [(&'static str, &'static str)] = &[];

    /// Adds everything that the types alone do not refuse.
    fn validate(&self, faults: &mut Faults);

    /// The entities that must exist as long as this one does.
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }
}

/// A place in a spec that names another entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where in the spec.
    pub path: String,
    /// The entity.
    pub target: EntityKey,
}

impl Reference {
    fn new(path: impl Into<String>, kind: Kind, name: &Name) -> Self {
        Self { path: path.into(), target: EntityKey::new(kind, name.clone()) }
    }
}

impl Kind {
    /// The kind of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
