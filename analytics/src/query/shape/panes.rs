//! Windows that overlap. A row is aggregated once, in its pane; what a query works out of the
//! window before that would be of one window alone.

use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, LogicalPlan, Operator};

use super::super::dialect::{WINDOW_END, WINDOW_START, width_us};
use super::{Refusal, refuse};

/// How long a window lasts, in microseconds, below an aggregate.
pub(super) fn width_of(plan: &LogicalPlan) -> Option<i64> {
    let projection = match plan {
        LogicalPlan::Projection(projection) => projection,
        LogicalPlan::Filter(filter) => return width_of(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => return width_of(&alias.input),
        _ => return None,
    };
    let own = projection.expr.iter().find_map(|expr| match expr {
        Expr::Alias(alias) if alias.name == WINDOW_END => match &*alias.expr {
            Expr::BinaryExpr(BinaryExpr { op: Operator::Plus, right, .. }) => width_us(right),
            _ => None,
        },
        _ => None,
    });
    own.or_else(|| width_of(&projection.input))
}

/// Refuses what reads a window's beginning or end before its rows are grouped.
pub(super) fn are_whole(aggregate: &Aggregate) -> Result<(), Refusal> {
    let is_bound = |name: &str| name == WINDOW_START || name == WINDOW_END;
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
                // What gives the windows stands on the table itself.
                let is_first = matches!(*projection.input, LogicalPlan::TableScan(_));
                let others = projection.expr.iter().filter(|expr| !is_plain(expr));
                if !is_first && others.into_iter().any(reads) {
                    return refused();
                }
                &projection.input
            }
            _ => return Ok(()),
        };
    }
}
