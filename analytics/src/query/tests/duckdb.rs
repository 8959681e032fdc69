//! The stream's answer is that of another engine over the same rows.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use fastrand::Rng;
use parquet::arrow::ArrowWriter;

use super::world::{run, troubled};

/// How many cases there are, if `WEIR_CASES` says nothing else.
const CASES: u64 = 2_000;
/// The columns of events that the texts read, and those of their place.
const READ: [&str; 11] = [
    "replay_id",
    "lag_us",
    "event_time",
    "kind",
    "api_name",
    "client_address",
    "http_response_status_code",
    "http_response_body_size",
    "latency_total_us",
    "log_partition",
    "log_offset",
];

/// A text, and what it means in DuckDB's SQL, over `events` of many cases and timelines of
/// which each is a stream; times are microseconds since 1970.
const TEXTS: [(&str, &str); 9] = [
    (
        "SELECT window_start, api_name, count(*) AS n, sum(http_response_body_size) AS bytes,
            min(latency_total_us) AS least, max(client_address) AS most
         FROM TUMBLE(events, event_time, INTERVAL '1 minute') WHERE kind = 'request'
         GROUP BY window_start, api_name",
        "SELECT run, timeline, event_time // 60000000 * 60000000 AS window_start, api_name,
            count(*), sum(http_response_body_size), min(latency_total_us), max(client_address)
         FROM events WHERE kind = 'request' GROUP BY ALL",
    ),
    (
        "-- title: a test
-- owner: tests
-- lateness: 20 s
         SELECT window_start, window_end, count(DISTINCT client_address) AS clients,
            count(*) FILTER (WHERE http_response_status_code >= 400) AS errors,
            first_value(client_address ORDER BY event_time, log_partition, log_offset) AS first
         FROM TUMBLE(events, event_time, INTERVAL '7 seconds')
         GROUP BY window_start, window_end HAVING count(*) > 2",
        "SELECT run, timeline, event_time // 7000000 * 7000000 AS window_start,
            window_start + 7000000, count(DISTINCT client_address),
            count(*) FILTER (WHERE http_response_status_code >= 400),
            first(client_address ORDER BY event_time, log_partition, log_offset)
         FROM events WHERE lag_us <= 20000000 GROUP BY ALL HAVING count(*) > 2",
    ),
    (
        "SELECT window_start, client_address, n,
            rank() OVER (PARTITION BY window_start ORDER BY n DESC) AS place
         FROM (SELECT window_start, client_address, count(*) AS n
            FROM TUMBLE((SELECT * FROM events WHERE kind = 'request'), event_time,
                INTERVAL '20 seconds')
            GROUP BY window_start, client_address)",
        "SELECT *, rank() OVER (PARTITION BY run, timeline, window_start ORDER BY n DESC)
         FROM (SELECT run, timeline, event_time // 20000000 * 20000000 AS window_start,
            client_address, count(*) AS n FROM events WHERE kind = 'request' GROUP BY ALL)",
    ),
    (
        "SELECT window_start, window_end, api_name, count(*) AS n,
            count(DISTINCT client_address) AS clients, sum(http_response_body_size) AS bytes,
            last_value(http_response_status_code ORDER BY event_time, log_partition, log_offset)
                AS last
         FROM HOP(events, event_time, INTERVAL '10 seconds', INTERVAL '1 minute')
         WHERE kind = 'request' GROUP BY window_start, window_end, api_name",
        "WITH rows AS (SELECT *, event_time // 10000000 * 10000000 AS pane FROM events
            WHERE kind = 'request'),
         windows AS (SELECT *, unnest(range(pane - 50000000, pane + 1, 10000000)) AS window_start
            FROM rows)
         SELECT run, timeline, window_start, window_start + 60000000, api_name, count(*),
            count(DISTINCT client_address), sum(http_response_body_size),
            last(http_response_status_code ORDER BY event_time, log_partition, log_offset)
         FROM windows GROUP BY ALL",
    ),
    (
        "SELECT window_start, window_end, client_address, count(*) AS n,
            sum(http_response_body_size) AS bytes, count(DISTINCT api_name) AS apis
         FROM SESSION((SELECT * FROM events WHERE kind = 'request'), event_time, client_address,
            INTERVAL '25 seconds')
         GROUP BY window_start, window_end, client_address",
        "WITH rows AS (SELECT *, event_time - lag(event_time) OVER (PARTITION BY run, timeline,
                client_address ORDER BY event_time) AS since
            FROM events WHERE kind = 'request'),
         numbered AS (SELECT *, sum(CASE WHEN since < 25000000 THEN 0 ELSE 1 END) OVER (
                PARTITION BY run, timeline, client_address ORDER BY event_time) AS session
            FROM rows)
         SELECT run, timeline, min(event_time), max(event_time) + 25000000, client_address,
            count(*), sum(http_response_body_size), count(DISTINCT api_name)
         FROM numbered GROUP BY run, timeline, client_address, session",
    ),
    (
        "-- title: a test
-- owner: tests
-- lateness: 5 s
         SELECT window_start, window_end, api_name, http_response_status_code AS status,
            count(*) AS n, min(event_time) AS first
         FROM SESSION(events, event_time, api_name, INTERVAL '4 seconds')
         GROUP BY window_start, window_end, api_name, status HAVING count(*) > 1",
        "WITH rows AS (SELECT *, event_time - lag(event_time) OVER (PARTITION BY run, timeline,
                api_name ORDER BY event_time) AS since
            FROM events WHERE lag_us <= 5000000),
         numbered AS (SELECT *, sum(CASE WHEN since < 4000000 THEN 0 ELSE 1 END) OVER (
                PARTITION BY run, timeline, api_name ORDER BY event_time) AS session
            FROM rows),
         bounded AS (SELECT *, min(event_time) OVER whole AS window_start,
                max(event_time) OVER whole + 4000000 AS window_end FROM numbered
            WINDOW whole AS (PARTITION BY run, timeline, api_name, session))
         SELECT run, timeline, window_start, window_end, api_name, http_response_status_code,
            count(*), min(event_time)
         FROM bounded GROUP BY ALL HAVING count(*) > 1",
    ),
    (
        "SELECT window_start, api_name, count(*) AS n, max(at) AS last
         FROM (SELECT window_start, api_name, event_time AS at,
                sum(CASE WHEN http_response_status_code >= 400 THEN 1 ELSE 0 END) OVER (
                    PARTITION BY window_start, api_name
                    ORDER BY event_time, log_partition, log_offset
                    ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS failed
            FROM HOP(events, event_time, INTERVAL '20 seconds', INTERVAL '1 minute')
            WHERE kind = 'request')
         WHERE failed = 2 GROUP BY window_start, api_name",
        "WITH rows AS (SELECT *, event_time // 20000000 * 20000000 AS pane FROM events
            WHERE kind = 'request'),
         windows AS (SELECT *, unnest(range(pane - 40000000, pane + 1, 20000000)) AS window_start
            FROM rows),
         counted AS (SELECT *, sum(CASE WHEN http_response_status_code >= 400 THEN 1 ELSE 0 END)
                OVER (PARTITION BY run, timeline, window_start, api_name
                    ORDER BY event_time, log_partition, log_offset
                    ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS failed FROM windows)
         SELECT run, timeline, window_start, api_name, count(*), max(event_time)
         FROM counted WHERE failed = 2 GROUP BY ALL",
    ),
    (
        "-- title: a test
-- owner: tests
-- lateness: 30 s
         SELECT a.window_start, a.client_address, a.event_time AS at, count(*) AS pairs,
            min(b.event_time) AS first
         FROM TUMBLE((SELECT * FROM events WHERE http_response_status_code <> 200), event_time,
            INTERVAL '90 seconds') AS a
         JOIN TUMBLE(events, event_time, INTERVAL '90 seconds') AS b
            ON a.window_start = b.window_start AND a.client_address = b.client_address
            AND b.event_time > a.event_time
            AND b.event_time <= a.event_time + INTERVAL '1 minute'
         WHERE b.kind = 'request' GROUP BY a.window_start, a.client_address, a.event_time",
        "WITH rows AS (SELECT *, event_time // 90000000 * 90000000 AS window_start FROM events
            WHERE lag_us <= 30000000)
         SELECT a.run, a.timeline, a.window_start, a.client_address, a.event_time, count(*),
            min(b.event_time)
         FROM rows AS a JOIN rows AS b ON a.run = b.run AND a.timeline IS NOT DISTINCT FROM
            b.timeline AND a.window_start = b.window_start AND a.client_address = b.client_address
            AND b.event_time > a.event_time AND b.event_time <= a.event_time + 60000000
         WHERE a.http_response_status_code <> 200 AND b.kind = 'request' GROUP BY ALL",
    ),
    (
        "SELECT window_start, client_address, sum(n) AS n, max(n) AS most, count(*) AS windows
         FROM TUMBLE((SELECT window_start AS at, client_address, n FROM of_clients), at,
            INTERVAL '1 minute') GROUP BY window_start, client_address",
        "SELECT run, timeline, begun // 60000000 * 60000000 AS window_start, client_address, sum(n),
            max(n), count(*)
         FROM (SELECT run, timeline, event_time // 10000000 * 10000000 AS begun, client_address,
            count(*) AS n FROM events WHERE kind = 'request' GROUP BY ALL) GROUP BY ALL",
    ),
];

