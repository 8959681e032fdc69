//! What a user may read: the rows and columns of each table that its roles give.
//!
//! ```text
//!  table ─► rows of its roles ─► columns, masked ─► Barrier ─► the user's query
//! ```
//!
//! What holds:
//! - A table that no role gives is not there, for `information_schema` neither.
//! - Of a row that several roles give, a column is as the best of them gives it: as it is, else
//!   masked, else null. Which roles give the row is looked at row by row.
//! - A user's conditions see rows and values only as the user may see them. Those that could
//!   tell by failing on a row are not looked at for others (`barrier`).
//! - Roles are read anew for each query, so that what is taken away is gone at once. A rule
//!   that is wrong gives nothing, and says so.
//!
//! What a user can find out all the same is how long a query takes.

mod barrier;
mod expression;
mod refused;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use ingest::registry::kind::{Role, TableRights, User};
use ingest::registry::{Fault, Name, Snapshot};

use self::barrier::Barrier;
use self::refused::Refused;
use crate::sql;

/// What a user may read, as the registry says now.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    user: Name,
    roles: Vec<(Name, Role)>,
}

/// What one role gives of a table.
#[derive(Debug, Clone)]
struct Given {
    role: Name,
    rights: TableRights,
}

impl Rights {
    /// The rights of a user; nothing of one that there is not.
    pub(crate) fn of(snapshot: &Snapshot, user: &Name) -> Option<Self> {
        let roles = &snapshot.get::<User>(user)?.roles;
        let roles = roles.iter().filter_map(|name| Some((name, snapshot.get::<Role>(name)?)));
        let roles = roles.map(|(name, role)| (name.clone(), role.clone())).collect();
        Some(Self { user: user.clone(), roles })
    }

    /// A table as the user may read it; nothing if it may not be read at all. Of one whose
    /// rules do not fit it nothing can be read, which whoever reads it is told.
    pub(crate) fn table(
        &self,
        state: &SessionState,
        name: &str,
        table: Arc<dyn TableProvider>,
    ) -> Option<Arc<dyn TableProvider>> {
        let given = self.given(name);
        if given.is_empty() {
            return None;
        }
        if given.iter().any(|given| given.rights.are_whole()) {
            return Some(table);
        }
        let schema = table.schema();
        Some(match expression::plan(state, &self.user, name, table, &given) {
            Ok(part) => Arc::new(Barrier::new(part)),
            Err(error) => Arc::new(Refused::new(schema, sql::plain(&error))),
        })
    }

    /// Whether all of a table may be read.
    pub(crate) fn is_whole(&self, name: &str) -> bool {
        self.given(name).iter().any(|given| given.rights.are_whole())
    }

    /// Whether all of every table may be read, but for those that are named besides.
    pub(crate) fn are_of_all(&self) -> bool {
        self.is_whole(Role::ALL_TABLES)
    }

    fn given(&self, table: &str) -> Vec<Given> {
        let of_role = |(name, role): &(Name, Role)| {
            let rights = role.tables.get(table).or_else(|| role.tables.get(Role::ALL_TABLES))?;
            Some(Given { role: name.clone(), rights: rights.clone() })
        };
        self.roles.iter().filter_map(of_role).collect()
    }
}

/// Whether a plan reads a table of which only a part may be read: what tells how it is read,
/// as `EXPLAIN ANALYZE`, would tell of the rest.
pub(crate) fn is_bound(plan: &LogicalPlan) -> Result<bool> {
    barrier::is_in(plan)
}

/// Finds what is wrong with a role's expressions, as far as it can be known without the
/// tables.
///
/// # Errors
/// The faults, with paths as `tables.events.rows`.
pub(crate) fn check(role: &Role) -> Result<(), Vec<Fault>> {
    expression::check(role)
}
