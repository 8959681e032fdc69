use std::sync::Arc;
use std::time::Duration;

use ingest::registry::Fault;
use ingest::registry::kind::{From, FromHttp, Route};

use crate::step::{Step, below};

/// A route, ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: Arc<str>,
    pub(crate) from: FromHttp,
    pub(crate) timeout: Duration,
    pub(crate) steps: Vec<Planned>,
    /// The file that it is written in.
    pub(crate) file: Option<Arc<str>>,
}

/// A step with what events say of it.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) step: Step,
    /// Its id, or its number from 1.
    pub(crate) id: Arc<str>,
    /// Its line in the file.
    pub(crate) line: Option<u32>,
}

impl Plan {
    /// Compiles a route.
    ///
    /// # Errors
    /// Everything that is wrong in the steps, with paths as `steps[2].call.path`.
    pub(crate) fn compile(name: &str, route: &Route) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut steps = Vec::with_capacity(route.steps.len());
        for (i, step) in route.steps.iter().enumerate() {
            let place = format!("steps[{i}]");
            let line = route.source.as_ref().and_then(|source| source.lines.get(&place).copied());
            let id = step.id.as_ref().map_or_else(|| (i + 1).to_string().into(), |id| id.shared());
            match Step::parse(&step.does) {
                Ok(step) => steps.push(Planned { step, id, line }),
                Err(found) => faults.extend(below(&place, found)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let From::Http(from) = &route.from;
        Ok(Self {
            name: name.into(),
            from: from.clone(),
            timeout: Duration::from_millis(route.timeout_ms),
            steps,
            file: route.source.as_ref().map(|source| source.file.as_str().into()),
        })
    }
}
