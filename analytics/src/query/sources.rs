//! What a query may read beside events.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::{EVENTS, QueryFile, Reference};

/// The column of a view's table that says of which replay a row is; absent for live traffic.
pub(crate) const REPLAY_ID: &str = "replay_id";
/// The column of a view with corrections that says how often a row's window was corrected.
pub(crate) const REVISION: &str = "revision";

/// The views and tables that there are; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    views: Arc<BTreeMap<String, QueryFile>>,
    tables: Arc<Vec<Reference>>,
}

impl Sources {
    /// Tables, and of some query files those that are views.
    pub fn new<'a>(files: impl IntoIterator<Item = &'a QueryFile>, tables: Vec<Reference>) -> Self {
        let views = files.into_iter().filter(|file| !file.is_detection());
        let views = views.map(|view| (view.name.clone(), view.clone())).collect();
        Self { views: Arc::new(views), tables: Arc::new(tables) }
    }

    /// The tables that stay as they are.
    pub fn tables(&self) -> &[Reference] {
        &self.tables
    }

    /// What may be read: events, the views and the tables, in the order of their names.
    pub(super) fn names(&self) -> Vec<&str> {
        let tables = self.tables.iter().map(Reference::name);
        let mut names: Vec<&str> =
            self.views.keys().map(String::as_str).chain(tables).chain([EVENTS]).collect();
        names.sort_unstable();
        names
    }

    /// Makes the tables known to a session.
    pub(super) fn register(&self, session: &SessionContext) -> Result<()> {
        for table in &*self.tables {
            session.register_table(table.name(), table.of_each_run()?)?;
        }
        Ok(())
    }

    /// The views that a text may mean: words in it are called so.
    pub(crate) fn views_in(&self, text: &str) -> Vec<&QueryFile> {
        let tokens = Tokenizer::new(&GenericDialect, text).tokenize().unwrap_or_default();
        let words = tokens.into_iter().filter_map(|token| match token {
            Token::Word(word) => self.views.get_key_value(&word.value.to_lowercase()),
            _ => None,
        });
        words.collect::<BTreeMap<_, _>>().into_values().collect()
    }
}
