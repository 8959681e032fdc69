//! Where a window's bounds come from, and who reads them.

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, Join, LogicalPlan, Operator, Projection,
};

use super::super::EVENTS;
use super::super::dialect::{Mark, WINDOW_END, WINDOW_START, is_bound, width_us};
use super::{Refusal, joins, output, refuse};

/// The windows of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Windows {
    /// Of one length.
    Fixed {
        /// How often one begins, in microseconds.
        slide_us: i64,
        /// How long one lasts, a multiple of that.
        width_us: i64,
    },
    /// Of rows that follow each other.
    Sessions {
        /// After how long without a row one is over, in microseconds.
        gap_us: i64,
        /// The columns that its rows share.
        keys: Vec<String>,
    },
}

/// Of which windows a column of a plan is the beginning, as a function gave it, through
/// everything above it.
pub(super) fn of(plan: &LogicalPlan, name: &str) -> Option<Windows> {
    match plan {
        LogicalPlan::Projection(projection) => match named(projection, name)? {
            Expr::Column(column) => of(&projection.input, &column.name),
            start => function_of(&start, &projection.input),
        },
        LogicalPlan::Filter(filter) => of(&filter.input, name),
        LogicalPlan::SubqueryAlias(alias) => of(&alias.input, name),
        LogicalPlan::Window(window) => of(&window.input, name),
        LogicalPlan::Aggregate(aggregate) => {
            let grouped =
                |group: &Expr| matches!(group, Expr::Column(column) if column.name == name);
            aggregate.group_expr.iter().any(grouped).then(|| of(&aggregate.input, name))?
        }
        LogicalPlan::Join(join) => of(side_with(join, name)?, name),
        _ => None,
    }
}

/// The windows whose beginning an expression works out of the time that the rows of a table
/// have.
pub(super) fn function_of(start: &Expr, input: &LogicalPlan) -> Option<Windows> {
    let (windows, time) = begun_by(start)?;
    let (table, column) = follow(input, time, true)?;
    (column == time_of(&table)).then_some(windows)
}

/// By which column the rows of a table have their time: those of a view by when their window
/// begins.
pub(in super::super) fn time_of(table: &str) -> &'static str {
    if table == EVENTS { "event_time" } else { WINDOW_START }
}

/// The windows whose beginning an expression works out, and the column of times. No text can
/// write it but by a function.
fn begun_by(start: &Expr) -> Option<(Windows, &str)> {
    let (mark, start) = Mark::of(start)?;
    let (slide_us, width_us) = match (mark, start) {
        (Mark::Session { gap_us, keys }, Expr::Column(time)) => {
            let sessions = Windows::Sessions { gap_us: *gap_us, keys: keys.clone() };
            return Some((sessions, &time.name));
        }
        (Mark::Session { .. }, _) => return None,
        (Mark::Pane { slide_us, width_us }, _) => (*slide_us, *width_us),
    };
    let Expr::Cast(cast) = start else { return None };
    let Expr::ScalarFunction(bin) = &*cast.expr else { return None };
    let [_, Expr::Column(time)] = bin.args.as_slice() else { return None };
    Some((Windows::Fixed { slide_us, width_us }, &time.name))
}

/// The table and column that a column of a plan is, whatever is between and however often it
/// was renamed; of a union, if it is the same of all. Unless rows may `repeat`, not through what
/// gives a row more than once.
fn follow(plan: &LogicalPlan, name: &str, repeat: bool) -> Option<(String, String)> {
    let follow = |plan: &LogicalPlan, name: &str| follow(plan, name, repeat);
    match plan {
        LogicalPlan::Projection(projection) => match named(projection, name)? {
            Expr::Column(column) => follow(&projection.input, &column.name),
            _ => None,
        },
        LogicalPlan::Filter(filter) => follow(&filter.input, name),
        LogicalPlan::SubqueryAlias(alias) => follow(&alias.input, name),
        LogicalPlan::Window(window) => follow(&window.input, name),
        LogicalPlan::Union(union) if repeat => {
            let at = union.schema.index_of_column_by_name(None, name)?;
            let mut of_inputs = union.inputs.iter().map(|input| {
                let (_, field) = input.schema().qualified_field(at);
                follow(input, field.name())
            });
            let first = of_inputs.next()??;
            of_inputs.all(|of| of.as_ref() == Some(&first)).then_some(first)
        }
        LogicalPlan::Join(join) if repeat => follow(side_with(join, name)?, name),
        LogicalPlan::TableScan(scan) => Some((scan.table_name.table().to_owned(), name.to_owned())),
        _ => None,
    }
}

