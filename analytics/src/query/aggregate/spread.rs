//! Variance and standard deviation of whole numbers, by their exact count, sum and sum of
//! squares. Of other numbers they are DataFusion's, whose last digits depend on the order.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type, i256,
};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::functions_aggregate::stddev::{stddev_pop_udaf, stddev_udaf};
use datafusion::functions_aggregate::variance::{var_pop_udaf, var_samp_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

/// By their first names.
pub(in super::super) const NAMES: [&str; 4] = ["stddev", "stddev_pop", "var", "var_pop"];

const SUM: DataType = DataType::Decimal128(38, 0);
const SQUARES: DataType = DataType::Decimal256(76, 0);

/// The functions, in place of DataFusion's own.
pub(super) fn all() -> Vec<AggregateUDF> {
    let own = [stddev_udaf(), stddev_pop_udaf(), var_samp_udaf(), var_pop_udaf()];
    own.into_iter()
        .map(|floats| {
            let name = floats.name();
            let (is_sample, is_root) = (!name.ends_with("_pop"), name.starts_with("stddev"));
            let signature = Signature::user_defined(Volatility::Immutable);
            AggregateUDF::from(Spread { is_sample, is_root, signature, floats })
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Spread {
    /// Of a sample, divided by one less than there are.
    is_sample: bool,
    /// Whether its square root is asked for.
    is_root: bool,
    signature: Signature,
    /// What it stands in for.
    floats: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Spread {
    fn name(&self) -> &str {
        self.floats.name()
    }

    fn aliases(&self) -> &[String] {
        self.floats.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [of] if of.is_integer() && *of != DataType::UInt64 => Ok(vec![DataType::Int64]),
            [of] if of.is_numeric() || of.is_null() => Ok(vec![DataType::Float64]),
            _ => plan_err!("{} takes one number, not {given:?}", self.name()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !is_whole(args.input_fields) {
            return self.floats.state_fields(args);
        }
        let fields = [("count", DataType::Int64), ("sum", SUM), ("squares", SQUARES)];
        let field =
            |(name, of)| Arc::new(Field::new(format_state_name(args.name, name), of, false));
        Ok(fields.map(field).to_vec())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if !is_whole(args.expr_fields) {
            return self.floats.accumulator(args);
        }
        if args.is_distinct {
            return plan_err!("there is no {}(DISTINCT …)", self.name());
        }
        let Self { is_sample, is_root, .. } = *self;
        Ok(Box::new(Sums { count: 0, sum: 0, squares: i256::ZERO, is_sample, is_root }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !is_whole(args.expr_fields) && self.floats.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.floats.create_groups_accumulator(args)
    }
}

fn is_whole(fields: &[FieldRef]) -> bool {
    fields.first().is_some_and(|field| *field.data_type() == DataType::Int64)
}

/// Of fewer than 2^63 numbers none of them overflows: a square is below 2^127.
#[derive(Debug)]
struct Sums {
    count: i64,
    sum: i128,
    squares: i256,
    is_sample: bool,
    is_root: bool,
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let numbers = values[0].as_primitive::<Int64Type>();
        for number in numbers.iter().flatten() {
            let number = i128::from(number);
            self.sum += number;
            self.squares = self.squares.wrapping_add(i256::from_i128(number * number));
        }
        self.count += (numbers.len() - numbers.null_count()) as i64;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let numbers = values[0].as_primitive::<Int64Type>();
        for number in numbers.iter().flatten() {
            let number = i128::from(number);
            self.sum -= number;
            self.squares = self.squares.wrapping_sub(i256::from_i128(number * number));
        }
        self.count -= (numbers.len() - numbers.null_count()) as i64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counts = states[0].as_primitive::<Int64Type>();
        let sums = states[1].as_primitive::<Decimal128Type>();
        let squares = states[2].as_primitive::<Decimal256Type>();
        self.count += counts.values().iter().sum::<i64>();
        self.sum += sums.values().iter().sum::<i128>();
        for square in squares.values() {
            self.squares = self.squares.wrapping_add(*square);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![
            ScalarValue::Int64(Some(self.count)),
            ScalarValue::Decimal128(Some(self.sum), 38, 0),
            ScalarValue::Decimal256(Some(self.squares), 76, 0),
        ])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let of = if self.is_sample { self.count - 1 } else { self.count };
        if of < 1 {
            return Ok(ScalarValue::Float64(None));
        }
        // n Σx² − (Σx)², exactly; then it is rounded.
        let (count, sum) = (i256::from_i128(i128::from(self.count)), i256::from_i128(self.sum));
        let apart = count.wrapping_mul(self.squares).wrapping_sub(sum.wrapping_mul(sum));
        let variance = float_of(apart) / self.count as f64 / of as f64;
        let spread = if self.is_root { variance.sqrt() } else { variance };
        Ok(ScalarValue::Float64(Some(spread)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The nearest float, or the one beside it.
fn float_of(number: i256) -> f64 {
    let (low, high) = number.to_parts();
    high as f64 * 2f64.powi(128) + low as f64
}
