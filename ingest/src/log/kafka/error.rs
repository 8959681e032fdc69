//! What the client's errors mean to a caller of the log.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::log::{Error, Outcome};

/// Nothing was written.
pub(super) fn refused(action: &'static str, error: &KafkaError) -> Error {
    kafka(action, error, Outcome::NotWritten)
}

/// Something may have been written.
pub(super) fn unknown_outcome(action: &'static str, error: &KafkaError) -> Error {
    kafka(action, error, Outcome::Unknown)
}

/// One record of a batch was refused, while others may be there.
pub(super) fn part_of_batch(error: &Error) -> Error {
    let reason = error.to_string();
    Error::Kafka { action: "append", reason, retryable: false, outcome: Outcome::Unknown }
}

fn kafka(action: &'static str, error: &KafkaError, outcome: Outcome) -> Error {
    let code = error.rdkafka_error_code();
    let retryable = code.is_some_and(is_passing);
    Error::Kafka { action, reason: error.to_string(), retryable, outcome }
}

/// Whether somebody else has taken over.
pub(super) fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::FencedInstanceId
            | Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::StaleMemberEpoch
            | Code::AssignmentLost
    )
}

/// Whether a broker, or the client, has not heard of a topic or a partition. Who has made
/// sure that it is there asks again.
pub(super) fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownPartition | Code::UnknownTopicOrPartition)
}

/// Whether the same question may be answered a moment later.
pub(super) fn is_passing(code: Code) -> bool {
    is_unknown(code)
        || matches!(
            code,
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                // The cluster's list of brokers no longer has the one that was asked.
                | Code::DestroyBroker
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::MessageTimedOut
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::OffsetNotAvailable
                | Code::NotEnoughReplicas
                | Code::NotEnoughReplicasAfterAppend
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::CoordinatorLoadInProgress
                | Code::RebalanceInProgress
                | Code::ConcurrentTransactions
                | Code::QueueFull
        )
}
