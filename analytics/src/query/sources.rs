//! What a query may read beside events.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::QueryFile;

/// The column of a view's table that says of which replay a row is; absent for live traffic.
pub(crate) const REPLAY_ID: &str = "replay_id";

/// The views that there are; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sources(Arc<BTreeMap<String, QueryFile>>);

impl Sources {
    /// Of some query files those that are views.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a QueryFile>) -> Self {
        let views = files.into_iter().filter(|file| !file.is_detection());
        Self(Arc::new(views.map(|view| (view.name.clone(), view.clone())).collect()))
    }

    /// The views that a text may mean: words in it are called so.
    pub(super) fn views_in(&self, text: &str) -> Vec<&QueryFile> {
        let tokens = Tokenizer::new(&GenericDialect, text).tokenize().unwrap_or_default();
        let words = tokens.into_iter().filter_map(|token| match token {
            Token::Word(word) => self.0.get_key_value(&word.value.to_lowercase()),
            _ => None,
        });
        words.collect::<BTreeMap<_, _>>().into_values().collect()
    }
}
