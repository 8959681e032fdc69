//! Files of the table that cannot be read: found, and set aside.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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
    /// [`Error::Table`]; [`Error::Broken`] if the reading broke off.
    pub async fn check(&self, paths: &BTreeSet<String>) -> Result<Vec<Damaged>, Error> {
        let place = PathBuf::from(&self.place);
        let files = self.files()?.into_iter().filter(|file| paths.contains(&file.path));
        let files: Vec<LakeFile> = files.collect();
        let checking = tokio::task::spawn_blocking(move || {
            let wrong = files.into_iter().filter_map(|file| {
                let why = read(&place.join(&file.path), &file).err()?;
                Some(Damaged { file, why })
            });
            wrong.collect()
        });
        checking.await.map_err(|error| Error::Broken(error.to_string()))
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
        self.rewrite(gone, DeltaOperation::FileSystemCheck {}).await?;
        for Damaged { file, why } in &damaged {
            tracing::error!(
                file = file.path,
                rows = file.rows,
                why,
                "a file of the lake is set aside"
            );
            if let Err(error) = put_aside(Path::new(&self.place), &file.path) {
                tracing::warn!(file = file.path, %error, "it stays where it is until files are removed");
            }
        }
        Ok(damaged)
    }
}

/// Reads a file to its end.
fn read(path: &Path, expected: &LakeFile) -> Result<(), String> {
    let told = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "it is not there".to_owned(),
        _ => format!("it cannot be read: {error}"),
    };
    let file = File::open(path).map_err(told)?;
    let bytes = file.metadata().map_err(told)?.len();
    if bytes != expected.bytes {
        return Err(format!("it has {bytes} bytes, of {}", expected.bytes));
    }
    let broken = |error: &dyn std::fmt::Display| format!("it is no whole Parquet: {error}");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| broken(&error))?;
    let mut rows = 0;
    for batch in reader.build().map_err(|error| broken(&error))? {
        rows += batch.map_err(|error| broken(&error))?.num_rows();
    }
    match expected.rows {
        Some(expected) if expected != rows => Err(format!("it has {rows} rows, of {expected}")),
        _ => Ok(()),
    }
}

fn put_aside(place: &Path, path: &str) -> std::io::Result<()> {
    let aside = place.join(ASIDE);
    std::fs::create_dir_all(&aside)?;
    // Its name is its own, whatever the day.
    let name = path.replace('/', "-");
    match std::fs::rename(place.join(path), aside.join(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        moved => moved,
    }
}
