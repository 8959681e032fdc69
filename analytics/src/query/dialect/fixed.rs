//! Windows of one length.

use datafusion::common::{Column, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};

use super::mark::Mark;
use super::{Call, Interval, Rows, WINDOW_END, WINDOW_START, us};

/// In how many windows a row may lie.
const WINDOWS_MAX: i64 = 256;

/// A table's rows with the windows that they lie in: one begins every `slide`, and lasts
/// for `size`.
pub(super) fn windows(call: Call<'_>, slide: Interval, size: Interval) -> Result<LogicalPlan> {
    let windows = size.us / slide.us;
    if windows * slide.us != size.us || windows > WINDOWS_MAX {
        return plan_err!(
            "a window of HOP lasts a whole multiple of {}, up to {WINDOWS_MAX} of them, not {}; {}",
            slide.written,
            size.written,
            call.function.usage()
        );
    }
    let Some(date_bin) = call.context.context_provider().get_function_meta("date_bin") else {
        return Err(DataFusionError::Internal("the session has no date_bin".to_owned()));
    };
    // It counts in nanoseconds, whatever it is given.
    let last = cast(date_bin.call(vec![slide.expr, call.time]), call.time_type);
    let columns: Vec<Expr> = call.table.schema().columns().into_iter().map(Expr::Column).collect();
    let with = |start: Expr| {
        let mut columns = columns.clone();
        columns.push(start.alias(WINDOW_START));
        columns
    };
    let plan = LogicalPlanBuilder::from(call.table);
    if windows == 1 || call.rows == Rows::ForState {
        let start = match call.rows {
            Rows::ForState => Mark::Pane { slide_us: slide.us, width_us: size.us }.put(last),
            _ => last,
        };
        let mut columns = with(start.clone());
        columns.push((start + size.expr).alias(WINDOW_END));
        return plan.project(columns)?.build();
    }
    let start = Expr::Column(Column::from_name(WINDOW_START));
    let starts = match &call.rows {
        Rows::OfSome(some) => some.starts(start.clone(), slide.us, windows),
        _ => make_array(
            (0..windows)
                .map(|back| match back {
                    0 => start.clone(),
                    _ => start.clone() - lit(us(back * slide.us)),
                })
                .collect(),
        ),
    };
    let plan = plan.project(with(last))?.project(with(starts))?.unnest_column(WINDOW_START)?;
    let mut columns = with(start.clone());
    columns.push((start + size.expr).alias(WINDOW_END));
    plan.project(columns)?.build()
}
