//! Records to and from the client.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::error::{is_fenced, unknown_outcome};
use super::{index, number};
use crate::log::{
    Appended, Error, Headers, LogTime, NewRecord, Partition, RECORD_BYTES_MAX, Record, Result,
};

/// How long to wait before asking a full client again.
const FULL_WAIT: Duration = Duration::from_millis(5);

/// Hands a record to the client; waits while its queue is full.
pub(super) async fn send(
    producer: &FutureProducer,
    partition: &Partition,
    record: &NewRecord,
) -> Result<DeliveryFuture, KafkaError> {
    loop {
        match try_send(producer, partition, record) {
            Ok(delivery) => return Ok(delivery),
            Err(error) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                tokio::time::sleep(FULL_WAIT).await;
            }
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn try_send(
    producer: &FutureProducer,
    partition: &Partition,
    record: &NewRecord,
) -> Result<DeliveryFuture, KafkaError> {
    let mut to_send = FutureRecord::<[u8], [u8]>::to(&partition.topic).partition(index(partition));
    to_send.key = record.key.as_deref();
    to_send.payload = record.value.as_deref();
    if !record.headers.is_empty() {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        to_send = to_send.headers(headers);
    }
    producer.send_result(to_send).map_err(|(error, _)| error)
}

/// Where a record went.
pub(super) async fn delivered(delivery: DeliveryFuture, timeout: Duration) -> Result<Appended> {
    let (error, message) = match delivery.await {
        Ok(Ok(delivery)) => {
            let time = LogTime(delivery.timestamp.to_millis().unwrap_or_default());
            return Ok(Appended { offset: number(delivery.offset), time });
        }
        Ok(Err(failed)) => failed,
        Err(_) => return Err(Error::Closed),
    };
    Err(match error.rdkafka_error_code() {
        Some(Code::MessageTimedOut) => Error::TimedOut(timeout),
        Some(Code::UnknownPartition | Code::UnknownTopicOrPartition) => {
            let partition = u32::try_from(message.partition()).unwrap_or(u32::MAX);
            Error::UnknownPartition(Partition::new(message.topic(), partition))
        }
        Some(Code::MessageSizeTooLarge) => {
            Error::TooLarge { what: "a record", bytes: bytes_of(&message), limit: RECORD_BYTES_MAX }
        }
        Some(code) if is_fenced(code) => Error::Fenced("the producer".to_owned()),
        _ => unknown_outcome("append", &error),
    })
}

fn bytes_of(message: &impl Message) -> usize {
    message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len)
}

/// A record of the log, out of the client's buffer.
pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Headers::default, |headers| {
        Headers::new(headers.iter().map(|header| (header.key, header.value.unwrap_or_default())))
    });
    let key = message.key().map(Bytes::copy_from_slice);
    Record { key, headers, ..value_alone(message) }
}

/// The record without its key and headers, which the client reads only if they are asked for.
pub(super) fn value_alone(message: &BorrowedMessage<'_>) -> Record {
    Record {
        offset: number(message.offset()),
        time: LogTime(message.timestamp().to_millis().unwrap_or_default()),
        key: None,
        value: message.payload().map(Bytes::copy_from_slice),
        headers: Headers::default(),
    }
}
