use std::sync::Arc;

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::{and, filter_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, ViewTable};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::dialect::{self, WINDOW_END, WINDOW_START};
use super::plan::{self, of_timeline};
use super::shape::CONFIG_REVISION;
use super::{EVENTS, Error, Plan};

/// Which part of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// The replay; absent for live traffic.
    pub replay: Option<String>,
    /// Only windows that begin at or after it; microseconds since 1970.
    pub from_us: Option<i64>,
    /// Only windows that begin before it.
    pub before_us: Option<i64>,
    /// With the rows that correct windows later.
    pub corrected: bool,
    /// Only windows that are closed at this floor ([`Plan::closes`]).
    pub floor_us: Option<i64>,
}

/// What a query gives over a history, all at once, in the order in which it would have
/// given it live. `history` has the columns of [`crate::intake::stamped_schema`].
///
/// # Errors
/// If it fails.
pub async fn backtest(
    plan: &Plan,
    history: Arc<dyn TableProvider>,
    span: &Span,
    runtime: Arc<RuntimeEnv>,
) -> Result<RecordBatch, Error> {
    let answer = whole(plan, history, span, runtime).await?;
    let times = |name: &str| {
        let times = answer.column_by_name(name).expect("the shape was checked");
        times.as_primitive::<TimestampMicrosecondType>()
    };
    let starts = times(WINDOW_START);
    let (from, before) = (span.from_us.unwrap_or(i64::MIN), span.before_us.unwrap_or(i64::MAX));
    let inside = starts.values().iter().map(|start| Some((from..before).contains(start)));
    let mut inside: BooleanArray = inside.collect();
    if let Some(floor) = span.floor_us {
        let closes = plan.closes(floor);
        let is_closed: BooleanArray = match plan.sessions() {
            Some(_) => times(WINDOW_END).values().iter().map(|end| Some(*end <= closes)).collect(),
            None => starts.values().iter().map(|start| Some(*start < closes)).collect(),
        };
        inside = and(&inside, &is_closed)?;
    }
    Ok(filter_record_batch(&answer, &inside)?)
}

/// What it gives over all of a timeline.
async fn whole(
    plan: &Plan,
    history: Arc<dyn TableProvider>,
    span: &Span,
    runtime: Arc<RuntimeEnv>,
) -> Result<RecordBatch, Error> {
    // It has an end, so it may use more than one core, and what it holds is not the
    // query's own budget but the runtime's.
    let config = SessionConfig::new().with_target_partitions(2);
    let session = SessionContext::new_with_config_rt(config, runtime.clone());
    dialect::register(&session)?;
    if let Some(below) = plan.below() {
        // It reads what the view answered first.
        let span = &Span { corrected: false, ..span.clone() };
        let rows = Box::pin(whole(below, history, span, runtime)).await?;
        let rows = of_timeline(&rows, span.replay.as_deref())?;
        plan.wait_for(plan.revision_of(&rows)).await?;
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
        session.register_table(below.file().name.as_str(), Arc::new(table))?;
        register_joined(plan, &session)?;
        return plan::over(plan, &session).await;
    }
    let replay = match &span.replay {
        Some(replay) => col("replay_id").eq(lit(replay.as_str())),
        None => col("replay_id").is_null(),
    };
    let corrections = plan.corrections_us().filter(|_| span.corrected);
    let in_time = col("lag_us").lt_eq(lit(corrections.unwrap_or(plan.lateness_us())));
    let rows = session.read_table(history)?.filter(in_time.and(replay))?;
    if plan.joins_versions() {
        let last = max(col(CONFIG_REVISION)).alias(CONFIG_REVISION);
        let last = rows.clone().aggregate(Vec::new(), vec![last])?.collect().await?;
        let last = last.iter().map(|rows| plan.revision_of(rows)).max();
        plan.wait_for(last.unwrap_or(0)).await?;
    }
    register_joined(plan, &session)?;
    let view = ViewTable::new(rows.into_unoptimized_plan(), None);
    session.register_table(EVENTS, Arc::new(view))?;
    plan::over(plan, &session).await
}

/// With the rows that there are now: those of the registry's entities are waited for before.
fn register_joined(plan: &Plan, session: &SessionContext) -> Result<(), Error> {
    for table in plan.joined() {
        session.register_table(table.name(), table.table())?;
    }
    Ok(())
}
