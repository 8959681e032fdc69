use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, iter};

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, ViewTable};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{SessionContext, col, lit};
use tokio::sync::Mutex;

use super::rows::{before_offset, bytes_of, from_offset, table_schema, with_date};
use super::{Damaged, Error, LakeFile, Quarantine, Table};
use crate::intake::{Stamped, Stamps, watermark};

/// Where a reader of the log has come to, and what its rows go on from.
#[derive(Debug, Clone)]
pub struct Position {
    /// Per partition.
    pub stamps: Vec<Stamps>,
}

/// Rows that came after a place in the log, and what is surely known with them.
pub struct Since {
    /// Those of the table, in no order; absent if none of them is asked for.
    pub at_rest: Option<SendableRecordBatchStream>,
    /// Those in memory.
    pub tail: Vec<RecordBatch>,
    /// Per partition, the offset after the last of them.
    pub reached: Vec<u64>,
    /// [`watermark`] of the log up to there.
    pub floor: Option<i64>,
    /// The replays that have ended up to there, in all partitions.
    pub ended: Vec<String>,
}

impl fmt::Debug for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Since").field("reached", &self.reached).finish_non_exhaustive()
    }
}

/// All events up to a place in the log.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// As a table of queries.
    pub table: Arc<dyn TableProvider>,
    /// Per partition, the offset after the last of them.
    pub offsets: Vec<u64>,
}

/// All events: those of the table, and in memory those that the log has beyond it.
#[derive(Debug)]
pub struct History {
    state: Mutex<State>,
    quarantine: Quarantine,
}

#[derive(Debug)]
struct State {
    table: Table,
    /// Per partition, rows in the order of their offsets; all at or after the table's
    /// boundary.
    tail: Vec<Vec<RecordBatch>>,
    tail_bytes: usize,
    /// Per partition, how far it was read here.
    read: Vec<Stamps>,
}

impl History {
    /// Opens the table; see [`Table::open`]. Answers too where to read on.
    ///
    /// # Errors
    /// As for [`Table::open`].
    pub async fn open(dir: &Path, firsts: &[u64]) -> Result<(Self, Position), Error> {
        let table = Table::open(dir, firsts).await?;
        let position = Position { stamps: table.stamps().to_vec() };
        let tail = firsts.iter().map(|_| Vec::new()).collect();
        let read = position.stamps.clone();
        let state = Mutex::new(State { table, tail, tail_bytes: 0, read });
        let quarantine = Quarantine::of_lake(dir);
        Ok((Self { state, quarantine }, position))
    }

    /// Where records of the log are that are no events.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Takes in the next rows of a partition, and the stamps after them. Queries see them
    /// at once.
    ///
    /// # Errors
    /// None that a stamp's rows can give.
    pub async fn push(
        &self,
        partition: u32,
        stamped: &Stamped,
        stamps: &Stamps,
    ) -> Result<(), Error> {
        let rows = with_date(&stamped.rows)?;
        let mut state = self.state.lock().await;
        // Another process may have committed them before they were read here.
        let boundary = state.table.stamps()[partition as usize].next();
        let rows = from_offset(&rows, boundary);
        if rows.num_rows() > 0 {
            state.tail_bytes += bytes_of(&rows);
            state.tail[partition as usize].push(rows);
        }
        state.read[partition as usize].clone_from(stamps);
        Ok(())
    }

    /// The table as it is now.
    pub(super) async fn table(&self) -> Table {
        self.state.lock().await.table.clone()
    }

    /// Per partition, the offset after the last row of the table; and [`watermark`] of the log up
    /// to there.
    pub(super) async fn at_rest(&self) -> (Vec<u64>, Option<i64>) {
        let state = self.state.lock().await;
        let stamps = state.table.stamps();
        (stamps.iter().map(Stamps::next).collect(), watermark(stamps))
    }

    /// The replays that have ended, in all partitions.
    pub async fn ended_replays(&self) -> Vec<String> {
        ended_in_all(&self.state.lock().await.furthest())
    }

    /// Below which event time every live row is late; see [`watermark`].
    pub async fn floor(&self) -> Option<i64> {
        let state = self.state.lock().await;
        watermark(state.furthest())
    }

    /// The live sources: partition, producer, and its highest event time in microseconds.
    pub async fn live_sources(&self) -> Vec<(u32, String, i64)> {
        let state = self.state.lock().await;
        let partitions = (0..).zip(state.furthest());
        let sources = partitions.flat_map(|(partition, stamps)| {
            stamps.live_sources().map(move |(name, time)| (partition, name.to_owned(), time))
        });
        sources.collect()
    }

    /// Which lake this is: another one has another identity.
    pub async fn identity(&self) -> String {
        self.state.lock().await.table.identity()
    }

