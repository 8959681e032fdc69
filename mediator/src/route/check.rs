use ingest::registry::{Fault, Spec};

use super::Plan;

/// What the registry's own check cannot: reads and compiles every step of a route.
///
/// # Errors
/// Everything that is wrong in the steps.
pub fn deep_check(spec: &Spec) -> Result<(), Vec<Fault>> {
    match spec {
        Spec::Route(route) => Plan::compile("checked", route).map(|_| ()),
        _ => Ok(()),
    }
}
