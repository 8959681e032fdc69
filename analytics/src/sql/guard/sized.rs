use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray as _, UInt64Array};
use datafusion::arrow::compute::{cast, concat, take};
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

use super::Bound;
use crate::compute::TooMuch;

/// What one call may make of texts that are long already: so many times as much as the longest
/// argument.
const TIMES_MAX: usize = 2;
/// What is said of a call over rows.
const WITH_ROWS: &str = "of the rows at hand";
/// A character has up to so many bytes.
const CHAR_BYTES: usize = 4;

/// How much a function makes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Size {
    /// The first argument, so often as the second says.
    Times,
    /// So many characters as the second argument says.
    Padded,
    /// The third argument in the place of every character of the first, and beside it.
    Replaced,
    /// All arguments.
    Joined,
    /// Little, but each pattern is compiled, and kept for the call: it has to be a constant.
    Patterns,
}

/// A function with a bound.
#[derive(Debug)]
pub(super) struct Sized {
    function: Arc<ScalarUDF>,
    size: Size,
    bound: Arc<Bound>,
}

impl PartialEq for Sized {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
    }
}

impl Eq for Sized {}

impl Hash for Sized {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

impl Sized {
    pub(super) fn new(function: Arc<ScalarUDF>, size: Size, bound: Arc<Bound>) -> Self {
        Self { function, size, bound }
    }

    /// How many bytes a row makes at most.
    fn of_row(&self, arguments: &[Bytes], row: usize) -> usize {
        let bytes = |at: usize| arguments.get(at).map_or(0, |of| of.at(row));
        let number = |at: usize| arguments.get(at).map_or(0, |of| of.number(row));
        match self.size {
            Size::Times => bytes(0).saturating_mul(number(1)),
            Size::Padded => number(1).saturating_mul(CHAR_BYTES),
            Size::Replaced => (bytes(0) + 1).saturating_mul(bytes(2).saturating_add(1)),
            // The first may stand between all others.
            Size::Patterns => 0,
            Size::Joined => {
                let all = (0..arguments.len()).map(bytes).fold(0, usize::saturating_add);
                all.saturating_add(bytes(0).saturating_mul(arguments.len()))
            }
        }
    }

    fn refuse<T>(&self, max: usize, of: &str) -> Result<T> {
        let name = self.function.name();
        let what = format!("{name} would make more than the {max} bytes that it may {of}");
        Err(TooMuch(what).into())
    }

    /// Makes a few rows at a time, and counts.
    fn by_parts(
        &self,
        args: ScalarFunctionArgs,
        arguments: &[Bytes],
        max: usize,
    ) -> Result<ColumnarValue> {
        let (mut from, mut made, mut parts) = (0, 0, Vec::<ArrayRef>::new());
        while from < args.number_rows {
            let (mut to, mut bytes) = (from, 0_usize);
            while to < args.number_rows {
                let of_row = self.of_row(arguments, to);
                if to > from && bytes.saturating_add(of_row) > self.bound.of_rows() {
                    break;
                }
                bytes = bytes.saturating_add(of_row);
                to += 1;
            }
            // One row alone that would be too much is not tried.
            if to == from + 1 && bytes > max {
                return self.refuse(max, WITH_ROWS);
            }
            // Rows of their own: of a slice the functions make room for what it is a part of.
            let rows = UInt64Array::from_iter_values(from as u64..to as u64);
            let slice = |of: &ColumnarValue| {
                Ok(match of {
                    ColumnarValue::Array(of) => ColumnarValue::Array(take(of, &rows, None)?),
                    scalar => scalar.clone(),
                })
            };
            let part = ScalarFunctionArgs {
                args: args.args.iter().map(slice).collect::<Result<_>>()?,
                arg_fields: args.arg_fields.clone(),
                number_rows: to - from,
                return_field: args.return_field.clone(),
                config_options: args.config_options.clone(),
            };
            let part = self.function.invoke_with_args(part)?.into_array(to - from)?;
            made += part.get_array_memory_size();
            if made > max {
                return self.refuse(max, WITH_ROWS);
            }
            parts.push(part);
            from = to;
        }
        let parts: Vec<&dyn Array> = parts.iter().map(|part| &**part).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }
}

/// One argument, as far as its size goes.
enum Bytes {
    /// The same of each row.
    Same {
        bytes: usize,
        number: usize,
    },
    /// Texts, as they are longest held.
    Texts(ArrayRef),
    Numbers(ArrayRef),
    /// Of any other type, which says nothing.
    Other,
}

impl Bytes {
    fn of(argument: &ColumnarValue) -> Result<Self> {
        match argument {
            ColumnarValue::Scalar(of) => {
                let of = of.to_array()?;
                let bytes = Self::of(&ColumnarValue::Array(of))?;
                Ok(Self::Same { bytes: bytes.at(0), number: bytes.number(0) })
            }
            ColumnarValue::Array(of) if of.data_type().is_string() => {
                Ok(Self::Texts(cast(of, &DataType::Utf8View)?))
            }
            ColumnarValue::Array(of) if of.data_type().is_integer() => {
                Ok(Self::Numbers(cast(of, &DataType::Int64)?))
            }
            ColumnarValue::Array(of) => match of.data_type() {
                DataType::Dictionary(_, of_value) if of_value.is_string() => {
                    Ok(Self::Texts(cast(of, &DataType::Utf8View)?))
                }
                _ => Ok(Self::Other),
            },
        }
    }

    fn at(&self, row: usize) -> usize {
        match self {
            Self::Same { bytes, .. } => *bytes,
            Self::Texts(of) if of.is_valid(row) => of.as_string_view().value(row).len(),
            _ => 0,
        }
    }

    fn number(&self, row: usize) -> usize {
        match self {
            Self::Same { number, .. } => *number,
            Self::Numbers(of) if of.is_valid(row) => {
                usize::try_from(of.as_primitive::<Int64Type>().value(row)).unwrap_or(0)
            }
            _ => 0,
        }
    }
}

impl ScalarUDFImpl for Sized {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let are_arrays = args.args.iter().any(|of| matches!(of, ColumnarValue::Array(_)));
        let rows = if are_arrays { args.number_rows } else { 1 };
        let has_patterns = matches!(self.size, Size::Patterns | Size::Replaced);
        if has_patterns && let Some(ColumnarValue::Array(_)) = args.args.get(1) {
            let is_regex = self.function.name().starts_with("regexp");
            if is_regex {
                let what =
                    format!("the pattern of {} has to be the same for all rows", self.name());
                return Err(TooMuch(what).into());
            }
        }
        let arguments = args.args.iter().map(Bytes::of).collect::<Result<Vec<_>>>()?;
        let bytes = (0..rows).map(|row| self.of_row(&arguments, row));
        let bytes = bytes.fold(0, usize::saturating_add);
        if !are_arrays {
            // It may stand in every row.
            return match bytes <= self.bound.of_constants() {
                true => self.function.invoke_with_args(args),
                false => self.refuse(self.bound.of_constants(), "of constants"),
            };
        }
        let of_one = |of: &Bytes| match of {
            Bytes::Same { bytes, .. } => *bytes,
            of => (0..rows).map(|row| of.at(row)).fold(0, usize::saturating_add),
        };
        let longest = arguments.iter().map(of_one).max().unwrap_or(0);
        let max = self.bound.of_rows().max(longest.saturating_mul(TIMES_MAX));
        match bytes <= max {
            true => self.function.invoke_with_args(args),
            false => self.by_parts(args, &arguments, max),
        }
    }
}
