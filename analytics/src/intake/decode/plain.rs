//! Events as Weir writes them, straight into columns.
//!
//! The JSON is walked once: each name is guessed from the one before it, since events have
//! their fields in the table's order, and each value goes to its column without anything in
//! between. What is not plainly an event in this form is not judged here: the rows end before
//! it, and another reader says what is wrong, or reads what is only unusual.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayBuilder as _, ArrayRef, BooleanBuilder, Int64Builder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use ingest::event::generate::arrow_schema;
use ingest::event::{Timestamp, Type, fields};
use ingest::log::Record;
use memchr::memchr2;
use parking_lot::Mutex;

use super::Nulls;

/// The length of a time as events have it: `2026-01-31T23:59:59.000001Z`.
const TIME_BYTES: usize = 27;
/// Bytes that a text of an event usually has, and room is made for.
const USUAL_TEXT_BYTES: usize = 16;

/// The fields of events, by what is written of them.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) schema: SchemaRef,
    /// The name in quotes, and the type; in the table's order.
    quoted: Vec<(String, Type)>,
    by_name: HashMap<&'static str, usize>,
    /// Which of them every event has.
    mandatory: Vec<usize>,
}

impl Fields {
    pub(super) fn new() -> Self {
        let mandatory = fields().enumerate().filter(|(_, field)| field.mandatory);
        Self {
            schema: Arc::new(arrow_schema()),
            quoted: fields().map(|of| (format!("\"{}\"", of.name), of.data_type)).collect(),
            by_name: fields().enumerate().map(|(at, field)| (field.name, at)).collect(),
            mandatory: mandatory.map(|(at, _)| at).collect(),
        }
    }

    /// A row for each of the records up to the first that is not plainly an event.
    ///
    /// # Errors
    /// None of the records' doing.
    pub(super) fn read(
        &self,
        records: &[Record],
        nulls: &Mutex<Nulls>,
    ) -> Result<RecordBatch, ArrowError> {
        let mut run = Run {
            fields: self,
            rows_max: records.len(),
            columns: self.quoted.iter().map(|_| None).collect(),
            behind: (1..self.quoted.len()).chain([0, 0]).collect(),
        };
        let values = records.iter().map(|record| record.value.as_deref());
        let rows = values.enumerate().take_while(|(row, value)| run.take(*row, *value).is_some());
        let rows = rows.count();
        let columns = run.columns.into_iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| match column {
            Some(column) => column.finish(rows),
            None => nulls.lock().of(field.data_type(), rows),
        });
        RecordBatch::try_new(self.schema.clone(), columns.collect())
    }
}

/// Events that are being read.
struct Run<'a> {
    fields: &'a Fields,
    rows_max: usize,
    /// The fields that one of them had.
    columns: Vec<Option<Column>>,
    /// Which field came behind each, and at the end which one came first.
    behind: Vec<usize>,
}

impl Run<'_> {
    /// Takes the event of a row; nothing, and of the row a part, if it is not plainly one.
    fn take(&mut self, row: usize, value: Option<&[u8]>) -> Option<()> {
        let quoted = &self.fields.quoted;
        let mut text = Text::of(value?)?;
        let mut before = quoted.len();
        text.take(b'{')?;
        loop {
            let guess = self.behind[before];
            let field = if text.take_word(quoted[guess].0.as_bytes()) {
                Some(guess)
            } else {
                self.fields.by_name.get(text.string()?.plain()?).copied()
            };
            text.take(b':')?;
            if let Some(field) = field {
                let column = self.columns[field]
                    .get_or_insert_with(|| Column::new(quoted[field].1, self.rows_max));
                column.take(&mut text, row)?;
                self.behind[before] = field;
                before = field;
            } else {
                text.pass_over()?;
            }
            if !text.has(b',') {
                break;
            }
        }
        text.take(b'}')?;
        let has = |of: &usize| self.columns[*of].as_ref().is_some_and(|of| of.len() > row);
        (text.is_at_end() && self.fields.mandatory.iter().all(has)).then_some(())
    }
}

/// The values of a field, as far as they were read.
enum Column {
    Text(StringBuilder),
    Integer(Int64Builder),
    Boolean(BooleanBuilder),
    Time(TimestampMicrosecondBuilder),
}

