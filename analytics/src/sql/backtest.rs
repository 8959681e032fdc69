//! Query files over the history, before they run: the rows that they would have given, and the
//! alerts that would have been raised by them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext, col, lit};

use super::{Answer, Error, Sql};
use crate::detect::{Alert, Book, Detection};
use crate::intake::stamped_schema;
use crate::lake::Snapshot;
use crate::query::{self, Plan, QueryFile, Span};
use crate::run::Tables;

/// An alert that would have been raised.
struct Raised {
    /// When it would have been told, by event time: all sources had passed its first window by
    /// the lateness. Microseconds since 1970.
    told_us: i64,
    alert: Alert,
}

/// What would have been refused of a subject from when its alert was told.
#[derive(Debug, Clone, Copy, Default)]
struct Refused {
    requests: i64,
    /// Those of them that had been answered well.
    good: i64,
}

impl Sql {
    /// Runs a query file over a part of the history, as [`query::backtest`] does: of
    /// live traffic, those windows that are closed by now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn backtest(&self, file: QueryFile, span: Span) -> Result<Answer, Error> {
        let sql = self.clone();
        let run = async move {
            let plan = sql.planned_file(file).await?;
            sql.run_backtest(&plan, span).await
        };
        self.within_limits(run).await
    }

    /// The alerts that a detection would have raised over a part of the history, each as it
    /// was at its end, in the order in which they begin; with `block` also how many requests of its
    /// subject came within that time after it was told, and how many of those were answered well.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Query`] of a view, and of a subject that is no column of events
    /// where something is to be blocked.
    pub async fn alerts_of(
        &self,
        file: QueryFile,
        span: Span,
        block: Option<Duration>,
    ) -> Result<Answer, Error> {
        let sql = self.clone();
        let run = async move {
            let plan = sql.planned_file(file).await?;
            let detection = Detection::of(plan.file(), &plan.schema(), plan.order());
            let detection = detection.map_err(|faults| {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                Error::Query(faults.join("; "))
            })?;
            let Some(detection) = detection else {
                let what = "it is a view: it has no severity, so that it raises no alerts";
                return Err(Error::Query(what.to_owned()));
            };
            let replay = span.replay.clone();
            let found = sql.run_backtest(&plan, span).await?;
            if found.cut {
                let max = sql.limits.rows_max;
                let what = format!("it finds more than {max} times; ask for less time");
                return Err(Error::Query(what));
            }
            let raised = raised(&plan, &detection, replay.as_deref(), &found.batches)?;
            let refused = match block {
                Some(block) => Some(sql.refused(&raised, replay.as_deref(), block).await?),
                None => None,
            };
            let rows = rows(&raised, refused.as_deref());
            Ok(Answer { schema: rows.schema(), batches: vec![rows], ..found })
        };
        Box::pin(self.within_limits(run)).await
    }

    async fn planned_file(&self, file: QueryFile) -> Result<Plan, Error> {
        let sources = self.tables.as_ref().map(Tables::sources).unwrap_or_default();
        Plan::new(file, &sources).await.map_err(|fault| Error::Query(fault.to_string()))
    }

    async fn run_backtest(&self, plan: &Plan, mut span: Span) -> Result<Answer, Error> {
        if span.replay.is_none() {
            span.floor_us = Some(self.history.floor().await.unwrap_or(i64::MIN));
        }
        let Snapshot { table: history, offsets } = self.history.snapshot().await?;
        if let Some(replay) = &span.replay {
            self.refuse_unknown(replay).await?;
        }
        let ran = query::backtest(plan, history, &span, self.with_memory()?).await;
        let rows = ran.map_err(|error| match error {
            query::Error::Failed { source, .. } => self.failed(&source),
            query::Error::Plan(source) => self.failed(&source),
            other => Error::Failed(other.to_string()),
        })?;
        let cut = rows.num_rows() > self.limits.rows_max;
        let rows = rows.slice(0, rows.num_rows().min(self.limits.rows_max));
        Ok(Answer { schema: rows.schema(), batches: vec![rows], cut, offsets })
    }

    /// Refuses a replay of which there is no event.
    async fn refuse_unknown(&self, replay: &str) -> Result<(), Error> {
        let events = self.history.snapshot().await?.table;
        let session = SessionContext::new_with_config_rt(
            SessionConfig::new().with_target_partitions(2),
            self.with_memory()?,
        );
        let of_replay = session
            .read_table(events)
            .and_then(|events| events.filter(col("replay_id").eq(lit(replay))))
            .and_then(|events| events.limit(0, Some(1)))
            .map_err(|error| self.planned(&error))?;
        match of_replay.count().await.map_err(|error| self.failed(&error))? {
            0 => Err(Error::Query(format!(
                "there is no event of a replay {replay}; `SELECT DISTINCT replay_id FROM events` \
                 has those that there are"
            ))),
            _ => Ok(()),
        }
    }

    /// What would have been refused of the subjects of alerts, if each had been blocked for a
    /// time from when it was told.
    async fn refused(
        &self,
        raised: &[Raised],
        replay: Option<&str>,
        block: Duration,
    ) -> Result<Vec<Refused>, Error> {
        let mut refused = vec![Refused::default(); raised.len()];
        let Some(first) = raised.first() else { return Ok(refused) };
        let kind = &first.alert.subject_kind;
        if stamped_schema().index_of(kind).is_err() {
            let what = format!("nobody can be blocked by {kind}, which is no column of events");
            return Err(Error::Query(what));
        }
        let config = SessionConfig::new().with_target_partitions(2);
        let session = SessionContext::new_with_config_rt(config, self.with_memory()?);
        let planned = |error| self.planned(&error);
        let events = self.history.snapshot().await?.table;
        session.register_table("events", events).map_err(planned)?;
        let blocked = blocked(raised, block);
        let table = MemTable::try_new(blocked.schema(), vec![vec![blocked]]).map_err(planned)?;
        session.register_table("blocked", Arc::new(table)).map_err(planned)?;
        let of_replay = match replay {
            Some(replay) => format!("= '{}'", replay.replace('\'', "''")),
            None => "IS NULL".to_owned(),
        };
        let counted = session
            .sql(&format!(
                "SELECT place, count(*), count(*) FILTER (WHERE outcome = 'success') \
                 FROM blocked JOIN events ON \"{kind}\" = subject \
                 AND event_time >= since AND event_time < until \
                 WHERE kind = 'request' AND replay_id {of_replay} GROUP BY place"
            ))
            .await
            .map_err(planned)?;
        for batch in counted.collect().await.map_err(|error| self.failed(&error))? {
            let column = |at: usize| batch.column(at).as_primitive::<Int64Type>().values();
            for ((place, requests), good) in column(0).iter().zip(column(1)).zip(column(2)) {
                if let Some(of) = usize::try_from(*place).ok().and_then(|at| refused.get_mut(at)) {
                    *of = Refused { requests: *requests, good: *good };
                }
            }
        }
        Ok(refused)
    }
}

