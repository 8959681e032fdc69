use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, StructField, StructType, Transaction};
use deltalake::logstore::object_store::{
    self, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, path::Path as ObjectPath,
};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use fail::fail_point;
use url::Url;

use super::Error;
use super::disk::Disk;
use super::files::written;
use super::rows::{EVENT_DATE, table_schema};
use crate::intake::Stamps;

/// The application transaction that names the file of stamps.
const STAMPS_ID: &str = "weir.stamps";

/// How many files of stamps are left behind the present one, for a reader that has
/// just read its number.
pub(super) const STAMPS_KEPT: i64 = 8;

/// Properties of the table: for how long files stay that were merged into another, for those
/// who read by an earlier snapshot, which is longer than any query may run; and commits that
/// a checkpoint of the table's log has taken up.
const KEPT: [(&str, &str); 2] = [
    ("delta.deletedFileRetentionDuration", "interval 6 hours"),
    ("delta.logRetentionDuration", "interval 1 day"),
];

/// How often it is brought up beside others who do so.
const ATTEMPTS: usize = 10;

/// The table of events at a snapshot, and the stamps to go on from.
#[derive(Debug, Clone)]
pub struct Table {
    pub(super) table: DeltaTable,
    pub(super) place: String,
    /// Per partition.
    stamps: Vec<Stamps>,
    /// The file that they were read from; 0 before the first commit.
    pub(super) number: i64,
}

impl Table {
    /// Opens the table in a directory, or makes it. Per partition, `firsts` is the
    /// offset to begin with if the table has none.
    ///
    /// # Errors
    /// [`Error::Directory`], [`Error::Table`]; [`Error::Damaged`] if the stamps are not
    /// those of the offsets.
    pub async fn open(dir: &Path, firsts: &[u64]) -> Result<Self, Error> {
        let dir = dir.join("events");
        let unusable = |source| Error::Directory { dir: dir.display().to_string(), source };
        // Whom it is for besides is for the operator to say.
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(unusable)?;
        let absolute = std::fs::canonicalize(&dir).map_err(unusable)?;
        let url = Url::from_directory_path(&absolute).expect("it is absolute");
        let place = absolute.display().to_string();
        let failed = |what| fail(&place, what);
        let disk = Arc::new(Disk::default());
        let table = DeltaTableBuilder::from_url(url.clone());
        let table = table.and_then(|table| table.with_storage_backend(disk, url).build());
        let mut table = table.map_err(failed("the opening"))?;
        match table.load().await {
            Ok(()) | Err(DeltaTableError::NotATable(_)) => {}
            Err(error) => return Err(failed("the opening")(error)),
        }
        if table.version().is_none() {
            let schema: StructType = table_schema().as_ref().try_into_kernel()?;
            let create = table.create().with_table_name("events").with_save_mode(SaveMode::Ignore);
            let create = create
                .with_columns(schema.fields().cloned())
                .with_partition_columns([EVENT_DATE])
                .with_configuration(KEPT.map(|(name, value)| (name, Some(value))))
                .with_comment("Every event of the log, once.");
            table = create.await.map_err(failed("the making"))?;
        } else {
            table = brought_up(table).await.map_err(failed("the bringing up"))?;
        }
        let stamps = firsts.iter().map(|first| Stamps::new(*first)).collect();
        let mut table = Self { table, place, stamps, number: 0 };
        table.refresh().await?;
        Ok(table)
    }

    /// Per partition, the stamps that its next row goes on from.
    pub fn stamps(&self) -> &[Stamps] {
        &self.stamps
    }

    /// The version of the snapshot.
    pub fn version(&self) -> u64 {
        self.table.version().unwrap_or(0)
    }

    /// The id that the table was made with.
    pub(super) fn identity(&self) -> String {
        let metadata = self.table.snapshot().map(|snapshot| snapshot.metadata());
        let metadata = metadata.ok().and_then(|metadata| serde_json::to_value(metadata).ok());
        let id = metadata.and_then(|metadata| Some(metadata.get("id")?.as_str()?.to_owned()));
        id.unwrap_or_default()
    }

