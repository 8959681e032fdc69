use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::error::DataFusionError;
use fail::fail_point;
use serde::{Deserialize, Serialize};
use tantivy::collector::TopDocs;
use tantivy::query::{QueryParser, QueryParserError};
use tantivy::schema::{FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, TantivyError};

use super::{Error, HITS_MAX, TEXT_BYTES_MAX};

/// What the index is made of; a change of it, or of the fields below, makes it anew.
const SHAPE: u32 = 1;

/// What can be searched: a field of the index, and the columns whose texts are in it.
const TEXTS: [(&str, &[&str]); 4] = [
    ("error", &["error_type", "auth_reason", "fault_code", "fault_message", "fault_step"]),
    (
        "url",
        &["url_path", "url_query", "http_route", "server_address", "http_request_header_referer"],
    ),
    (
        "body",
        &[
            "payload_request",
            "payload_request_headers",
            "payload_response",
            "payload_response_headers",
            "external_data",
            "external_subject",
        ],
    ),
    (
        "about",
        &[
            "correlation_id",
            "trace_id",
            "messaging_message_id",
            "api_name",
            "app_id",
            "auth_subject",
            "client_address",
            "user_agent_original",
            "mediation_route",
            "delivery_queue",
            "delivery_key",
            "external_id",
            "external_source",
            "external_type",
        ],
    ),
];

/// The most of a column's text that is looked at, in bytes.
const COLUMN_BYTES_MAX: usize = 64 * 1024;
/// What rows may take in memory before they are written, in bytes.
const WRITER_BYTES: usize = 32 * 1024 * 1024;

/// What a commit of the index says of itself.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Payload {
    shape: u32,
    /// Which lake the rows are of.
    lake: String,
    /// Per partition, the offset after the last row that was looked at.
    reached: Vec<u64>,
}

/// Words, and the rows that have them.
pub(super) struct Index {
    dir: PathBuf,
    lake: String,
    fields: Fields,
    writer: IndexWriter,
    reader: IndexReader,
    reached: Vec<u64>,
    /// Whether rows were added since the last commit.
    has_rows: bool,
}

/// The fields of the index.
#[derive(Clone)]
struct Fields {
    texts: Vec<Field>,
    partition: Field,
    offset: Field,
    time: Field,
}

/// Looks things up, as of the last commit.
#[derive(Clone)]
pub(super) struct Finder {
    fields: Fields,
    reader: IndexReader,
    index: tantivy::Index,
}

/// A row that fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hit {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) score: f32,
}

/// Rows that fit, and when they happened.
#[derive(Debug, Default)]
pub(super) struct Hits {
    /// The best first.
    pub(super) rows: Vec<Hit>,
    /// From the first to the last event time of them, in microseconds.
    pub(super) times: Option<RangeInclusive<i64>>,
}

