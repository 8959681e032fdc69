//! The sessions of queries: which tables and functions are there, and for whom.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;

use super::decisions::provider;
use super::{
    ACCOUNT, ACCOUNT_SQL, ALERTS, CATALOG, DECISIONS, EVENTS, Error, QUARANTINE, QUERIES, SCHEMA,
    SILENCES, Sql, guard, quarantine,
};
use crate::lake::Snapshot;
use crate::query;
use crate::rights::Rights;
use crate::run::Tables;
use crate::search::{SEARCH, SearchFunction};

/// The functions that say who asks.
const WHO: [&str; 3] = ["current_user", "session_user", "user"];

/// Who asks where it is not a user of the registry.
const ADMIN: &str = "weir";

impl Sql {
    /// A session without tables, for queries within the limits, with memory of its own.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub(crate) fn session(&self) -> Result<SessionContext, Error> {
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_target_partitions(2);
        let session = SessionContext::new_with_config_rt(config, self.with_memory()?);
        query::register(&session).map_err(|error| self.planned(&error))?;
        guard::register(&session).map_err(|error| self.planned(&error))?;
        self.name_user(&session);
        Ok(session)
    }

    /// The surroundings of a query, with memory of its own.
    pub(super) fn with_memory(&self) -> Result<Arc<RuntimeEnv>, Error> {
        let memory = Arc::new(GreedyMemoryPool::new(self.limits.memory_bytes_max));
        let runtime = RuntimeEnvBuilder::from_runtime_env(&self.runtime).with_memory_pool(memory);
        runtime.build_arc().map_err(|error| self.planned(&error))
    }

    /// Makes known to a session who asks.
    pub(crate) fn name_user(&self, session: &SessionContext) {
        let user = self.asker.as_ref().map_or(ADMIN, |user| user.as_str());
        for name in WHO {
            session.register_udf(named_user(name, user));
        }
    }

    /// Gives a session the tables with the rows that there are now, or that there were
    /// before some offsets, in place of those that it has: of each as much as who asks may
    /// read. Answers the offsets.
    ///
    /// # Errors
    /// [`Error::Lake`]; [`Error::Query`] if the user was removed.
    pub(crate) async fn fill(
        &self,
        session: &SessionContext,
        before: Option<&[u64]>,
    ) -> Result<Vec<u64>, Error> {
        let snapshot = match before {
            Some(offsets) => self.history.snapshot_before(offsets).await?,
            None => self.history.snapshot().await?,
        };
        let rights = self.rights()?;
        let put = |name: &str, table| {
            session.deregister_table(name)?;
            session.register_table(name, table)
        };
        self.put_search(session, &snapshot, rights.as_ref());
        let offsets = snapshot.offsets.clone();
        let Some(rights) = rights else {
            for (name, table) in self.tables_of(session, snapshot).await? {
                put(&name, table).map_err(|error| self.planned(&error))?;
            }
            return Ok(offsets);
        };
        // The account is of all events, whoever sees which.
        let whole = self.session()?;
        let state = session.state();
        for (name, table) in self.tables_of(&whole, snapshot).await? {
            let part = rights.table(&state, &name, table);
            match part {
                Some(part) => put(&name, part).map_err(|error| self.planned(&error))?,
                None => session.deregister_table(&name).map_err(|error| self.planned(&error))?,
            };
        }
        Ok(offsets)
    }

    /// What who asks may read; nothing of who may read everything.
    fn rights(&self) -> Result<Option<Rights>, Error> {
        let Some(user) = &self.asker else { return Ok(None) };
        let registry = self.registry.as_ref();
        match registry.and_then(|registry| Rights::of(&registry.snapshot(), user)) {
            Some(rights) => Ok(Some(rights)),
            None => Err(Error::Query(format!("there is no user {user} any more"))),
        }
    }

    /// Whether who asks may read every table.
    pub(super) fn may_read_all(&self) -> bool {
        match self.rights() {
            Ok(rights) => rights.is_none_or(|rights| rights.are_of_all()),
            Err(_) => false,
        }
    }

    /// All tables, whole. What is a view of another is made by the session.
    async fn tables_of(
        &self,
        session: &SessionContext,
        snapshot: Snapshot,
    ) -> Result<Vec<(String, Arc<dyn TableProvider>)>, Error> {
        session.deregister_table(EVENTS).map_err(|error| self.planned(&error))?;
        let events = snapshot.table;
        session.register_table(EVENTS, events.clone()).map_err(|error| self.planned(&error))?;
        let account = session.sql(ACCOUNT_SQL).await.map_err(|error| self.planned(&error))?;
        let mut tables =
            vec![(EVENTS.to_owned(), events), (ACCOUNT.to_owned(), account.into_view())];
        tables.extend(self.tables.iter().flat_map(Tables::providers));
        tables.extend(self.alerts.iter().map(|of| (ALERTS.to_owned(), of.provider())));
        tables.extend(self.alerts.iter().map(|of| (SILENCES.to_owned(), of.silences())));
        let decisions = self.decisions.as_ref();
        tables.extend(decisions.map(|(of, view)| (DECISIONS.to_owned(), provider(of, view))));
        let records = quarantine::provider(self.history.quarantine());
        tables.push((QUARANTINE.to_owned(), records));
        tables.extend(self.queries.iter().map(|of| (QUERIES.to_owned(), of.provider())));
        Ok(tables)
    }

    /// Search is there for those alone who may read all of the events.
    fn put_search(&self, session: &SessionContext, snapshot: &Snapshot, rights: Option<&Rights>) {
        session.deregister_udtf(SEARCH);
        let Some(search) = &self.search else { return };
        let function = SearchFunction::new(search.clone(), snapshot.clone());
        let function = function.within(rights.cloned());
        session.register_udtf(SEARCH, Arc::new(function));
    }

    /// Takes the tables from a session, so that it keeps no rows until it is filled anew.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub(crate) fn empty(&self, session: &SessionContext) -> Result<(), Error> {
        let schema = session.catalog(CATALOG).and_then(|catalog| catalog.schema(SCHEMA));
        for name in schema.map_or_else(Vec::new, |schema| schema.table_names()) {
            session.deregister_table(name).map_err(|error| self.planned(&error))?;
        }
        session.deregister_udtf(SEARCH);
        Ok(())
    }
}

/// A function that says who asks.
pub(crate) fn named_user(function: &str, user: &str) -> ScalarUDF {
    let user = ScalarValue::Utf8(Some(user.to_owned()));
    let says = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(user.clone()));
    create_udf(function, Vec::new(), DataType::Utf8, Volatility::Stable, Arc::new(says))
}
