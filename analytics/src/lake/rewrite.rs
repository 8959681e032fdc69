//! Commits that change which files the table has, and add no event.

use std::path::{Path, PathBuf};
use std::time::Duration;

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, Transaction};
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::DeltaOperation;
use fail::fail_point;

use super::Error;
use super::table::{STAMPS_KEPT, Table};

/// The application transaction of such a commit: Delta refuses one of two that were made at
/// once. By their files alone it takes both of two merges, since neither changes rows, and
/// each row is twice.
const MERGE_ID: &str = "weir.merge";

/// How old the draft of a file is that nobody writes any more.
const DRAFTS_KEPT: Duration = Duration::from_hours(24);

impl Table {
    /// Commits some actions, unless another process commits such ones meanwhile.
    ///
    /// # Errors
    /// [`Error::Overtaken`] then; [`Error::Table`]; nothing was committed.
    pub(super) async fn rewrite(
        &mut self,
        actions: Vec<Action>,
        operation: DeltaOperation,
    ) -> Result<(), Error> {
        let number = self.transaction(MERGE_ID.to_owned()).await?.unwrap_or(0) + 1;
        let transactions = vec![Transaction::new(MERGE_ID, number)];
        let properties = CommitProperties::default().with_application_transactions(transactions);
        let commit = CommitBuilder::from(properties).with_actions(actions);
        let snapshot = self.table.snapshot().map_err(self.fail("the reading"))?;
        let commit = commit.build(Some(snapshot), self.table.log_store(), operation).await;
        fail_point!("merge::committed");
        // It may stand on a commit that another process has made meanwhile, whose stamps
        // say up to where the table's rows are.
        self.refresh().await?;
        match commit {
            Ok(_) => Ok(()),
            Err(error) if is_overtaken(&error) => {
                Err(Error::Overtaken { place: self.place.clone() })
            }
            Err(error) => Err(self.fail("the rewriting of files")(error)),
        }
    }

    /// Removes files that are no part of the table, once no reader of an earlier snapshot is
    /// left who may read them.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub(super) async fn clean(&mut self) -> Result<(), Error> {
        let cleaning = self.table.clone().vacuum().with_mode(VacuumMode::Full);
        cleaning.await.map_err(self.fail("the removing of files"))?;
        fail_point!("merge::cleaned");
        self.refresh().await?;
        let (place, number) = (PathBuf::from(&self.place), self.number);
        let swept = tokio::task::spawn_blocking(move || sweep(&place, number)).await;
        if let Ok(Err(error)) | Err(error) = swept.map_err(std::io::Error::other) {
            tracing::debug!(%error, "what broken-off commits have left stays");
        }
        Ok(())
    }
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

/// Whether another process has changed the files first.
fn is_overtaken(error: &DeltaTableError) -> bool {
    let DeltaTableError::Transaction { source } = error else { return false };
    matches!(source, TransactionError::CommitConflict(_))
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
}
