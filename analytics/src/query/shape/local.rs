//! Queries that ask about the rows of one window at a time: what each node gives of a window
//! depends on the rows of that window alone, and for window functions over closed windows on
//! those of a horizon before it. So the text runs over a few windows as it would over all.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, Join, JoinType, LogicalPlan, Operator};

use super::super::dialect::{WINDOW_END, is_bound};
use super::windows::{self, Windows};
use super::{
    Refusal, Shape, WINDOW_START, Work, are_exact, expressions, joins, one_function, panes_are_few,
    reach, refuse,
};

pub(super) fn of(plan: &LogicalPlan, stream: String) -> Result<Shape, Refusal> {
    let rows = Rows::of(plan, &stream)?;
    let start = plan.schema().index_of_column_by_name(None, WINDOW_START);
    let (Some(windows), true) = (rows.windows, start.is_some_and(|at| rows.starts.contains(&at)))
    else {
        return refuse(
            "SELECT",
            "its answer has no column window_start of TUMBLE or HOP(events, event_time, …)",
            "select FROM TUMBLE(events, event_time, INTERVAL '1 minute'), and window_start as it \
             is, in each SELECT",
        );
    };
    let end = plan.schema().index_of_column_by_name(None, WINDOW_END);
    if end.is_some_and(|at| !rows.ends.contains(&at)) {
        return refuse(
            "window_end",
            "its window_end is of the side of a join that may be empty",
            "select that of the side that is kept whole",
        );
    }
    let horizon_us = reach::of(plan)?;
    if let Windows::Fixed { slide_us, width_us } = &windows {
        panes_are_few(*slide_us, *width_us, horizon_us)?;
    }
    Ok(Shape { windows, horizon_us, work: Work::Rows, stream })
}

/// What is known of the rows of a node.
#[derive(Debug, Default)]
struct Rows {
    /// Whether they come of what has no end.
    is_stream: bool,
    /// In which windows they are, above a function.
    windows: Option<Windows>,
    /// Which columns are the beginning of a row's window.
    starts: Vec<usize>,
    /// And which are its end.
    ends: Vec<usize>,
}

