//! `TUMBLE`, `HOP` and `SESSION`, the table functions of time windows, as Flink's SQL has them.
//!
//! ```sql
//! SELECT window_start, count(*)
//! FROM TUMBLE(events, event_time, INTERVAL '1 minute')
//! GROUP BY window_start
//! ```
//!
//! `TUMBLE` gives each row of the table the window that its time lies in: `window_start`,
//! inclusive, and `window_end`, exclusive. Windows begin at whole multiples of the
//! interval since 1970-01-01T00:00:00Z. `HOP(events, event_time, slide, size)` gives each
//! row once for every window that its time lies in: one begins at each multiple of the
//! slide, and lasts as long as the size, a multiple of the slide.
//! `SESSION(events, event_time, key, …, gap)` gives each row the session that it is in: of
//! the rows with its keys, each less than the gap after the one before, from the first
//! until the gap after the last.
//!
//! The table is a name, or a `(SELECT …)`.
//!
//! A continuous query aggregates a row once: with `HOP` into the pane of one slide that it lies
//! in, with `SESSION` as a session of its own; and puts together what is of one window. For it
//! the functions give a row that part alone ([`Rows::ForState`]).

mod fixed;
mod mark;
mod session;
mod some;

use std::sync::Arc;

use datafusion::arrow::array::types::ArrowPrimitiveType;
use datafusion::arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{DFSchema, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    Expr as Written, FunctionArg, FunctionArgExpr, ObjectName, TableFactor,
};
use futures_util::FutureExt as _;

pub(super) use self::mark::Mark;
pub(super) use self::some::SomeWindows;
use super::aggregate;

/// The column that a window's rows share: when it begins, inclusive.
pub const WINDOW_START: &str = "window_start";
/// When a window ends, exclusive.
pub const WINDOW_END: &str = "window_end";

/// Whether a column of that name says of a window when it begins or ends.
pub(super) fn is_bound(name: &str) -> bool {
    name == WINDOW_START || name == WINDOW_END
}

/// The rules that bring functions of JSON nearer to the tables.
const LEAF_RULES: [&str; 2] = ["extract_leaf_expressions", "push_down_leaf_projections"];
/// The shortest window, and the shortest gap between sessions, in microseconds.
const WIDTH_US_MIN: i64 = 1_000_000;
/// The longest window, and the longest gap.
const WIDTH_US_MAX: i64 = 366 * 86_400 * 1_000_000;
/// By how many columns sessions are told apart, at most.
const KEYS_MAX: usize = 8;

/// Makes the table functions of the dialect known to a session, its aggregates, and the
/// functions and operators of JSON: `json_get_str(external_data, 'customer', 'name')`,
/// `external_data ->> 'customer'`.
///
/// # Errors
/// None of a session that plans SQL.
pub fn register(session: &SessionContext) -> Result<()> {
    register_as(session, Rows::OfWindows)
}

/// The same, for a continuous query.
pub(super) fn register_as(session: &SessionContext, rows: Rows) -> Result<()> {
    aggregate::register(session);
    // The session's clones share what is registered.
    datafusion_functions_json::register_all(&mut session.clone())?;
    // DataFusion 55.2 moves such a function below one side of a union alone, as that of the
    // lake and its tail, and then refuses the plan.
    for rule in LEAF_RULES {
        session.remove_optimizer_rule(rule);
    }
    let catalogs = session.state().catalog_list().clone();
    session.register_relation_planner(Arc::new(Functions { catalogs, rows }))
}

/// What the functions give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rows {
    /// Each row once for every window that it lies in.
    OfWindows,
    /// Each row once for every window that it lies in and that is asked for.
    OfSome(SomeWindows),
    /// Each row once, with the part of windows that its state is kept by.
    ForState,
}

#[derive(Debug)]
struct Functions {
    catalogs: Arc<dyn CatalogProviderList>,
    rows: Rows,
}

/// A function of windows.
#[derive(Debug, Clone, Copy)]
enum Function {
    Tumble,
    Hop,
    Session,
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        let all = [Self::Tumble, Self::Hop, Self::Session];
        all.into_iter().find(|of| of.name().eq_ignore_ascii_case(name))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Session => "SESSION",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Tumble => "write TUMBLE(events, event_time, INTERVAL '1 minute')",
            Self::Hop => {
                "write HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes'): how \
                 often a window begins, and how long it lasts"
            }
            Self::Session => {
                "write SESSION(events, event_time, client_address, INTERVAL '30 minutes'): whose \
                 sessions they are, and after how long without a row one is over"
            }
        }
    }
}

/// What a function was called with, and what of it every function has.
struct Call<'a> {
    function: Function,
    rows: Rows,
    table: LogicalPlan,
    time: Expr,
    time_type: DataType,
    context: &'a mut dyn RelationPlannerContext,
}

/// A fixed time that was written.
struct Interval {
    written: String,
    expr: Expr,
    us: i64,
}