    /// How many partitions the log of events has.
    pub async fn partitions(&self) -> usize {
        self.state.lock().await.read.len()
    }

    /// How much memory the rows take that the table has not yet, in bytes.
    pub async fn tail_bytes(&self) -> usize {
        self.state.lock().await.tail_bytes
    }

    /// Moves the rows before a position from memory to the table, in one commit, and
    /// answers how many they were. The rows pushed so far have come to that position, or
    /// further.
    ///
    /// # Errors
    /// [`Error::Overtaken`] if another process has committed: its rows are those of the
    /// table now, and are no longer kept in memory.
    pub async fn commit(&self, mut position: Position) -> Result<usize, Error> {
        // The table is written while queries and further rows go on.
        let (mut table, rows) = {
            let state = self.state.lock().await;
            // Another process may have committed further than was read here.
            let pairs = iter::zip(&mut position.stamps, state.table.stamps());
            for (read, kept) in pairs.filter(|(read, kept)| read.next() < kept.next()) {
                read.clone_from(kept);
            }
            let of_partition = state.tail.iter().zip(&position.stamps);
            let due = of_partition
                .flat_map(|(rows, to)| rows.iter().map(|rows| before_offset(rows, to.next())));
            let due: Vec<RecordBatch> = due.filter(|rows| rows.num_rows() > 0).collect();
            (state.table.clone(), due)
        };
        let count = rows.iter().map(RecordBatch::num_rows).sum();
        let committed =
            if count == 0 { Ok(()) } else { table.commit(&rows, position.stamps).await };
        if matches!(committed, Ok(()) | Err(Error::Overtaken { .. })) {
            self.state.lock().await.advance(table);
        }
        committed.map(|()| count)
    }

    /// Merges the table's small files, if there are many: see [`Table::merge`].
    ///
    /// # Errors
    /// As there.
    pub async fn merge(&self) -> Result<bool, Error> {
        let mut table = self.table().await;
        let merged = table.merge().await;
        if matches!(merged, Ok(true) | Err(Error::Overtaken { .. })) {
            self.state.lock().await.advance(table);
        }
        merged
    }

    /// Drops old events: see [`Table::forget`].
    ///
    /// # Errors
    /// As there.
    pub async fn forget(
        &self,
        now: jiff::Timestamp,
        kept: jiff::SignedDuration,
    ) -> Result<usize, Error> {
        let mut table = self.table().await;
        let forgotten = table.forget(now, kept).await;
        if matches!(forgotten, Ok(1..) | Err(Error::Overtaken { .. })) {
            self.state.lock().await.advance(table);
        }
        forgotten
    }

    /// The files of the table: see [`Table::files`].
    ///
    /// # Errors
    /// As there.
    pub async fn files(&self) -> Result<Vec<LakeFile>, Error> {
        self.state.lock().await.table.files()
    }

    /// Which of some files are damaged: see [`Table::check`].
    ///
    /// # Errors
    /// As there.
    pub async fn check(&self, paths: &BTreeSet<String>) -> Result<Vec<Damaged>, Error> {
        let table = self.table().await;
        table.check(paths).await
    }

