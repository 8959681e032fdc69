//! OTLP logs (OpenTelemetry protocol 1.x): what a record becomes, and the bodies of HTTP.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::ROWS_MAX;
use super::answer::Taken;
use super::row::{Row, Trace, invalid};
use crate::event::Timestamp;
use crate::http::{Code, Problem};

pub(super) const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
/// The source of a record whose resource names no service (OpenTelemetry, "service.name").
const UNKNOWN: &str = "unknown_service";
/// The most that a resource, or a scope, says of each of its records, in bytes of JSON.
const SHARED_BYTES_MAX: usize = 8 * 1024;
/// How deep values may lie in each other.
const DEPTH_MAX: usize = 16;
/// The names of the four steps of each severity (log data model, "severity fields").
const SEVERITIES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// How the body of a request by HTTP is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    /// By the content type (OTLP/HTTP).
    ///
    /// # Errors
    /// [`Code::ContentTypeUnsupported`].
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = text.unwrap_or_default().split(';').next().unwrap_or_default();
        match &*essence.trim().to_ascii_lowercase() {
            PROTOBUF => Ok(Self::Protobuf),
            JSON => Ok(Self::Json),
            _ => {
                let detail = format!("send {PROTOBUF} or {JSON}");
                Err(Problem::new(Code::ContentTypeUnsupported, detail))
            }
        }
    }

    pub(super) fn read(self, body: &[u8]) -> Result<ExportLogsServiceRequest, Problem> {
        let wrong = |error: &dyn std::fmt::Display| {
            invalid(format_args!("it is no ExportLogsServiceRequest: {error}"))
        };
        match self {
            Self::Protobuf => ExportLogsServiceRequest::decode(body).map_err(|error| wrong(&error)),
            Self::Json => serde_json::from_slice(body).map_err(|error| wrong(&error)),
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => PROTOBUF,
            Self::Json => JSON,
        })
    }

    pub(super) fn write(self, response: &ExportLogsServiceResponse) -> Vec<u8> {
        match self {
            Self::Protobuf => response.encode_to_vec(),
            Self::Json => serde_json::to_vec(response).expect("a response is JSON"),
        }
    }

    /// The body of an answer that says what went wrong: `google.rpc.Status` (OTLP/HTTP
    /// response, failures).
    pub(super) fn write_status(self, problem: &Problem) -> Vec<u8> {
        let message = problem.detail.as_deref().unwrap_or(problem.code.title());
        let message = format!("{}: {message}", problem.code.text());
        match self {
            Self::Protobuf => Status { code: 0, message }.encode_to_vec(),
            Self::Json => serde_json::json!({ "message": message }).to_string().into_bytes(),
        }
    }
}

/// `google.rpc.Status`, of which HTTP's senders read the message.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The answer to a request that was taken, in whole or in part.
pub(super) fn response(taken: &Taken) -> ExportLogsServiceResponse {
    let rejected = taken.rejected.len() as i64;
    ExportLogsServiceResponse {
        partial_success: (rejected > 0).then(|| ExportLogsPartialSuccess {
            rejected_log_records: rejected,
            error_message: taken.told(),
        }),
    }
}

/// How many records a request has at most.
///
/// # Errors
/// [`Code::BodyTooLarge`].
pub(super) fn check(request: &ExportLogsServiceRequest) -> Result<(), Problem> {
    let scopes = request.resource_logs.iter().flat_map(|of| &of.scope_logs);
    let count: usize = scopes.map(|of| of.log_records.len()).sum();
    if count <= ROWS_MAX {
        return Ok(());
    }
    let detail = format!("{count} records, {ROWS_MAX} are taken at a time");
    Err(Problem::new(Code::BodyTooLarge, detail))
}

/// The records of a request, with their places from 0.
pub(super) fn rows(
    request: ExportLogsServiceRequest,
) -> impl Iterator<Item = (usize, Result<Row, Problem>)> {
    let records = request.resource_logs.into_iter().flat_map(|of_resource| {
        let resource = of_resource.resource.unwrap_or_default();
        let about = Arc::new(About::of(&resource));
        of_resource.scope_logs.into_iter().flat_map(move |of_scope| {
            let (about, scope) = (about.clone(), Arc::new(scope_of(of_scope.scope)));
            of_scope.log_records.into_iter().map(move |record| row(record, &about, &scope))
        })
    });
    records.enumerate()
}

/// What is said of all records of a resource.
struct About {
    service: Option<String>,
    version: Option<String>,
    /// The attributes, if there are any.
    attributes: Shared,
}

/// JSON that every record of a resource or scope repeats, written once.
type Shared = Result<Option<Box<RawValue>>, Problem>;