impl Column {
    fn new(data_type: Type, rows: usize) -> Self {
        match data_type {
            Type::Text => Self::Text(StringBuilder::with_capacity(rows, rows * USUAL_TEXT_BYTES)),
            Type::Integer => Self::Integer(Int64Builder::with_capacity(rows)),
            Type::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            Type::Time => {
                let times = TimestampMicrosecondBuilder::with_capacity(rows);
                Self::Time(times.with_timezone("UTC"))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Integer(values) => values.len(),
            Self::Boolean(values) => values.len(),
            Self::Time(values) => values.len(),
        }
    }

    /// Says of the rows before `row` that are not there yet that they have no value; nothing
    /// if `row` has one already.
    fn fill(&mut self, row: usize) -> Option<()> {
        let absent = row.checked_sub(self.len())?;
        // Not for none of them: from the first one on a column has to keep who has a value.
        if absent > 0 {
            match self {
                Self::Text(values) => values.append_nulls(absent),
                Self::Integer(values) => values.append_nulls(absent),
                Self::Boolean(values) => values.append_nulls(absent),
                Self::Time(values) => values.append_nulls(absent),
            }
        }
        Some(())
    }

    /// Takes the value of a row, which has none yet.
    fn take(&mut self, text: &mut Text<'_>, row: usize) -> Option<()> {
        self.fill(row)?;
        match self {
            Self::Text(values) => match text.string()? {
                Quoted::Plain(value) => values.append_value(value),
                Quoted::Escaped(value) => values.append_value(value),
            },
            Self::Integer(values) => values.append_value(text.integer()?),
            Self::Boolean(values) => values.append_value(text.boolean()?),
            Self::Time(values) => values.append_value(text.time()?),
        }
        Some(())
    }

    /// The values of so many rows, without what one more may have left.
    fn finish(mut self, rows: usize) -> ArrayRef {
        let has_more = self.fill(rows).is_none();
        let mut values: ArrayRef = match self {
            Self::Text(mut values) => {
                let mut values = values.finish();
                // Room that was made in vain would be counted as memory that is used.
                values.shrink_to_fit();
                Arc::new(values)
            }
            Self::Integer(mut values) => Arc::new(values.finish()),
            Self::Boolean(mut values) => Arc::new(values.finish()),
            Self::Time(mut values) => Arc::new(values.finish()),
        };
        if has_more {
            values = values.slice(0, rows);
        }
        values
    }
}

/// What is in quotes.
enum Quoted<'a> {
    Plain(&'a str),
    Escaped(String),
}

impl<'a> Quoted<'a> {
    fn plain(self) -> Option<&'a str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Escaped(_) => None,
        }
    }
}

