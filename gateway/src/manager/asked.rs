//! What the questions about queues have in common.

use ingest::http::{Code, Correlation, Failure, Problem};
use ingest::registry::Name;
use mediator::deliver::By;

/// How many are listed if nobody says.
const LISTED: usize = 100;

/// At most how many are listed: 1 to `max`.
pub(super) fn limit(asked: Option<usize>, max: usize) -> Result<usize, Failure> {
    let limit = asked.unwrap_or(LISTED);
    if !(1..=max).contains(&limit) {
        return Err(invalid(format!("limit: {limit} is out of range; use 1 to {max}")));
    }
    Ok(limit)
}

/// Who decides.
pub(super) fn by(correlation: Correlation) -> By {
    By { actor: super::ADMIN.to_owned(), service: super::SERVICE, correlation }
}

pub(super) fn name(queue: &str) -> Result<Name, Failure> {
    let missing = |bad| Problem::new(Code::EntityNotFound, format!("no queue is called so: {bad}"));
    Name::new(queue).map_err(|bad| missing(bad).into())
}

pub(super) fn invalid(detail: impl Into<String>) -> Failure {
    Problem::new(Code::BodyInvalid, detail).into()
}
