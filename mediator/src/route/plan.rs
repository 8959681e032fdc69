//! Compiled routes, and the way from a request to its own.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use ingest::registry::kind::{self, From};
use ingest::registry::{EntityKey, Fault, Faults, Name, Snapshot, Spec};
use matchit::Router;

use crate::endpoint::http::check_path;
use crate::step::{Step, to_method};

/// A route, ready to run.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Name,
    pub(crate) spec: kind::Route,
    pub(crate) steps: Vec<Compiled>,
    /// The names of the path's parameters, in order.
    parameters: Vec<String>,
}

/// A step with what its events say of it.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) step: Step,
    pub(crate) line: Option<u32>,
}

/// All routes of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    routes: HashMap<Name, Arc<Route>>,
    /// From a path to its place among `methods`.
    paths: Router<usize>,
    /// The same, by the path's text.
    known: HashMap<String, usize>,
    /// For each path, its methods.
    methods: Vec<Vec<(Method, Arc<Route>)>>,
}

/// What a request leads to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A route, and the path's parameters as they came.
    Route(Arc<Route>, Vec<(String, String)>),
    /// The path is there, by these methods.
    OtherMethods(Vec<Method>),
    /// Nothing.
    Nothing,
}

/// Finds what only this crate can read of a spec: the steps of routes, and what a
/// queue's target is called by.
///
/// # Errors
/// The faults, with paths as `steps[2].transform`.
pub fn deep_check(_: &EntityKey, spec: &Spec) -> Result<(), Vec<Fault>> {
    match spec {
        Spec::Route(route) => compile_steps(route).map(|_| ()),
        Spec::Queue(queue) => check_path(&queue.deliver.path).map_err(|what| {
            vec![Fault::new("deliver.path", what, "give it as /orders, without steps upwards")]
        }),
        _ => Ok(()),
    }
}

fn compile_steps(route: &kind::Route) -> Result<Vec<Compiled>, Vec<Fault>> {
    let mut faults = Faults::default();
    let From::Http(http) = &route.from;
    let (path, _) = numbered(&http.path);
    let mend = "write /orders/{id}, a parameter a segment";
    // With text beside it, one path could be a part of another's.
    let is_part = |segment: &str| {
        segment.contains(['{', '}']) && !(segment.starts_with('{') && segment.ends_with('}'))
    };
    if let Err(error) = Router::new().insert(path, ()) {
        faults.add("from.http.path", error.to_string().to_lowercase(), mend);
    } else if http.path.split('/').any(is_part) {
        faults.add("from.http.path", "has a parameter with text beside it", mend);
    }
    let mut steps = Vec::with_capacity(route.steps.len());
    for (i, step) in route.steps.iter().enumerate() {
        let at = format!("steps[{i}]");
        // The registry has seen to it that there is one.
        let Some((kind, body)) = step.does.iter().next() else { continue };
        let Some(compiled) = Step::compile(kind, body, &at, &mut faults) else { continue };
        if compiled.is_last() && i + 1 < route.steps.len() {
            let mend = "move it to the end, or remove what follows";
            faults.add(format!("{at}.{kind}"), "ends the run, and steps follow", mend);
        }
        let line = route.source.as_ref().and_then(|source| source.lines.get(&at).copied());
        let id = step.id.as_ref().map_or_else(|| (i + 1).to_string(), ToString::to_string);
        steps.push(Compiled { id, kind: kind.clone(), step: compiled, line });
    }
    faults.into_result().map(|()| steps)
}

impl Route {
    fn compile(name: &Name, spec: &kind::Route) -> Result<Self, Vec<Fault>> {
        let steps = compile_steps(spec)?;
        let From::Http(http) = &spec.from;
        let (_, parameters) = numbered(&http.path);
        Ok(Self { name: name.clone(), spec: spec.clone(), steps, parameters })
    }

    pub(crate) fn http(&self) -> &kind::FromHttp {
        let From::Http(http) = &self.spec.from;
        http
    }
}