impl Index {
    /// Opens the index of a lake, or begins it: in a directory of its own.
    ///
    /// # Errors
    /// [`Error::Directory`], [`Error::InUse`], [`Error::Index`].
    pub(super) fn open(dir: &Path, lake: &str, partitions: usize) -> Result<Self, Error> {
        match Self::open_as_is(dir, lake, partitions) {
            Err(error @ (Error::InUse(_) | Error::Directory { .. })) => Err(error),
            Ok(Some(index)) => Ok(index),
            unusable => {
                if let Err(error) = unusable {
                    tracing::warn!(%error, dir = %dir.display(), "the index is made anew");
                }
                let failed = |source| Error::Directory { dir: dir.to_owned(), source };
                match std::fs::remove_dir_all(dir) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(failed(error));
                    }
                    _ => {}
                }
                std::fs::create_dir_all(dir).map_err(failed)?;
                let opened = tantivy::Index::create_in_dir(dir, schema())?;
                let reached = vec![0; partitions];
                let mut index = Self::of(opened, dir, lake, reached.clone())?;
                // So that one that has nothing yet is known too.
                index.has_rows = true;
                index.commit(reached)?;
                Ok(index)
            }
        }
    }

    /// The index that is there; none if there is none that fits.
    fn open_as_is(dir: &Path, lake: &str, partitions: usize) -> Result<Option<Self>, Error> {
        if !dir.join("meta.json").exists() {
            return Ok(None);
        }
        let opened = tantivy::Index::open_in_dir(dir)?;
        let payload = opened.load_metas()?.payload;
        let payload = payload.and_then(|text| serde_json::from_str::<Payload>(&text).ok());
        let fits = |of: &Payload| {
            (of.shape, &*of.lake, of.reached.len()) == (SHAPE, lake, partitions)
                && opened.schema() == schema()
        };
        match payload.filter(fits) {
            Some(payload) => Self::of(opened, dir, lake, payload.reached).map(Some),
            None => Ok(None),
        }
    }

    fn of(index: tantivy::Index, dir: &Path, lake: &str, reached: Vec<u64>) -> Result<Self, Error> {
        let writer =
            index.writer_with_num_threads(1, WRITER_BYTES).map_err(|error| match error {
                TantivyError::LockFailure(..) => Error::InUse(dir.to_owned()),
                error => error.into(),
            })?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let (dir, lake, fields) = (dir.to_owned(), lake.to_owned(), Fields::of(&index.schema()));
        Ok(Self { dir, lake, fields, writer, reader, reached, has_rows: false })
    }

    /// Per partition, the offset after the last row that was looked at, as of the last commit.
    pub(super) fn reached(&self) -> &[u64] {
        &self.reached
    }

    pub(super) fn finder(&self) -> Finder {
        let (fields, reader) = (self.fields.clone(), self.reader.clone());
        Finder { fields, reader, index: self.writer.index().clone() }
    }

    /// Adds rows that it does not have.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub(super) fn add(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let column = |name: &str| rows.column_by_name(name).expect("the table of events has it");
        let mut texts = Vec::with_capacity(TEXTS.len());
        for (_, names) in TEXTS {
            let columns = names.iter().map(|name| column(name));
            let there = columns.filter(|texts| texts.null_count() < texts.len());
            // Those at rest come as views.
            let plain = there.map(|texts| cast(texts, &DataType::Utf8));
            texts.push(plain.collect::<Result<Vec<_>, _>>().map_err(DataFusionError::from)?);
        }
        let partitions = column("log_partition").as_primitive::<Int32Type>();
        let offsets = column("log_offset").as_primitive::<Int64Type>();
        let times = column("event_time").as_primitive::<TimestampMicrosecondType>();
        for row in 0..rows.num_rows() {
            let (mut document, mut has_text) = (TantivyDocument::new(), false);
            for (columns, field) in texts.iter().zip(&self.fields.texts) {
                for texts in columns.iter().filter(|texts| texts.is_valid(row)) {
                    let text = texts.as_string::<i32>().value(row);
                    document.add_text(*field, &text[..text.floor_char_boundary(COLUMN_BYTES_MAX)]);
                    has_text = true;
                }
            }
            if !has_text {
                continue;
            }
            document.add_i64(self.fields.partition, partitions.value(row).into());
            document.add_i64(self.fields.offset, offsets.value(row));
            document.add_i64(self.fields.time, times.value(row));
            self.writer.add_document(document)?;
            fail_point!("search::added");
            self.has_rows = true;
        }
        Ok(())
    }

    /// Makes durable what was added, and that it has come to these offsets. What added
    /// nothing is not written: the rows are looked at again after a restart.
    ///
    /// # Errors
    /// [`Error::Index`]; what was added is taken back.
    pub(super) fn commit(&mut self, reached: Vec<u64>) -> Result<(), Error> {
        if self.has_rows {
            let payload =
                Payload { shape: SHAPE, lake: self.lake.clone(), reached: reached.clone() };
            let mut commit = self.writer.prepare_commit()?;
            commit.set_payload(&serde_json::to_string(&payload).expect("offsets are JSON"));
            fail_point!("search::prepared");
            commit.commit()?;
            fail_point!("search::committed");
            self.reader.reload()?;
            self.has_rows = false;
        }
        self.reached = reached;
        Ok(())
    }

    /// Forgets what was added since the last commit.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub(super) fn roll_back(&mut self) -> Result<(), Error> {
        self.writer.rollback()?;
        self.has_rows = false;
        Ok(())
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Finder {
    /// The rows before these offsets that fit a text.
    ///
    /// # Errors
    /// [`Error::Text`] if it is none that can be searched for, or fits too many rows;
    /// [`Error::Index`].
    pub(super) fn find(&self, text: &str, before: &[u64]) -> Result<Hits, Error> {
        if text.len() > TEXT_BYTES_MAX {
            let bytes = text.len();
            return Err(Error::Text(format!(
                "a search has up to {TEXT_BYTES_MAX} bytes, not {bytes}"
            )));
        }
        let mut parser = QueryParser::for_index(&self.index, self.fields.texts.clone());
        parser.set_conjunction_by_default();
        parser.allow_regexes();
        let query = parser.parse_query(text).map_err(|error| Error::Text(told(text, &error)))?;
        let searcher = self.reader.searcher();
        let found = searcher.search(&query, &TopDocs::with_limit(HITS_MAX + 1).order_by_score())?;
        if found.len() > HITS_MAX {
            return Err(Error::Text(format!(
                "more than {HITS_MAX} events fit {text:?}; search for more words"
            )));
        }
        let segments = searcher.segment_readers().iter().map(|segment| {
            let fast = segment.fast_fields();
            Ok([fast.i64("partition")?, fast.i64("offset")?, fast.i64("time")?])
        });
        let segments = segments.collect::<tantivy::Result<Vec<_>>>()?;
        let mut hits = Hits::default();
        for (score, place) in found {
            let [partition, offset, time] = segments[place.segment_ord as usize]
                .each_ref()
                .map(|column| column.first(place.doc_id).unwrap_or_default());
            let of = usize::try_from(partition).ok().and_then(|at| before.get(at).copied());
            if u64::try_from(offset).ok() >= of {
                continue;
            }
            let (first, last) = hits.times.take().map_or((time, time), RangeInclusive::into_inner);
            hits.times = Some(first.min(time)..=last.max(time));
            let partition = i32::try_from(partition).unwrap_or(i32::MAX);
            hits.rows.push(Hit { partition, offset, score });
        }
        Ok(hits)
    }
}

