//! The answers of views, as tables of queries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{concat_batches, filter_record_batch, max, min};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use ingest::log::{Batch, EventLog, Keeper, Partition, Record, keep};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Library;
use super::output::{GENERATION_HEADER, PLAN_HEADER, REPLAY_HEADER, REVISION_HEADER, topic_of};
use crate::query::{Plan, REPLAY_ID, REVISION, Sources, WINDOW_START, with_replay};

/// How many rows of a view are kept in memory; the latest.
const ROWS_MAX: usize = 1_000_000;

/// How many rows a batch of them has, at least, before another is begun.
const BATCH_ROWS: usize = 8_192;

/// The tables of the views, read from their topics; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tables(Arc<watch::Sender<Shown>>);

/// The tables of one library.
#[derive(Debug)]
struct Shown {
    tables: BTreeMap<String, Arc<Table>>,
    sources: Sources,
}

#[derive(Debug)]
struct Table {
    hash: String,
    /// Whether rows of windows are replaced by others.
    is_corrected: bool,
    /// The columns of the answer, and [`REPLAY_ID`]; with [`REVISION`] if windows are corrected.
    schema: SchemaRef,
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    /// The greatest that came: rows of a smaller one were answered anew.
    generation: u64,
    batches: VecDeque<RecordBatch>,
    count: usize,
    next: Option<u64>,
}

impl Rows {
    /// Puts rows behind those that there are: to the last of them, while those are few.
    fn extend(&mut self, decoded: Vec<RecordBatch>) {
        for rows in decoded {
            let last = self.batches.back_mut().filter(|last| last.num_rows() < BATCH_ROWS);
            match last.and_then(|last| {
                Some((concat_batches(&rows.schema(), [&*last, &rows]).ok()?, last))
            }) {
                Some((all, last)) => *last = all,
                None => self.batches.push_back(rows),
            }
        }
    }

    /// Drops what windows answered before they were corrected.
    fn replace(&mut self, windows: &BTreeSet<Window>) {
        if windows.is_empty() {
            return;
        }
        for batch in &mut self.batches {
            match without(batch, windows) {
                Ok(left) => *batch = left,
                Err(error) => tracing::error!(%error, "a view's rows cannot be corrected"),
            }
        }
        self.batches.retain(|batch| batch.num_rows() > 0);
        self.count = self.batches.iter().map(RecordBatch::num_rows).sum();
    }
}

impl Tables {
    /// Empty tables, of the views of a library that can run.
    pub async fn new(library: &Library) -> Self {
        Self(Arc::new(watch::Sender::new(Shown::of(library, &BTreeMap::new()).await)))
    }

    /// From here on those of another library. Of a view that is the same in both, the rows stay.
    pub(super) async fn show(&self, library: &Library) {
        let before = self.0.borrow().tables.clone();
        self.0.send_replace(Shown::of(library, &before).await);
    }

    /// What a query may read beside events.
    pub fn sources(&self) -> Sources {
        self.0.borrow().sources.clone()
    }

    /// How many rows of a view are there.
    pub(super) fn rows(&self, view: &str) -> usize {
        self.0.borrow().tables.get(view).map_or(0, |table| table.rows.lock().count)
    }

    /// The tables by name, with the rows that there are now.
    pub fn providers(&self) -> Vec<(String, Arc<dyn TableProvider>)> {
        let provider = |table: &Table| -> Arc<dyn TableProvider> {
            let rows = table.rows.lock().batches.iter().cloned().collect();
            let rows = MemTable::try_new(table.schema.clone(), vec![rows]);
            Arc::new(rows.expect("the rows were read by the schema"))
        };
        let shown = self.0.borrow();
        let views = shown.tables.iter().map(|(name, table)| (name.clone(), provider(table)));
        let stay = shown.sources.tables().iter().map(|of| (of.name().to_owned(), of.table()));
        views.chain(stay).collect()
    }

    /// The tables of now, whatever is shown later.
    fn shown(&self) -> Followed {
        let shown = self.0.borrow();
        Followed(shown.tables.clone())
    }

    /// Follows the topics until it is told to stop.
    pub async fn follow(self, log: Arc<dyn EventLog>, stop: watch::Receiver<bool>) {
        let mut shown = self.0.subscribe();
        loop {
            shown.borrow_and_update();
            tokio::select! {
                () = keep(self.shown(), log.clone(), stop.clone()) => return,
                // Of other views other topics are read; each goes on where it was.
                _ = shown.changed() => {}
            }
        }
    }
}

impl Shown {
    async fn of(library: &Library, before: &BTreeMap<String, Arc<Table>>) -> Self {
        let mut tables = BTreeMap::new();
        for file in library.views() {
            // One that cannot run has no rows, and its status says why.
            let Ok(plan) = Plan::new(file.clone(), library.sources()).await else { continue };
            let mut schema = with_replay(&plan.schema());
            let is_corrected = file.header.corrections.is_some();
            if is_corrected {
                let revision = Field::new(REVISION, DataType::Int64, true);
                let fields = schema.fields().iter().cloned().chain([Arc::new(revision)]);
                schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            }
            let hash = plan.hash().to_owned();
            let same = before.get(&file.name).filter(|of| of.hash == hash && of.schema == schema);
            let table = same.cloned().unwrap_or_else(|| {
                Arc::new(Table { hash, is_corrected, schema, rows: Mutex::default() })
            });
            tables.insert(file.name.clone(), table);
        }
        Self { tables, sources: library.sources().clone() }
    }
}

/// The tables whose topics are read: what comes late is taken by none of a later showing.
struct Followed(BTreeMap<String, Arc<Table>>);

impl Keeper for Followed {
    const WHAT: &str = "the rows of views";

