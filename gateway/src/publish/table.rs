use std::borrow::Cow;
use std::sync::Arc;

// Who calls chooses none of the keys, so they need no guard against collisions.
use foldhash::HashMap;
use http::Method;
use ingest::redact::{Pseudonyms, Redactor};
use ingest::registry::kind::{Api, Lifecycle, Redaction, Resource, Upstream};
use ingest::registry::{Name, Snapshot};

use super::path::{decoded, is_contained};
use super::templates::Templates;
use super::{Access, ApiAccess, PathFault, ResourceAccess};
use crate::throttle::Counters;
use crate::upstream;

/// Everything that callers reach, as of one snapshot of the registry.
pub struct Table {
    snapshot: Arc<Snapshot>,
    config_hash: Arc<str>,
    redactor: Redactor,
    access: Access,
    /// By context and version, and by context alone for a default version.
    prefixes: HashMap<String, Arc<PublishedApi>>,
    /// How many segments the deepest prefix has.
    depth_max: usize,
}

/// An API with what a request needs of it, shared by the events that name it.
pub struct PublishedApi {
    /// The entity's name.
    pub name: Arc<str>,
    /// The version, as callers name it.
    pub version: Arc<str>,
    /// The path under which it is reached.
    pub context: Arc<str>,
    /// The entity.
    pub spec: Api,
    /// Who may call it.
    pub(crate) access: ApiAccess,
    /// Who answers.
    pub(crate) upstream: Arc<upstream::Group>,
    /// Whether every path below the context is one resource, whatever it means.
    is_any_path: bool,
    resources: Vec<Arc<PublishedResource>>,
    templates: Templates,
}

/// A resource with what a request needs of it.
pub struct PublishedResource {
    /// Its place in `spec.resources` of its API.
    pub index: usize,
    /// The template below the context and version.
    pub path: Arc<str>,
    /// The template with the API's context, for events.
    pub route: Arc<str>,
    /// The operation's id in the API's document.
    pub operation: Option<Arc<str>>,
    /// How callers prove who they are.
    pub(crate) access: ResourceAccess,
    /// The entity's part.
    pub spec: Resource,
}

/// What a request asks for.
pub struct Matched {
    /// The API.
    pub api: Arc<PublishedApi>,
    /// The resource.
    pub resource: Arc<PublishedResource>,
    /// How many bytes of the path name the API; the rest goes upstream.
    pub prefix_bytes: usize,
}

/// Why there is nothing for a request.
pub enum Missed {
    /// The path has more than one meaning.
    Path(PathFault),
    /// No API has this path.
    Api,
    /// The API is retired.
    Retired(Arc<PublishedApi>),
    /// The API has no such resource.
    Resource(Arc<PublishedApi>),
    /// The resource takes other methods: the value of `Allow`.
    Method(Arc<PublishedApi>, String),
}

impl Table {
    /// Compiles a snapshot. What cannot be is left out and told of. Limits go on
    /// counting where `counters` are.
    pub fn compile(
        snapshot: &Arc<Snapshot>,
        counters: &Counters,
        pseudonyms: Option<&Pseudonyms>,
    ) -> Self {
        let mut upstreams = HashMap::default();
        for (name, spec) in snapshot.all::<Upstream>() {
            match upstream::Group::compile(name, spec) {
                Ok(group) => {
                    upstreams.insert(name.clone(), Arc::new(group));
                }
                Err(error) => tracing::error!(upstream = %name, %error, "upstream left out"),
            }
        }
        let mut table = Self {
            snapshot: snapshot.clone(),
            config_hash: snapshot.config_hash().to_string().into(),
            redactor: Redaction::redactor(snapshot, pseudonyms),
            access: Access::compile(snapshot, counters),
            prefixes: HashMap::default(),
            depth_max: 0,
        };
        for (name, spec) in snapshot.all::<Api>() {
            use Lifecycle::{Deprecated, Published, Retired};
            if !matches!(spec.lifecycle, Published | Deprecated | Retired) {
                continue;
            }
            let Some(upstream) = upstreams.get(&spec.upstream) else {
                tracing::error!(api = %name, upstream = %spec.upstream, "api left out without its upstream");
                continue;
            };
            match PublishedApi::compile(name, spec, upstream.clone(), snapshot, counters) {
                Ok(api) => table.publish(Arc::new(api)),
                Err(error) => tracing::error!(api = %name, %error, "api left out"),
            }
        }
        table
    }