impl RelationPlanner for Functions {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, alias, args: Some(given), .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(function) = Function::named(&name.to_string()) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let (called, usage) = (function.name(), function.usage());
        let mut written = Vec::new();
        for argument in &given.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
                return plan_err!("{called} does not take {argument}; {usage}");
            };
            written.push(argument.clone());
        }
        let count = written.len();
        let plan = match (function, written.as_slice()) {
            (Function::Tumble, [table, time, size]) => {
                let mut call = self.call(function, table, time, context)?;
                let (size, same) = (call.interval(size)?, call.interval(size)?);
                fixed::windows(call, size, same)
            }
            (Function::Hop, [table, time, slide, size]) => {
                let mut call = self.call(function, table, time, context)?;
                let (slide, size) = (call.interval(slide)?, call.interval(size)?);
                fixed::windows(call, slide, size)
            }
            (Function::Session, [table, time, keys @ .., gap]) if keys.len() <= KEYS_MAX => {
                let mut call = self.call(function, table, time, context)?;
                let keys = keys.iter().map(|key| call.column(key)).collect::<Result<_>>()?;
                let gap = call.interval(gap)?;
                session::windows(call, keys, gap)
            }
            (Function::Tumble, _) => {
                plan_err!("TUMBLE takes three arguments, not {count}; {usage}")
            }
            (Function::Hop, _) => plan_err!("HOP takes four arguments, not {count}; {usage}"),
            (Function::Session, _) => plan_err!(
                "SESSION takes three arguments and up to {KEYS_MAX} keys, not {count}; {usage}"
            ),
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan?, alias.clone()))))
    }
}

impl Functions {
    fn call<'a>(
        &self,
        function: Function,
        table: &Written,
        time: &Written,
        context: &'a mut dyn RelationPlannerContext,
    ) -> Result<Call<'a>> {
        let (called, usage) = (function.name(), function.usage());
        let table = self.table(table, function, context)?;
        let schema = table.schema();
        if let Some(taken) = [WINDOW_START, WINDOW_END]
            .into_iter()
            .find(|name| schema.has_column_with_unqualified_name(name))
        {
            return plan_err!("the table has a column {taken} already");
        }
        let time = context.sql_to_expr(time.clone(), schema)?;
        let time_type = time.get_type(schema)?;
        if !matches!(time, Expr::Column(_)) || !matches!(time_type, DataType::Timestamp(..)) {
            return plan_err!(
                "{called}'s second argument is a column of times, not {time} of type {time_type}; {usage}"
            );
        }
        Ok(Call { function, rows: self.rows.clone(), table, time, time_type, context })
    }

    /// The table that the function's argument names. The session has not loaded it, as
    /// it takes the argument for an expression, so it is looked up here.
    fn table(
        &self,
        written: &Written,
        function: Function,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let (called, usage) = (function.name(), function.usage());
        let name = match written {
            Written::Identifier(name) => ObjectName::from(vec![name.clone()]),
            Written::CompoundIdentifier(names) => ObjectName::from(names.clone()),
            Written::Subquery(query) => {
                return context.plan(TableFactor::Derived {
                    lateral: false,
                    subquery: query.clone(),
                    alias: None,
                    sample: None,
                });
            }
            other => {
                return plan_err!(
                    "{called} takes the name of a table or a (SELECT …), not {other}; {usage}"
                );
            }
        };
        // A query that the text has named by WITH.
        let named = TableFactor::Table {
            name: name.clone(),
            alias: None,
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        };
        if let Ok(named) = context.plan(named) {
            return Ok(named);
        }
        let reference = context.object_name_to_table_reference(name)?;
        let defaults = &context.context_provider().options().catalog;
        let resolved =
            reference.clone().resolve(&defaults.default_catalog, &defaults.default_schema);
        let schema =
            self.catalogs.catalog(&resolved.catalog).and_then(|of| of.schema(&resolved.schema));
        // Tables of a session are in memory: they are there, or never.
        let found = schema.and_then(|of| of.table(&resolved.table).now_or_never());
        match found.transpose()?.flatten() {
            Some(table) => {
                LogicalPlanBuilder::scan(reference, provider_as_source(table), None)?.build()
            }
            None => plan_err!("there is no table {reference} for {called}"),
        }
    }
}

impl Call<'_> {
    fn column(&mut self, written: &Written) -> Result<Expr> {
        self.context.sql_to_expr(written.clone(), self.table.schema())
    }

    fn interval(&mut self, written: &Written) -> Result<Interval> {
        let (called, usage) = (self.function.name(), self.function.usage());
        let expr = self.context.sql_to_expr(written.clone(), &DFSchema::empty())?;
        match width_us(&expr) {
            Some(us) if (WIDTH_US_MIN..=WIDTH_US_MAX).contains(&us) => {
                Ok(Interval { written: written.to_string(), expr, us })
            }
            Some(us) if us > WIDTH_US_MAX => {
                plan_err!("a window lasts 366 days at most, not {written}; {usage}")
            }
            Some(_) => plan_err!("a window lasts a second or longer, not {written}; {usage}"),
            None => plan_err!(
                "how long a window of {called} lasts is a fixed time of whole microseconds, \
                 not {written}; {usage}"
            ),
        }
    }
}

/// An interval of so many microseconds.
fn us(microseconds: i64) -> ScalarValue {
    let nanoseconds = microseconds.saturating_mul(1_000);
    ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, nanoseconds)))
}

/// A fixed interval, in microseconds.
pub(super) fn width_us(interval: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = interval else { return None };
    interval_us(value)
}

/// A fixed interval, in microseconds.
pub(super) fn interval_us(value: &ScalarValue) -> Option<i64> {
    const DAY_US: i64 = 86_400 * 1_000_000;
    // The bound of a frame stands as it was written until the plan is optimized.
    let read;
    let value = match value {
        ScalarValue::Utf8(Some(text)) => {
            let interval = DataType::Interval(IntervalUnit::MonthDayNano);
            read = ScalarValue::try_from_string(text.clone(), &interval).ok()?;
            &read
        }
        value => value,
    };
    let ScalarValue::IntervalMonthDayNano(Some(value)) = value else { return None };
    let value: <IntervalMonthDayNanoType as ArrowPrimitiveType>::Native = *value;
    if value.months != 0 || value.nanoseconds % 1_000 != 0 {
        return None;
    }
    i64::from(value.days).checked_mul(DAY_US)?.checked_add(value.nanoseconds / 1_000)
}