impl Fields {
    fn of(schema: &Schema) -> Self {
        let field = |name| schema.get_field(name).expect("the schema is ours");
        Self {
            texts: TEXTS.map(|(name, _)| field(name)).to_vec(),
            partition: field("partition"),
            offset: field("offset"),
            time: field("time"),
        }
    }
}

fn schema() -> Schema {
    let mut schema = Schema::builder();
    let words = TextFieldIndexing::default()
        .set_tokenizer("default")
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    for (name, _) in TEXTS {
        schema.add_text_field(name, TextOptions::default().set_indexing_options(words.clone()));
    }
    for name in ["partition", "offset", "time"] {
        schema.add_i64_field(name, FAST);
    }
    schema.build()
}

/// Why a text is none that can be searched for, and what would be one.
fn told(text: &str, error: &QueryParserError) -> String {
    let names = TEXTS.map(|(name, _)| name).join(", ");
    match error {
        QueryParserError::FieldDoesNotExist(name) => format!(
            "there is no field {name} to search in; there are {names}. Where the colon is part \
             of what is searched for, put it in double quotes"
        ),
        QueryParserError::AllButQueryForbidden => {
            "a search has to say what is there, not only what is not".to_owned()
        }
        QueryParserError::PhrasePrefixRequiresAtLeastTwoTerms { .. } => format!(
            "a star stands behind several words in quotes; for one write it as an expression in a \
             field, as url:/ord.*/, not {text:?}"
        ),
        QueryParserError::UnsupportedQuery(_) => format!(
            "{text:?} is no search: what stands between slashes is an expression, of one field, as \
             url:/ord.*/; a path is put in double quotes"
        ),
        QueryParserError::SyntaxError(_) => format!(
            "{text:?} is no search: put what is not a word in double quotes, and see that quotes \
             and brackets are closed"
        ),
        other => format!("{text:?} is no search: {other}"),
    }
}
