//! Bodies of orders, and of what is answered to them.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use ingest::http::{Code, Failure};
use serde_json::Value;

pub(super) type Body<T> = Result<Json<T>, JsonRejection>;
pub(super) type Answer = Result<Json<Value>, Failure>;

pub(super) fn read<T>(body: Body<T>) -> Result<T, Failure> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(refused) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Failure::new(Code::BodyTooLarge, refused.body_text()))
        }
        Err(refused) => Err(Failure::new(Code::BodyInvalid, refused.body_text())),
    }
}