/// Whether a column is that of the events by this name, and each of them is there once at most.
fn is_of_events(plan: &LogicalPlan, name: &str) -> bool {
    follow(plan, name, false).is_some_and(|(table, column)| table == EVENTS && column == name)
}

/// The side of a join that alone has a column of a name.
fn side_with<'a>(join: &'a Join, name: &str) -> Option<&'a LogicalPlan> {
    let has = |side: &LogicalPlan| side.schema().has_column_with_unqualified_name(name);
    match (has(&join.left), has(&join.right)) {
        (true, false) => Some(&join.left),
        (false, true) => Some(&join.right),
        _ => None,
    }
}

/// Whether an order ends in the place of events in the log, which no two of them share.
pub(super) fn ends_in_place(order: &[Sort], input: &LogicalPlan) -> bool {
    let is_it = |by: &Sort, name: &str| {
        matches!(&by.expr, Expr::Column(of) if of.name == name) && is_of_events(input, name)
    };
    matches!(order, [.., partition, offset]
        if is_it(partition, "log_partition") && is_it(offset, "log_offset"))
}

/// What a projection gives by a name.
fn named(projection: &Projection, name: &str) -> Option<Expr> {
    let is_it = |expr: &&Expr| output(expr).is_some_and(|of| of.name == name);
    projection.expr.iter().find(is_it).map(|expr| expr.clone().unalias())
}

/// Refuses another column by the name of a window's bound: everything here goes by these.
pub(super) fn keep_their_names(plan: &LogicalPlan) -> Result<(), Refusal> {
    let mut refused = Ok(());
    let walked = plan.apply(|node| {
        if let LogicalPlan::Projection(projection) = node {
            for expr in projection.expr.iter().filter(|expr| !keeps(projection, expr)) {
                let name = output(expr).map(|of| of.name).unwrap_or_default();
                refused = refuse(
                    &name,
                    format!("calls another column {name}"),
                    "give it another name; window_start and window_end are those of the window",
                );
            }
        }
        Ok::<_, DataFusionError>(match refused {
            Ok(()) => TreeNodeRecursion::Continue,
            Err(_) => TreeNodeRecursion::Stop,
        })
    });
    walked.expect("the closure gives no error");
    refused
}

fn keeps(projection: &Projection, expr: &Expr) -> bool {
    let Some(named) = output(expr).filter(|of| is_bound(&of.name)) else { return true };
    let of = match expr.clone().unalias() {
        Expr::Column(column) => return column.name == named.name,
        other => other,
    };
    match named.name.as_str() {
        WINDOW_START => begun_by(&of).is_some(),
        // The beginning that stands beside it, and the width of its windows.
        _ => {
            let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) = &of else {
                return false;
            };
            let is_beside = |expr: &Expr| {
                matches!(expr, Expr::Alias(start)
                if start.name == WINDOW_START && start.expr == *left)
            };
            let width = begun_by(left).map(|(windows, _)| match windows {
                Windows::Fixed { width_us, .. } => width_us,
                Windows::Sessions { gap_us, .. } => gap_us,
            });
            projection.expr.iter().any(is_beside) && width.is_some() && width == width_us(right)
        }
    }
}

