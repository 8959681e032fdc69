use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::Method;
use ingest::registry::Snapshot;
use ingest::registry::kind::{Method as Listed, Route};
use matchit::Router;
use percent_encoding::percent_decode_str;

use super::Plan;
use crate::message::{Value, json};

/// The plans of a snapshot, by method and path. Never changes.
pub(crate) struct Table {
    pub(crate) snapshot: Arc<Snapshot>,
    plans: HashMap<Arc<str>, Arc<Plan>>,
    paths: Router<Entry>,
}

/// The plans of one path.
#[derive(Debug, Clone, Default)]
struct Entry {
    plans: Vec<(Listed, Arc<Plan>)>,
    /// The names of the template's parts, by their place.
    names: Vec<String>,
}

/// What a request asks for.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) plan: Arc<Plan>,
    /// The parts of the path that the template names.
    pub(crate) path: Value,
}

/// Why there is nothing for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    Path,
    /// The methods that there are, for `Allow`.
    Method(String),
}

impl Table {
    /// Compiles a snapshot. A route that cannot be keeps its plan of the table
    /// `before`.
    pub(crate) fn compile(snapshot: Arc<Snapshot>, before: Option<&Self>) -> Self {
        let mut plans = HashMap::new();
        for (name, route) in snapshot.all::<Route>() {
            let plan = match Plan::compile(name.as_str(), route) {
                Ok(plan) => Arc::new(plan),
                Err(faults) => {
                    let kept = before.and_then(|table| table.plans.get(name.as_str()));
                    let (fault, is_kept) = (&faults[0], kept.is_some());
                    tracing::error!(route = %name, %fault, is_kept, "route does not compile");
                    let Some(kept) = kept else { continue };
                    kept.clone()
                }
            };
            plans.insert(plan.name.clone(), plan);
        }
        let paths = paths(&plans);
        Self { snapshot, plans, paths }
    }

    /// The plan for a request.
    ///
    /// # Errors
    /// [`Missed`].
    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<Found, Missed> {
        let matched = self.paths.at(path).map_err(|_| Missed::Path)?;
        let entry = matched.value;
        let of = |asked: &str| entry.plans.iter().find(|(listed, _)| text(*listed) == asked);
        let found = of(method.as_str()).or_else(|| match *method {
            Method::HEAD => of("GET"),
            _ => None,
        });
        let Some((_, plan)) = found else {
            let allowed: Vec<&str> = entry.plans.iter().map(|(listed, _)| text(*listed)).collect();
            return Err(Missed::Method(allowed.join(", ")));
        };
        let mut parts = Vec::new();
        for (name, (_, part)) in entry.names.iter().zip(matched.params.iter()) {
            let part = percent_decode_str(part).decode_utf8().map_err(|_| Missed::Path)?;
            parts.push((name.as_str(), part.into_owned()));
        }
        Ok(Found { plan: plan.clone(), path: json::object(parts) })
    }
}

/// Of two routes with one method and path the first by name has it.
fn paths(plans: &HashMap<Arc<str>, Arc<Plan>>) -> Router<Entry> {
    let mut by_name: Vec<&Arc<Plan>> = plans.values().collect();
    by_name.sort_by(|a, b| a.name.cmp(&b.name));
    let mut entries = BTreeMap::<String, Entry>::new();
    for plan in by_name {
        let (shape, names) = shape(&plan.from.path);
        let entry = entries.entry(shape).or_default();
        if entry.plans.is_empty() {
            entry.names = names;
        }
        for method in &plan.from.methods {
            match entry.plans.iter().find(|(listed, _)| listed == method) {
                None => entry.plans.push((*method, plan.clone())),
                Some((_, first)) => {
                    let (route, kept, path) = (&plan.name, &first.name, &plan.from.path);
                    tracing::error!(%route, %kept, path, "two routes take the same requests");
                }
            }
        }
    }
    let mut router = Router::new();
    for (shape, entry) in entries {
        if let Err(error) = router.insert(shape.as_str(), entry) {
            tracing::error!(path = shape, %error, "routes of this path left out");
        }
    }
    router
}

/// Templates of one shape are one entry, whatever their parts are called.
fn shape(path: &str) -> (String, Vec<String>) {
    let (mut shape, mut names) = (String::new(), Vec::new());
    for segment in path.split('/').skip(1) {
        shape.push('/');
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => {
                shape.push_str(&format!("{{p{}}}", names.len()));
                names.push(name.to_owned());
            }
            None => shape.push_str(segment),
        }
    }
    (shape, names)
}

fn text(listed: Listed) -> &'static str {
    match listed {
        Listed::Get => "GET",
        Listed::Head => "HEAD",
        Listed::Post => "POST",
        Listed::Put => "PUT",
        Listed::Patch => "PATCH",
        Listed::Delete => "DELETE",
        Listed::Options => "OPTIONS",
    }
}
