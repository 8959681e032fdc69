//! Which queries can run over what has no end, with the answer that they would give
//! over all of it at once.
//!
//! ```text
//! Projection, Filter, Window, alias ─► one Aggregate ─► Projection, Filter, alias
//!   ─► TUMBLE, HOP or SESSION of ─► Projection, Filter, alias ─► events
//! ```
//!
//! Whatever is not listed here is refused, with its reason.

mod reach;
mod windows;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable as _, LogicalPlan, Volatility};

pub(super) use self::windows::Windows;
use super::aggregate::{APPROX_PERCENTILE, SPREADS, is_share};
use super::dialect::WINDOW_START;

/// How many panes a window of HOP and the horizon before it are of, at most.
const PANES_MAX: i64 = 8_192;

/// What the core has to know of a query that it can run.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// The windows that its rows are grouped by.
    pub(super) windows: Windows,
    /// How far before a window its window functions read, in microseconds.
    pub(super) horizon_us: i64,
}

/// Why a query cannot run over what has no end.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What stands in the text, to find the line by.
    pub(super) at: String,
    pub(super) what: String,
    pub(super) mend: String,
}

fn refuse<T>(
    at: impl Into<String>,
    what: impl Into<String>,
    mend: impl Into<String>,
) -> Result<T, Refusal> {
    Err(Refusal { at: at.into(), what: what.into(), mend: mend.into() })
}

/// Looks at a plan as the SQL planner made it, before anything was optimized away.
pub(super) fn of(plan: &LogicalPlan) -> Result<Shape, Refusal> {
    let mut at = plan;
    let aggregate = loop {
        match at {
            LogicalPlan::Aggregate(aggregate) => break aggregate,
            LogicalPlan::Window(window) => {
                window.window_expr.iter().try_for_each(expressions)?;
                at = &window.input;
            }
            other => at = passed(other)?,
        }
    };
    let horizon_us = reach::of(plan)?;
    aggregates(aggregate)?;
    windows::keep_their_names(plan)?;
    let mut at = &*aggregate.input;
    let mut marked = 0;
    while !matches!(at, LogicalPlan::TableScan(_)) {
        at = match at {
            LogicalPlan::Projection(of) if windows::is_function(of) => {
                marked += 1;
                passed(at)?
            }
            LogicalPlan::Aggregate(_) => {
                return refuse("GROUP BY", "groups twice", "let a view over this view do the rest");
            }
            LogicalPlan::Window(_) => {
                return refuse(
                    "OVER",
                    "a window function reads rows that are not grouped",
                    "use it over the groups of TUMBLE",
                );
            }
            other => passed(other)?,
        };
    }
    let Some(windows) = windows::of(plan, WINDOW_START) else {
        return refuse(
            "SELECT",
            "its answer has no column window_start of TUMBLE, HOP or SESSION(events, event_time, …)",
            "select window_start as it is, in each SELECT",
        );
    };
    let is_tumble =
        matches!(&windows, Windows::Fixed { slide_us, width_us } if slide_us == width_us);
    if marked != usize::from(!is_tumble) {
        return refuse(
            "FROM",
            "reads a function of windows out of another",
            "use one, over events or a (SELECT … FROM events …)",
        );
    }
    match &windows {
        Windows::Fixed { slide_us, width_us } if width_us != slide_us => {
            windows::are_whole(aggregate)?;
            panes_are_few(*slide_us, *width_us, horizon_us)?;
        }
        Windows::Fixed { .. } => {}
        Windows::Sessions { keys, .. } => {
            windows::are_whole(aggregate)?;
            windows::are_sessions(plan, aggregate, keys)?;
        }
    }
    Ok(Shape { windows, horizon_us })
}

/// So many panes are put together each time that a window closes.
fn panes_are_few(slide_us: i64, width_us: i64, horizon_us: i64) -> Result<(), Refusal> {
    let panes = (horizon_us / slide_us + 1).saturating_mul(width_us / slide_us);
    match panes > PANES_MAX {
        false => Ok(()),
        true => refuse(
            "horizon:",
            format!("its horizon is {panes} panes of HOP, {PANES_MAX} at most"),
            "let windows begin less often, or shorten the horizon",
        ),
    }
}

/// The input of a node that keeps rows as they are, or leaves some out.
fn passed(node: &LogicalPlan) -> Result<&LogicalPlan, Refusal> {
    match node {
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().try_for_each(expressions)?;
            Ok(&projection.input)
        }
        LogicalPlan::Filter(filter) => {
            expressions(&filter.predicate)?;
            Ok(&filter.input)
        }
        LogicalPlan::SubqueryAlias(alias) => Ok(&alias.input),
        LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_) => refuse(
            "FROM",
            "does not group by a window of time",
            "select FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY window_start",
        ),
        LogicalPlan::Sort(_) => refuse(
            "ORDER BY",
            "orders its answer, which comes window by window",
            "leave ORDER BY out; rows come ordered by window and then by their columns",
        ),
        LogicalPlan::Limit(_) => refuse(
            "LIMIT",
            "LIMIT over what has no end",
            "rank() OVER (PARTITION BY window_start ORDER BY …) and filter by it",
        ),
        LogicalPlan::Join(_) => refuse("JOIN", "joins are not there yet", "read one table"),
        LogicalPlan::Union(_) => refuse("UNION", "UNION is not there yet", "write two queries"),
        LogicalPlan::Distinct(_) => {
            refuse("DISTINCT", "SELECT DISTINCT", "GROUP BY the columns instead")
        }
        LogicalPlan::Unnest(_) => refuse("unnest", "unnest is not there yet", ""),
        other => refuse(
            "SELECT",
            format!("{} cannot run over what has no end", other.display()),
            "see docs/queries.md for what can",
        ),
    }
}