    fn publish(&mut self, api: Arc<PublishedApi>) {
        let versioned = format!("{}/{}", api.context, api.version);
        let plain = api.spec.default_version.then(|| api.context.to_string());
        for prefix in std::iter::once(versioned).chain(plain) {
            if let Some(first) = self.prefixes.get(&prefix) {
                tracing::error!(prefix, api = %api.name, kept = %first.name, "two apis claim one path");
                continue;
            }
            self.depth_max = self.depth_max.max(prefix.matches('/').count());
            self.prefixes.insert(prefix, api.clone());
        }
    }

    /// What a request asks for by its method and raw path.
    ///
    /// # Errors
    /// [`Missed`].
    pub fn find(&self, method: &Method, path: &str) -> Result<Matched, Missed> {
        // The context of a path that is passed on as it is must itself be plain.
        let (matched, is_decoded) = match decoded(path) {
            Ok(decoded) => (decoded, true),
            Err(fault) => {
                let found = self.find_api(path).filter(|(api, _)| api.is_any_path);
                let (_, prefix) = found.ok_or(Missed::Path(fault))?;
                is_contained(&path[prefix..]).map_err(Missed::Path)?;
                (Cow::Borrowed(path), false)
            }
        };
        let (api, prefix) = self.find_api(&matched).ok_or(Missed::Api)?;
        if api.spec.lifecycle == Lifecycle::Retired {
            return Err(Missed::Retired(api.clone()));
        }
        let rest = &matched[prefix..];
        let rest = if rest.is_empty() || !is_decoded { "/" } else { rest };
        let Some(found) = api.templates.find(rest) else {
            return Err(Missed::Resource(api.clone()));
        };
        let Some(index) = found.find(method) else {
            return Err(Missed::Method(api.clone(), found.allow()));
        };
        let prefix_bytes = match &matched {
            Cow::Borrowed(_) => prefix,
            Cow::Owned(_) => raw_bytes(path, prefix),
        };
        let resource = api.resources[index].clone();
        Ok(Matched { api: api.clone(), resource, prefix_bytes })
    }

    /// The API of the longest prefix, and how many decoded bytes that has.
    fn find_api(&self, path: &str) -> Option<(&Arc<PublishedApi>, usize)> {
        let ends = path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/');
        let ends = ends.map(|(at, _)| at).chain([path.len()]).take(self.depth_max);
        // The longest that fits is the last that does.
        let found = ends.filter_map(|end| Some((self.prefixes.get(&path[..end])?, end)));
        found.last()
    }

    /// The snapshot that this is compiled from: for what else a request needs of it.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Who may call at all, and how much.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// What events may hold.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The hash of the configuration, as events carry it.
    pub fn config_hash(&self) -> &Arc<str> {
        &self.config_hash
    }

    /// The revision of the registry that it is of.
    pub fn revision(&self) -> i64 {
        self.snapshot.revision().cast_signed()
    }
}

/// How many raw bytes decode to the first `decoded` bytes of a path that was decoded.
fn raw_bytes(path: &str, decoded: usize) -> usize {
    let (mut raw, bytes) = (0, path.as_bytes());
    for _ in 0..decoded {
        raw += if bytes[raw] == b'%' { 3 } else { 1 };
    }
    raw
}

impl PublishedApi {
    fn compile(
        name: &Name,
        spec: &Api,
        upstream: Arc<upstream::Group>,
        snapshot: &Snapshot,
        counters: &Counters,
    ) -> Result<Self, String> {
        let mut templates = Templates::default();
        let mut resources = Vec::with_capacity(spec.resources.len());
        for (index, resource) in spec.resources.iter().enumerate() {
            templates.add(&resource.path, &resource.methods, index);
            resources.push(Arc::new(PublishedResource {
                index,
                path: resource.path.as_str().into(),
                route: format!("{}{}", spec.context, resource.path).into(),
                operation: resource.operation.as_deref().map(Into::into),
                access: ResourceAccess::compile(name, spec, resource, snapshot, counters),
                spec: resource.clone(),
            }));
        }
        Ok(Self {
            name: name.as_str().into(),
            version: spec.version.as_str().into(),
            context: spec.context.as_str().into(),
            access: ApiAccess::compile(name, spec, snapshot, counters)?,
            spec: spec.clone(),
            upstream,
            is_any_path: spec.resources.iter().all(|resource| resource.path == "/*"),
            resources,
            templates,
        })
    }
}
