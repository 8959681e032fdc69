//! What everybody may read: the public keys, where things are, and health.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use super::manager::Shared;

/// The JWKS. It may be kept for as long as gateways keep it.
pub(super) async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    let keys = shared.signing.of(&shared.parts.view.snapshot());
    let headers = [
        (header::CONTENT_TYPE, "application/jwk-set+json"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, keys.jwks.clone()).into_response()
}

/// RFC 8414, section 2.
pub(super) async fn metadata(State(shared): State<Arc<Shared>>) -> Response {
    let issuer = &shared.config.issuer;
    let body = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth2/token"),
        "jwks_uri": format!("{issuer}/oauth2/jwks"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, body.to_string()).into_response()
}

/// Whether tokens can be given.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let keys = shared.signing.of(&shared.parts.view.snapshot());
    let signs = keys.active.is_some();
    let takes = shared.parts.emitter.admit().is_ok();
    let status = if signs && takes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "signing_key": signs, "events": takes }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
