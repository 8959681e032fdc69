//! `TUMBLE`, the table function of time windows.
//!
//! ```sql
//! SELECT window_start, count(*)
//! FROM TUMBLE(events, event_time, INTERVAL '1 minute')
//! GROUP BY window_start
//! ```
//!
//! It gives each row of the table the window that its time lies in: `window_start`,
//! inclusive, and `window_end`, exclusive. Windows begin at whole multiples of the
//! interval since 1970-01-01T00:00:00Z.

use std::sync::Arc;

use datafusion::arrow::array::types::ArrowPrimitiveType;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{DFSchema, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    Expr as Written, FunctionArg, FunctionArgExpr, ObjectName, TableFactor,
};
use futures_util::FutureExt as _;

/// The column that a window's rows share: when it begins, inclusive.
pub const WINDOW_START: &str = "window_start";
/// When a window ends, exclusive.
pub const WINDOW_END: &str = "window_end";

/// The shortest window, in microseconds.
const WIDTH_US_MIN: i64 = 1_000_000;

const USAGE: &str = "write TUMBLE(events, event_time, INTERVAL '1 minute')";

/// Makes the table functions of the dialect known to a session.
///
/// # Errors
/// None of a session that plans SQL.
pub fn register(session: &SessionContext) -> Result<()> {
    let catalogs = session.state().catalog_list().clone();
    session.register_relation_planner(Arc::new(Windows { catalogs }))
}

#[derive(Debug)]
struct Windows {
    catalogs: Arc<dyn CatalogProviderList>,
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
        match name.to_string().to_ascii_lowercase().as_str() {
            "tumble" => {}
            other @ ("hop" | "session") => {
                return plan_err!("there is no {} yet; {USAGE}", other.to_ascii_uppercase());
            }
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        }
        let mut written = Vec::new();
        for argument in &given.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
                return plan_err!("TUMBLE does not take {argument}; {USAGE}");
            };
            written.push(argument.clone());
        }
        let [table, time, interval] = written.as_slice() else {
            return plan_err!("TUMBLE takes three arguments, not {}; {USAGE}", written.len());
        };
        let table = self.table(table, context)?;
        let plan = tumble(table, time, interval, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

impl Windows {
    /// The table that the function's argument names. The session has not loaded it, as
    /// it takes the argument for an expression, so it is looked up here.
    fn table(
        &self,
        written: &Written,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let name = match written {
            Written::Identifier(name) => ObjectName::from(vec![name.clone()]),
            Written::CompoundIdentifier(names) => ObjectName::from(names.clone()),
            other => return plan_err!("TUMBLE takes the name of a table, not {other}; {USAGE}"),
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
            None => plan_err!("there is no table {reference} for TUMBLE"),
        }
    }
}

fn tumble(
    table: LogicalPlan,
    time: &Written,
    interval: &Written,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
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
            "TUMBLE's second argument is a column of times, not {time} of type {data_type}; {USAGE}"
        );
    }
    let width = context.sql_to_expr(interval.clone(), &DFSchema::empty())?;
    let Some(width_us) = width_us(&width) else {
        return plan_err!(
            "TUMBLE's third argument is a fixed time of whole microseconds, not {interval}; {USAGE}"
        );
    };
    if width_us < WIDTH_US_MIN {
        return plan_err!("a window lasts a second or longer, not {interval}; {USAGE}");
    }
    let Some(date_bin) = context.context_provider().get_function_meta("date_bin") else {
        return Err(DataFusionError::Internal("the session has no date_bin".to_owned()));
    };
    // It counts in nanoseconds, whatever it is given.
    let start = cast(date_bin.call(vec![width.clone(), time]), data_type);
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    columns.push(start.clone().alias(WINDOW_START));
    columns.push((start + width).alias(WINDOW_END));
    LogicalPlanBuilder::from(table).project(columns)?.build()
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
