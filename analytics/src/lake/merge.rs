//! Small files of a day become large ones.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::prelude::{SessionContext, cast, ident};
use deltalake::kernel::{Action, Add};
use deltalake::protocol::DeltaOperation;
use fail::fail_point;

use super::Error;
use super::files::written;
use super::rows::table_schema;
use super::table::Table;

/// Files of fewer rows are small, and one that is made of them has at most this many. A
/// merge has that many in memory.
const SMALL_ROWS: usize = 100_000;
const MERGED_ROWS_MAX: usize = 200_000;
/// The same, in bytes as they lie on the disk.
const SMALL_BYTES: usize = 32 * 1024 * 1024;
const MERGED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many small files there may be beyond one a day.
const SMALL_FILES_MAX: usize = 32;
/// A file of the table that is to be merged.
#[derive(Debug)]
struct Small {
    path: String,
    rows: usize,
    bytes: usize,
    /// When it was made, in milliseconds.
    made: i64,
}

impl Table {
    /// Merges small files of a day to one, if there are more than 32 beyond one a day, and
    /// removes those that were merged longer ago than their retention (6 hours). The rows
    /// stay the same; up to 200,000 are in memory meanwhile. Answers whether it did.
    ///
    /// # Errors
    /// [`Error::Overtaken`] if another process has merged meanwhile; [`Error::Table`]; then
    /// nothing was merged.
    pub async fn merge(&mut self) -> Result<bool, Error> {
        let Some(files) = self.due()? else { return Ok(false) };
        let actions = self.merged(&files).await?;
        fail_point!("merge::written");
        let target_size = i64::try_from(MERGED_BYTES_MAX).expect("it is some megabytes");
        self.rewrite(actions, DeltaOperation::Optimize { predicate: None, target_size }).await?;
        tracing::debug!(files = files.len(), "small files of the lake are merged");
        self.clean().await?;
        Ok(true)
    }

    /// The files that are to be one, if any are: of the day that has most.
    fn due(&self) -> Result<Option<Vec<Small>>, Error> {
        let mut days: BTreeMap<String, Vec<Small>> = BTreeMap::new();
        let snapshot = self.table.snapshot().map_err(self.fail("the reading"))?;
        for file in snapshot.log_data().iter() {
            let bytes = usize::try_from(file.size()).unwrap_or(usize::MAX);
            // One without a count is not from here.
            let Some(rows) = file.num_records() else { continue };
            if rows < SMALL_ROWS && bytes < SMALL_BYTES {
                let path = file.path().into_owned();
                // It begins with its day's directory.
                let day = path.split_once('/').map_or("", |(day, _)| day).to_owned();
                let made = file.modification_time();
                days.entry(day).or_default().push(Small { path, rows, bytes, made });
            }
        }
        if days.values().map(|files| files.len() - 1).sum::<usize>() <= SMALL_FILES_MAX {
            return Ok(None);
        }
        let most = days.into_values().max_by_key(Vec::len);
        Ok(most.map(|mut files| {
            files.sort_by(|a, b| (a.made, &a.path).cmp(&(b.made, &b.path)));
            together(files)
        }))
    }

    /// Writes the rows of some files to one, and says what the table is to be told.
    async fn merged(&self, files: &[Small]) -> Result<Vec<Action>, Error> {
        let paths = files.iter().map(|file| file.path.clone());
        let provider = self.table.table_provider().with_file_paths(paths);
        let provider = provider.await?;
        // Readers give views of texts. Columns of a newer Weir are kept as they are.
        let known = table_schema();
        let column = |of: &FieldRef| {
            let of_type = match (known.field_with_name(of.name()), of.data_type()) {
                (Ok(known), _) => known.data_type().clone(),
                (Err(_), DataType::Utf8View) => DataType::Utf8,
                (Err(_), DataType::BinaryView) => DataType::Binary,
                (Err(_), other) => other.clone(),
            };
            cast(ident(of.name()), of_type).alias(of.name())
        };
        let columns: Vec<_> = provider.schema().fields().iter().map(column).collect();
        let read = SessionContext::new().read_table(provider)?.select(columns)?;
        let rows = read.collect().await?;
        let expected: usize = files.iter().map(|file| file.rows).sum();
        let found: usize = rows.iter().map(RecordBatch::num_rows).sum();
        if found != expected {
            let detail = format!("{found} rows where {expected} were written");
            return Err(Error::Damaged { place: self.place.clone(), detail });
        }
        let added = written(&self.table, rows).await.map_err(self.fail("the writing"))?;
        let added = added.into_iter().map(|file| Add { data_change: false, ..file });
        let mut actions: Vec<Action> = added.map(Action::Add).collect();
        let snapshot = self.table.snapshot().map_err(self.fail("the reading"))?;
        let log_data = snapshot.log_data();
        let gone = log_data.iter().filter(|of| files.iter().any(|file| file.path == of.path()));
        actions.extend(gone.map(|of| Action::Remove(of.remove_action(false))));
        Ok(actions)
    }
}

/// The first of some files, as many as one may hold. Each is small, so they are two at least.
fn together(files: Vec<Small>) -> Vec<Small> {
    let (mut rows, mut bytes) = (0, 0);
    let fits = |file: &Small| {
        (rows, bytes) = (rows + file.rows, bytes + file.bytes);
        rows <= MERGED_ROWS_MAX && bytes <= MERGED_BYTES_MAX
    };
    files.into_iter().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_put_together_up_to_what_one_may_hold() {
        let lengths = |rows: &[usize]| -> Vec<usize> {
            let files = rows.iter().map(|rows| {
                let path = rows.to_string();
                Small { path, rows: *rows, bytes: 1, made: 0 }
            });
            together(files.collect()).iter().map(|file| file.rows).collect()
        };
        assert_eq!(lengths(&[1, 2, 3]), [1, 2, 3]);
        assert_eq!(lengths(&[99_999, 99_999, 2, 1, 5]), [99_999, 99_999, 2]);
        assert_eq!(lengths(&[99_999, 99_999, 90_000, 1]), [99_999, 99_999]);
    }
}