/// JSON (RFC 8259) that is walked through. White space before what is asked for is passed
/// over; what is asked for and not there answers nothing.
struct Text<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Text<'a> {
    fn of(json: &'a [u8]) -> Option<Self> {
        Some(Self { json: std::str::from_utf8(json).ok()?, at: 0 })
    }

    fn pass_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.json.as_bytes().get(self.at) {
            self.at += 1;
        }
    }

    fn has(&mut self, byte: u8) -> bool {
        self.pass_space();
        let has = self.json.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(has);
        has
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.has(byte).then_some(())
    }

    fn take_word(&mut self, word: &[u8]) -> bool {
        self.pass_space();
        let has = self.json.as_bytes()[self.at..].starts_with(word);
        self.at += if has { word.len() } else { 0 };
        has
    }

    fn is_at_end(&mut self) -> bool {
        self.pass_space();
        self.at == self.json.len()
    }

    fn string(&mut self) -> Option<Quoted<'a>> {
        self.take(b'"')?;
        let rest = self.json.get(self.at..)?;
        let end = memchr2(b'"', b'\\', rest.as_bytes())?;
        if rest.as_bytes()[end] == b'"' {
            self.at += end + 1;
            return rest.get(..end).map(Quoted::Plain);
        }
        // What it means, a library says.
        let from = self.at - 1;
        let mut strings = serde_json::Deserializer::from_str(&self.json[from..]).into_iter();
        let value = strings.next()?.ok()?;
        self.at = from + strings.byte_offset();
        Some(Quoted::Escaped(value))
    }

    /// An integer; that no fraction or exponent follows, what is taken next shows.
    fn integer(&mut self) -> Option<i64> {
        self.pass_space();
        let rest = &self.json[self.at..];
        let sign = usize::from(rest.starts_with('-'));
        let digits = rest.as_bytes()[sign..].iter().take_while(|byte| byte.is_ascii_digit());
        let end = sign + digits.count();
        self.at += end;
        rest[..end].parse().ok()
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.take_word(b"true") {
            true => Some(true),
            false => self.take_word(b"false").then_some(false),
        }
    }

    /// A time in the very form that events have, as microseconds since 1970.
    fn time(&mut self) -> Option<i64> {
        let text = self.string()?.plain()?;
        let bytes = text.as_bytes();
        let is_usual = bytes.len() == TIME_BYTES && (bytes[10], bytes[26]) == (b'T', b'Z');
        is_usual.then_some(())?;
        text.parse().ok().map(Timestamp::as_micros)
    }

    /// Passes over a value of a name that the table does not have.
    fn pass_over(&mut self) -> Option<()> {
        self.pass_space();
        match self.json.as_bytes().get(self.at)? {
            b'"' => self.string().map(drop),
            b't' | b'f' => self.boolean().map(drop),
            _ => self.integer().map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;
    use arrow::datatypes::DataType;
    use fastrand::Rng;
    use ingest::event::{Event, EventId, Kind, Outcome, Producer};
    use ingest::log::{Headers, LogTime};

    use super::*;

    fn record(value: Vec<u8>) -> Record {
        let value = Some(value.into());
        Record { offset: 0, time: LogTime(0), key: None, value, headers: Headers::default() }
    }

    fn plain(records: &[Record]) -> RecordBatch {
        Fields::new().read(records, &Mutex::default()).unwrap()
    }

    /// As arrow reads any JSON, each record by itself.
    fn any(records: &[Record]) -> Option<RecordBatch> {
        let schema = Arc::new(arrow_schema());
        let rows = records.iter().map(|of| super::super::read(schema.clone(), of).ok());
        concat_batches(&schema, &rows.collect::<Option<Vec<_>>>()?).ok()
    }

    /// A value in JSON, most times as an event would have it.
    fn value(rng: &mut Rng, data_type: Type) -> String {
        const ODD: [&str; 20] = [
            "null",
            "{}",
            "[1,{\"a\":\"}\"}]",
            "1.0",
            "-0",
            "007",
            "1e3",
            "+5",
            "12x",
            "-",
            "",
            "9223372036854775808",
            "\"\"",
            "truex",
            "tru",
            "\"\\ud800\"",
            "\"\\q\"",
            "\"1\"",
            "\"a\u{1}\nb\"",
            "1.5",
        ];
        const ODD_TIMES: [&str; 6] = [
            "\"2026-01-31T23:59:60.000001Z\"",
            "\"2026-02-30T00:00:00.000000Z\"",
            "\"2026-01-31t23:59:59.000001z\"",
            "\"2026-01-31\"",
            "\"2026-01-31T23:59:59Z\"",
            "\"2026-01-31T23:59:59.000001+02:00\"",
        ];
        match (rng.u8(..), data_type) {
            (..3, _) => return ODD[rng.usize(..ODD.len())].to_owned(),
            (3..12, Type::Time) => return ODD_TIMES[rng.usize(..ODD_TIMES.len())].to_owned(),
            _ => {}
        }
        match data_type {
            Type::Integer if rng.bool() => rng.i64(-9..1_000).to_string(),
            Type::Integer => [0, i64::MIN, i64::MAX, -1][rng.usize(..4)].to_string(),
            Type::Boolean => rng.bool().to_string(),
            Type::Time => format!("\"{}\"", Timestamp::from_micros(rng.i64(..) / 30)),
            Type::Text => {
                let of = ["a", "GET", "é", "😀", "\"", "\\", "\n", "\u{0}", "/x", "\u{2028}", "}"];
                let text: String = (0..rng.usize(..6)).map(|_| of[rng.usize(..of.len())]).collect();
                let mut written = serde_json::to_string(&text).unwrap();
                if rng.u8(..) < 10 {
                    written = written.replace('/', "\\/").replace('a', "\\u0061");
                    written = written.replace('😀', "\\ud83d\\ude00");
                }
                written
            }
        }
    }

    /// An object with some of the fields, most times in the table's order.
    fn object(rng: &mut Rng, is_of: &[&'static str]) -> Vec<u8> {
        let space = |rng: &mut Rng| ["", "", "", "", " ", "\r\n", "\t "][rng.usize(..7)];
        let mut members = Vec::new();
        for field in fields().filter(|of| of.mandatory || is_of.contains(&of.name)) {
            if rng.u16(..2_000) > if field.mandatory { 0 } else { 500 } {
                members.push((field.name.to_owned(), value(rng, field.data_type)));
            }
        }
        match rng.u8(..12) {
            0 => rng.shuffle(&mut members),
            1 => members.push(("from_a_newer_release".to_owned(), value(rng, Type::Integer))),
            2 => members.push(("b\\u006fot".to_owned(), "1".to_owned())),
            3 => members.push(members[rng.usize(..members.len())].clone()),
            _ => {}
        }
        let is_spaced = rng.u8(..10) == 0;
        let space = |rng: &mut Rng| if is_spaced { space(rng) } else { "" };
        let mut json = format!("{}{{", space(rng));
        for (at, (name, value)) in members.iter().enumerate() {
            json += if at > 0 { "," } else { "" };
            json += &format!("{}\"{name}\"{}:", space(rng), space(rng));
            json += &format!("{}{value}{}", space(rng), space(rng));
        }
        json += &format!("}}{}", space(rng));
        let mut json = json.into_bytes();
        match rng.u8(..30) {
            0 => json.truncate(rng.usize(..json.len())),
            1 => {
                let at = rng.usize(..json.len());
                json[at] = rng.u8(..);
            }
            2 => json.extend(b"{}"),
            _ => {}
        }
        json
    }

    #[test]
    fn what_is_read_is_what_any_reader_of_json_reads() {
        let names: Vec<&str> = fields().map(|field| field.name).collect();
        let (mut were_plain, mut were_not) = (0, 0);
        for seed in 0..3_000 {
            let mut rng = Rng::with_seed(seed);
            let of: Vec<&str> = names.iter().copied().filter(|_| rng.u8(..) < 40).collect();
            let records: Vec<Record> =
                (0..rng.usize(1..5)).map(|_| record(object(&mut rng, &of))).collect();
            let rows = plain(&records);
            let (read, left) = records.split_at(rows.num_rows());
            assert!(read.is_empty() || Some(rows) == any(read), "seed {seed}: {records:#?}");
            were_plain += read.len();
            were_not +=
                left.first().map_or(0, |of| usize::from(any(std::slice::from_ref(of)).is_some()));
        }
        // Both are met: what is read here, and what others have to read.
        assert!(were_plain > 2_000 && were_not > 400, "{were_plain} and {were_not}");
    }

    #[test]
    fn all_events_of_weir_are_plain() {
        let texts = ["", "a \"b\" \\ c\n\u{0}", "é😀\u{2028}", "/orders/v1"];
        let mut records = Vec::new();
        for (number, kind) in Kind::ALL.iter().enumerate() {
            let producer = Producer::new("edge-1").unwrap();
            let id = EventId { producer, boot: 3, sequence: number as i64 + 1 };
            let micros = [0, -1, i64::MIN, i64::MAX, 1_769_903_999_000_100][number % 5];
            let mut event = Event::new(id, Timestamp::from_micros(micros), *kind, Outcome::Success);
            event.user_agent_original = Some(texts[number % texts.len()].into());
            event.payload_truncated = Some(number % 2 == 0);
            event.delivery_next_attempt_time = (number % 3 > 0).then_some(Timestamp::MAX);
            event.latency_total_us = Some([0, i64::MIN, i64::MAX][number % 3]);
            records.push(record(event.to_json()));
        }
        // Those that other programs are shown have a value in most of the fields.
        let samples = include_str!("../../../../ingest/src/event/golden/samples.ndjson");
        records.extend(samples.lines().map(|line| record(line.as_bytes().to_vec())));
        let rows = plain(&records);
        assert_eq!(rows.num_rows(), records.len());
        assert_eq!(Some(rows), any(&records));
    }

    #[test]
    fn memory_that_no_text_needs_is_given_back() {
        let samples = include_str!("../../../../ingest/src/event/golden/samples.ndjson");
        let line = samples.lines().next().unwrap();
        let records: Vec<Record> = (0..1_000).map(|_| record(line.as_bytes().to_vec())).collect();
        let rows = plain(&records);
        let texts = rows.columns().iter().filter(|of| of.data_type() == &DataType::Utf8);
        for column in texts.filter(|of| of.null_count() == 0) {
            let needed = column.to_data().get_slice_memory_size().unwrap();
            let held = column.get_buffer_memory_size();
            assert!(held < needed + 256, "{held} for {needed}");
        }
    }
}
