use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::network::check_network;
use super::{Kind, KindSpec, Name, Reference};
use crate::registry::Faults;

/// An API that the gateway publishes: what callers reach, and who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The path under which it is reached, as `/orders`.
    pub context: String,
    /// Its version, as callers name it: the segment after the context, as in
    /// `/orders/1.0`, 1 to 32 letters, digits, dots, hyphens and underscores.
    pub version: String,
    /// Whether callers reach it without naming a version too, as `/orders`.
    #[serde(default)]
    pub default_version: bool,
    /// Where it stands in its life.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Who answers: an upstream.
    pub upstream: Name,
    /// A tier that limits all callers of the API together.
    #[serde(default)]
    pub tier: Option<Name>,
    /// The networks that callers may come from, 0 to 1,000, as `192.0.2.0/24`;
    /// none: from anywhere.
    #[serde(default)]
    pub allow: Vec<String>,
    /// The tiers that subscriptions may choose from, 0 to 20.
    #[serde(default)]
    pub tiers: Vec<Name>,
    /// How callers prove who they are, 1 to 5 ways, any of which will do.
    #[serde(default = "oauth2")]
    pub authentication: Vec<Authentication>,
    /// What may be called, 1 to 1,000 entries; all else is not found.
    pub resources: Vec<Resource>,
    /// How long an answer may take, 1 to 600,000 ms.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// The largest request body, 0 to 1 GiB.
    #[serde(default = "body_bytes_max")]
    pub body_bytes_max: u64,
    /// What of requests and their answers is kept in events, but for what redaction takes
    /// out; none: nothing of what they carry.
    #[serde(default)]
    pub payload: Option<Payload>,
}

/// What of requests and their answers is kept in events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// Of which requests.
    #[serde(default)]
    pub of: PayloadOf,
    /// The bodies of requests.
    #[serde(default = "yes")]
    pub request: bool,
    /// The bodies of answers.
    #[serde(default = "yes")]
    pub response: bool,
    /// The headers of both.
    #[serde(default)]
    pub headers: bool,
    /// How much of a body, unpacked: 1 to 65,536 bytes.
    #[serde(default = "payload_bytes_max")]
    pub bytes_max: u64,
}

/// Of which requests something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadOf {
    /// Of all.
    #[default]
    All,
    /// Of those that did not succeed.
    Failures,
}

/// Some methods of some paths of an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// The methods, 1 to 7.
    pub methods: Vec<Method>,
    /// The path below context and version, a template as `/orders/{id}`. `/*` at
    /// its end stands for whatever follows, also nothing.
    pub path: String,
    /// The operation's id in the API's document, 1 to 256 bytes.
    #[serde(default)]
    pub operation: Option<String>,
    /// The scopes of which a token needs one, 0 to 20; none: any token will do.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// How callers of this resource prove who they are, where it is not as for the
    /// whole API; 1 to 5 ways, any of which will do.
    #[serde(default)]
    pub authentication: Option<Vec<Authentication>>,
    /// A tier that limits this resource by itself.
    #[serde(default)]
    pub tier: Option<Name>,
}

/// Where an API stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Being made; nobody reaches it.
    #[default]
    Created,
    /// Waits for a second person.
    InReview,
    /// In use.
    Published,
    /// In use, without new subscriptions.
    Deprecated,
    /// No longer answered.
    Retired,
}

/// A way for a caller to prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// A bearer token.
    Oauth2,
    /// A key in a header.
    ApiKey,
    /// A user's name and password.
    Basic,
    /// A client certificate.
    Mtls,
    /// Everybody may call; allowed only alone.
    None,
}

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it (RFC 9110, section 9, and RFC 5789)")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// As in a request.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

fn oauth2() -> Vec<Authentication> {
    vec![Authentication::Oauth2]
}

fn timeout_ms() -> u64 {
    30_000
}

fn body_bytes_max() -> u64 {
    10 * 1024 * 1024
}

fn yes() -> bool {
    true
}

fn payload_bytes_max() -> u64 {
    16 * 1024
}

impl KindSpec for Api {
    fn validate(&self, faults: &mut Faults) {
        check_path(faults, "context", &self.context);
        if self.context.contains(['{', '}']) || self.context == "/" {
            faults.add("context", "is not a fixed path", "give a path as /orders");
        }
        if self.context.split('/').nth(1) == Some(".weir") {
            faults.add("context", "is kept for Weir itself", "give another path");
        }
        faults.text("version", &self.version, 32);
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !self.version.chars().all(is_part) || self.version.starts_with('.') {
            faults.add("version", "does not fit into a path", "give it as 1.0 or v2");
        }
        faults.count("allow", self.allow.len(), 0, 1_000);
        for (i, cidr) in self.allow.iter().enumerate().take(1_000) {
            check_network(faults, &format!("allow[{i}]"), cidr);
        }
        faults.count("tiers", self.tiers.len(), 0, 20);
        check_authentication(faults, "authentication", &self.authentication);
        faults.range("timeout_ms", self.timeout_ms, 1, 600_000);
        faults.range("body_bytes_max", self.body_bytes_max, 0, 1024 * 1024 * 1024);
        if let Some(payload) = &self.payload {
            faults.range("payload.bytes_max", payload.bytes_max, 1, 64 * 1024);
            if !(payload.request || payload.response || payload.headers) {
                faults.add("payload", "keeps nothing", "leave it out");
            }
        }
        faults.count("resources", self.resources.len(), 1, 1_000);
        for (i, resource) in self.resources.iter().enumerate().take(1_000) {
            resource.validate(i, faults);
        }
        self.check_each_is_another(faults);
    }

