//! Joins with entities of the registry. Which of their versions was in force at a revision
//! stays as it is; which is in force now does not, nor how many there are. So a row is joined
//! with what was in force as it came about, and with nothing else.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, TableReference};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, Expr, Join, LogicalPlan};

use super::{Known, Refusal, joins, refuse};
use crate::entities::{FIRST_REVISION, IS_CURRENT, LAST_REVISION};

/// The column of rows that says by which revision of the registry they came about.
pub(in super::super) const CONFIG_REVISION: &str = "config_revision";

/// Refuses what reads them otherwise.
pub(super) fn of(plan: &LogicalPlan, stream: &str, known: &Known) -> Result<(), Refusal> {
    let (mut reads, mut then, mut others) = (Vec::new(), Vec::new(), Vec::new());
    each(plan, |node| {
        if let LogicalPlan::Join(join) = node {
            then.extend(Then::of(join, stream, known));
        }
        if let LogicalPlan::TableScan(scan) = node {
            reads.extend(known.entities.get(scan.table_name.table()).cloned());
        }
        if let Some((table, called)) = table_of(node)
            && !known.entities.contains(table.table())
        {
            others.push(called.clone());
        }
        Ok(())
    })?;
    if reads.is_empty() {
        return Ok(());
    }
    for then in &then {
        let at = reads.iter().position(|read| *read == then.table);
        reads.remove(at.expect("a join reads its table"));
    }
    if let Some(table) = reads.first() {
        return refuse(
            table,
            format!("reads {table} of now, which is another every time that somebody changes it"),
            format!(
                "write JOIN {table} AS e ON e.name = … AND {CONFIG_REVISION} BETWEEN e.{FIRST_REVISION} \
                 AND e.{LAST_REVISION}"
            ),
        );
    }
    each(plan, |node| {
        is_of_the_stream(node, stream, known)?;
        let mut exprs = node.expressions();
        if let LogicalPlan::Join(join) = node
            && let Some(then) = Then::of(join, stream, known)
        {
            exprs = join.on.iter().flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
            let others = join.filter.iter().flat_map(split_conjunction);
            exprs.extend(others.filter(|of| **of != then.condition).cloned());
        }
        exprs.iter().try_for_each(|expr| stays(expr, &others))
    })
}

/// A join of rows with what was in force as they came about.
struct Then {
    /// The table of entities.
    table: String,
    /// The condition that says so.
    condition: Expr,
}

impl Then {
    fn of(join: &Join, stream: &str, known: &Known) -> Option<Self> {
        let entities = |side: &LogicalPlan| {
            table_of(side)
                .map(|(table, _)| table.table())
                .filter(|of| known.entities.contains(*of))
                .map(str::to_owned)
        };
        let (rows, versions, table) = match (entities(&join.left), entities(&join.right)) {
            (None, Some(table)) => (&*join.left, &*join.right, table),
            (Some(table), None) => (&*join.right, &*join.left, table),
            _ => return None,
        };
        let is = |expr: &Expr, name: &str, side: &LogicalPlan| match expr {
            Expr::Column(column) => column.name == name && side.schema().has_column(column),
            _ => false,
        };
        let mut conditions = join.filter.iter().flat_map(split_conjunction);
        let condition = conditions.find(|condition| {
            matches!(condition, Expr::Between(Between { expr, negated: false, low, high })
                if is(expr, CONFIG_REVISION, rows) && is(low, FIRST_REVISION, versions)
                    && is(high, LAST_REVISION, versions))
        })?;
        joins::reads(rows, stream).then(|| Self { table, condition: condition.clone() })
    }
}

/// The table that a node is, and what it is called there.
fn table_of(node: &LogicalPlan) -> Option<(&TableReference, &TableReference)> {
    match node {
        LogicalPlan::TableScan(scan) => Some((&scan.table_name, &scan.table_name)),
        LogicalPlan::SubqueryAlias(alias) => match &*alias.input {
            LogicalPlan::TableScan(scan) => Some((&scan.table_name, &alias.alias)),
            _ => None,
        },
        _ => None,
    }
}

/// Refuses a [`CONFIG_REVISION`] that is another than that of the rows of the stream.
fn is_of_the_stream(node: &LogicalPlan, stream: &str, known: &Known) -> Result<(), Refusal> {
    let what = match node {
        LogicalPlan::TableScan(scan) => {
            let (name, schema) = (scan.table_name.table(), scan.source.schema());
            match schema.field_with_name(CONFIG_REVISION) {
                Ok(_) if known.tables.contains(name) => format!("the table {name} has it too"),
                Ok(field) if name == stream && *field.data_type() != DataType::Int64 => {
                    format!("that of {name} is no BIGINT")
                }
                _ => return Ok(()),
            }
        }
        LogicalPlan::Union(union) => {
            let at = union.schema.index_of_column_by_name(None, CONFIG_REVISION);
            let name = |input: &LogicalPlan| at.map(|at| input.schema().field(at).name().clone());
            let mut names = union.inputs.iter().filter_map(|input| name(input));
            match names.find(|name| name != CONFIG_REVISION) {
                Some(other) => format!("it is put together with {other}"),
                None => return Ok(()),
            }
        }
        _ => return Ok(()),
    };
    refuse(
        CONFIG_REVISION,
        format!("{CONFIG_REVISION} may be of any revision: {what}"),
        format!("join by the {CONFIG_REVISION} of events as it is, and call no other column so"),
    )
}

/// Refuses an expression whose value is another later. Columns of other tables may be called as
/// those that change are.
fn stays(expr: &Expr, others: &[TableReference]) -> Result<(), Refusal> {
    if let Expr::Alias(alias) = expr
        && alias.name == CONFIG_REVISION
        && !matches!(&*alias.expr, Expr::Column(column) if column.name == CONFIG_REVISION)
    {
        return refuse(
            CONFIG_REVISION,
            format!("calls another column {CONFIG_REVISION}"),
            "give it another name",
        );
    }
    let changes = |column: &&&Column| {
        let is_one = column.name == LAST_REVISION || column.name == IS_CURRENT;
        is_one && !column.relation.as_ref().is_some_and(|of| others.contains(of))
    };
    let columns = expr.column_refs();
    match columns.iter().find(changes) {
        None => Ok(()),
        Some(column) => refuse(
            &column.name,
            format!("reads {}, which is another once there is a newer version", column.name),
            format!("select the columns that you need, and use {FIRST_REVISION} or version"),
        ),
    }
}

/// Looks at each node, those of queries within expressions too.
fn each(
    plan: &LogicalPlan,
    mut look: impl FnMut(&LogicalPlan) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut looked = Ok(());
    let walked = plan.apply_with_subqueries(|node| {
        looked = look(node);
        Ok::<_, DataFusionError>(match looked {
            Ok(()) => TreeNodeRecursion::Continue,
            Err(_) => TreeNodeRecursion::Stop,
        })
    });
    walked.expect("the closure gives no error");
    looked
}
