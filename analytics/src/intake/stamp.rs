//! What each row is stamped with, and the repetitions that are left out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use ingest::emit::audit::{Seen, Sequences};
use ingest::event::Kind;
use ingest::event::generate::arrow_schema;
use ingest::log::Record;
use serde::{Deserialize, Serialize};

use super::lag::{Live, Replay, Word};
use super::{Decoded, Decoder};

/// How many boots of a producer are remembered. A boot sends what the one before it
/// left, so an older one has nothing more to say: what came again of it is passed over.
const BOOTS_MAX: usize = 64;
/// How many replays are remembered; beyond it, of those that have ended the first by name.
const REPLAYS_MAX: usize = 1_000;

/// The columns that are stamped on the events' own, in their order:
///
/// | column | unit |
/// | --- | --- |
/// | `lag_us` | microseconds behind the highest event time before it of its source; the largest number if no lateness covers it |
/// | `log_partition`, `log_offset` | its place in the log |
/// | `log_time` | when the log took it |
pub fn stamped_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let events = arrow_schema();
        let mut fields: Vec<Arc<Field>> = events.fields().iter().cloned().collect();
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let stamps = [
            ("lag_us", DataType::Int64, "How far it lies behind its source, in microseconds."),
            ("log_partition", DataType::Int32, "Partition of the log that it lies in."),
            ("log_offset", DataType::Int64, "Its offset in that partition."),
            ("log_time", time, "When the log took it."),
        ];
        fields.extend(stamps.map(|(name, data_type, about)| {
            let about = [("description".to_owned(), about.to_owned())].into();
            Arc::new(Field::new(name, data_type, false).with_metadata(about))
        }));
        Arc::new(Schema::new_with_metadata(fields, events.metadata().clone()))
    });
    SCHEMA.clone()
}

/// All that the stamps of a partition's next row depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamps {
    /// The offset to go on from.
    next: u64,
    /// Per producer and boot, what was seen.
    sequences: BTreeMap<String, BTreeMap<i64, Sequences>>,
    live: Live,
    replays: BTreeMap<String, Replay>,
}

/// Rows of one partition, each event once, in the log's order.
#[derive(Debug)]
pub struct Stamped {
    /// The rows, by [`stamped_schema`].
    pub rows: RecordBatch,
    /// How many of the rows say more than that their source is alive.
    pub news: usize,
    /// Events that came again, and were left out.
    pub repeated: usize,
    /// Places where events are missing that open with these rows.
    pub gaps: usize,
    /// The offsets of records that are no events, and why; never with their content.
    pub unreadable: Vec<(u64, &'static str)>,
}

impl Stamps {
    /// Nothing seen, to begin with the record at `first`.
    pub fn new(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// The offset of the next record to stamp.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Below which event time, in microseconds since 1970, every live row is late;
    /// absent before the first source.
    pub fn floor(&self) -> Option<i64> {
        self.live.floor()
    }

    /// The replays whose end was read.
    pub fn ended_replays(&self) -> impl Iterator<Item = &str> {
        self.replays.iter().filter(|(_, of)| of.ended()).map(|(name, _)| name.as_str())
    }

    /// Whether the end of a replay was read.
    pub fn has_ended(&self, replay: &str) -> bool {
        self.replays.get(replay).is_some_and(Replay::ended)
    }

    /// The live sources, and the highest event time of each in microseconds.
    pub fn live_sources(&self) -> impl Iterator<Item = (&str, i64)> {
        self.live.live_sources()
    }

    /// Reads and stamps the partition's next records, up to `next`, exclusive. Records
    /// before [`Self::next`] were stamped, and are passed over.
    ///
    /// # Errors
    /// None of the records' doing.
    pub fn stamp(
        &mut self,
        decoder: &Decoder,
        partition: u32,
        records: &[Record],
        next: u64,
    ) -> Result<Stamped, ArrowError> {
        let new = records.partition_point(|record| record.offset < self.next);
        let records = &records[new..];
        let Decoded { rows, places, unreadable } = decoder.decode(records)?;
        let columns = Columns::of(&rows);
        let mut kept = Vec::with_capacity(places.len());
        let mut lags = Vec::with_capacity(places.len());
        let (mut news, mut gaps) = (0, 0);
        for (row, place) in places.iter().enumerate() {
            let log_time = records[*place].time.0.saturating_mul(1000);
            let seen = self.see_identity(&columns, row);
            gaps += usize::from(matches!(seen, Seen::Gap { .. }));
            kept.push(seen.is_new());
            if seen.is_new() {
                news += usize::from(columns.kind.value(row) != Kind::Heartbeat.text());
                lags.push(self.see_time(&columns, row, log_time));
            }
        }
        self.next = self.next.max(next);

        let filtered;
        let of_kept = |places: &[usize]| -> Vec<usize> {
            places.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(place, _)| *place).collect()
        };
        let places = of_kept(&places);
        let rows = if places.len() == rows.num_rows() {
            &rows
        } else {
            filtered = filter_record_batch(&rows, &BooleanArray::from(kept))?;
            &filtered
        };
        let unreadable = unreadable.into_iter();
        Ok(Stamped {
            repeated: records.len() - unreadable.len() - places.len(),
            rows: with_stamps(rows, partition, lags, &places, records)?,
            news,
            gaps,
            unreadable: unreadable.map(|(place, why)| (records[place].offset, why)).collect(),
        })
    }

