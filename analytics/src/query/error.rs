use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

/// Why a continuous query went no further. It failed alone: others go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It holds more than its header allows.
    #[error(
        "query {name}: needs more than {mib} MiB of memory; group by fewer values, or raise memory_mib in its header"
    )]
    Memory {
        /// The query.
        name: String,
        /// Its budget.
        mib: usize,
    },
    /// Rows came for a window whose answer was given, though they are in time.
    #[error("query {name}: rows in time came for a window that was closed")]
    Closed {
        /// The query.
        name: String,
    },
    /// Rows name a revision of the registry that its history does not have.
    #[error(
        "query {name}: an event came about by revision {named} of the registry, whose history ends at {told}; was the registry set back, or is its topic weir.registry.history lost?"
    )]
    Revision {
        /// The query.
        name: String,
        /// The revision.
        named: u64,
        /// The last one of the history.
        told: u64,
    },
    /// What was saved cannot be gone on from.
    #[error("query {name}: what was saved of it cannot be read: {why}")]
    Saved {
        /// The query.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It failed while it ran.
    #[error("query {name}: {source}")]
    Failed {
        /// The query.
        name: String,
        /// What happened.
        source: Box<DataFusionError>,
    },
    /// Rows that do not fit together.
    #[error(transparent)]
    Rows(#[from] ArrowError),
    /// The machinery of plans.
    #[error(transparent)]
    Plan(#[from] DataFusionError),
}
