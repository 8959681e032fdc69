//! The mark of a window's beginning: of which windows it is. It changes nothing, and no text
//! can name it, so that what is marked came of a function of windows.

use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Of which windows a beginning is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) enum Mark {
    /// Of a pane, as the last window that it is in.
    Pane {
        /// How often a window begins, in microseconds.
        slide_us: i64,
        /// How long one lasts.
        width_us: i64,
    },
    /// Of a row, as a session of its own.
    Session {
        /// After how long without a row a session is over, in microseconds.
        gap_us: i64,
        /// The columns that its rows share.
        keys: Vec<String>,
    },
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marked {
    signature: Signature,
    mark: Mark,
}

impl Mark {
    /// Marks a beginning.
    pub(super) fn put(self, start: Expr) -> Expr {
        let signature = Signature::any(1, Volatility::Immutable);
        ScalarUDF::from(Marked { signature, mark: self }).call(vec![start])
    }

    /// The mark of an expression, and what is marked.
    pub(in super::super) fn of(expr: &Expr) -> Option<(&Self, &Expr)> {
        let Expr::ScalarFunction(function) = expr else { return None };
        let marked = function.func.inner().downcast_ref::<Marked>()?;
        Some((&marked.mark, function.args.first()?))
    }
}

impl ScalarUDFImpl for Marked {
    fn name(&self) -> &str {
        "window"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, mut given: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let start = given.args.pop();
        start.ok_or_else(|| DataFusionError::Internal("a window has a beginning".to_owned()))
    }
}
