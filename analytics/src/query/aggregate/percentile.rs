//! Percentiles by a log-linear histogram, as HdrHistogram has it: a number of 8 bits or
//! fewer has a bucket of its own, a larger one shares one of 128 between two powers of two.
//! What is answered is the middle of a bucket, at most 1/256 of the number beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, Signature, Volatility,
};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;

/// As Presto and Spark call it.
pub(in super::super) const NAME: &str = "approx_percentile";

/// Bits of a number that its bucket tells.
const BITS: u32 = 8;
const HALF: i64 = 1 << (BITS - 1);
const WHOLE: i64 = 1 << BITS;
/// As how many parts a share is counted: its decimals, as they are written.
const SHARES: u64 = 1_000_000_000;
/// Bytes of a bucket in state: its place and its count.
const BUCKET_BYTES: usize = 2 + 8;

pub(super) fn approx_percentile() -> AggregateUDF {
    AggregateUDF::from(ApproxPercentile {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxPercentile {
    signature: Signature,
}

impl AggregateUDFImpl for ApproxPercentile {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [of, share] if of.is_integer() && *of != DataType::UInt64 && share.is_numeric() => {
                Ok(vec![DataType::Int64, DataType::Float64])
            }
            _ => plan_err!(
                "{NAME} takes a whole number and a share from 0 to 1, such as \
                 {NAME}(latency_total_us, 0.99), not {given:?}"
            ),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format_state_name(args.name, "buckets");
        Ok(vec![Arc::new(Field::new(name, DataType::Binary, false))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("there is no {NAME}(DISTINCT …)");
        }
        let share = share_of(&args.exprs[1])?;
        Ok(Box::new(Histogram { share, counts: BTreeMap::new() }))
    }
}

/// Whether an argument says which percentile: a literal from 0 to 1.
pub(in super::super) fn is_share(written: &Expr) -> bool {
    let Expr::Literal(value, _) = written else { return false };
    let share = value.cast_to(&DataType::Float64);
    matches!(share, Ok(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(&share))
}

/// The literal that says which percentile.
fn share_of(expr: &Arc<dyn PhysicalExpr>) -> Result<f64> {
    let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
    match expr.evaluate(&none) {
        Ok(ColumnarValue::Scalar(ScalarValue::Float64(Some(share))))
            if (0.0..=1.0).contains(&share) =>
        {
            Ok(share)
        }
        Ok(ColumnarValue::Scalar(ScalarValue::Float64(Some(share)))) => {
            plan_err!("{NAME} takes a share from 0 to 1, not {share}; write 0.99 for the 99th")
        }
        _ => plan_err!("{NAME} takes its share as it is written, not from a column; write 0.99"),
    }
}

#[derive(Debug)]
struct Histogram {
    share: f64,
    /// How many numbers a bucket has, by its place.
    counts: BTreeMap<i16, u64>,
}

impl Accumulator for Histogram {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for number in values[0].as_primitive::<Int64Type>().iter().flatten() {
            *self.counts.entry(place_of(number)).or_default() += 1;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in states[0].as_binary::<i32>().iter().flatten() {
            let buckets = state.chunks_exact(BUCKET_BYTES);
            if !buckets.remainder().is_empty() {
                return exec_err!("state of {NAME} is cut");
            }
            for bucket in buckets {
                let (place, count) = bucket.split_at(2);
                let place = i16::from_be_bytes(place.try_into().map_err(cut)?);
                let count = u64::from_be_bytes(count.try_into().map_err(cut)?);
                *self.counts.entry(place).or_default() += count;
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = Vec::with_capacity(self.counts.len() * BUCKET_BYTES);
        for (place, count) in &self.counts {
            state.extend_from_slice(&place.to_be_bytes());
            state.extend_from_slice(&count.to_be_bytes());
        }
        Ok(vec![ScalarValue::Binary(Some(state))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let all: u64 = self.counts.values().sum();
        // The smallest number that so many are not above: the nearest rank.
        let share = u128::from((self.share * SHARES as f64).round() as u64);
        let rank = (share * u128::from(all)).div_ceil(u128::from(SHARES));
        let rank = u64::try_from(rank).unwrap_or(u64::MAX).max(1);
        let mut below = 0;
        let bucket = self.counts.iter().find(|(_, count)| {
            below += **count;
            below >= rank
        });
        Ok(ScalarValue::Int64(bucket.map(|(place, _)| middle_of(*place))))
    }

    fn size(&self) -> usize {
        // A node of the tree is filled by half, or more.
        size_of_val(self) + self.counts.len() * 2 * size_of::<(i16, u64)>()
    }
}

fn cut(error: std::array::TryFromSliceError) -> DataFusionError {
    DataFusionError::Execution(format!("state of {NAME}: {error}"))
}

/// The bucket of a number; of negative ones they go down from -1.
fn place_of(number: i64) -> i16 {
    let size = number.unsigned_abs();
    let place = match 64 - size.leading_zeros() {
        0..=BITS => size as i64,
        bits => {
            let shift = bits - BITS;
            WHOLE + i64::from(shift - 1) * HALF + ((size >> shift) as i64 - HALF)
        }
    };
    // 57 powers of two above the first 256.
    let place = i16::try_from(place).expect("there are 7,552 places");
    if number < 0 { -place } else { place }
}

/// The number in the middle of a bucket.
fn middle_of(place: i16) -> i64 {
    let at = i64::from(place.unsigned_abs());
    let size = if at < WHOLE {
        at
    } else {
        let shift = (at - WHOLE) / HALF + 1;
        let least = ((at - WHOLE) % HALF + HALF) as u64;
        let (least, width) = (least << shift, 1_u64 << shift);
        i64::try_from(least + (width - 1) / 2).unwrap_or(i64::MAX)
    };
    if place < 0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_the_one_that_is_written() {
        let answers = |share: f64, all: i64| {
            let counts = (1..=all).map(|number| (place_of(number), 1)).collect();
            let mut histogram = Histogram { share, counts };
            let ScalarValue::Int64(Some(number)) = histogram.evaluate().unwrap() else { panic!() };
            number
        };
        for (share, all, expected) in [
            (0.07, 100, 7),
            (0.14, 50, 7),
            (0.28, 25, 7),
            (0.55, 100, 55),
            (0.0, 9, 1),
            (1.0, 9, 9),
        ] {
            assert_eq!(answers(share, all), expected, "{share} of {all}");
        }
        let mut none = Histogram { share: 0.5, counts: BTreeMap::new() };
        assert_eq!(none.evaluate().unwrap(), ScalarValue::Int64(None));
    }

    #[test]
    fn a_number_is_answered_by_at_most_a_256th_beside_it() {
        let mut rng = fastrand::Rng::with_seed(11);
        let edges = (0..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let some = (0..10_000).map(|_| rng.i64(..) >> rng.u32(0..63));
        let known = [0, 1, -1, 255, 256, 257, -256, i64::MAX, i64::MIN + 1, i64::MIN];
        for number in edges.chain(known).chain(some.collect::<Vec<_>>()) {
            let answered = middle_of(place_of(number));
            let beside = (i128::from(answered) - i128::from(number)).abs();
            assert!(beside * 256 <= i128::from(number).abs(), "{number}: {answered}");
            // The middle of the last bucket of all is no i64.
            let is_last = number == i64::MIN;
            assert!(is_last || place_of(answered) == place_of(number), "{number}");
            assert!(number.unsigned_abs() >= 256 || answered == number, "{number}: {answered}");
        }
        for numbers in [-70_000..-69_000, -300..300, 1_000_000..1_001_000_i64] {
            let places: Vec<i16> = numbers.map(place_of).collect();
            assert!(places.is_sorted());
        }
    }
}
