//! Which queries can run over what has no end, with the answer that they would give
//! over all of it at once.
//!
//! ```text
//! Projection, Filter, Window, alias ─► one Aggregate ─► Projection, Filter, alias
//!   ─► TUMBLE, HOP or SESSION of ─► Projection, Filter, alias ─► a stream
//! ```
//!
//! Anywhere in it a table that stays as it is may be joined. Of these, partial aggregates are held ([`Work::Groups`]). What is not so, and asks about
//! the rows of one window at a time, holds rows ([`Work::Rows`], [`local`]). Whatever is not
//! listed there either is refused, with its reason.

mod exact;
mod joins;
mod local;
mod reach;
mod versions;
mod windows;

use std::collections::BTreeSet;

use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Volatility};

use self::exact::{are_exact, type_of};
pub(super) use self::joins::reads;
pub(super) use self::versions::CONFIG_REVISION;
pub(super) use self::windows::{Windows, time_of};
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
    pub(super) work: Work,
    /// The table of what has no end that it reads.
    pub(super) stream: String,
}

/// What a query holds of a window that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Partial aggregates.
    Groups,
    /// Its rows, of each the columns that the query reads.
    Rows,
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

/// The tables that a plan may read.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// What has no end.
    pub(super) streams: BTreeSet<String>,
    /// What stays as it is.
    pub(super) tables: BTreeSet<String>,
    /// Those of them that have versions of the registry's entities, and grow.
    pub(super) entities: BTreeSet<String>,
}

/// Looks at a plan as the SQL planner made it, before anything was optimized away.
pub(super) fn of(plan: &LogicalPlan, known: &Known) -> Result<Shape, Refusal> {
    let stream = stream(plan, known)?;
    windows::keep_their_names(plan)?;
    everywhere(plan, &stream)?;
    columns_are_named(plan)?;
    versions::of(plan, &stream, known)?;
    if !is_grouped_once(plan, &stream) {
        return local::of(plan, stream);
    }
    match grouped_once(plan, &stream)? {
        Some(shape) => Ok(shape),
        None => local::of(plan, stream),
    }
}

/// The one table of what has no end that a plan reads.
fn stream(plan: &LogicalPlan, known: &Known) -> Result<String, Refusal> {
    let (mut read, mut unknown) = (BTreeSet::new(), None);
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table();
            match known.streams.get(name) {
                Some(stream) => read.extend([stream.clone()]),
                None if known.tables.contains(name) => {}
                None => unknown = Some(name.to_owned()),
            }
        }
        Ok::<_, DataFusionError>(TreeNodeRecursion::Continue)
    });
    walked.expect("the closure gives no error");
    if let Some(name) = unknown {
        let name = name.trim_end_matches("()").to_owned();
        let what = format!("reads {name}, which is neither events, nor a view, nor a table");
        return refuse(name, what, "put the rows into a file of tables/");
    }
    let names = read.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
    match read.pop_first().filter(|_| read.is_empty()) {
        Some(stream) => Ok(stream),
        None if names.is_empty() => {
            refuse("FROM", "reads no events", "select FROM TUMBLE(events, …)")
        }
        None => refuse(
            "FROM",
            format!("reads {names}, which do not go on together"),
            "read one of them, as often as is needed",
        ),
    }
}

/// Refuses what is of no use anywhere, in a table that is joined or asked about either.
fn everywhere(plan: &LogicalPlan, stream: &str) -> Result<(), Refusal> {
    let mut refused = Ok(());
    let walked = plan.apply_with_subqueries(|node| {
        refused = node_everywhere(node, stream);
        Ok::<_, DataFusionError>(match refused {
            Ok(()) => TreeNodeRecursion::Continue,
            Err(_) => TreeNodeRecursion::Stop,
        })
    });
    walked.expect("the closure gives no error");
    refused
}

fn node_everywhere(node: &LogicalPlan, stream: &str) -> Result<(), Refusal> {
    match node {
        LogicalPlan::Limit(_) => {
            return refuse(
                "LIMIT",
                "LIMIT over what has no end",
                "rank() OVER (PARTITION BY window_start ORDER BY …) and filter by it",
            );
        }
        LogicalPlan::Projection(of) if windows::is_function(of) => {
            let is_known = of.expr.iter().any(|expr| {
                let start = expr.clone().unalias();
                windows::function_of(&start, &of.input).is_some()
            });
            if !is_known {
                return refuse(
                    "FROM",
                    "does not group by window_start of events: the windows are of another table, \
                     or of another time than that of its rows",
                    "write TUMBLE(events, event_time, …), or of a view by its window_start",
                );
            }
        }
        _ => {}
    }
    node.expressions().iter().try_for_each(|expr| expressions(expr, stream))
}

/// Refuses an answer whose columns nobody could tell apart.
fn columns_are_named(plan: &LogicalPlan) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    match plan.schema().fields().iter().find(|field| !names.insert(field.name())) {
        None => Ok(()),
        Some(twice) => refuse(
            twice.name(),
            format!("gives two columns called {}", twice.name()),
            "give one of them another name",
        ),
    }
}

