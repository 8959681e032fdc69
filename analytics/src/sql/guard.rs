//! What one call of a function may make of little.
//!
//! A query's memory is counted where rows are kept, between calls of functions; what a call
//! makes is there before anybody counts it. So those that can make much of little have a bound
//! of their own: it is reckoned before they run how much they would make at most, and what may
//! be too much is made a few rows at a time, up to the bound. The more such calls a query has,
//! the less each may make; and what one makes of constants, which may then stand in every row,
//! is bounded by how many rows are computed at a time.

mod sized;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{Array as _, BooleanArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::nullif;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, not_impl_err, plan_err};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry as _;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, cast,
};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use self::sized::{Size, Sized};

/// The functions that are bounded, by what tells how much they make.
const SIZED: [(&str, Size); 12] = [
    ("repeat", Size::Times),
    ("lpad", Size::Padded),
    ("rpad", Size::Padded),
    ("replace", Size::Replaced),
    ("regexp_replace", Size::Replaced),
    ("concat", Size::Joined),
    ("concat_ws", Size::Joined),
    ("translate", Size::Joined),
    ("regexp_count", Size::Patterns),
    ("regexp_instr", Size::Patterns),
    ("regexp_like", Size::Patterns),
    ("regexp_match", Size::Patterns),
];

/// Those that make lists as long as they are told, and one that takes as long as its texts are,
/// one times the other.
const NOT_THERE: [&str; 5] =
    ["array_repeat", "array_resize", "generate_series", "levenshtein", "range"];

/// What the calls of a query may make together of the rows that are computed at a time, in
/// bytes.
const BYTES_MAX: usize = 128 * 1024 * 1024;
/// How many bytes one may make of constants; so many as the query's text has, if it is longer.
const CONSTANT_BYTES: usize = 8 * 1024;
/// How many calls of functions a query has before fewer rows are computed at a time.
const EXPRESSIONS_FREE: usize = 50;
/// How many rows are computed at a time, at most.
const ROWS_MAX: usize = 8_192;

/// How much each call may make, in bytes, by the query that its session runs: of rows, and of
/// constants.
#[derive(Debug)]
pub(super) struct Bound {
    of_rows: AtomicUsize,
    of_constants: AtomicUsize,
}

impl Bound {
    fn of_rows(&self) -> usize {
        self.of_rows.load(Ordering::Relaxed)
    }

    fn of_constants(&self) -> usize {
        self.of_constants.load(Ordering::Relaxed)
    }
}

/// Bounds the functions of a session for a query, and has it compute so few rows at a time that
/// each value which stands in its text may stand in each of them.
/// `parameters` is how many bytes the values have that come with it.
pub(super) fn fit(session: &SessionContext, text: &str, parameters: usize) {
    let is_sized = |word: &&str| SIZED.iter().any(|(name, _)| name.eq_ignore_ascii_case(word));
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let calls = words.filter(is_sized).count() + chains(text);
    let given = text.len() + parameters;
    let constant = CONSTANT_BYTES.max(given);
    // Each of many expressions side by side makes a column of its own.
    let columns = text.matches('(').count().saturating_sub(EXPRESSIONS_FREE);
    let constants = given + calls * constant + columns * CONSTANT_BYTES;
    let rows = (BYTES_MAX / constants.max(1)).clamp(1, ROWS_MAX);
    let state = session.state_ref();
    let mut state = state.write();
    if let Some(bound) = state.config().get_extension::<Bound>() {
        bound.of_rows.store(BYTES_MAX / calls.max(1), Ordering::Relaxed);
        bound.of_constants.store(constant, Ordering::Relaxed);
    }
    *state.config_mut() = state.config().clone().with_batch_size(rows);
}

/// About how many expressions join texts by `||`: each is one call.
fn chains(text: &str) -> usize {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize() else {
        return text.matches("||").count();
    };
    // By depth of parentheses, whether one is under way.
    let (mut chains, mut under_way) = (0, vec![false]);
    for token in &tokens {
        match token {
            Token::StringConcat => {
                if let Some(is_one) = under_way.last_mut()
                    && !std::mem::replace(is_one, true)
                {
                    chains += 1;
                }
            }
            Token::LParen => under_way.push(false),
            Token::RParen if under_way.len() > 1 => {
                under_way.pop();
            }
            Token::Comma => {
                if let Some(is_one) = under_way.last_mut() {
                    *is_one = false;
                }
            }
            Token::Word(word) if ENDS.contains(&word.keyword) => {
                if let Some(is_one) = under_way.last_mut() {
                    *is_one = false;
                }
            }
            _ => {}
        }
    }
    chains
}