/// Checks the aggregate, and that the window's beginning is among its groups.
fn aggregates(aggregate: &Aggregate) -> Result<(), Refusal> {
    for group in &aggregate.group_expr {
        if matches!(group, Expr::GroupingSet(_)) {
            return refuse("GROUP BY", "grouping sets are not there yet", "write a query for each");
        }
        expressions(group)?;
    }
    for expr in &aggregate.aggr_expr {
        expressions(expr)?;
        let Expr::AggregateFunction(function) = expr.clone().unalias() else {
            return refuse("GROUP BY", format!("{expr} is no aggregate"), "");
        };
        exact(&function, aggregate)?;
    }
    let start = |group: &Expr| {
        matches!(group, Expr::Column(column)
            if column.name == WINDOW_START && windows::of(&aggregate.input, WINDOW_START).is_some())
    };
    match aggregate.group_expr.iter().any(start) {
        true => Ok(()),
        false => refuse(
            "GROUP BY",
            "does not group by window_start",
            "select FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY window_start",
        ),
    }
}

/// Refuses an aggregate whose answer depends on how its rows were batched or ordered.
fn exact(function: &AggregateFunction, of: &Aggregate) -> Result<(), Refusal> {
    let name = function.func.name();
    let types: Vec<DataType> = function
        .params
        .args
        .iter()
        .filter_map(|argument| argument.get_type(of.input.schema()).ok())
        .collect();
    let first = types.first().unwrap_or(&DataType::Null);
    if function.params.distinct && !matches!(name, "count" | "sum" | "min" | "max") {
        return refuse(
            name,
            format!("{name}(DISTINCT …) is not there yet"),
            "use count(DISTINCT …)",
        );
    }
    match name {
        "min" | "max" if first.is_floating() => refuse(
            name,
            format!("{name} of floating-point numbers depends on the order of the rows"),
            "cast to DECIMAL; of what is no number it takes what comes last",
        ),
        "count" | "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor"
        | "median" | "percentile_cont" | "approx_distinct" => Ok(()),
        "sum" | "avg" if first.is_floating() => refuse(
            name,
            format!("{name} of floating-point numbers depends on the order of the rows"),
            "cast to DECIMAL, or use whole microseconds and bytes",
        ),
        "avg" if !first.is_decimal() => refuse(
            name,
            "avg of whole numbers is summed as floating-point numbers, and not exact",
            "cast to DECIMAL(20, 3) first, or select sum and count",
        ),
        "sum" | "avg" => Ok(()),
        APPROX_PERCENTILE => match function.params.args.get(1).is_some_and(is_share) {
            true => Ok(()),
            false => refuse(
                name,
                format!(
                    "{name} takes a share from 0 to 1 as its second argument, as it is written"
                ),
                "write 0.99 for the 99th percentile",
            ),
        },
        _ if SPREADS.contains(&name) => match first.is_integer() && *first != DataType::UInt64 {
            true => Ok(()),
            false => refuse(
                name,
                format!("{name} of numbers that are not whole depends on the order of the rows"),
                "cast to BIGINT, of microseconds or bytes",
            ),
        },
        "first_value" | "last_value" | "array_agg" | "string_agg" | "nth_value" => {
            let ends =
                function.params.order_by.iter().rev().map(|of| of.expr.schema_name().to_string());
            let mut ends = ends.map(|name| name.rsplit('.').next().unwrap_or_default().to_owned());
            let is_place = |name: &str| windows::is_of_table(&of.input, name);
            if ends.next().as_deref() == Some("log_offset")
                && ends.next().as_deref() == Some("log_partition")
                && is_place("log_offset")
                && is_place("log_partition")
            {
                return Ok(());
            }
            refuse(
                name,
                format!("{name} depends on the order of the rows"),
                "let its ORDER BY end in log_partition, log_offset, which no two rows share",
            )
        }
        "approx_percentile_cont" | "approx_percentile_cont_with_weight" | "approx_median" => {
            refuse(
                name,
                format!("{name} depends on how the rows were batched"),
                "use approx_percentile, or percentile_cont and median, which are exact",
            )
        }
        _ => refuse(
            name,
            format!("{name} is not among the aggregates whose answer is exact"),
            "see docs/queries.md for those that are",
        ),
    }
}

/// Refuses what gives another answer at another time, or reads another table.
fn expressions(expr: &Expr) -> Result<(), Refusal> {
    let mut refused = Ok(());
    let walked = expr.apply(|node| {
        refused = match node {
            Expr::ScalarFunction(function)
                if function.func.signature().volatility != Volatility::Immutable =>
            {
                let name = function.func.name();
                refuse(
                    name,
                    format!("{name}() gives another answer each time"),
                    "use event_time or window_start",
                )
            }
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..) => refuse(
                "(SELECT",
                "a query within an expression is not there yet",
                "write two views",
            ),
            Expr::Unnest(_) => refuse("unnest", "unnest is not there yet", ""),
            Expr::Placeholder(_) | Expr::ScalarVariable(..) => {
                refuse("$", "a parameter has no value here", "write the value")
            }
            _ => Ok(()),
        };
        Ok::<_, DataFusionError>(match refused {
            Ok(()) => TreeNodeRecursion::Continue,
            Err(_) => TreeNodeRecursion::Stop,
        })
    });
    walked.expect("the closure gives no error");
    refused
}

/// The column that an expression of a projection gives.
fn output(expr: &Expr) -> Option<Column> {
    match expr {
        Expr::Column(column) => Some(column.clone()),
        Expr::Alias(alias) => Some(Column::from_name(&alias.name)),
        _ => None,
    }
}