    /// The snapshot's rows, as a table of queries.
    ///
    /// # Errors
    /// [`Error::Plan`].
    pub async fn provider(&self) -> Result<Arc<dyn TableProvider>, Error> {
        Ok(self.table.table_provider().await?)
    }

    /// Takes the newest snapshot. Answers whether the offsets have gone on.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub async fn refresh(&mut self) -> Result<bool, Error> {
        self.table.update_state().await.map_err(self.fail("the reading"))?;
        let number = self.transaction(STAMPS_ID.to_owned()).await?.unwrap_or(0);
        if number == self.number {
            return Ok(false);
        }
        let damaged = |detail| Error::Damaged { place: self.place.clone(), detail };
        let path = stamps_path(number);
        let store = self.table.object_store();
        let read = async { store.get(&path).await?.bytes().await };
        let bytes = read.await.map_err(|error| damaged(format!("{path}: {error}")))?;
        let stamps: Vec<Stamps> = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(format!("{path}, column {}", error.column())))?;
        if stamps.len() != self.stamps.len() {
            let (found, expected) = (stamps.len(), self.stamps.len());
            return Err(damaged(format!("{found} partitions are kept, the log has {expected}")));
        }
        for (partition, of) in stamps.iter().enumerate() {
            let next = self.transaction(partition_id(partition)).await?;
            if next != i64::try_from(of.next()).ok() {
                let detail = format!("{path} is of offset {} in partition {partition}", of.next());
                return Err(damaged(format!("{detail}, the commit of {next:?}")));
            }
        }
        (self.stamps, self.number) = (stamps, number);
        Ok(true)
    }

    /// Adds rows and goes on to the offsets of `stamps`, in one commit.
    ///
    /// # Errors
    /// [`Error::Overtaken`] if another process has committed since the last refresh, or
    /// further than `stamps` in a partition: the table is then that of its commit.
    /// [`Error::Table`] if nothing was committed;
    /// what was written for it is no part of the table.
    pub async fn commit(&mut self, rows: &[RecordBatch], stamps: Vec<Stamps>) -> Result<(), Error> {
        assert_eq!(stamps.len(), self.stamps.len(), "one per partition");
        let is_new = self.refresh().await?;
        let goes_back = |(to, from): (&Stamps, &Stamps)| to.next() < from.next();
        if is_new || stamps.iter().zip(&self.stamps).any(goes_back) {
            return Err(Error::Overtaken { place: self.place.clone() });
        }
        let added = written(&self.table, rows.to_vec()).await.map_err(self.fail("the writing"))?;
        fail_point!("lake::written");
        let number = self.keep(&stamps).await?;
        fail_point!("lake::kept");
        let offsets = stamps.iter().enumerate().map(|(partition, of)| {
            let next = i64::try_from(of.next()).unwrap_or(i64::MAX);
            Transaction::new(partition_id(partition), next)
        });
        let mut transactions: Vec<Transaction> = offsets.collect();
        transactions.push(Transaction::new(STAMPS_ID, number));
        let properties = CommitProperties::default().with_application_transactions(transactions);
        let partition_by = Some(vec![EVENT_DATE.to_owned()]);
        let mode = SaveMode::Append;
        let operation = DeltaOperation::Write { mode, partition_by, predicate: None };
        let actions = added.into_iter().map(Action::Add).collect();
        let commit = CommitBuilder::from(properties).with_actions(actions);
        let snapshot = self.table.snapshot().map_err(self.fail("the reading"))?;
        let commit = commit.build(Some(snapshot), self.table.log_store(), operation).await;
        fail_point!("lake::committed");
        match commit {
            Ok(_) => {
                let before = self.number;
                self.refresh().await?;
                self.drop_stamps(before - STAMPS_KEPT).await;
                Ok(())
            }
            // Only the table knows whether it was committed.
            Err(error) => {
                if !self.refresh().await? {
                    return Err(fail(&self.place, "the writing")(error));
                }
                if self.number == number {
                    return Ok(());
                }
                self.drop_stamps(number).await;
                Err(Error::Overtaken { place: self.place.clone() })
            }
        }
    }

    /// Writes stamps to a file of their own, before a commit names it.
    async fn keep(&self, stamps: &[Stamps]) -> Result<i64, Error> {
        let bytes = serde_json::to_vec(stamps).expect("stamps are JSON");
        let store = self.table.object_store();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        // A number that another process has taken for a commit that may still come.
        for number in self.number + 1.. {
            let payload = bytes.clone().into();
            match store.put_opts(&stamps_path(number), payload, options.clone()).await {
                Ok(_) => return Ok(number),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => {
                    return Err(fail(&self.place, "the keeping of stamps")(error.into()));
                }
            }
        }
        unreachable!("there are more numbers than files")
    }

    /// Removes a file of stamps that no reader can still be at. What stays is a file too
    /// many, never one too few.
    async fn drop_stamps(&self, old: i64) {
        if old > 0 {
            let removed = self.table.object_store().delete(&stamps_path(old)).await;
            if let Err(error) = removed {
                tracing::debug!(%error, number = old, "a file of stamps stays");
            }
        }
    }

    pub(super) async fn transaction(&self, id: String) -> Result<Option<i64>, Error> {
        let snapshot = self.table.snapshot().map_err(self.fail("the reading"))?;
        let store = self.table.log_store();
        let found = snapshot.transaction_version(store.as_ref(), id).await;
        found.map_err(self.fail("the reading"))
    }

    pub(super) fn fail(&self, what: &'static str) -> impl FnOnce(DeltaTableError) -> Error {
        fail(&self.place, what)
    }
}

