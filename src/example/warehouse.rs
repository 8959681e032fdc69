//! A service that takes orders: each once, however often it arrives.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// The most orders that are remembered; later ones are refused for now.
const ORDERS_MAX: usize = 100_000;

/// The orders that were taken, in their order.
#[derive(Clone, Default)]
pub(super) struct Warehouse(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    ids: HashSet<String>,
    orders: Vec<Value>,
}

/// Takes an order. The `Idempotency-Key` tells one that arrives again.
pub(super) async fn take(
    State(Warehouse(taken)): State<Warehouse>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let id = headers.get("idempotency-key").and_then(|id| id.to_str().ok());
    let Some(id) = id else {
        return (StatusCode::BAD_REQUEST, "an order needs an Idempotency-Key\n").into_response();
    };
    let Ok(order) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "an order is JSON\n").into_response();
    };
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.orders.len() >= ORDERS_MAX {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if taken.ids.insert(id.to_owned()) {
        taken.orders.push(json!({"id": id, "order": order}));
    }
    StatusCode::NO_CONTENT.into_response()
}

/// The orders that were taken.
pub(super) async fn list(State(Warehouse(taken)): State<Warehouse>) -> Json<Vec<Value>> {
    Json(taken.lock().unwrap_or_else(PoisonError::into_inner).orders.clone())
}