/// Whether groups of rows are all that a plan is made of, and what is asked of them; with
/// tables joined.
fn is_grouped_once(plan: &LogicalPlan, stream: &str) -> bool {
    let (mut at, mut groups) = (plan, 0);
    loop {
        at = match at {
            LogicalPlan::Projection(of) => &of.input,
            LogicalPlan::Filter(of) => &of.input,
            LogicalPlan::SubqueryAlias(of) => &of.input,
            LogicalPlan::Window(of) if groups == 0 => &of.input,
            LogicalPlan::Aggregate(of) => {
                groups += 1;
                &of.input
            }
            LogicalPlan::Join(of) => match joins::side(of, stream) {
                Some(side) => side,
                None => return false,
            },
            LogicalPlan::TableScan(_) => return groups == 1 && groups_of(plan) == 1,
            _ => return false,
        };
    }
}

/// How many nodes of a plan group rows, those of tables and of queries within expressions too.
fn groups_of(plan: &LogicalPlan) -> usize {
    let mut groups = 0;
    let walked = plan.apply_with_subqueries(|node| {
        let is_one = matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_));
        groups += usize::from(is_one);
        Ok::<_, DataFusionError>(TreeNodeRecursion::Continue)
    });
    walked.expect("the closure gives no error");
    groups
}

/// Nothing if its rows have to be held all the same, as they ask of which window they are.
fn grouped_once(plan: &LogicalPlan, stream: &str) -> Result<Option<Shape>, Refusal> {
    let mut at = plan;
    let aggregate = loop {
        match at {
            LogicalPlan::Aggregate(aggregate) => break aggregate,
            LogicalPlan::Window(window) => {
                window.window_expr.iter().try_for_each(|expr| expressions(expr, stream))?;
                at = &window.input;
            }
            other => at = passed(other, stream)?,
        }
    };
    let horizon_us = reach::of(plan)?;
    aggregates(aggregate, stream)?;
    let mut at = &*aggregate.input;
    let mut functions = 0;
    while !matches!(at, LogicalPlan::TableScan(_)) {
        if matches!(at, LogicalPlan::Projection(of) if windows::is_function(of)) {
            functions += 1;
        }
        at = passed(at, stream)?;
    }
    let Some(windows) = windows::of(plan, WINDOW_START) else {
        return refuse(
            "SELECT",
            "its answer has no column window_start of TUMBLE, HOP or SESSION(events, event_time, …)",
            "select window_start as it is, in each SELECT",
        );
    };
    if functions != 1 {
        return one_function();
    }
    match &windows {
        Windows::Fixed { slide_us, width_us } if width_us != slide_us => {
            panes_are_few(*slide_us, *width_us, horizon_us)?;
            if !windows::are_whole(aggregate, stream) {
                return Ok(None);
            }
        }
        Windows::Fixed { .. } => {}
        Windows::Sessions { keys, .. } => {
            if !windows::are_whole(aggregate, stream) {
                return refuse(
                    "window_",
                    "reads window_start or window_end before its rows are grouped; a row of \
                     SESSION does not know them yet",
                    "group by them as they are, and do the rest in a SELECT around it",
                );
            }
            windows::are_sessions(plan, aggregate, keys, stream)?;
        }
    }
    Ok(Some(Shape { windows, horizon_us, work: Work::Groups, stream: stream.to_owned() }))
}

fn one_function<T>() -> Result<T, Refusal> {
    refuse(
        "FROM",
        "reads a function of windows out of another",
        "use one, over a table or a (SELECT …), or let a view over this view do the rest",
    )
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

/// The input of a node that looks at each row by itself.
fn passed<'a>(node: &'a LogicalPlan, stream: &str) -> Result<&'a LogicalPlan, Refusal> {
    match node {
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().try_for_each(|expr| expressions(expr, stream))?;
            Ok(&projection.input)
        }
        LogicalPlan::Filter(filter) => {
            expressions(&filter.predicate, stream)?;
            Ok(&filter.input)
        }
        LogicalPlan::SubqueryAlias(alias) => Ok(&alias.input),
        LogicalPlan::Join(join) => joins::with_table(join, stream),
        other => refuse(
            "SELECT",
            format!("{} cannot run over what has no end", other.display()),
            "see docs/queries.md for what can",
        ),
    }
}

/// Checks the aggregate, and that the window's beginning is among its groups.
fn aggregates(aggregate: &Aggregate, stream: &str) -> Result<(), Refusal> {
    are_exact(aggregate, stream)?;
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

/// Refuses what gives another answer at another time, or reads the stream once more.
fn expressions(expr: &Expr, stream: &str) -> Result<(), Refusal> {
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
            Expr::Exists(Exists { subquery, .. })
            | Expr::InSubquery(InSubquery { subquery, .. })
                if !joins::reads(&subquery.subquery, stream) =>
            {
                Ok(())
            }
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..) => refuse(
                "(SELECT",
                "a query within an expression is not there yet",
                "join a table; or write IN (SELECT … FROM a table) in a WHERE",
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