/// Whether nothing reads the bounds of a window before its rows are grouped, where a row does
/// not know them: it is aggregated in its pane, or as a session of its own, of which it would
/// be read.
pub(super) fn are_whole(aggregate: &Aggregate, stream: &str) -> bool {
    let reads = |expr: &Expr| expr.column_refs().iter().any(|of| is_bound(&of.name));
    let is_plain = |expr: &Expr| matches!(expr, Expr::Column(_));
    let groups = aggregate.group_expr.iter().filter(|expr| !is_plain(expr));
    if groups.chain(&aggregate.aggr_expr).any(reads) {
        return false;
    }
    let mut at = &*aggregate.input;
    loop {
        at = match at {
            LogicalPlan::Filter(filter) if reads(&filter.predicate) => return false,
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Projection(projection) if !is_function(projection) => {
                if projection.expr.iter().filter(|expr| !is_plain(expr)).any(reads) {
                    return false;
                }
                &projection.input
            }
            LogicalPlan::Join(join) => {
                let on = join.on.iter().flat_map(|(left, right)| [left, right]);
                match joins::side(join, stream) {
                    Some(side) if !on.chain(&join.filter).any(reads) => side,
                    _ => return false,
                }
            }
            _ => return true,
        };
    }
}

/// Refuses what would make a session of other rows than the function's table has, or what
/// does not keep apart what belongs to different ones.
pub(super) fn are_sessions(
    plan: &LogicalPlan,
    aggregate: &Aggregate,
    keys: &[String],
    stream: &str,
) -> Result<(), Refusal> {
    let names = || [WINDOW_START, WINDOW_END].into_iter().chain(keys.iter().map(String::as_str));
    let grouped = |name: &str| {
        let is = |group: &Expr| matches!(group, Expr::Column(column) if column.name == name);
        aggregate.group_expr.iter().any(is) && is_of_function(&aggregate.input, name)
    };
    if let Some(missing) = names().find(|name| !grouped(name)) {
        return refuse(
            "GROUP BY",
            format!("groups rows of SESSION, and not by {missing}"),
            format!("write GROUP BY {}", names().collect::<Vec<_>>().join(", ")),
        );
    }
    if !plan.schema().has_column_with_unqualified_name(WINDOW_END) {
        return refuse(
            "SELECT",
            "its answer has no column window_end of SESSION",
            "select window_start and window_end as they are, in each SELECT",
        );
    }
    let mut at = plan;
    loop {
        at = match at {
            LogicalPlan::Window(_) => {
                return refuse(
                    "OVER",
                    "a window function reads several sessions, which is not there yet",
                    "leave it out, or use TUMBLE or HOP",
                );
            }
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Join(join) => joins::with_table(join, stream)?,
            _ => break,
        };
    }
    let mut at = &*aggregate.input;
    loop {
        at = match at {
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) => {
                return refuse(
                    if matches!(at, LogicalPlan::Join(_)) { "JOIN" } else { "WHERE" },
                    "leaves rows out after they made a session",
                    "put the condition into the table: SESSION((SELECT * FROM events WHERE …), …)",
                );
            }
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Projection(projection) if !is_function(projection) => &projection.input,
            _ => return Ok(()),
        };
    }
}

/// Whether a column is that of the function by this name, whatever is between.
fn is_of_function(plan: &LogicalPlan, name: &str) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => match named(projection, name) {
            None => false,
            Some(_) if is_function(projection) => true,
            Some(Expr::Column(of)) => of.name == name && is_of_function(&projection.input, name),
            Some(_) => false,
        },
        LogicalPlan::Filter(filter) => is_of_function(&filter.input, name),
        LogicalPlan::SubqueryAlias(alias) => is_of_function(&alias.input, name),
        LogicalPlan::Join(join) => {
            side_with(join, name).is_some_and(|side| is_of_function(side, name))
        }
        _ => false,
    }
}

/// Whether a projection is what `HOP` or `SESSION` made.
pub(super) fn is_function(projection: &Projection) -> bool {
    projection.expr.iter().any(|expr| Mark::of(&expr.clone().unalias()).is_some())
}
