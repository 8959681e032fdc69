//! How far before a window its answer reads.
//!
//! A window function reads the rows of its frame, and what they in turn were made of: a
//! column that another window function gave reads further, and so does a filter by one.

use std::collections::HashMap;

use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, LogicalPlan, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};

use super::super::dialect::{WINDOW_END, WINDOW_START, interval_us};
use super::{Refusal, output, refuse, type_of, windows};

/// How far back a plan's answer reads, in microseconds.
pub(super) fn of(plan: &LogicalPlan) -> Result<i64, Refusal> {
    let reach = Reach::of(plan)?;
    Ok(reach.columns.into_values().fold(reach.rows, i64::max))
}

/// How far back the rows of a node read, in microseconds.
#[derive(Default)]
struct Reach {
    /// For which of them are there.
    rows: i64,
    /// For the values of a column, where it is more than nothing.
    columns: HashMap<String, i64>,
}

impl Reach {
    fn of(plan: &LogicalPlan) -> Result<Self, Refusal> {
        Ok(match plan {
            LogicalPlan::Projection(projection) => {
                let input = Self::of(&projection.input)?;
                let name = |expr: &Expr| {
                    output(expr).map_or_else(|| expr.schema_name().to_string(), |of| of.name)
                };
                let columns = projection.expr.iter();
                let columns = columns.map(|expr| (name(expr), input.of_expr(expr))).collect();
                Self { rows: input.rows, columns }
            }
            LogicalPlan::Filter(filter) => {
                let mut input = Self::of(&filter.input)?;
                input.rows = input.rows.max(input.of_expr(&filter.predicate));
                input
            }
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input)?,
            LogicalPlan::Window(window) => {
                let input = Self::of(&window.input)?;
                let mut columns = HashMap::new();
                for expr in &window.window_expr {
                    let reads = input.rows.max(input.of_expr(expr));
                    let reads = frame_of(expr, &window.input)?.saturating_add(reads);
                    columns.insert(expr.schema_name().to_string(), reads);
                }
                columns.extend(input.columns);
                Self { rows: input.rows, columns }
            }
            LogicalPlan::TableScan(_) => Self::default(),
            // Of a group, or of rows side by side: what any of them reads.
            other => {
                let mut rows = 0;
                for input in other.inputs() {
                    let input = Self::of(input)?;
                    rows = input.columns.into_values().fold(rows.max(input.rows), i64::max);
                }
                Self { rows, columns: HashMap::new() }
            }
        })
    }

    fn of_expr(&self, expr: &Expr) -> i64 {
        let columns = expr.column_refs();
        let reads = columns.iter().filter_map(|column| self.columns.get(&column.name));
        reads.copied().max().unwrap_or(0)
    }
}

