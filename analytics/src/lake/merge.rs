//! Small files of a day become large ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::FieldRef;
use datafusion::prelude::{SessionContext, cast, col};
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{
    CommitBuilder, CommitConflictError, CommitProperties, TransactionError,
};
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::DeltaOperation;
use fail::fail_point;

use super::Error;
use super::files::written;
use super::rows::table_schema;
use super::table::{STAMPS_KEPT, Table};

/// The application transaction of a merge: Delta refuses one of two that were made at once.
/// By their files alone it takes both, since neither changes rows, and each row is twice.
const MERGE_ID: &str = "weir.merge";

/// Files of fewer rows are small, and one that is made of them has at most this many. A
/// merge has that many in memory.
const SMALL_ROWS: usize = 100_000;
const MERGED_ROWS_MAX: usize = 200_000;
/// The same, in bytes as they lie on the disk.
const SMALL_BYTES: usize = 32 * 1024 * 1024;
const MERGED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many small files there may be beyond one a day.
const SMALL_FILES_MAX: usize = 32;
/// How old the draft of a file is that nobody writes any more.
const DRAFTS_KEPT: Duration = Duration::from_hours(24);

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
        let number = self.transaction(MERGE_ID.to_owned()).await?.unwrap_or(0) + 1;
        let transactions = vec![Transaction::new(MERGE_ID, number)];
        let properties = CommitProperties::default().with_application_transactions(transactions);
        let target_size = i64::try_from(MERGED_BYTES_MAX).expect("it is some megabytes");
        let operation = DeltaOperation::Optimize { predicate: None, target_size };
        let commit = CommitBuilder::from(properties).with_actions(actions);
        let snapshot = self.table.snapshot().map_err(self.fail("the reading"))?;
        let commit = commit.build(Some(snapshot), self.table.log_store(), operation).await;
        fail_point!("merge::committed");
        // It may stand on a commit that another process has made meanwhile, whose stamps
        // say up to where the table's rows are.
        self.refresh().await?;
        match commit {
            Ok(_) => tracing::debug!(files = files.len(), "small files of the lake are merged"),
            Err(error) if is_overtaken(&error) => {
                return Err(Error::Overtaken { place: self.place.clone() });
            }
            Err(error) => return Err(self.fail("the merging of files")(error)),
        }
        let cleaning = self.table.clone().vacuum().with_mode(VacuumMode::Full);
        cleaning.await.map_err(self.fail("the removing of files"))?;
        fail_point!("merge::cleaned");
        self.refresh().await?;
        let (place, number) = (PathBuf::from(&self.place), self.number);
        let swept = tokio::task::spawn_blocking(move || sweep(&place, number)).await;
        if let Ok(Err(error)) | Err(error) = swept.map_err(std::io::Error::other) {
            tracing::debug!(%error, "what broken-off commits have left stays");
        }
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
        // Readers give views of texts.
        let column = |of: &FieldRef| cast(col(of.name()), of.data_type().clone()).alias(of.name());
        let columns: Vec<_> = table_schema().fields().iter().map(column).collect();
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

/// Removes what commits have left that were broken off or overtaken, and what no reader of
/// the table lists: files of stamps before those that are kept, and the drafts of files,
/// which end in `#` and a number, once they are older than a day.
fn sweep(place: &Path, number: i64) -> std::io::Result<()> {
    for entry in std::fs::read_dir(place.join("_weir"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let of = name.strip_prefix("stamps-").and_then(|name| name.strip_suffix(".json"));
        if of.and_then(|of| of.parse::<i64>().ok()).is_some_and(|of| of < number - STAMPS_KEPT) {
            std::fs::remove_file(path)?;
        }
    }
    for directory in std::fs::read_dir(place)? {
        let directory = directory?;
        if !directory.file_type()?.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(directory.path())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let draft = name.rsplit_once('#').map(|(_, number)| number);
            let is_draft = draft.is_some_and(|number| number.parse::<u32>().is_ok());
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if is_draft && age > DRAFTS_KEPT {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Whether another process has merged first.
fn is_overtaken(error: &DeltaTableError) -> bool {
    let DeltaTableError::Transaction { source } = error else { return false };
    let TransactionError::CommitConflict(conflict) = source else { return false };
    matches!(conflict, CommitConflictError::ConcurrentTransaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broken_off_commits_have_left_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - 2 * DRAFTS_KEPT;
        let put = |name: &str, is_old: bool| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = std::fs::File::create(&path).unwrap();
            if is_old {
                file.set_modified(old).unwrap();
            }
        };
        let stays =
            ["_weir/stamps-92.json", "_weir/stamps-101.json", "_weir/other", "d=1/a.parquet"];
        let goes = [
            "_weir/stamps-91.json",
            "_weir/stamps-7.json",
            "d=1/a.parquet#1",
            "_delta_log/1.json#12",
        ];
        stays.iter().chain(&goes).for_each(|name| put(name, true));
        put("d=1/b.parquet#3", false);
        sweep(dir.path(), 100).unwrap();
        let is_there = |name: &&str| dir.path().join(name).exists();
        assert!(stays.iter().all(is_there) && is_there(&"d=1/b.parquet#3"));
        assert!(!goes.iter().any(is_there));
    }

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