/// The alerts of findings, in the order in which they begin.
fn raised(
    plan: &Plan,
    detection: &Detection,
    replay: Option<&str>,
    found: &[RecordBatch],
) -> Result<Vec<Raised>, Error> {
    let (mut book, mut raised) = (Book::default(), BTreeMap::<String, Raised>::new());
    for rows in found {
        let changes = book.take(detection, replay, rows);
        let changes = changes.map_err(|error| Error::Failed(error.to_string()))?;
        for change in changes {
            let alert = change.alert;
            match raised.get_mut(&alert.id) {
                Some(known) => known.alert = alert,
                None => {
                    let told_us = plan.told_us((alert.from.as_micros(), alert.until.as_micros()));
                    raised.insert(alert.id.clone(), Raised { told_us, alert });
                }
            }
        }
    }
    let mut raised: Vec<Raised> = raised.into_values().collect();
    raised.sort_by(|a, b| (a.alert.from, &a.alert.subject).cmp(&(b.alert.from, &b.alert.subject)));
    Ok(raised)
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn times(of: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(of).with_timezone("UTC"))
}

/// Who is blocked, since when and until when, by the place of the alert.
fn blocked(raised: &[Raised], block: Duration) -> RecordBatch {
    let block_us = i64::try_from(block.as_micros()).unwrap_or(i64::MAX);
    let schema = Schema::new(vec![
        Field::new("place", DataType::Int64, false),
        Field::new("subject", DataType::Utf8, false),
        Field::new("since", time_type(), false),
        Field::new("until", time_type(), false),
    ]);
    let subjects = raised.iter().map(|of| of.alert.subject.as_str());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..raised.len() as i64)),
        Arc::new(StringArray::from_iter_values(subjects)),
        times(raised.iter().map(|of| of.told_us)),
        times(raised.iter().map(|of| of.told_us.saturating_add(block_us))),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).expect("a column for each of the schema")
}

/// Alerts as rows; with what would have been refused, if that was asked.
fn rows(raised: &[Raised], refused: Option<&[Refused]>) -> RecordBatch {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    let time = |name: &str| Field::new(name, time_type(), false);
    let mut fields = vec![
        text("subject_kind"),
        text("subject"),
        text("severity"),
        time("told"),
        time("begins"),
        time("until"),
        number("findings"),
        text("message"),
    ];
    let texts = |of: fn(&Alert) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(raised.iter().map(|raised| of(&raised.alert))))
    };
    let numbers = |of: &mut dyn Iterator<Item = i64>| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(of))
    };
    let findings = |of: &Raised| i64::try_from(of.alert.findings).unwrap_or(i64::MAX);
    let mut columns: Vec<ArrayRef> = vec![
        texts(|alert| &alert.subject_kind),
        texts(|alert| &alert.subject),
        texts(|alert| alert.severity.word()),
        times(raised.iter().map(|of| of.told_us)),
        times(raised.iter().map(|of| of.alert.from.as_micros())),
        times(raised.iter().map(|of| of.alert.until.as_micros())),
        numbers(&mut raised.iter().map(findings)),
        texts(|alert| &alert.message),
    ];
    if let Some(refused) = refused {
        // Nobody is blocked by an alert about all others.
        let of = |of: fn(&Refused) -> i64| -> ArrayRef {
            let pairs = raised.iter().zip(refused);
            let numbers =
                pairs.map(|(raised, refused)| (!raised.alert.of_others).then(|| of(refused)));
            Arc::new(numbers.collect::<Int64Array>())
        };
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        fields.extend([number("blocked"), number("blocked_good")]);
        columns.push(of(|refused| refused.requests));
        columns.push(of(|refused| refused.good));
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns).expect("a column for each of the schema")
}