/// How far before a window a window function's frame begins, in microseconds.
fn frame_of(expr: &Expr, input: &LogicalPlan) -> Result<i64, Refusal> {
    let Expr::WindowFunction(function) = expr.clone().unalias() else {
        return refuse("OVER", format!("{expr} is no window function"), "");
    };
    let name = function_name(&function);
    let params = &function.params;
    let first = params.args.first().map(|of| type_of(of, input.schema()));
    if name == "avg" && first.as_ref().is_some_and(|of| !of.is_decimal() && !of.is_floating()) {
        return refuse(
            &name,
            "avg OVER (…) of whole numbers is summed as floating-point numbers, and not exact",
            "cast to DECIMAL(20, 3) first, or divide a sum by a count",
        );
    }
    if matches!(name.as_str(), "sum" | "avg") && first.is_some_and(|of| of.is_floating()) {
        return refuse(
            &name,
            format!("{name} OVER (…) of floating-point numbers depends on the order of the rows"),
            "cast to DECIMAL, or use whole microseconds and bytes",
        );
    }
    let is_of_all_alike = match &function.fun {
        WindowFunctionDefinition::AggregateUDF(_) => {
            matches!(
                name.as_str(),
                "count" | "sum" | "avg" | "min" | "max" | "bool_and" | "bool_or"
            )
        }
        WindowFunctionDefinition::WindowUDF(_) => {
            matches!(name.as_str(), "rank" | "dense_rank" | "percent_rank" | "cume_dist")
        }
    };
    let is_of_some = matches!(
        name.as_str(),
        "row_number" | "ntile" | "lag" | "lead" | "first_value" | "last_value" | "nth_value"
    );
    let frame = &params.window_frame;
    let by_rows = frame.units != WindowFrameUnits::Range;
    let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    let by_window = params.partition_by.iter().any(is_window_start);
    if by_window && is_of_all_alike && (whole || !by_rows) {
        return Ok(0);
    }
    if by_window && (is_of_all_alike || is_of_some) && is_total(&function, input) {
        return Ok(0);
    }
    if !is_of_all_alike {
        return refuse(
            &name,
            format!("{name} OVER (…) depends on the order of rows that are alike"),
            "give its OVER a PARTITION BY window_start and an ORDER BY that ends in log_partition, \
             log_offset, or has all that rows are grouped by; or use rank, or sum, count, avg, min \
             or max over a RANGE",
        );
    }
    if matches!(function.fun, WindowFunctionDefinition::WindowUDF(_)) {
        return refuse(
            &name,
            format!("{name} ranks rows of all time, whatever its frame"),
            "give its OVER a PARTITION BY window_start",
        );
    }
    let in_time = matches!(params.order_by.as_slice(), [by] if is_window_start(&by.expr) && by.asc);
    if !in_time {
        return refuse(
            "OVER",
            format!("{name} reads rows of all time"),
            "give its OVER a PARTITION BY window_start, or an ORDER BY window_start with a RANGE",
        );
    }
    if by_rows {
        return refuse(
            "OVER",
            format!(
                "{name} reads {} of windows, of which some may be empty and have no row",
                frame.units
            ),
            "write RANGE BETWEEN INTERVAL '60 minutes' PRECEDING AND INTERVAL '1 minute' PRECEDING",
        );
    }
    let before = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => Some(0),
        WindowFrameBound::Preceding(value) => interval_us(value).filter(|us| *us >= 0),
        WindowFrameBound::Following(_) => None,
    };
    let (start, end) = (before(&frame.start_bound), before(&frame.end_bound));
    let (Some(start), Some(_)) = (start, end) else {
        return refuse(
            "OVER",
            format!("{name} reads windows without a bound, or later ones"),
            "write RANGE BETWEEN INTERVAL '60 minutes' PRECEDING AND CURRENT ROW, or less",
        );
    };
    Ok(start)
}

/// Whether no two rows of a partition are alike in the order of a window function: it ends in
/// their place in the log, or partition and order have all that rows were grouped by.
fn is_total(function: &WindowFunction, input: &LogicalPlan) -> bool {
    let params = &function.params;
    if windows::ends_in_place(&params.order_by, input) {
        return true;
    }
    let ordered = params.order_by.iter().map(|by| &by.expr).chain(&params.partition_by);
    let names: Vec<&str> = ordered
        .filter_map(|expr| match expr {
            Expr::Column(column) => Some(column.name.as_str()),
            _ => None,
        })
        .collect();
    keys(input).is_some_and(|keys| keys.iter().all(|key| names.contains(&key.as_str())))
}

/// The columns of which no two rows have the same, if rows were grouped.
fn keys(plan: &LogicalPlan) -> Option<Vec<String>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let names = aggregate.group_expr.iter().map(|group| match group {
                Expr::Column(column) => Some(column.name.clone()),
                _ => None,
            });
            let names = names.collect::<Option<Vec<_>>>()?;
            // Of two of one name nobody knows which is ordered by.
            let is_twice = |at: usize| names[..at].contains(&names[at]);
            (!(0..names.len()).any(is_twice)).then_some(names)
        }
        LogicalPlan::Projection(projection) => {
            let given = |key: &String| {
                let is_it = |expr: &&Expr| matches!((*expr).clone().unalias(), Expr::Column(of) if of.name == *key);
                let expr = projection.expr.iter().find(is_it)?;
                output(expr).map(|of| of.name)
            };
            keys(&projection.input)?.iter().map(given).collect()
        }
        LogicalPlan::Filter(filter) => keys(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => keys(&alias.input),
        LogicalPlan::Window(window) => keys(&window.input),
        _ => None,
    }
}

fn function_name(function: &WindowFunction) -> String {
    function.fun.name().to_owned()
}

fn is_window_start(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == WINDOW_START || column.name == WINDOW_END)
}
