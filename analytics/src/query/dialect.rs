//! `TUMBLE` and `HOP`, the table functions of time windows, as Flink's SQL has them.
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
//!
//! A continuous query aggregates a row once, into the pane of one slide that it lies in, and
//! puts the panes of each window together. For it `HOP` gives a row its pane alone, as
//! the window that begins with it ([`Rows::Panes`]).

use std::sync::Arc;

use datafusion::arrow::array::types::ArrowPrimitiveType;
use datafusion::arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{Column, DFSchema, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{
    Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, cast, lit,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    Expr as Written, FunctionArg, FunctionArgExpr, ObjectName, TableFactor,
};
use futures_util::FutureExt as _;

use super::aggregate;
use super::pane::marked;

/// The column that a window's rows share: when it begins, inclusive.
pub const WINDOW_START: &str = "window_start";
/// When a window ends, exclusive.
pub const WINDOW_END: &str = "window_end";

/// The shortest window, in microseconds.
const WIDTH_US_MIN: i64 = 1_000_000;

/// In how many windows a row may lie.
const WINDOWS_MAX: i64 = 256;

/// Makes the table functions of the dialect known to a session, and its aggregates.
///
/// # Errors
/// None of a session that plans SQL.
pub fn register(session: &SessionContext) -> Result<()> {
    register_as(session, Rows::OfWindows)
}

/// The same, for a continuous query.
pub(super) fn register_as(session: &SessionContext, rows: Rows) -> Result<()> {
    aggregate::register(session);
    let catalogs = session.state().catalog_list().clone();
    session.register_relation_planner(Arc::new(Windows { catalogs, rows }))
}

/// What `HOP` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Each row once for every window that it lies in.
    OfWindows,
    /// Each row once, with the last window that it lies in.
    Panes,
}

#[derive(Debug)]
struct Windows {
    catalogs: Arc<dyn CatalogProviderList>,
    rows: Rows,
}

/// A function of windows.
#[derive(Debug, Clone, Copy)]
enum Function {
    Tumble,
    Hop,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Tumble => "write TUMBLE(events, event_time, INTERVAL '1 minute')",
            Self::Hop => {
                "write HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes'): how \
                 often a window begins, and how long it lasts"
            }
        }
    }
}

impl RelationPlanner for Windows {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, alias, args: Some(given), .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let function = match name.to_string().to_ascii_lowercase().as_str() {
            "tumble" => Function::Tumble,
            "hop" => Function::Hop,
            "session" => {
                let usage = Function::Tumble.usage();
                return plan_err!("there is no SESSION yet; {usage}");
            }
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let (called, usage) = (function.name(), function.usage());
        let mut written = Vec::new();
        for argument in &given.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
                return plan_err!("{called} does not take {argument}; {usage}");
            };
            written.push(argument.clone());
        }
        let (table, time, slide, size) = match (function, written.as_slice()) {
            (Function::Tumble, [table, time, size]) => (table, time, size, size),
            (Function::Hop, [table, time, slide, size]) => (table, time, slide, size),
            (Function::Tumble, all) => {
                return plan_err!("TUMBLE takes three arguments, not {}; {usage}", all.len());
            }
            (Function::Hop, all) => {
                return plan_err!("HOP takes four arguments, not {}; {usage}", all.len());
            }
        };
        let table = self.table(table, function, context)?;
        let plan = self.windows(function, table, (time, slide, size), context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

impl Windows {
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
            other => return plan_err!("{called} takes the name of a table, not {other}; {usage}"),
        };
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

    fn windows(
        &self,
        function: Function,
        table: LogicalPlan,
        (time, slide, size): (&Written, &Written, &Written),
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let (called, usage) = (function.name(), function.usage());
        let schema = table.schema().clone();
        if let Some(taken) = [WINDOW_START, WINDOW_END]
            .into_iter()
            .find(|name| schema.has_column_with_unqualified_name(name))
        {
            return plan_err!("the table has a column {taken} already");
        }
        let time = context.sql_to_expr(time.clone(), &schema)?;
        let data_type = time.get_type(&schema)?;
        if !matches!(time, Expr::Column(_)) || !matches!(data_type, DataType::Timestamp(..)) {
            return plan_err!(
                "{called}'s second argument is a column of times, not {time} of type {data_type}; {usage}"
            );
        }
        let mut fixed = |written: &Written| {
            let interval = context.sql_to_expr(written.clone(), &DFSchema::empty())?;
            match width_us(&interval) {
                Some(us) if us >= WIDTH_US_MIN => Ok((interval, us)),
                Some(_) => plan_err!("a window lasts a second or longer, not {written}; {usage}"),
                None => plan_err!(
                    "how long a window of {called} lasts is a fixed time of whole microseconds, \
                     not {written}; {usage}"
                ),
            }
        };
        let ((every, slide_us), (width, width_us)) = (fixed(slide)?, fixed(size)?);
        let windows = width_us / slide_us;
        if windows * slide_us != width_us || windows > WINDOWS_MAX {
            return plan_err!(
                "a window of HOP lasts a whole multiple of {slide}, up to {WINDOWS_MAX} of them, \
                 not {size}; {usage}"
            );
        }
        let Some(date_bin) = context.context_provider().get_function_meta("date_bin") else {
            return Err(DataFusionError::Internal("the session has no date_bin".to_owned()));
        };
        // It counts in nanoseconds, whatever it is given.
        let last = cast(date_bin.call(vec![every, time]), data_type);
        let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
        let with = |mut columns: Vec<Expr>, start: Expr| {
            columns.push(start.alias(WINDOW_START));
            columns
        };
        let plan = LogicalPlanBuilder::from(table);
        if windows == 1 || self.rows == Rows::Panes {
            let start = if windows == 1 { last } else { marked(last, slide_us, width_us) };
            columns = with(columns, start.clone());
            columns.push((start + width).alias(WINDOW_END));
            return plan.project(columns)?.build();
        }
        let start = Expr::Column(Column::from_name(WINDOW_START));
        let starts = (0..windows).map(|back| match back {
            0 => start.clone(),
            _ => start.clone() - lit(us(back * slide_us)),
        });
        let starts = make_array(starts.collect());
        let plan = plan.project(with(columns.clone(), last))?;
        let plan = plan.project(with(columns.clone(), starts))?.unnest_column(WINDOW_START)?;
        columns = with(columns, start.clone());
        columns.push((start + width).alias(WINDOW_END));
        plan.project(columns)?.build()
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
