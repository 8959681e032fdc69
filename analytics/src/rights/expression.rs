//! The expressions of roles, and the part of a table that they leave.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, plan_datafusion_err, plan_err};
use datafusion::config::Dialect;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, Volatility, cast, lit, when,
};
use datafusion::prelude::SessionContext;
use ingest::registry::kind::{Role, TableRights};
use ingest::registry::{Fault, Name, nearest};

use super::Given;
use crate::{lake, query, sql};

/// The most operators of an expression.
const OPERATORS_MAX: usize = 200;

/// Stands for the user in an expression.
const CURRENT_USER: &str = "current_user";

/// What a role says of a table, ready to use.
struct Rule {
    /// Nothing: every row.
    rows: Option<Expr>,
    /// Of each column of the table, in order.
    columns: Vec<Of>,
}

/// What becomes of a column.
enum Of {
    Hidden,
    Plain,
    Masked(Expr),
}

/// The part of a table that some roles give of it.
pub(super) fn plan(
    state: &SessionState,
    user: &Name,
    name: &str,
    table: Arc<dyn TableProvider>,
    given: &[Given],
) -> Result<LogicalPlan> {
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?;
    let schema = scan.schema().clone();
    let rules = given.iter().map(|given| {
        rule(state, &schema, user, &given.rights).map_err(|fault| {
            plan_datafusion_err!(
                "the table {name} cannot be read by the role {}: its rule {fault}",
                given.role
            )
        })
    });
    let rules = rules.collect::<Result<Vec<Rule>>>()?;
    let columns = schema.fields().iter().enumerate().filter_map(|(at, field)| {
        let value = value(&rules, at, Expr::Column(Column::new(Some(name), field.name())));
        value.transpose().map(|value| Ok(value?.alias(field.name())))
    });
    let columns = columns.collect::<Result<Vec<Expr>>>()?;
    let rows = rules.iter().map(|rule| rule.rows.clone()).collect::<Option<Vec<Expr>>>();
    let part = match rows.and_then(|rows| rows.into_iter().reduce(Expr::or)) {
        Some(rows) => scan.filter(rows)?,
        None => scan,
    };
    part.project(columns)?.build()
}

/// What a user sees of a column: of each row what the best of the rules gives that give the
/// row. Nothing if no rule gives the column.
fn value(rules: &[Rule], at: usize, column: Expr) -> Result<Option<Expr>> {
    let plain = rules.iter().filter(|rule| matches!(rule.columns[at], Of::Plain));
    let mut cases: Vec<(Option<Expr>, Expr)> =
        plain.map(|rule| (rule.rows.clone(), column.clone())).collect();
    for rule in rules {
        if let Of::Masked(mask) = &rule.columns[at] {
            cases.push((rule.rows.clone(), mask.clone()));
        }
    }
    if let ([_], [(_, value)]) = (rules, &*cases) {
        return Ok(Some(value.clone()));
    }
    let mut cases = cases.into_iter();
    let Some((first, value)) = cases.next() else { return Ok(None) };
    let Some(first) = first else { return Ok(Some(value)) };
    let mut built = when(first, value);
    for (rows, value) in cases {
        match rows {
            Some(rows) => built = built.when(rows, value),
            None => return built.otherwise(value).map(Some),
        }
    }
    built.end().map(Some)
}

fn rule(
    state: &SessionState,
    schema: &DFSchema,
    user: &Name,
    rights: &TableRights,
) -> Result<Rule, Fault> {
    let rows = rights.rows.as_deref().map(|text| {
        let rows = read(state, schema, text).map_err(|error| fault("rows", &error))?;
        let rows = for_user(rows, user);
        match rows.get_type(schema) {
            Ok(DataType::Boolean) => Ok(rows),
            Ok(other) => {
                let what = format!("gives {other}, and no condition");
                Err(Fault::new("rows", what, "compare something, as api_name = 'orders'"))
            }
            Err(error) => Err(fault("rows", &error)),
        }
    });
    let rows = rows.transpose()?;
    let known = |path: String, column: &str| match schema.has_column_with_unqualified_name(column) {
        true => Ok(()),
        false => Err(unknown(schema, path, column)),
    };
    let only = rights.columns.iter().map(|columns| ("columns", columns));
    for (key, columns) in only.chain([("without", &rights.without)]) {
        for (i, column) in columns.iter().enumerate() {
            known(format!("{key}[{i}]"), column)?;
        }
    }
    for column in rights.mask.keys() {
        known(format!("mask.{column}"), column)?;
    }
    let of_column = |field: &Arc<arrow::datatypes::Field>| {
        let name = field.name();
        if !rights.has(name) {
            return Ok(Of::Hidden);
        }
        let Some(mask) = rights.mask.get(name) else { return Ok(Of::Plain) };
        let path = format!("mask.{name}");
        let mask = read(state, schema, mask).map_err(|error| fault(&path, &error))?;
        let mask = for_user(mask, user);
        let of = mask.get_type(schema).map_err(|error| fault(&path, &error))?;
        match is_alike(&of, field.data_type()) {
            true => Ok(Of::Masked(cast(mask, field.data_type().clone()))),
            false => {
                let what = format!("gives {of}, and the column is {}", field.data_type());
                Err(Fault::new(path, what, "give a value of the column's type, or NULL"))
            }
        }
    };
    let columns = schema.fields().iter().map(of_column).collect::<Result<_, Fault>>()?;
    Ok(Rule { rows, columns })
}