impl Rows {
    fn of(plan: &LogicalPlan, stream: &str) -> Result<Self, Refusal> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let is_stream = scan.table_name.table() == stream;
                Ok(Self { is_stream, ..Self::default() })
            }
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Ok(Self::default()),
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input, stream),
            LogicalPlan::Filter(filter) => {
                expressions(&filter.predicate, stream)?;
                Self::of(&filter.input, stream)
            }
            LogicalPlan::Projection(projection) => {
                projection.expr.iter().try_for_each(|expr| expressions(expr, stream))?;
                let mut rows = Self::of(&projection.input, stream)?;
                let input = projection.input.schema();
                let starts = places_of(&projection.expr, |of| rows.is_start(of, input));
                let ends = places_of(&projection.expr, |of| rows.is_end(of, input));
                let mut functions = projection.expr.iter().enumerate().filter_map(|(at, expr)| {
                    let is_named = matches!(expr, Expr::Alias(of) if of.name == WINDOW_START);
                    let start = is_named.then(|| expr.clone().unalias())?;
                    Some((at, windows::function_of(&start, &projection.input)?))
                });
                match functions.next() {
                    Some(_) if rows.windows.is_some() => return one_function(),
                    Some((_, Windows::Sessions { .. })) => return of_sessions(),
                    Some((at, windows)) => {
                        let is_end =
                            |of: &Expr| matches!(of, Expr::Alias(of) if of.name == WINDOW_END);
                        rows.windows = Some(windows);
                        (rows.starts, rows.ends) = (vec![at], places_of(&projection.expr, is_end));
                    }
                    None => (rows.starts, rows.ends) = (starts, ends),
                }
                Ok(rows)
            }
            LogicalPlan::Aggregate(aggregate) => {
                are_exact(aggregate, stream)?;
                let rows = Self::of(&aggregate.input, stream)?;
                let input = aggregate.input.schema();
                let starts = places_of(&aggregate.group_expr, |of| rows.is_start(of, input));
                let ends = places_of(&aggregate.group_expr, |of| rows.is_end(of, input));
                let what = "groups rows of all windows together";
                rows.by_window(starts, ends, "GROUP BY", what)
            }
            LogicalPlan::Window(window) => {
                window.window_expr.iter().try_for_each(|expr| expressions(expr, stream))?;
                let rows = Self::of(&window.input, stream)?;
                // How far its functions read is looked at by their reach, which goes by names.
                let is_start = |expr: &Expr| rows.is_start(expr, window.input.schema());
                let is_named = |expr: &Expr| expr.column_refs().iter().any(|of| is_bound(&of.name));
                let is_local = |of: &Expr| match of.clone().unalias() {
                    Expr::WindowFunction(of) => {
                        let (by, order) = (&of.params.partition_by, &of.params.order_by);
                        by.iter().any(is_start)
                            || !by.iter().any(is_named)
                                && order.first().is_some_and(|by| is_start(&by.expr))
                    }
                    _ => false,
                };
                match rows.is_stream && !window.window_expr.iter().all(is_local) {
                    false => Ok(rows),
                    true => refuse(
                        "OVER",
                        "a window function reads rows of all time",
                        "select FROM TUMBLE(events, event_time, INTERVAL '1 minute'), and give \
                         its OVER a PARTITION BY window_start",
                    ),
                }
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let rows = Self::of(input, stream)?;
                let (starts, ends) = (rows.starts.clone(), rows.ends.clone());
                let what = "leaves out rows that are alike of all windows";
                rows.by_window(starts, ends, "DISTINCT", what)
            }
            LogicalPlan::Union(union) => Self::of_union(&union.inputs, stream),
            LogicalPlan::Join(join) => Self::of_join(join, stream),
            LogicalPlan::Sort(_) => refuse(
                "ORDER BY",
                "orders its answer, which comes window by window",
                "leave ORDER BY out; rows come ordered by window and then by their columns",
            ),
            LogicalPlan::Distinct(Distinct::On(_)) => refuse(
                "DISTINCT",
                "DISTINCT ON takes the first of rows in an order that several may share",
                "row_number() OVER (PARTITION BY window_start, … ORDER BY …, log_partition, log_offset) and filter by it",
            ),
            LogicalPlan::Unnest(_) => refuse("unnest", "unnest is not there yet", ""),
            other => refuse(
                "SELECT",
                format!("{} cannot run over what has no end", other.display()),
                "see docs/queries.md for what can",
            ),
        }
    }

    fn of_union(inputs: &[Arc<LogicalPlan>], stream: &str) -> Result<Self, Refusal> {
        let types = |of: &LogicalPlan| -> Vec<_> {
            of.schema().fields().iter().map(|field| field.data_type().clone()).collect()
        };
        if inputs.windows(2).any(|two| types(&two[0]) != types(&two[1])) {
            return refuse(
                "UNION",
                "puts columns of different types together",
                "CAST them to the same types on both sides",
            );
        }
        let mut all = inputs.iter().map(|input| Self::of(input, stream));
        let Some(mut rows) = all.next().transpose()? else { return Ok(Self::default()) };
        for other in all {
            let other = other?;
            if rows.windows != other.windows || rows.is_stream != other.is_stream {
                return refuse(
                    "UNION",
                    "puts rows of different windows together",
                    "give both sides the same function of windows",
                );
            }
            rows.starts.retain(|at| other.starts.contains(at));
            rows.ends.retain(|at| other.ends.contains(at));
        }
        Ok(rows)
    }

    fn of_join(join: &Join, stream: &str) -> Result<Self, Refusal> {
        joins::conditions(join, stream)?;
        let (left, right) = (Self::of(&join.left, stream)?, Self::of(&join.right, stream)?);
        let has_left = !matches!(
            join.join_type,
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark
        );
        let moved = if has_left { join.left.schema().fields().len() } else { 0 };
        let (keeps_left, keeps_right) =
            (joins::keeps_left(join.join_type), joins::keeps_right(join.join_type));
        let kept = |of_left: &[usize], of_right: &[usize]| -> Vec<usize> {
            let of_left = of_left.iter().copied().filter(|_| keeps_left);
            of_left.chain(of_right.iter().map(|at| at + moved).filter(|_| keeps_right)).collect()
        };
        let starts = kept(&left.starts, &right.starts);
        let ends = kept(&left.ends, &right.ends);
        match (left.is_stream, right.is_stream) {
            (false, false) => Ok(Self::default()),
            (true, false) | (false, true) => {
                joins::with_table(join, stream)?;
                Ok(Self { starts, ends, windows: left.windows.or(right.windows), is_stream: true })
            }
            (true, true) if left.windows.is_some() && left.windows == right.windows => {
                if !left.is_joined(&right, join) {
                    return refuse(
                        "JOIN",
                        "joins rows of different windows",
                        "write JOIN … ON a.window_start = b.window_start AND …",
                    );
                }
                Ok(Self { starts, ends, windows: left.windows, is_stream: true })
            }
            (true, true) => refuse(
                "JOIN",
                "joins what has no end, and not by the same windows",
                "join two of TUMBLE or HOP(events, event_time, …) with the same times, ON a.window_start = b.window_start",
            ),
        }
    }

    /// Whether a join is of rows of the same window.
    fn is_joined(&self, right: &Self, join: &Join) -> bool {
        let (of_left, of_right) = (join.left.schema(), join.right.schema());
        let is_it = |a: &Expr, b: &Expr| self.is_start(a, of_left) && right.is_start(b, of_right);
        let by_filter = join.filter.iter().flat_map(split_conjunction).any(|of| match of {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                is_it(left, right) || is_it(right, left)
            }
            _ => false,
        });
        by_filter || join.on.iter().any(|(left, right)| is_it(left, right))
    }

    /// Whether an expression over rows with such columns is the beginning of their window.
    fn is_start(&self, expr: &Expr, schema: &DFSchema) -> bool {
        place(expr, schema).is_some_and(|at| self.starts.contains(&at))
    }

    /// Whether it is the end of their window.
    fn is_end(&self, expr: &Expr, schema: &DFSchema) -> bool {
        place(expr, schema).is_some_and(|at| self.ends.contains(&at))
    }

    /// The same rows, put together by their windows, of which `starts` says.
    fn by_window(
        mut self,
        starts: Vec<usize>,
        ends: Vec<usize>,
        at: &str,
        what: &str,
    ) -> Result<Self, Refusal> {
        if self.is_stream && starts.is_empty() {
            return refuse(at, what, "let window_start be among the columns");
        }
        (self.starts, self.ends) = (starts, ends);
        Ok(self)
    }
}

/// At which places expressions are what is asked.
fn places_of(exprs: &[Expr], is_it: impl Fn(&Expr) -> bool) -> Vec<usize> {
    exprs.iter().enumerate().filter(|(_, expr)| is_it(expr)).map(|(place, _)| place).collect()
}

/// The place of a column that an expression is.
fn place(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    let Expr::Column(column) = expr.clone().unalias() else { return None };
    schema.index_of_column_by_name(column.relation.as_ref(), &column.name)
}

fn of_sessions<T>() -> Result<T, Refusal> {
    refuse(
        "SESSION",
        "asks more of sessions than one GROUP BY, which is not there yet",
        "use TUMBLE or HOP",
    )
}
