//! Functions of PostgreSQL that clients ask when they connect.

use std::sync::Arc;

use datafusion::arrow::array::{Array as _, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::as_string_array;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;

use super::control::{VERSION, setting};

/// Makes them known to a session.
pub(super) fn register(session: &SessionContext) {
    let version = create_udf(
        "version",
        Vec::new(),
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(|_| {
            let text = format!("PostgreSQL {VERSION}");
            Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text))))
        }),
    );
    session.register_udf(version);
    let current_setting = create_udf(
        "current_setting",
        vec![DataType::Utf8],
        DataType::Utf8,
        Volatility::Stable,
        Arc::new(current_setting),
    );
    session.register_udf(current_setting);
}

fn current_setting(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let names = as_string_array(&arrays[0])?;
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        values.push(match name.map(|name| (name, setting(name))) {
            None => None,
            Some((_, Some(value))) => Some(value),
            Some((name, None)) => {
                return exec_err!("there is no setting {name}");
            }
        });
    }
    Ok(ColumnarValue::Array(Arc::new(StringArray::from(values))))
}
