//! Of the windows that rows lie in, those that are asked for: a query that holds rows answers
//! a few at a time.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray as _, ListArray, TimestampMicrosecondArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use parking_lot::Mutex;

/// Which windows are asked for: by when they begin, in microseconds. Clones are one.
#[derive(Debug, Clone)]
pub(in super::super) struct SomeWindows(Arc<Mutex<Range<i64>>>);

impl Default for SomeWindows {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(i64::MIN..i64::MAX)))
    }
}

impl PartialEq for SomeWindows {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SomeWindows {}

impl Hash for SomeWindows {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl SomeWindows {
    /// From here on these are asked for.
    pub(in super::super) fn ask(&self, windows: Range<i64>) {
        *self.0.lock() = windows;
    }

    /// When the windows begin that a row lies in and that are asked for, as a list; of the
    /// last that it lies in, the beginning.
    pub(super) fn starts(&self, last: Expr, slide_us: i64, windows: i64) -> Expr {
        let signature = Signature::any(1, Volatility::Volatile);
        ScalarUDF::from(Starts { signature, slide_us, windows, some: self.clone() })
            .call(vec![last])
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Starts {
    signature: Signature,
    slide_us: i64,
    windows: i64,
    some: SomeWindows,
}

impl ScalarUDFImpl for Starts {
    fn name(&self) -> &str {
        "window_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(arguments[0].clone(), true))))
    }

    fn invoke_with_args(&self, given: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let last = given.args[0].to_array(given.number_rows)?;
        let asked = self.some.0.lock().clone();
        let (mut starts, mut ends) = (Vec::new(), vec![0]);
        for last in last.as_primitive::<TimestampMicrosecondType>().values() {
            let of_row = (0..self.windows).map(|back| last - back * self.slide_us);
            starts.extend(of_row.filter(|start| asked.contains(start)));
            ends.push(i32::try_from(starts.len()).map_err(|_| too_many())?);
        }
        let starts: ArrayRef = Arc::new(TimestampMicrosecondArray::from(starts));
        let starts = cast(&starts, last.data_type())?;
        let field = Arc::new(Field::new_list_field(last.data_type().clone(), true));
        let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(field, ends, starts, None)?)))
    }
}

fn too_many() -> datafusion::error::DataFusionError {
    datafusion::error::DataFusionError::ResourcesExhausted("rows of windows".to_owned())
}