    fn references(&self) -> Vec<Reference> {
        let tiers = self.tiers.iter().enumerate();
        let resources = self.resources.iter().enumerate();
        let tier = self.tier.iter();
        std::iter::once(Reference::new("upstream", Kind::Upstream, &self.upstream))
            .chain(tier.map(|tier| Reference::new("tier", Kind::Tier, tier)))
            .chain(tiers.map(|(i, tier)| Reference::new(format!("tiers[{i}]"), Kind::Tier, tier)))
            .chain(resources.filter_map(|(i, resource)| {
                let tier = resource.tier.as_ref()?;
                Some(Reference::new(format!("resources[{i}].tier"), Kind::Tier, tier))
            }))
            .collect()
    }
}

impl Api {
    /// Two resources for the same requests: which of them would answer is not said.
    fn check_each_is_another(&self, faults: &mut Faults) {
        let (mut answered, mut operations) = (HashMap::new(), HashMap::new());
        for (i, resource) in self.resources.iter().enumerate().take(1_000) {
            let shape = shape(&resource.path);
            let answers = resource.methods.iter().map(|method| (method.text(), shape.clone()));
            let other = answers
                .filter_map(|of| answered.insert(of, i))
                .filter(|&other| other != i)
                .last()
                .map(|other| &self.resources[other].path);
            if let Some(other) = other {
                let what = format!("stands for the same requests as {other}");
                faults.add(format!("resources[{i}].path"), what, "leave out one of the two");
            }
            if let Some(operation) = &resource.operation
                && let Some(other) = operations.insert(operation, i)
            {
                let what = format!("is the operation of {} too", self.resources[other].path);
                faults.add(format!("resources[{i}].operation"), what, "give each its own id");
            }
        }
    }
}

/// A template whatever its parts are called.
fn shape(path: &str) -> String {
    let segments = path.split('/');
    segments.map(|s| if s.starts_with('{') { "{}" } else { s }).collect::<Vec<_>>().join("/")
}

impl Resource {
    fn validate(&self, i: usize, faults: &mut Faults) {
        let at = |field: &str| format!("resources[{i}].{field}");
        faults.count(at("methods"), self.methods.len(), 1, 7);
        let fixed = self.path.strip_suffix("/*").unwrap_or(&self.path);
        if !fixed.is_empty() {
            check_path(faults, &at("path"), fixed);
        }
        if !is_template(fixed) {
            faults.add(at("path"), "braces do not enclose a whole segment", "write /orders/{id}");
        } else if fixed.contains('*') {
            faults.add(at("path"), "has a star before its end", "write /* at the end, or no star");
        }
        if let Some(ways) = &self.authentication {
            check_authentication(faults, &at("authentication"), ways);
        }
        if let Some(operation) = &self.operation {
            faults.text(at("operation"), operation, 256);
        }
        faults.count(at("scopes"), self.scopes.len(), 0, 20);
        for (j, scope) in self.scopes.iter().enumerate().take(20) {
            faults.text(format!("resources[{i}].scopes[{j}]"), scope, 128);
        }
    }
}

fn check_authentication(faults: &mut Faults, at: &str, ways: &[Authentication]) {
    faults.count(at, ways.len(), 1, 5);
    if ways.len() > 1 && ways.contains(&Authentication::None) {
        faults.add(at, "`none` among others", "give `none` alone, or leave it out");
    }
    if !ways.iter().all(|way| matches!(way, Authentication::Oauth2 | Authentication::None)) {
        let mend = "give oauth2 (a bearer token), or none";
        faults.add(at, "names a way that is not there yet", mend);
    }
}

fn check_path(faults: &mut Faults, at: &str, path: &str) {
    let segments = || path.split('/').skip(1);
    faults.text(at, path, 512);
    if !path.starts_with('/') {
        faults.add(at, "does not begin with a slash", "give a path as /orders");
    } else if path != "/" && segments().any(str::is_empty) {
        faults.add(at, "has an empty segment", "remove the slash that is too many");
    } else if segments().any(|segment| segment == "." || segment == "..") {
        faults.add(at, "has a segment of dots", "give the path without . and ..");
    } else if path.contains(['?', '#', ' ', '\\', '%']) {
        faults.add(at, "holds one of ? # % \\ or a space", "give the path alone, not encoded");
    }
}

fn is_template(path: &str) -> bool {
    path.split('/').all(|segment| {
        let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match inner {
            Some(name) => !name.is_empty() && !name.contains(['{', '}']),
            None => !segment.contains(['{', '}']),
        }
    })
}
