use super::{EntityKey, Fault, Spec};

/// Checks of an entity what only the one who runs by it can read, such as the steps
/// of a route. Fixed in the program, so that every applier judges alike.
pub type DeepCheck = fn(&EntityKey, &Spec) -> Result<(), Vec<Fault>>;

/// Finds nothing: for kinds and tests that need no more than the spec's own check.
pub fn no_deep_check(_: &EntityKey, _: &Spec) -> Result<(), Vec<Fault>> {
    Ok(())
}
