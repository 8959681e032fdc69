//! Which plan it is, and what of it is another than of an earlier one.

use std::sync::Arc;
use std::time::Duration;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use sha2::{Digest as _, Sha256};

use super::super::{QueryFile, Reference};
use super::{Plan, micros};

/// Goes up when state that an older program kept is no longer understood.
const STATE_VERSION: u32 = 1;

impl Plan {
    /// What of it is another than of an earlier one of its name, in a few words.
    pub(crate) fn differs_from(&self, other: &Self) -> String {
        let name = |below: &Option<Arc<Self>>| below.as_ref().map(|of| of.file.name.clone());
        let hash = |below: &Option<Arc<Self>>| below.as_ref().map(|of| of.first_hash.clone());
        if tokens(&self.file).ne(&tokens(&other.file)) {
            return "its text is another".to_owned();
        }
        if self.lateness_us() != other.lateness_us() {
            return "its lateness is another".to_owned();
        }
        if self.corrections_us() != other.corrections_us() {
            return "its corrections are other".to_owned();
        }
        match name(&self.below) {
            Some(below) if hash(&self.below) != hash(&other.below) => {
                format!("the view {below}, which it reads, is another")
            }
            _ => {
                let is_same = |table: &&Reference| {
                    let same =
                        |of: &Reference| of.name() == table.name() && of.hash() == table.hash();
                    other.joined.iter().any(same)
                };
                let changed = self.joined.iter().find(|table| !is_same(table));
                let name = changed.map_or("", Reference::name);
                format!("the table {name}, which it reads, is another")
            }
        }
    }
}

/// What a text says: not how it is laid out, nor its comments.
fn tokens(file: &QueryFile) -> Vec<String> {
    let tokens = Tokenizer::new(&GenericDialect, &file.text).tokenize().unwrap_or_default();
    let tokens = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_)));
    tokens.map(Token::to_string).collect()
}

/// Of the text what it means.
pub(super) fn hash(
    file: &QueryFile,
    corrections: Option<Duration>,
    below: Option<&Plan>,
    joined: &[Reference],
) -> String {
    let mut hash = Sha256::new();
    hash.update(STATE_VERSION.to_be_bytes());
    hash.update(micros(file.header.lateness).to_be_bytes());
    if let Some(corrections) = corrections {
        hash.update(b"corrections");
        hash.update(micros(corrections).to_be_bytes());
    }
    for token in tokens(file) {
        hash.update(token.as_bytes());
        hash.update([0]);
    }
    if let Some(below) = below {
        hash.update(below.first_hash());
    }
    for table in joined {
        hash.update(table.name());
        hash.update(table.hash());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
