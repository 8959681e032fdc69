use std::collections::HashMap;

use arrow::array::{Array as _, ArrayRef, new_null_array};
use arrow::datatypes::DataType;

/// How many values one without values has at least, so that it serves others too.
const LENGTH_MIN: usize = 8_192;

/// Columns without a value. Most of the table's are in most rows; those of one type share
/// their memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nulls(HashMap<DataType, ArrayRef>);

impl Nulls {
    /// A column of a type and a length.
    pub(crate) fn of(&mut self, data_type: &DataType, length: usize) -> ArrayRef {
        let make = || new_null_array(data_type, length.max(LENGTH_MIN));
        let column = self.0.entry(data_type.clone()).or_insert_with(make);
        if column.len() < length {
            *column = make();
        }
        column.slice(0, length)
    }
}
