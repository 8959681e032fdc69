//! Whether a request may pass: the place of allow lists, authentication,
//! subscriptions and limits.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderName, HeaderValue};
use ingest::event::Event;
use mediator::endpoint::http::Problem;

use crate::publish::{Matched, Table};

/// What is known of a request when it is decided on.
#[expect(dead_code, reason = "the checks of callers read it")]
pub(crate) struct Asked<'a> {
    /// The configuration that the request sees, with its snapshot of the registry.
    pub(crate) table: &'a Table,
    /// The API and the resource.
    pub(crate) matched: &'a Matched,
    /// Method, address and headers, as they came.
    pub(crate) parts: &'a Parts,
    /// Who calls: the address that trusted proxies name, else the peer's.
    pub(crate) client: IpAddr,
}

/// Why a request may not pass, with headers for the answer, such as
/// `WWW-Authenticate` and `Retry-After`.
pub(crate) struct Refusal {
    pub(crate) problem: Problem,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a thread needs for its decisions.
#[derive(Default)]
pub(crate) struct Admission;

impl Admission {
    /// Decides, and notes on the event what it found. Today everybody may pass.
    #[expect(clippy::unused_async, reason = "a decision may ask a key manager")]
    pub(crate) async fn authorize(
        &self,
        _asked: Asked<'_>,
        _event: &mut Event,
    ) -> Result<(), Refusal> {
        Ok(())
    }
}