/// Brings a table that an earlier Weir made to what this one knows: it keeps old files for as
/// long, and has the columns that are new, without a value in rows of before. Columns of a newer
/// Weir stay.
async fn brought_up(mut table: DeltaTable) -> Result<DeltaTable, DeltaTableError> {
    let known: StructType = table_schema().as_ref().try_into_kernel()?;
    for _ in 0..ATTEMPTS {
        let snapshot = table.snapshot()?;
        let (has, kept) = (snapshot.schema(), snapshot.metadata().configuration());
        let missing: Vec<StructField> =
            known.fields().filter(|field| has.field(field.name()).is_none()).cloned().collect();
        let is_kept =
            KEPT.iter().all(|(name, value)| kept.get(*name).is_some_and(|of| of == value));
        let brought = if !is_kept {
            let kept = KEPT.map(|(name, value)| (name.to_owned(), value.to_owned()));
            table.clone().set_tbl_properties().with_properties(kept.into()).await
        } else if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|field| field.name().as_str()).collect();
            tracing::info!(columns = names.join(", "), "the lake has columns that are new");
            table.clone().add_columns().with_fields(missing).await
        } else {
            return Ok(table);
        };
        match brought {
            Ok(brought) => table = brought,
            // Another node may have done it meanwhile.
            Err(DeltaTableError::Transaction { .. }) => table.update_state().await?,
            Err(error) => return Err(error),
        }
    }
    Err(DeltaTableError::generic("other nodes change it all the time"))
}

fn fail(place: &str, what: &'static str) -> impl FnOnce(DeltaTableError) -> Error + use<> {
    let place = place.to_owned();
    move |source| Error::Table { what, place, source: Box::new(source) }
}

fn partition_id(partition: usize) -> String {
    format!("{}/{partition}", ingest::emit::TOPIC)
}

fn stamps_path(number: i64) -> ObjectPath {
    ObjectPath::from(format!("_weir/stamps-{number}.json"))
}