    fn see_identity(&mut self, columns: &Columns<'_>, row: usize) -> Seen {
        let (producer, boot) = (columns.producer.value(row), columns.boot.value(row));
        let sequence = columns.sequence.value(row);
        let before = columns.sequence_before.is_valid(row);
        let before = before.then(|| columns.sequence_before.value(row));
        if !self.sequences.contains_key(producer) {
            self.sequences.insert(producer.to_owned(), BTreeMap::new());
        }
        let boots = self.sequences.get_mut(producer).expect("it was put there");
        let full = boots.len() >= BOOTS_MAX;
        let oldest = boots.first_key_value().map_or(i64::MIN, |(boot, _)| *boot);
        let seen = match boots.entry(boot) {
            Entry::Occupied(mut of) => return of.get_mut().see(sequence, before),
            Entry::Vacant(_) if full && boot < oldest => return Seen::Repeated,
            Entry::Vacant(of) => {
                // Wherever the reading began: a source's first event is believed.
                let (sequences, seen) = Sequences::begin(sequence, None);
                of.insert(sequences);
                seen
            }
        };
        if full {
            boots.pop_first();
        }
        seen
    }

    fn see_time(&mut self, columns: &Columns<'_>, row: usize, log_time: i64) -> i64 {
        let producer = columns.producer.value(row);
        let (time, kind) = (columns.event_time.value(row), columns.kind.value(row));
        if columns.replay_id.is_valid(row) {
            let ends = kind == Kind::ReplayEnded.text();
            return self.replay(columns.replay_id.value(row)).see(producer, time, ends);
        }
        let watermark = &columns.source_watermark_time;
        let word = match kind {
            _ if kind == Kind::Heartbeat.text() => Word::Heartbeat,
            _ if kind == Kind::SourceJoined.text() => {
                Word::Joined(watermark.is_valid(row).then(|| watermark.value(row)))
            }
            _ if kind == Kind::SourceLeft.text() => Word::Left,
            _ if kind == Kind::SourceRetired.text() => {
                let of = columns.source_producer;
                Word::Retired(of.is_valid(row).then(|| of.value(row)))
            }
            _ => Word::Event,
        };
        self.live.see(producer, time, log_time, word)
    }

    fn replay(&mut self, id: &str) -> &mut Replay {
        if !self.replays.contains_key(id) {
            if self.replays.len() >= REPLAYS_MAX {
                let ended = self.ended_replays().next().map(str::to_owned);
                ended.map(|ended| self.replays.remove(&ended));
            }
            self.replays.insert(id.to_owned(), Replay::default());
        }
        self.replays.get_mut(id).expect("it was put there")
    }
}

/// Below which event time every live row of every partition is late; absent until each
/// has had a source.
pub fn watermark<'a>(partitions: impl IntoIterator<Item = &'a Stamps>) -> Option<i64> {
    let floors: Option<Vec<i64>> = partitions.into_iter().map(Stamps::floor).collect();
    floors?.into_iter().min()
}

/// The columns that stamps depend on.
struct Columns<'a> {
    event_time: &'a TimestampMicrosecondArray,
    producer: &'a StringArray,
    boot: &'a Int64Array,
    sequence: &'a Int64Array,
    sequence_before: &'a Int64Array,
    kind: &'a StringArray,
    replay_id: &'a StringArray,
    source_producer: &'a StringArray,
    source_watermark_time: &'a TimestampMicrosecondArray,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a RecordBatch) -> Self {
        let column = |name| rows.column_by_name(name).expect("the table of fields has it");
        let integer = |name| column(name).as_primitive::<Int64Type>();
        let time = |name| column(name).as_primitive::<TimestampMicrosecondType>();
        Self {
            event_time: time("event_time"),
            producer: column("producer").as_string(),
            boot: integer("boot"),
            sequence: integer("sequence"),
            sequence_before: integer("sequence_before"),
            kind: column("kind").as_string(),
            replay_id: column("replay_id").as_string(),
            source_producer: column("source_producer").as_string(),
            source_watermark_time: time("source_watermark_time"),
        }
    }
}

fn with_stamps(
    rows: &RecordBatch,
    partition: u32,
    lags: Vec<i64>,
    places: &[usize],
    records: &[Record],
) -> Result<RecordBatch, ArrowError> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let partition = i32::try_from(partition).unwrap_or(i32::MAX);
    let offsets = places.iter().map(|place| number(records[*place].offset));
    let times = places.iter().map(|place| records[*place].time.0.saturating_mul(1000));
    let stamps: [ArrayRef; 4] = [
        Arc::new(Int64Array::from(lags)),
        Arc::new(Int32Array::from_value(partition, places.len())),
        Arc::new(Int64Array::from_iter_values(offsets)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
    ];
    let columns = rows.columns().iter().cloned().chain(stamps).collect();
    RecordBatch::try_new(stamped_schema(), columns)
}

#[cfg(test)]
mod tests;