    fn partitions(&self) -> Vec<(Partition, Option<u64>)> {
        let tables = self.0.iter();
        tables.map(|(name, of)| (Partition::new(topic_of(name), 0), of.rows.lock().next)).collect()
    }

    fn take(&self, batch: &Batch) {
        let view = batch.partition.topic.strip_prefix("weir.views.").unwrap_or_default();
        if let Some(table) = self.0.get(view) {
            table.take(batch);
        }
    }
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    record.headers.iter().find(|(of, _)| *of == name).map(|(_, value)| value)
}

fn number(record: &Record, name: &str) -> u64 {
    let text = header(record, name).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The window of a timeline that a record is of: its replay, and when it begins.
type Window = (Option<String>, i64);

fn window(record: &Record) -> Option<Window> {
    let replay = header(record, REPLAY_HEADER).map(|id| String::from_utf8_lossy(id).into_owned());
    let start = std::str::from_utf8(record.key.as_deref()?).ok()?;
    Some((replay, start.parse::<jiff::Timestamp>().ok()?.as_microsecond()))
}

/// The rows that are of none of the windows, or that correct one.
fn without(rows: &RecordBatch, windows: &BTreeSet<Window>) -> Result<RecordBatch, ArrowError> {
    let column = |name: &str| {
        let column = rows.column_by_name(name);
        column.ok_or_else(|| ArrowError::SchemaError(format!("the rows have no column {name}")))
    };
    let starts = column(WINDOW_START)?.as_primitive::<TimestampMicrosecondType>();
    let (first, last) = (min(starts).unwrap_or(i64::MAX), max(starts).unwrap_or(i64::MIN));
    if !windows.iter().any(|(_, start)| (first..=last).contains(start)) {
        return Ok(rows.clone());
    }
    let replays = column(REPLAY_ID)?.as_string::<i32>();
    let revisions = column(REVISION)?.as_primitive::<Int64Type>();
    let stays = (0..rows.num_rows()).map(|row| {
        let replay = replays.is_valid(row).then(|| replays.value(row).to_owned());
        let is_first = revisions.value(row) == 0;
        Some(!is_first || !windows.contains(&(replay, starts.value(row))))
    });
    filter_record_batch(rows, &stays.collect::<BooleanArray>())
}

impl Table {
    fn decode(&self, rows: &[&Record]) -> Result<RecordBatch, ArrowError> {
        let mut reader = ReaderBuilder::new(self.schema.clone())
            .with_batch_size(rows.len())
            .build_decoder()
            .expect("the columns of an answer can be read from JSON");
        let (mut replays, mut revisions) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            reader.decode(row.value.as_deref().unwrap_or_default())?;
            let replay = header(row, REPLAY_HEADER);
            replays.push(replay.map(|id| String::from_utf8_lossy(id).into_owned()));
            revisions.push(number(row, REVISION_HEADER) as i64);
        }
        let decoded = reader.flush()?.filter(|decoded| decoded.num_rows() == rows.len());
        let odd = || ArrowError::JsonError("a record is not one row".to_owned());
        let mut columns = decoded.ok_or_else(odd)?.columns().to_vec();
        if let Ok(at) = self.schema.index_of(REPLAY_ID) {
            columns[at] = Arc::new(StringArray::from(replays));
        }
        if self.is_corrected {
            *columns.last_mut().ok_or_else(odd)? = Arc::new(Int64Array::from(revisions));
        }
        RecordBatch::try_new(self.schema.clone(), columns)
    }

    fn decode_alone(&self, row: &Record) -> Option<RecordBatch> {
        let decoded = self.decode(&[row]);
        if let Err(error) = &decoded {
            tracing::error!(offset = row.offset, %error, "no row of the view");
        }
        decoded.ok()
    }

    /// Takes the rows of this version of the query.
    fn take(&self, batch: &Batch) {
        let is_of_plan =
            |record: &Record| header(record, PLAN_HEADER) == Some(self.hash.as_bytes());
        let rows = batch.records.iter().filter(|record| is_of_plan(record));
        let rows: Vec<(u64, &Record)> =
            rows.map(|row| (number(row, GENERATION_HEADER), row)).collect();
        let mut held = self.rows.lock();
        held.next = Some(batch.next);
        for rows in rows.chunk_by(|(a, _), (b, _)| a == b) {
            let (generation, _) = rows[0];
            if generation < held.generation {
                continue;
            }
            if generation > held.generation {
                *held = Rows { generation, next: held.next, ..Rows::default() };
            }
            let mut rows: Vec<&Record> = rows.iter().map(|(_, row)| *row).collect();
            if self.is_corrected {
                let corrects = |row: &&&Record| number(row, REVISION_HEADER) > 0;
                let windows = rows.iter().filter(corrects).filter_map(|row| window(row)).collect();
                held.replace(&windows);
                // What they replace may have come with them; of an empty window there is no row.
                let is_replaced = |row: &&Record| {
                    !corrects(&row) && window(row).is_some_and(|of| windows.contains(&of))
                };
                rows.retain(|row| row.value.is_some() && !is_replaced(row));
                if rows.is_empty() {
                    continue;
                }
            }
            let decoded = match self.decode(&rows) {
                Ok(decoded) => vec![decoded],
                // One that cannot be read takes no other with it.
                Err(_) => rows.iter().filter_map(|row| self.decode_alone(row)).collect(),
            };
            held.count += decoded.iter().map(RecordBatch::num_rows).sum::<usize>();
            held.extend(decoded);
        }
        while held.count > ROWS_MAX {
            let Some(oldest) = held.batches.pop_front() else { break };
            held.count -= oldest.num_rows();
        }
    }
}
