use ingest::http::{Code, Failure, Problem};
use ingest::registry::{Error, Outcome, Refusal, Verdict, Written};

/// What a caller is told of the registry's error.
pub(super) fn failure_of(error: &Error) -> Failure {
    match error {
        Error::Invalid { reasons, .. } => refused(reasons),
        Error::NoVerdict { id, .. } => {
            Problem::new(Code::VerdictMissing, format!("the id is {id}")).into()
        }
        _ => {
            tracing::error!(%error, "change set not proposed");
            Code::InternalError.into()
        }
    }
}

/// The revision and what was written, of a change set that was accepted.
pub(super) fn accepted(verdict: &Verdict) -> Result<(u64, Vec<Written>), Failure> {
    match &verdict.outcome {
        Outcome::Accepted { revision, written } => Ok((*revision, written.clone())),
        Outcome::Refused { reasons } => Err(refused(reasons)),
    }
}

pub(super) fn refused(reasons: &[Refusal]) -> Failure {
    let reasons: Vec<String> = reasons.iter().map(Refusal::to_string).collect();
    Problem::new(Code::ChangeRefused, reasons.join("\n")).into()
}
