//! Where a window's bounds come from, and who reads them.

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, LogicalPlan, Operator, Projection};

use super::super::dialect::{WINDOW_END, WINDOW_START, width_us};
use super::super::pane::mark;
use super::{Refusal, output, refuse};

/// The windows of a function, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    /// How often one begins.
    pub(super) slide_us: i64,
    /// How long one lasts.
    pub(super) width_us: i64,
}

/// Of which windows a column of a plan is the beginning, as `TUMBLE` or `HOP` gave it, through
/// everything above it.
pub(super) fn of(plan: &LogicalPlan, name: &str) -> Option<Windows> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let mut of_name = projection
                .expr
                .iter()
                .filter(|expr| output(expr).is_some_and(|of| of.name == name));
            match of_name.next()?.clone().unalias() {
                Expr::Column(column) => of(&projection.input, &column.name),
                start => begun_by(&start),
            }
        }
        LogicalPlan::Filter(filter) => of(&filter.input, name),
        LogicalPlan::SubqueryAlias(alias) => of(&alias.input, name),
        LogicalPlan::Window(window) => of(&window.input, name),
        LogicalPlan::Aggregate(aggregate) => {
            let grouped =
                |group: &Expr| matches!(group, Expr::Column(column) if column.name == name);
            aggregate.group_expr.iter().any(grouped).then(|| of(&aggregate.input, name))?
        }
        _ => None,
    }
}

/// The windows whose beginning an expression works out of `event_time`.
fn begun_by(start: &Expr) -> Option<Windows> {
    let (start, marked) = match (mark(start), start) {
        (Some(pane), Expr::ScalarFunction(function)) => (function.args.first()?, Some(pane)),
        _ => (start, None),
    };
    let Expr::Cast(cast) = start else { return None };
    let Expr::ScalarFunction(bin) = &*cast.expr else { return None };
    let [width, Expr::Column(time)] = bin.args.as_slice() else { return None };
    if bin.func.name() != "date_bin" || time.name != "event_time" {
        return None;
    }
    let slide_us = width_us(width)?;
    match marked {
        Some(pane) if pane.slide_us != slide_us => None,
        Some(pane) => Some(Windows { slide_us, width_us: pane.width_us }),
        None => Some(Windows { slide_us, width_us: slide_us }),
    }
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
            let width = begun_by(left).map(|windows| windows.width_us);
            projection.expr.iter().any(is_beside) && width.is_some() && width == width_us(right)
        }
    }
}

fn is_bound(name: &str) -> bool {
    name == WINDOW_START || name == WINDOW_END
}

/// Refuses what reads the bounds of a window that overlaps others before its rows are grouped:
/// a row is aggregated once, in its pane, of which it would be read.
pub(super) fn are_whole(aggregate: &Aggregate) -> Result<(), Refusal> {
    let reads = |expr: &Expr| expr.column_refs().iter().any(|of| is_bound(&of.name));
    let refused = || {
        refuse(
            "window_",
            "reads window_start or window_end before its rows are grouped, and a row of HOP is \
             in several windows",
            "group by them as they are, and do the rest in a SELECT around it",
        )
    };
    let is_plain = |expr: &Expr| matches!(expr, Expr::Column(_));
    let groups = aggregate.group_expr.iter().filter(|expr| !is_plain(expr));
    if groups.chain(&aggregate.aggr_expr).any(reads) {
        return refused();
    }
    let mut at = &*aggregate.input;
    loop {
        at = match at {
            LogicalPlan::Filter(filter) if reads(&filter.predicate) => return refused(),
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Projection(projection) => {
                if projection.expr.iter().filter(|expr| !is_plain(expr)).any(reads) {
                    return refused();
                }
                &projection.input
            }
            _ => return Ok(()),
        };
    }
}