impl Plan {
    /// The plan of a snapshot. What did not change is taken over from the last plan,
    /// and so is what does not compile.
    pub(crate) fn of(snapshot: &Snapshot, last: &Self) -> Self {
        let mut plan = Self::default();
        for (name, spec) in snapshot.all::<kind::Route>() {
            let before = last.routes.get(name);
            let route = match before.filter(|before| before.spec == *spec) {
                Some(before) => Some(before.clone()),
                None => match Route::compile(name, spec) {
                    Ok(route) => Some(Arc::new(route)),
                    Err(faults) => {
                        let fault = faults.first().map(ToString::to_string);
                        let kept = before.is_some();
                        tracing::error!(route = %name, fault, kept, "route does not compile");
                        before.cloned()
                    }
                },
            };
            if let Some(route) = route {
                plan.add(&route);
                plan.routes.insert(name.clone(), route);
            }
        }
        plan
    }

    /// Of two routes of one path and method, the first by name has it: the registry
    /// refuses them, but for those that an older release took.
    fn add(&mut self, route: &Arc<Route>) {
        let (path, _) = numbered(&route.http().path);
        let place = match self.known.get(&path) {
            Some(place) => *place,
            None => {
                let place = self.methods.len();
                if let Err(error) = self.paths.insert(path.clone(), place) {
                    tracing::error!(route = %route.name, %error, "no request can find the route");
                    return;
                }
                self.known.insert(path, place);
                self.methods.push(Vec::new());
                place
            }
        };
        let known = &mut self.methods[place];
        for method in &route.http().methods {
            let method = to_method(*method);
            match known.iter().find(|(taken, _)| *taken == method) {
                Some((_, first)) if first.name != route.name => {
                    tracing::warn!(route = %route.name, first = %first.name, %method,
                        "two routes of one path and method; the first by name has it");
                }
                Some(_) => {}
                None => known.push((method, route.clone())),
            }
        }
    }

    pub(crate) fn find(&self, method: &Method, path: &str) -> Found {
        let Ok(found) = self.paths.at(path) else { return Found::Nothing };
        let methods = &self.methods[*found.value];
        match methods.iter().find(|(of, _)| of == method) {
            Some((_, route)) => {
                let values = found.params.iter().map(|(_, value)| value.to_owned());
                let parameters = route.parameters.iter().cloned().zip(values).collect();
                Found::Route(route.clone(), parameters)
            }
            None => Found::OtherMethods(methods.iter().map(|(of, _)| of.clone()).collect()),
        }
    }
}

/// A path with its parameters numbered, so that routes may name them differently,
/// and their names.
fn numbered(path: &str) -> (String, Vec<String>) {
    let (mut out, mut names, mut rest) = (String::new(), Vec::new(), path);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, behind)) = after.split_once('}') else { break };
        out.push_str(before);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            out.push_str("{}");
        } else {
            out.push_str(&format!("{{p{}}}", names.len()));
        }
        names.push(name.to_owned());
        rest = behind;
    }
    out.push_str(rest);
    (out, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, methods: &[kind::Method], path: &str) -> Arc<Route> {
        let spec = serde_json::json!({
            "from": {"http": {"methods": methods, "path": path}},
            "steps": [{"respond": {}}],
        });
        let spec = serde_json::from_value(spec).unwrap();
        Arc::new(Route::compile(&name.parse().unwrap(), &spec).unwrap())
    }

    #[test]
    fn a_request_finds_its_route() {
        use kind::Method::{Get, Post};
        let mut plan = Plan::default();
        for route in [
            route("a", &[Get], "/orders/{id}"),
            route("b", &[Get, Post], "/orders/{key}"),
            route("c", &[Get], "/orders/new"),
            route("d", &[Get], "/a/{x}/b/{y}"),
        ] {
            plan.add(&route);
        }
        let check = |method: Method, path: &str, expected: &str| {
            let found = match plan.find(&method, path) {
                Found::Route(route, parameters) => format!("{} {parameters:?}", route.name),
                Found::OtherMethods(methods) => format!("{methods:?}"),
                Found::Nothing => String::new(),
            };
            assert_eq!(found, expected, "{method} {path}");
        };
        check(Method::GET, "/orders/7", r#"a [("id", "7")]"#);
        check(Method::POST, "/orders/7", r#"b [("key", "7")]"#);
        check(Method::GET, "/orders/new", "c []");
        check(Method::GET, "/a/1/b/2", r#"d [("x", "1"), ("y", "2")]"#);
        check(Method::PUT, "/orders/7", "[GET, POST]");
        check(Method::GET, "/orders", "");
        check(Method::GET, "/orders/7/", "");
    }
}
