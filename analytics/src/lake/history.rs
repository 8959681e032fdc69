use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, ViewTable};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{SessionContext, col};
use tokio::sync::Mutex;

use super::rows::{before_offset, from_offset, table_schema, with_date};
use super::{Error, Table};
use crate::intake::{Stamped, Stamps};

/// Where a reader of the log has come to, and what its rows go on from.
#[derive(Debug, Clone)]
pub struct Position {
    /// Per partition.
    pub stamps: Vec<Stamps>,
}

/// All events: those of the table, and in memory those that the log has beyond it.
#[derive(Debug)]
pub struct History {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    table: Table,
    /// Per partition, rows in the order of their offsets; all at or after the table's
    /// boundary.
    tail: Vec<Vec<RecordBatch>>,
    tail_bytes: usize,
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
        let state = Mutex::new(State { table, tail, tail_bytes: 0 });
        Ok((Self { state }, position))
    }

    /// Takes in the next rows of a partition. Queries see them at once.
    ///
    /// # Errors
    /// None that a stamp's rows can give.
    pub async fn push(&self, partition: u32, stamped: &Stamped) -> Result<(), Error> {
        let rows = with_date(&stamped.rows)?;
        let mut state = self.state.lock().await;
        // Another process may have committed them before they were read here.
        let boundary = state.table.stamps()[partition as usize].next();
        let rows = from_offset(&rows, boundary);
        if rows.num_rows() > 0 {
            state.tail_bytes += rows.get_array_memory_size();
            state.tail[partition as usize].push(rows);
        }
        Ok(())
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
    pub async fn commit(&self, position: Position) -> Result<usize, Error> {
        // The table is written while queries and further rows go on.
        let (mut table, rows) = {
            let state = self.state.lock().await;
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

    /// Takes in what other processes have committed.
    ///
    /// # Errors
    /// As for [`Table::refresh`].
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut table = self.state.lock().await.table.clone();
        table.refresh().await?;
        self.state.lock().await.advance(table);
        Ok(())
    }

    /// Every event up to now, once, as a table of queries. It does not change any more.
    ///
    /// # Errors
    /// [`Error::Plan`].
    pub async fn snapshot(&self) -> Result<Arc<dyn TableProvider>, Error> {
        let (table, tail) = {
            let state = self.state.lock().await;
            (state.table.clone(), state.tail.concat())
        };
        let session = SessionContext::new();
        let columns =
            || table_schema().fields().iter().map(|of| col(of.name())).collect::<Vec<_>>();
        let at_rest = session.read_table(table.provider().await?)?.select(columns())?;
        let tail = MemTable::try_new(table_schema(), vec![tail])?;
        let tail = session.read_table(Arc::new(tail))?.select(columns())?;
        let plan = LogicalPlanBuilder::from(at_rest.into_unoptimized_plan())
            .union(tail.into_unoptimized_plan())?
            .build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

impl State {
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
        self.tail_bytes = batches.map(RecordBatch::get_array_memory_size).sum();
        self.table = table;
    }
}
