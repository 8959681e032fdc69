//! Configuration as files: a directory of YAML, and the plan from here to there.
//!
//! ```text
//!  DIR/**/*.yaml ──load──► Wanted ──plan (with a Snapshot)──► Plan ──► ChangeSet
//!        └──► FileErrors: file, line, column, key, mend     └──► text, JSON
//! ```
//!
//! A document is a mapping of `kind`, `name` and `spec`; a file holds one or more,
//! parted by `---`. All errors of all files are reported at once. A secret is
//! never shown: a plan says that it changes, not from what to what.
//!
//! An `api` may name its OpenAPI document, a file beside it, in the place of its
//! resources: `openapi: orders.openapi.yaml`. Such documents are no entities, and
//! are passed over where they lie among the files.
//!
//! Links are followed, as a mounted ConfigMap consists of them; what begins with
//! a dot is left out. A directory without one file is an error, not the wish to
//! have nothing.
//!
//! Limits: 10,000 files, a file 1 MiB, an API's document 16 MiB, 1,000 directories,
//! 16 deep.

mod load;
mod locate;
mod openapi;
mod parse;
mod plan;
mod settings;
#[cfg(test)]
mod tests;

pub use load::{FileError, FileErrors, Place, Wanted, load};
pub use plan::{FieldChange, Missing, Plan, Step, plan};
pub use settings::{Override, placed, settings, unreadable};
