use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake::DeltaTableError;

/// Why the lake could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Storage, or the table's own log.
    #[error("{what} of the lake at {place} failed: {source}")]
    Table {
        /// What was tried.
        what: &'static str,
        /// The table's address.
        place: String,
        /// What happened.
        source: Box<DeltaTableError>,
    },
    /// The table does not hold together.
    #[error("the lake at {place} is damaged: {detail}")]
    Damaged {
        /// The table's address.
        place: String,
        /// What does not fit.
        detail: String,
    },
    /// Another process has committed: what was to be written is there, or was begun
    /// from another place. Nothing was written.
    #[error("another process writes to the lake at {place}")]
    Overtaken {
        /// The table's address.
        place: String,
    },
    /// The directory of the lake cannot be had.
    #[error("the directory of the lake, {dir}: {source}")]
    Directory {
        /// The directory.
        dir: String,
        /// What happened.
        source: std::io::Error,
    },
    /// A query could not read a file of the table.
    #[error(
        "the lake cannot be read: {0}; a file of it may be damaged, and `weir lake check` says which"
    )]
    Unreadable(String),
    /// What was done to files broke off.
    #[error("the files of the lake: {0}")]
    Broken(String),
    /// A place in the log was asked for that was not read yet.
    #[error("this node has not read the log as far as that; ask again")]
    Ahead,
    /// A place in the log was asked for that has another number of partitions.
    #[error("{given} offsets are given, the log of events has {partitions} partitions")]
    NoPlace {
        /// The offsets that were given.
        given: usize,
        /// The partitions of the log.
        partitions: usize,
    },
    /// Rows that do not fit together.
    #[error("rows for the lake: {0}")]
    Rows(#[from] ArrowError),
    /// A query could not be planned over it.
    #[error("the lake as a table: {0}")]
    Plan(#[from] DataFusionError),
}

/// If a query failed since a file of the table could not be read: the error itself may not name
/// it.
pub(crate) fn unreadable(error: &DataFusionError) -> Option<Error> {
    let is_of_a_file = match error.find_root() {
        DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(**error, ArrowError::ParquetError(_)),
        _ => false,
    };
    is_of_a_file.then(|| Error::Unreadable(crate::sql::plain(error)))
}
