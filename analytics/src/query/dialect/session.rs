//! Sessions: rows that follow each other.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, plan_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_window::expr_fn::lag;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt as _, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, WindowFrame,
    WindowFunctionDefinition, cast, lit, when,
};

use super::mark::Mark;
use super::{Call, Interval, Rows, WINDOW_END, WINDOW_START};

// What a row needs to know until its session is known; no text can name them.
const AT: &str = "session at";
const BEFORE: &str = "session before";
const BEGIN: &str = "session begin";
const START: &str = "session start";
const LAST: &str = "session last";

/// A table's rows with the session that each is in: of rows with the same `keys`, each less
/// than `gap` after the one before. It begins with the first and ends `gap` after the last.
pub(super) fn windows(call: Call<'_>, keys: Vec<Expr>, gap: Interval) -> Result<LogicalPlan> {
    let mut names = Vec::new();
    for key in &keys {
        let Expr::Column(column) = key else {
            return plan_err!("a key of SESSION is a column, not {key}; {}", call.function.usage());
        };
        let of = key.get_type(call.table.schema())?;
        if of.is_floating() || of.is_nested() {
            return plan_err!(
                "a key of SESSION is a text, a whole number, a time or the like, not {key} of \
                 type {of}; {}",
                call.function.usage()
            );
        }
        names.push(column.name.clone());
    }
    let columns: Vec<Expr> = call.table.schema().columns().into_iter().map(Expr::Column).collect();
    let plan = LogicalPlanBuilder::from(call.table);
    if call.rows == Rows::ForState {
        let start = Mark::Session { gap_us: gap.us, keys: names }.put(call.time);
        let bounds = [start.clone().alias(WINDOW_START), (start + gap.expr).alias(WINDOW_END)];
        return plan.project(columns.into_iter().chain(bounds))?.build();
    }

    let of = |name: &str| Expr::Column(Column::from_name(name));
    let in_order = vec![Sort::new(of(AT), true, true)];
    let max = |name: &str| {
        let max = WindowFunctionDefinition::AggregateUDF(max_udaf());
        Expr::from(WindowFunction::new(max, vec![of(name)]))
    };
    // Whole microseconds: of these the difference is a number.
    let DataType::Timestamp(_, zone) = &call.time_type else {
        return plan_err!("{} has no times", call.time);
    };
    let whole = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
    let at = cast(cast(call.time, whole.clone()), DataType::Int64).alias(AT);
    let before = lag(of(AT), Some(1), None).partition_by(keys.clone());
    let before = before.order_by(in_order.clone()).build()?.alias(BEFORE);
    let is_first = of(BEFORE).is_null().or((of(AT) - of(BEFORE)).gt_eq(lit(gap.us)));
    let begin = when(is_first, of(AT)).end()?.alias(BEGIN);
    let start = max(BEGIN).partition_by(keys.clone()).order_by(in_order);
    let start = start.window_frame(WindowFrame::new(Some(false))).build()?.alias(START);
    let of_session = keys.into_iter().chain([of(START)]).collect();
    let last = max(AT).partition_by(of_session).build()?.alias(LAST);
    let with = |more: Vec<Expr>| columns.iter().cloned().chain(more).collect::<Vec<_>>();
    let time = |us: Expr| cast(cast(us, whole.clone()), call.time_type.clone());
    plan.project(with(vec![at]))?
        .window(vec![before])?
        .project(with(vec![of(AT), begin]))?
        .window(vec![start])?
        .window(vec![last])?
        .project(with(vec![
            time(of(START)).alias(WINDOW_START),
            time(of(LAST) + lit(gap.us)).alias(WINDOW_END),
        ]))?
        .build()
}
