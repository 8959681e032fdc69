//! Decisions against callers as a table of queries, each as it is now.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use ingest::decision::{Action, Decision, Decisions, Lift, Maker, Mode, Safeguards};
use ingest::event::Timestamp;
use ingest::registry::View;
use ingest::registry::kind::Quota;

type Row = (Decision, Option<Lift>);

/// The table, with the decisions that there are now.
pub(super) fn provider(decisions: &Decisions, registry: &View) -> Arc<dyn TableProvider> {
    let enforced = Safeguards::of(&registry.snapshot()).mode == Mode::Enforce;
    let (rows, now) = (decisions.all(), crate::time::now());
    let texts = |of: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringArray>())
    };
    let times = |of: &dyn Fn(&Row) -> Option<Timestamp>| -> ArrayRef {
        let times = rows.iter().map(|row| of(row).map(Timestamp::as_micros));
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let slow = |of: &dyn Fn(Quota) -> u64| -> ArrayRef {
        let numbers = rows.iter().map(|(row, _)| match row.action {
            Action::Slow(quota) => i64::try_from(of(quota)).ok(),
            Action::Block => None,
        });
        Arc::new(numbers.collect::<Int64Array>())
    };
    let person = |of: &Decision, what: &dyn Fn(&str, &str) -> String| match &of.maker {
        Maker::Person { by, note } => Some(what(by, note)),
        Maker::Detection(_) => None,
    };
    let (text, number) = (DataType::Utf8, DataType::Int64);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns: Vec<(&str, &DataType, bool, ArrayRef)> = vec![
        ("id", &text, false, texts(&|(of, _)| Some(of.id.clone()))),
        (
            "state",
            &text,
            false,
            texts(&|(of, lift)| Some(of.state(lift.as_ref(), now, enforced).text().to_owned())),
        ),
        ("action", &text, false, texts(&|(of, _)| Some(of.action.text().to_owned()))),
        ("requests_max", &number, true, slow(&|quota| quota.max)),
        ("window_ms", &number, true, slow(&|quota| quota.window_ms)),
        ("subject_kind", &text, false, texts(&|(of, _)| Some(of.subject.kind().text().to_owned()))),
        ("subject", &text, false, texts(&|(of, _)| Some(of.subject.name()))),
        ("detection", &text, true, texts(&|(of, _)| of.maker.detection().map(str::to_owned))),
        ("made_by", &text, true, texts(&|(of, _)| person(of, &|by, _| by.to_owned()))),
        ("note", &text, true, texts(&|(of, _)| person(of, &|_, note| note.to_owned()))),
        ("made", &time, false, times(&|(of, _)| Some(of.at))),
        ("until", &time, false, times(&|(of, _)| Some(of.until))),
        ("lifted", &time, true, times(&|(_, lift)| lift.as_ref().map(|lift| lift.at))),
        ("lifted_by", &text, true, texts(&|(_, lift)| lift.as_ref().map(|lift| lift.by.clone()))),
    ];
    let fields = columns
        .iter()
        .map(|(name, of, may_be_null, _)| Field::new(*name, (*of).clone(), *may_be_null));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(.., column)| column).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("a column for each");
    let table = MemTable::try_new(schema, vec![vec![batch]]);
    Arc::new(table.expect("the batch is of the schema"))
}
