//! Joins: of rows of the same window, and of what has no end with a table that stays as it is.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Join, JoinType, LogicalPlan};

use super::{Refusal, expressions, refuse};

/// Whether a plan reads a table.
pub(in super::super) fn reads(plan: &LogicalPlan, table: &str) -> bool {
    let mut reads = false;
    let walked = plan.apply_with_subqueries(|node| {
        reads |= matches!(node, LogicalPlan::TableScan(of) if of.table_name.table() == table);
        Ok::<_, DataFusionError>(match reads {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    });
    walked.expect("the closure gives no error");
    reads
}

/// The side of a join that has no end, if the other is a table.
pub(super) fn side<'a>(join: &'a Join, stream: &str) -> Option<&'a LogicalPlan> {
    let (left, right) = (&*join.left, &*join.right);
    match (reads(left, stream), reads(right, stream)) {
        (true, false) => Some(left),
        (false, true) => Some(right),
        _ => None,
    }
}

/// Whether each row of the left side that a join gives is one that it has.
pub(super) fn keeps_left(of: JoinType) -> bool {
    use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi};
    matches!(of, Inner | Left | LeftSemi | LeftAnti | LeftMark)
}

/// The same of the right side.
pub(super) fn keeps_right(of: JoinType) -> bool {
    use JoinType::{Inner, Right, RightAnti, RightMark, RightSemi};
    matches!(of, Inner | Right | RightSemi | RightAnti | RightMark)
}

/// Refuses what a join asks for that depends on more than its rows.
pub(super) fn conditions(join: &Join, stream: &str) -> Result<(), Refusal> {
    let on = join.on.iter().flat_map(|(left, right)| [left, right]);
    on.chain(&join.filter).try_for_each(|expr| expressions(expr, stream))
}

/// The side of a join that has no end, where the other is a table: each of its rows is joined
/// by itself.
pub(super) fn with_table<'a>(join: &'a Join, stream: &str) -> Result<&'a LogicalPlan, Refusal> {
    conditions(join, stream)?;
    let Some(side) = side(join, stream) else {
        return refuse("JOIN", "joins tables alone", "read events, or a view");
    };
    let is_left = std::ptr::eq(side, &*join.left);
    match if is_left { keeps_left(join.join_type) } else { keeps_right(join.join_type) } {
        true => Ok(side),
        false => refuse(
            "JOIN",
            "keeps the rows of a table that no row of a window is joined to",
            "let what has no end be the side that is kept whole",
        ),
    }
}