    /// Takes damaged files out of the table: see [`Table::set_aside`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_aside(&self, paths: &BTreeSet<String>) -> Result<Vec<Damaged>, Error> {
        let mut table = self.table().await;
        let set_aside = table.set_aside(paths).await;
        if matches!(set_aside, Ok(_) | Err(Error::Overtaken { .. })) {
            self.state.lock().await.advance(table);
        }
        set_aside
    }

    /// Takes in what other processes have committed.
    ///
    /// # Errors
    /// As for [`Table::refresh`].
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut table = self.table().await;
        table.refresh().await?;
        self.state.lock().await.advance(table);
        Ok(())
    }

    /// The rows at and after an offset of each partition, once, and what is known with
    /// them; of those at rest some columns, if they are named.
    ///
    /// # Errors
    /// [`Error::Plan`].
    pub async fn since(&self, from: &[u64], columns: Option<&[String]>) -> Result<Since, Error> {
        let (table, since) = {
            let state = self.state.lock().await;
            let furthest = state.furthest();
            let rows = iter::zip(&state.tail, from);
            let rows =
                rows.flat_map(|(rows, from)| rows.iter().map(|rows| from_offset(rows, *from)));
            let since = Since {
                at_rest: None,
                tail: rows.filter(|rows| rows.num_rows() > 0).collect(),
                reached: furthest.iter().map(|stamps| stamps.next()).collect(),
                floor: watermark(furthest.iter().copied()),
                ended: ended_in_all(&furthest),
            };
            (state.table.clone(), since)
        };
        let behind = iter::zip(table.stamps(), from).zip(0_i32..);
        let behind = behind.filter(|((stamps, from), _)| **from < stamps.next());
        let asked = behind.map(|((_, from), partition)| {
            let from = i64::try_from(*from).unwrap_or(i64::MAX);
            col("log_partition").eq(lit(partition)).and(col("log_offset").gt_eq(lit(from)))
        });
        let Some(asked) = asked.reduce(datafusion::logical_expr::Expr::or) else {
            return Ok(since);
        };
        let session = SessionContext::new();
        let mut at_rest = session.read_table(table.provider().await?)?.filter(asked)?;
        if let Some(columns) = columns {
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            at_rest = at_rest.select_columns(&columns)?;
        }
        Ok(Since { at_rest: Some(at_rest.execute_stream().await?), ..since })
    }

    /// Every event up to now, once, as a table of queries. It does not change any more.
    ///
    /// # Errors
    /// [`Error::Plan`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.snapshot_to(None).await
    }

    /// As [`Self::snapshot`] was when it came to these offsets, one for each partition.
    ///
    /// # Errors
    /// [`Error::Plan`]; [`Error::Ahead`] if nobody has read as far, [`Error::NoPlace`] if they
    /// are not one for each partition.
    pub async fn snapshot_before(&self, offsets: &[u64]) -> Result<Snapshot, Error> {
        self.snapshot_to(Some(offsets)).await
    }

    async fn snapshot_to(&self, before: Option<&[u64]>) -> Result<Snapshot, Error> {
        let (table, tail, offsets) = {
            let state = self.state.lock().await;
            let reached: Vec<u64> = state.furthest().iter().map(|stamps| stamps.next()).collect();
            if let Some(before) = before {
                if before.len() != reached.len() {
                    let (given, partitions) = (before.len(), reached.len());
                    return Err(Error::NoPlace { given, partitions });
                }
                if iter::zip(before, &reached).any(|(asked, reached)| asked > reached) {
                    return Err(Error::Ahead);
                }
            }
            let offsets = before.map_or(reached, <[u64]>::to_vec);
            let tail = iter::zip(&state.tail, &offsets)
                .flat_map(|(rows, to)| rows.iter().map(|rows| before_offset(rows, *to)));
            (state.table.clone(), tail.collect::<Vec<_>>(), offsets)
        };
        let session = SessionContext::new();
        let columns =
            || table_schema().fields().iter().map(|of| col(of.name())).collect::<Vec<_>>();
        let mut at_rest = session.read_table(table.provider().await?)?;
        let is_cut = |(of, to): (&Stamps, &u64)| *to < of.next();
        if iter::zip(table.stamps(), &offsets).any(is_cut) {
            let of_partitions = offsets.iter().zip(0_i32..).map(|(offset, partition)| {
                let to = i64::try_from(*offset).unwrap_or(i64::MAX);
                col("log_partition").eq(lit(partition)).and(col("log_offset").lt(lit(to)))
            });
            let asked = of_partitions.reduce(datafusion::logical_expr::Expr::or);
            at_rest = at_rest.filter(asked.unwrap_or(lit(true)))?;
        }
        let at_rest = at_rest.select(columns())?;
        let tail = MemTable::try_new(table_schema(), vec![tail])?;
        let tail = session.read_table(Arc::new(tail))?.select(columns())?;
        let plan = LogicalPlanBuilder::from(at_rest.into_unoptimized_plan())
            .union(tail.into_unoptimized_plan())?
            .build()?;
        Ok(Snapshot { table: Arc::new(ViewTable::new(plan, None)), offsets })
    }
}

/// The replays that have ended in all partitions.
fn ended_in_all(stamps: &[&Stamps]) -> Vec<String> {
    let Some((first, others)) = stamps.split_first() else { return Vec::new() };
    let everywhere = |replay: &&str| others.iter().all(|of| of.has_ended(replay));
    first.ended_replays().filter(everywhere).map(str::to_owned).collect()
}

impl State {
    /// Per partition, the stamps of whoever has read further: this process, or the one
    /// that has committed.
    fn furthest(&self) -> Vec<&Stamps> {
        let pairs = iter::zip(&self.read, self.table.stamps());
        pairs.map(|(read, kept)| if read.next() < kept.next() { kept } else { read }).collect()
    }

    /// Goes on to a later snapshot, and lets go of the rows that it has.
    fn advance(&mut self, table: Table) {
        if table.version() < self.table.version() {
            return;
        }
        for (rows, of) in self.tail.iter_mut().zip(table.stamps()) {
            let left = rows.iter().map(|rows| from_offset(rows, of.next()));
            *rows = left.filter(|rows| rows.num_rows() > 0).collect();
        }
        let batches = self.tail.iter().flatten();
        self.tail_bytes = batches.map(bytes_of).sum();
        self.table = table;
    }
}
