use ingest::registry::{EntityKey, Fault, Spec};

use crate::{rights, run};

/// Finds what is wrong with what only this crate can read: the conditions of roles, queries,
/// and tables. Of other kinds it finds nothing.
///
/// # Errors
/// The faults, with paths as `tables.events.rows`.
pub fn deep_check(key: &EntityKey, spec: &Spec) -> Result<(), Vec<Fault>> {
    match spec {
        Spec::Role(role) => rights::check(role),
        Spec::Query(query) => run::check(key.name.as_str(), &query.sql),
        Spec::Table(table) => run::check_table(key.name.as_str(), &table.csv),
        _ => Ok(()),
    }
}
