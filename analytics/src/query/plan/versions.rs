//! Rows that are joined with what entities of the registry were: they wait until that is known.

use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::max;
use arrow::datatypes::Int64Type;

use super::super::shape::CONFIG_REVISION;
use super::{Error, Plan, Reference};
use crate::entities::Entities;

impl Plan {
    /// The last revision of the registry that rows name, if they are joined with what entities
    /// were at it; else the first there is.
    pub(in crate::query) fn revision_of(&self, rows: &RecordBatch) -> u64 {
        let named = rows.column_by_name(CONFIG_REVISION).filter(|_| self.joins_versions());
        // The shape sees to its type.
        let last = named.and_then(|of| max(of.as_primitive::<Int64Type>()));
        last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0)
    }

    /// Waits until it is known what entities were at a revision.
    ///
    /// # Errors
    /// If that is not known after a while.
    pub(in crate::query) async fn wait_for(&self, revision: u64) -> Result<(), Error> {
        let Some(entities) = self.entities() else { return Ok(()) };
        let behind = |told| Error::Revision { name: self.file.name.clone(), named: revision, told };
        entities.wait_for(revision).await.map_err(behind)
    }

    /// Whether it joins what entities were.
    pub(in crate::query) fn joins_versions(&self) -> bool {
        self.entities().is_some()
    }

    fn entities(&self) -> Option<&Entities> {
        self.joined.iter().find_map(Reference::entities)
    }
}
