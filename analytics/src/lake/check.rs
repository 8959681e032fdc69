//! Files of the table that cannot be read: found, and set aside.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use bytes::Bytes;
use deltalake::kernel::Action;
use deltalake::protocol::DeltaOperation;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use super::Error;
use super::table::Table;

/// Where damaged files are put, in the directory of the table: hidden from its readers.
const ASIDE: &str = "_weir/damaged";

/// A file of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LakeFile {
    /// From the table's directory on.
    pub path: String,
    /// How many rows it is to have; absent if another engine wrote it without a count.
    pub rows: Option<usize>,
    /// How long it is to be, in bytes.
    pub bytes: u64,
}

/// A file of the table that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damaged {
    /// Which it is.
    #[serde(flatten)]
    pub file: LakeFile,
    /// What is wrong with it.
    pub why: String,
}

impl Table {
    /// The files of the snapshot, by their paths.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub fn files(&self) -> Result<Vec<LakeFile>, Error> {
        let snapshot = self.table.snapshot().map_err(self.fail("the reading"))?;
        let log_data = snapshot.log_data();
        let files = log_data.iter().map(|file| LakeFile {
            path: file.path().into_owned(),
            rows: file.num_records(),
            bytes: u64::try_from(file.size()).unwrap_or(0),
        });
        let mut files: Vec<LakeFile> = files.collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Reads some files of the snapshot to their ends, and answers those that are not as they
    /// were written. Paths that are no files of it are passed over.
    ///
    /// # Errors
    /// [`Error::Table`]; [`Error::Broken`] if one could not be read at all, which says nothing of
    /// what is in it.
    pub async fn check(&self, paths: &BTreeSet<String>) -> Result<Vec<Damaged>, Error> {
        let place = PathBuf::from(&self.place);
        let files = self.files()?.into_iter().filter(|file| paths.contains(&file.path));
        let files: Vec<LakeFile> = files.collect();
        let checking = tokio::task::spawn_blocking(move || {
            let mut damaged = Vec::new();
            for file in files {
                match read(&place.join(&file.path), &file) {
                    Ok(()) => {}
                    Err(Wrong::Damaged(why)) => damaged.push(Damaged { file, why }),
                    Err(Wrong::Unread(error)) => {
                        return Err(Error::Broken(format!(
                            "{} cannot be read: {error}",
                            file.path
                        )));
                    }
                }
            }
            Ok(damaged)
        });
        checking.await.map_err(|error| Error::Broken(error.to_string()))?
    }

    /// Takes those of some files out of the table that are damaged, and puts them aside. Their
    /// rows are no longer in the table; all others can be read again. Answers which they were.
    ///
    /// # Errors
    /// [`Error::Overtaken`] if another process has changed files meanwhile; [`Error::Table`];
    /// then nothing was changed.
    pub async fn set_aside(&mut self, paths: &BTreeSet<String>) -> Result<Vec<Damaged>, Error> {
        let damaged = self.check(paths).await?;
        if damaged.is_empty() {
            return Ok(damaged);
        }
        let snapshot = self.table.snapshot().map_err(self.fail("the reading"))?;
        let log_data = snapshot.log_data();
        let gone = log_data.iter().filter(|of| damaged.iter().any(|at| at.file.path == of.path()));
        let gone = gone.map(|file| Action::Remove(file.remove_action(true))).collect();
        // By another name first, so that it is kept whatever comes between.
        for Damaged { file, .. } in &damaged {
            link_aside(Path::new(&self.place), &file.path)?;
        }
        self.rewrite(gone, DeltaOperation::FileSystemCheck {}).await?;
        for Damaged { file, why } in &damaged {
            tracing::error!(
                file = file.path,
                rows = file.rows,
                why,
                "a file of the lake is set aside"
            );
            // What is left of it is no part of the table, and is removed with other such files.
            let _ = std::fs::remove_file(Path::new(&self.place).join(&file.path));
        }
        Ok(damaged)
    }
}

/// Why a file was not read to its end.
enum Wrong {
    /// It is not as it was written.
    Damaged(String),
    /// The system did not give it: too many files are open, or a right is missing.
    Unread(std::io::Error),
}

/// Reads a file to its end: into memory first, so that what the system does not give is told
/// from what is no Parquet.
fn read(path: &Path, expected: &LakeFile) -> Result<(), Wrong> {
    let damaged = |why: String| Err(Wrong::Damaged(why));
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound && day_is_there(path) => {
            return damaged("it is not there".to_owned());
        }
        Err(error) => return Err(Wrong::Unread(error)),
    };
    if bytes.len() as u64 != expected.bytes {
        return damaged(format!("it has {} bytes, of {}", bytes.len(), expected.bytes));
    }
    match rows_of(bytes.into()) {
        Err(error) => damaged(format!("it is no whole Parquet: {error}")),
        Ok(rows) => match expected.rows {
            Some(expected) if expected != rows => {
                damaged(format!("it has {rows} rows, of {expected}"))
            }
            _ => Ok(()),
        },
    }
}

/// Whether the directory of a file's day can be read: of one that is not mounted, no file is
/// damaged.
fn day_is_there(path: &Path) -> bool {
    path.parent().is_some_and(|day| std::fs::read_dir(day).is_ok())
}

fn rows_of(bytes: Bytes) -> Result<usize, ArrowError> {
    let mut rows = 0;
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

/// Gives a file another name, among those that were set aside.
fn link_aside(place: &Path, path: &str) -> Result<(), Error> {
    let aside = place.join(ASIDE);
    let link = || {
        std::fs::create_dir_all(&aside)?;
        // Its name is its own, whatever the day.
        std::fs::hard_link(place.join(path), aside.join(path.replace('/', "-")))
    };
    match link() {
        Err(error) if [ErrorKind::NotFound, ErrorKind::AlreadyExists].contains(&error.kind()) => {
            Ok(())
        }
        linked => linked.map_err(|error| Error::Broken(format!("{path} cannot be kept: {error}"))),
    }
}
