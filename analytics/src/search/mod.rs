//! Full-text search over what events say: errors, addresses, bodies where they are kept.
//!
//! ```text
//! History ─ since the index's offsets ─► Index ─ commit with the offsets it has come to
//!                                          │
//! search('timeout AND url:orders') ────────┴─► (partition, offset, score) ─► rows of the history
//! ```
//!
//! The index is a directory of this node, beside the lake and made of it: tantivy's, with
//! nothing in it but words and where in the log the row stands that has them.
//!
//! *In step.* A commit of the index holds the offsets that it has come to, so after a crash it
//! goes on from there, and a row is in it once. A query that searches waits until the index has
//! come to the rows that the query sees, and sees no later ones. An index that is damaged, of
//! another lake or of another shape is removed and made anew.
//!
//! Limits: a text of up to 1,024 bytes; up to 100,000 rows that fit; 64 KiB of a field.

mod follower;
mod index;
mod table;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::lake;

pub use follower::{Search, Service, open};
pub(crate) use table::SearchFunction;

/// The function's name in SQL.
pub const SEARCH: &str = "search";
/// The column of how well a row fits, besides those of the row.
pub const SCORE: &str = "score";

/// How many rows may fit.
const HITS_MAX: usize = 100_000;
/// The longest text that is searched for, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// Why there is no index, or no answer of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory.
    #[error("the index of the search, {}: {source}", .dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Another process has the directory.
    #[error("the index of the search, {}, is used by another process", .0.display())]
    InUse(PathBuf),
    /// The index.
    #[error("the index of the search: {0}")]
    Index(#[from] tantivy::TantivyError),
    /// The rows.
    #[error(transparent)]
    Lake(#[from] lake::Error),
    /// The rows, while they were read.
    #[error("rows cannot be read for the search: {0}")]
    Read(#[from] datafusion::error::DataFusionError),
    /// What is searched for.
    #[error("{0}")]
    Text(String),
    /// A thread of it.
    #[error("the search broke off: {0}")]
    Broken(String),
}
