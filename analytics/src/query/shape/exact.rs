//! Aggregates whose answer depends on nothing but which rows they are of.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable as _};

use super::super::aggregate::{APPROX_PERCENTILE, SPREADS, is_share};
use super::{Refusal, expressions, refuse, windows};

/// Refuses aggregates whose answer depends on more than which rows they are of.
pub(super) fn are_exact(aggregate: &Aggregate, stream: &str) -> Result<(), Refusal> {
    for group in &aggregate.group_expr {
        if matches!(group, Expr::GroupingSet(_)) {
            return refuse("GROUP BY", "grouping sets are not there yet", "write a query for each");
        }
        expressions(group, stream)?;
    }
    for expr in &aggregate.aggr_expr {
        expressions(expr, stream)?;
        let Expr::AggregateFunction(function) = expr.clone().unalias() else {
            return refuse("GROUP BY", format!("{expr} is no aggregate"), "");
        };
        exact(&function, aggregate)?;
    }
    Ok(())
}

/// The type of an expression as it will be once those of its parts agree: a floating-point
/// number if any of its values may be one.
pub(super) fn type_of(expr: &Expr, schema: &DFSchema) -> DataType {
    let parts: Vec<&Expr> = match expr {
        Expr::Case(case) => {
            let values = case.when_then_expr.iter().map(|(_, then)| &**then);
            values.chain(case.else_expr.as_deref()).collect()
        }
        Expr::ScalarFunction(function)
            if ["coalesce", "greatest", "least", "nvl", "nvl2", "nullif"]
                .contains(&function.func.name()) =>
        {
            function.args.iter().collect()
        }
        Expr::BinaryExpr(of) if of.op.is_numerical_operators() => vec![&of.left, &of.right],
        Expr::Alias(alias) => vec![&alias.expr],
        Expr::Negative(of) => vec![of],
        _ => Vec::new(),
    };
    let mut types = parts.into_iter().map(|part| type_of(part, schema));
    match types.find(DataType::is_floating) {
        Some(float) => float,
        None => expr.get_type(schema).unwrap_or(DataType::Null),
    }
}

/// Refuses an aggregate whose answer depends on how its rows were batched or ordered.
fn exact(function: &AggregateFunction, of: &Aggregate) -> Result<(), Refusal> {
    let name = function.func.name();
    let argument = function.params.args.first();
    let first = argument.map_or(DataType::Null, |of_first| type_of(of_first, of.input.schema()));
    let first = &first;
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
            if windows::ends_in_place(&function.params.order_by, &of.input) {
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