/// Words that end an expression.
const ENDS: [Keyword; 12] = [
    Keyword::AND,
    Keyword::AS,
    Keyword::ELSE,
    Keyword::END,
    Keyword::FROM,
    Keyword::GROUP,
    Keyword::ON,
    Keyword::OR,
    Keyword::SELECT,
    Keyword::THEN,
    Keyword::WHEN,
    Keyword::WHERE,
];

/// Bounds the functions of a session.
pub(crate) fn register(session: &SessionContext) -> Result<()> {
    let bound = Arc::new(Bound {
        of_rows: AtomicUsize::new(BYTES_MAX),
        of_constants: AtomicUsize::new(CONSTANT_BYTES),
    });
    {
        let state = session.state_ref();
        let mut state = state.write();
        *state.config_mut() = state.config().clone().with_extension(bound.clone());
    }
    for (name, size) in SIZED {
        let bounded = Sized::new(session.udf(name)?, size, bound.clone());
        session.register_udf(ScalarUDF::new_from_impl(bounded));
    }
    for name in NOT_THERE {
        let names = session.udf(name)?;
        let names = names.aliases().iter().cloned().chain([names.name().to_owned()]);
        for name in names.collect::<Vec<_>>() {
            session.register_udf(ScalarUDF::new_from_impl(NotThere::new(name)));
        }
    }
    let joined = Arc::new(ScalarUDF::new_from_impl(Strict(session.udf("concat")?)));
    session.state_ref().write().register_expr_planner(Arc::new(Joining(joined)))
}

/// The operators that compile what is on their right.
const PATTERNS: [BinaryOperator; 4] = [
    BinaryOperator::PGRegexMatch,
    BinaryOperator::PGRegexIMatch,
    BinaryOperator::PGRegexNotMatch,
    BinaryOperator::PGRegexNotIMatch,
];

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) | Expr::Placeholder(_) => true,
        Expr::Cast(of) => is_constant(&of.expr),
        _ => false,
    }
}

/// Plans `||` of texts as a bounded function, one call for all that are joined.
#[derive(Debug)]
struct Joining(Arc<ScalarUDF>);

impl ExprPlanner for Joining {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if PATTERNS.contains(&expr.op) && !is_constant(&expr.right) {
            return plan_err!("the pattern of {} has to be the same for all rows", expr.op);
        }
        let is_text = |of: &Expr| of.get_type(schema).is_ok_and(|of| of.is_string());
        if expr.op != BinaryOperator::StringConcat || !(is_text(&expr.left) || is_text(&expr.right))
        {
            return Ok(PlannerResult::Original(expr));
        }
        // The operator would have told that a parameter is a text.
        let text = |of: Expr| match of {
            Expr::Placeholder(_) => cast(of, DataType::Utf8),
            of => of,
        };
        let mut joined = match expr.left {
            Expr::ScalarFunction(of) if of.func == self.0 => of.args,
            other => vec![text(other)],
        };
        joined.push(text(expr.right));
        Ok(PlannerResult::Planned(self.0.call(joined)))
    }
}

/// Joins texts as the function `concat`, but gives null if one of them is, as `||` does.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Strict(Arc<ScalarUDF>);

impl ScalarUDFImpl for Strict {
    fn name(&self) -> &'static str {
        "joined"
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.inner().return_type(types)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut valid: Option<NullBuffer> = None;
        for given in &args.args {
            match given {
                ColumnarValue::Scalar(of) if of.is_null() => {
                    return Ok(ColumnarValue::Scalar(args.return_type().try_into()?));
                }
                ColumnarValue::Scalar(_) => {}
                ColumnarValue::Array(of) => {
                    valid = NullBuffer::union(valid.as_ref(), of.logical_nulls().as_ref());
                }
            }
        }
        let joined = self.0.invoke_with_args(args)?;
        let Some(valid) = valid else { return Ok(joined) };
        let is_null = BooleanArray::new(!valid.inner(), None);
        Ok(ColumnarValue::Array(nullif(&joined.into_array(rows)?, &is_null)?))
    }
}

/// A function that is not there.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NotThere {
    name: String,
    signature: Signature,
}

impl NotThere {
    fn new(name: String) -> Self {
        Self { name, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    fn refuse<T>(&self) -> Result<T> {
        not_impl_err!(
            "{} has no bound to what it makes or takes, and is not there; SELECT value FROM \
             generate_series(1, 10) gives rows",
            self.name
        )
    }
}

impl ScalarUDFImpl for NotThere {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        self.refuse()
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.refuse()
    }
}