/// A file of rows of many cases.
struct Table(Option<ArrowWriter<File>>);

impl Table {
    /// Adds rows of a case; times as microseconds.
    fn add(&mut self, path: &Path, run: u64, timeline: Option<&str>, rows: &RecordBatch) {
        let mut fields = vec![Field::new("run", DataType::Int64, false)];
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_value(run as i64, rows.num_rows()))];
        if rows.column_by_name("lag_us").is_none() {
            fields.push(Field::new("timeline", DataType::Utf8, true));
            columns.push(Arc::new(StringArray::from(vec![timeline; rows.num_rows()])));
        }
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            let whole = match field.data_type() {
                DataType::Timestamp(..) => cast(column, &DataType::Int64).unwrap(),
                _ => column.clone(),
            };
            fields.push(Field::new(field.name(), whole.data_type().clone(), true));
            columns.push(whole);
        }
        let schema = Arc::new(Schema::new(fields));
        let writer = self.0.get_or_insert_with(|| {
            ArrowWriter::try_new(File::create(path).unwrap(), schema.clone(), None).unwrap()
        });
        writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    }

    fn close(self) {
        self.0.expect("there are rows").close().unwrap();
    }
}

/// Sources that join, leave, fall silent, keep what they have for an hour and lie about the
/// time, in random batches, interleavings and restarts.
#[tokio::test]
async fn duckdb_gives_the_streams_answers() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (cases, first) = (number("WEIR_CASES").unwrap_or(CASES), number("WEIR_SEED").unwrap_or(0));
    let dir = tempfile::tempdir().unwrap();
    for (place, (text, translated)) in TEXTS.iter().enumerate() {
        let path = |name: &str| dir.path().join(format!("{name}-{place}.parquet"));
        let (mut events, mut answers) = (Table(None), Table(None));
        for seed in (first..first + cases).filter(|seed| *seed as usize % TEXTS.len() == place) {
            let mut rng = Rng::with_seed(seed);
            let (partitions, count) = (rng.usize(1..4), rng.usize(20..120));
            let partitions = troubled(&mut rng, partitions, count);
            let mut ran = run(text, &partitions, &mut rng).await;
            let rest = ran.query.end(None).await.unwrap();
            ran.answers.entry(None).or_default().extend(rest);
            for rows in &ran.rows {
                let read = READ.map(|name| rows.schema().index_of(name).unwrap());
                events.add(&path("events"), seed, None, &rows.project(&read).unwrap());
            }
            for (timeline, rows) in &ran.answers {
                for rows in rows {
                    answers.add(&path("answers"), seed, timeline.as_deref(), rows);
                }
            }
        }
        events.close();
        answers.close();
        let (events, answers) = (path("events"), path("answers"));
        let sql = format!(
            "CREATE VIEW events AS SELECT * RENAME (replay_id AS timeline)
             FROM '{}' WHERE lag_us <= 60000000;
             CREATE TABLE answers AS SELECT * FROM '{}';
             CREATE TABLE others AS {translated};
             SELECT 'answers', CAST(count(*) AS VARCHAR) FROM answers
             UNION ALL (SELECT 'of the stream alone', CAST(a AS VARCHAR)
                FROM (FROM answers EXCEPT ALL FROM others) AS a ORDER BY 2 LIMIT 5)
             UNION ALL (SELECT 'of DuckDB alone', CAST(o AS VARCHAR)
                FROM (FROM others EXCEPT ALL FROM answers) AS o ORDER BY 2 LIMIT 5)",
            events.display(),
            answers.display(),
        );
        let told = rig::duckdb(&sql).unwrap();
        let [count] = told.as_slice() else {
            panic!("{text}\nruns are by their seed, from {first}:\n{}", told.join("\n"))
        };
        println!("{count} of seeds {first} to {} by {} for {place}", first + cases, TEXTS.len());
        let count: (String, String) = serde_json::from_str(count).unwrap();
        let rows: u64 = count.1.parse().unwrap();
        assert!(rows > 2 * cases / TEXTS.len() as u64, "{rows} rows are few");
    }
}