fn shared(name: &str, object: Map<String, Value>) -> Shared {
    if object.is_empty() {
        return Ok(None);
    }
    let text = Value::Object(object).to_string();
    if text.len() > SHARED_BYTES_MAX {
        let bytes = text.len();
        let detail = format!("{name}: {bytes} bytes of JSON, {SHARED_BYTES_MAX} are allowed");
        return Err(Problem::new(Code::BodyTooLarge, detail));
    }
    Ok(Some(RawValue::from_string(text).expect("it was written as JSON")))
}

impl About {
    fn of(resource: &Resource) -> Self {
        let text = |name: &str| {
            let of = resource.attributes.iter().find(|of| of.key == name)?;
            match of.value.as_ref()?.value.as_ref()? {
                Any::StringValue(text) if !text.is_empty() => Some(text.clone()),
                _ => None,
            }
        };
        Self {
            service: text("service.name"),
            version: text("service.version"),
            attributes: object(&resource.attributes, 0).and_then(|of| shared("resource", of)),
        }
    }
}

fn scope_of(scope: Option<InstrumentationScope>) -> Shared {
    let (mut object, scope) = (Map::new(), scope.unwrap_or_default());
    for (name, text) in [("name", scope.name), ("version", scope.version)] {
        if !text.is_empty() {
            object.insert(name.to_owned(), text.into());
        }
    }
    if !scope.attributes.is_empty() {
        object.insert("attributes".to_owned(), self::object(&scope.attributes, 0)?.into());
    }
    shared("scope", object)
}

/// What a record says that no field of an event has.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    severity_number: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    attributes: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a RawValue>,
}

fn row(record: LogRecord, about: &About, scope: &Shared) -> Result<Row, Problem> {
    let data = Data {
        severity_number: Some(record.severity_number).filter(|number| *number != 0),
        severity_text: Some(&*record.severity_text).filter(|text| !text.is_empty()),
        body: record.body.as_ref().map(|body| json(body, 0)).transpose()?,
        attributes: object(&record.attributes, 0)?,
        resource: about.attributes.as_ref().map_err(Clone::clone)?.as_deref(),
        scope: scope.as_ref().map_err(Clone::clone)?.as_deref(),
    };
    let step = usize::try_from(record.severity_number).ok().filter(|number| *number > 0);
    let name = step.and_then(|number| SEVERITIES.get((number - 1) / 4));
    let texts = [&record.event_name, &record.severity_text];
    let kind = texts.into_iter().find(|text| !text.is_empty()).cloned();
    let nanos = [record.time_unix_nano, record.observed_time_unix_nano];
    let micros = nanos.into_iter().find(|nanos| *nanos > 0).map(|nanos| nanos / 1_000);
    Ok(Row {
        id: None,
        source: about.service.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        kind: kind.unwrap_or_else(|| name.unwrap_or(&"UNSPECIFIED").to_string()),
        time: micros.map(|micros| Timestamp::from_micros(micros as i64)),
        data: Some(serde_json::to_string(&data).expect("it is JSON")),
        trace: digits(&record.trace_id, 16)
            .map(|trace| Trace { trace, span: digits(&record.span_id, 8) }),
        service: about.service.clone(),
        service_version: about.version.clone(),
        ..Row::default()
    })
}

/// The hexadecimal digits of an id; none if it is not one, or all of it is zero.
fn digits(bytes: &[u8], length: usize) -> Option<String> {
    let is_id = bytes.len() == length && bytes.iter().any(|byte| *byte != 0);
    is_id.then(|| {
        bytes.iter().fold(String::with_capacity(2 * length), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a text takes all");
            text
        })
    })
}

fn object(pairs: &[KeyValue], depth: usize) -> Result<Map<String, Value>, Problem> {
    let value = |of: &KeyValue| match &of.value {
        Some(value) => json(value, depth),
        None => Ok(Value::Null),
    };
    pairs.iter().map(|of| Ok((of.key.clone(), value(of)?))).collect()
}

/// A value as JSON: bytes as base64, a number that JSON has not as its text.
fn json(value: &AnyValue, depth: usize) -> Result<Value, Problem> {
    if depth >= DEPTH_MAX {
        return Err(invalid(format_args!("values lie {DEPTH_MAX} deep at most")));
    }
    Ok(match value.value.as_ref() {
        None => Value::Null,
        Some(Any::StringValue(text)) => text.as_str().into(),
        Some(Any::BoolValue(is)) => (*is).into(),
        Some(Any::IntValue(number)) => (*number).into(),
        Some(Any::DoubleValue(number)) => match serde_json::Number::from_f64(*number) {
            Some(number) => number.into(),
            None => number.to_string().into(),
        },
        Some(Any::BytesValue(bytes)) => STANDARD.encode(bytes).into(),
        Some(Any::ArrayValue(array)) => {
            let values = array.values.iter().map(|value| json(value, depth + 1));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Some(Any::KvlistValue(list)) => Value::Object(object(&list.values, depth + 1)?),
        // Of profiles alone; to be taken as absent.
        Some(Any::StringValueStrindex(_)) => Value::Null,
    })
}
