//! The mark of a pane's beginning: which windows it is of. It changes nothing, and no text can
//! name it, so that what is marked came of `HOP`.

use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Pane {
    signature: Signature,
    /// How often a window begins, in microseconds.
    pub(super) slide_us: i64,
    /// How long one lasts.
    pub(super) width_us: i64,
}

/// Marks a pane's beginning.
pub(super) fn marked(start: Expr, slide_us: i64, width_us: i64) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(Pane { signature, slide_us, width_us }).call(vec![start])
}

/// The mark that an expression has.
pub(super) fn mark(expr: &Expr) -> Option<&Pane> {
    let Expr::ScalarFunction(function) = expr else { return None };
    function.func.inner().downcast_ref::<Pane>()
}

impl ScalarUDFImpl for Pane {
    fn name(&self) -> &str {
        "pane"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, mut given: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let start = given.args.pop();
        start.ok_or_else(|| DataFusionError::Internal("a pane has a beginning".to_owned()))
    }
}
