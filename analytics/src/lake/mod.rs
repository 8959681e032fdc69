//! The lake: every event of the log at rest, once, as a Delta table.
//!
//! ```text
//! DIR/events/event_date=2026-01-31/….parquet   rows by API and time
//! DIR/events/_delta_log                        commits
//! DIR/events/_weir/stamps-N.json               what the next row's stamps depend on
//! DIR/quarantine/0-17.json                     a record of the log that is no event
//! ```
//!
//! *Exactly once.* A commit holds the rows, and as application transactions of the
//! same commit the offset of each partition to go on from (`weir.events/3`) and the
//! number of the file of stamps (`weir.stamps`). Delta refuses a commit whose
//! application transaction another has written meanwhile; that the commit goes on from
//! the very offsets of the snapshot that it builds on is checked here. So however many
//! processes write, each row is there once.
//!
//! *Fresh.* What the log has and the table has not yet is kept in memory ([`History`]).
//! A query takes the table's files and the boundary of the tail from one snapshot.
//!
//! *Few files.* After a commit, small files of a day are merged in a commit that changes no
//! row. Delta takes two such commits of the same files, so each has an application
//! transaction of its own (`weir.merge`), and the second is refused; that of files which go
//! for their age too.
//!
//! *On the disk.* A commit has its name when it and all that it names are synced, so a
//! power cut leaves whole commits only; what it takes the log gives again.
//!
//! Limits: a directory of this machine, or one that all analytics nodes share.

mod backlog;
mod check;
mod disk;
mod error;
mod files;
mod history;
mod merge;
mod quarantine;
mod retention;
mod rewrite;
mod rows;
mod table;

pub use backlog::{Backlog, Slice, Which};
pub use check::{Damaged, LakeFile};
pub use error::Error;
pub(crate) use error::unreadable;
pub use history::{History, Position, Since, Snapshot};
pub use quarantine::{Quarantine, Quarantined};
pub use rows::table_schema;
pub use table::Table;

#[cfg(test)]
mod tests;
