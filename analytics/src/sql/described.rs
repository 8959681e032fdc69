use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::LogicalPlan;

use super::Error;

/// As many as PostgreSQL's protocol can count.
const PARAMETERS_MAX: usize = 65_535;

/// What a client is told of a query before it is asked. Its plan is not kept: it would keep
/// the rows of then.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) schema: SchemaRef,
    /// The type of each parameter, as far as it is known.
    pub(crate) parameters: Vec<Option<DataType>>,
}

impl Described {
    /// What a plan tells.
    ///
    /// # Errors
    /// [`Error::Query`] of a parameter that is none.
    pub(crate) fn of(plan: &LogicalPlan) -> Result<Self, Error> {
        let schema = plan.schema().inner().clone();
        Ok(Self { schema, parameters: parameters(plan)? })
    }
}

/// The type of each parameter of a plan, by their number, as far as it is known.
fn parameters(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>, Error> {
    let types = plan.get_parameter_types();
    let types = types.map_err(|error| Error::Query(error.strip_backtrace()))?;
    let number = |name: &str| name.trim_start_matches('$').parse().unwrap_or(0);
    let mut parameters = Vec::new();
    for (name, of) in types {
        let at = number(&name);
        if !(1..=PARAMETERS_MAX).contains(&at) {
            return Err(Error::Query(format!(
                "{name} is no parameter; write $1 to ${PARAMETERS_MAX}"
            )));
        }
        if parameters.len() < at {
            parameters.resize(at, None);
        }
        parameters[at - 1] = of;
    }
    Ok(parameters)
}