/// Reads an expression that looks at one row at a time, at nothing else, and gives the same
/// each time.
fn read(state: &SessionState, schema: &DFSchema, text: &str) -> Result<Expr> {
    measured(text)?;
    let expr = state.create_logical_expr(text, schema)?;
    expr.apply(|part| {
        let what = match part {
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) => "several rows",
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::ScalarSubquery(_)
            | Expr::SetComparison(_) => "other tables",
            Expr::ScalarFunction(of) if of.func.signature().volatility == Volatility::Volatile => {
                return plan_err!("it may give something else each time, by {}", of.func.name());
            }
            Expr::Placeholder(_) | Expr::ScalarVariable(..) => "parameters",
            Expr::Unnest(_) => "several values of a row",
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        plan_err!("it asks for {what}; only the columns of one row are there")
    })?;
    Ok(expr)
}

/// Refuses what is too long for whoever reads it.
fn measured(text: &str) -> Result<()> {
    sql::check_text(text, OPERATORS_MAX).map_err(|error| plan_datafusion_err!("{error}"))
}

fn for_user(expr: Expr, user: &Name) -> Expr {
    let named = expr.transform(|part| {
        Ok(match &part {
            Expr::ScalarFunction(of) if of.name() == CURRENT_USER => {
                Transformed::yes(lit(user.as_str()))
            }
            _ => Transformed::no(part),
        })
    });
    named.expect("nothing fails in it").data
}

/// Whether values of one type can stand for those of another, whatever they are.
fn is_alike(one: &DataType, other: &DataType) -> bool {
    fn text(of: &DataType) -> bool {
        match of {
            DataType::Dictionary(_, of) => text(of),
            of => of.is_string(),
        }
    }
    one == other
        || one.is_null()
        || (text(one) && text(other))
        || (one.is_integer() && other.is_integer())
        || (one.is_numeric() && other.is_floating())
}

fn fault(path: &str, error: &DataFusionError) -> Fault {
    Fault::new(path, format!("cannot be read: {}", sql::plain(error)), "write SQL over its columns")
}

fn unknown(schema: &DFSchema, path: String, column: &str) -> Fault {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let mend = match nearest(column, names()) {
        Some(near) => format!("did you mean {near}?"),
        None => "information_schema.columns has those that there are".to_owned(),
    };
    Fault::new(path, format!("the table has no column {column}"), mend)
}

/// Finds what is wrong with a role: of the table of events everything, of others, whose
/// columns are known only where they are, what is no SQL.
///
/// # Errors
/// The faults, with paths as `tables.events.rows`.
pub(super) fn check(role: &Role) -> Result<(), Vec<Fault>> {
    let session = SessionContext::new();
    if let Err(error) = query::register(&session).and_then(|()| sql::bound(&session)) {
        return Err(vec![fault("tables", &error)]);
    }
    session.register_udf(sql::named_user(CURRENT_USER, "nobody"));
    let state = session.state();
    let mut faults = Vec::new();
    for (table, rights) in &role.tables {
        let found = match table.as_str() {
            sql::EVENTS => {
                let schema = DFSchema::try_from_qualified_schema(table, &lake::table_schema());
                let schema = schema.expect("its columns have names of their own");
                let anybody = Name::new("anybody").expect("letters are a name");
                rule(&state, &schema, &anybody, rights).err()
            }
            _ => syntax(&state, rights).err(),
        };
        faults.extend(
            found.map(|fault| Fault { path: format!("tables.{table}.{}", fault.path), ..fault }),
        );
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn syntax(state: &SessionState, rights: &TableRights) -> Result<(), Fault> {
    let masks = rights.mask.iter().map(|(column, text)| (format!("mask.{column}"), text));
    let rows = rights.rows.iter().map(|text| ("rows".to_owned(), text));
    for (path, text) in rows.chain(masks) {
        let parsed = measured(text).and_then(|()| state.sql_to_expr(text, &Dialect::default()));
        parsed.map_err(|error| fault(&path, &error))?;
    }
    Ok(())
}
