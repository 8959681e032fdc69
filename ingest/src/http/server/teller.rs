use std::net::IpAddr;

use crate::emit::Emitter;
use crate::event::{Kind, Outcome, Text};
use bytes::Bytes;
use http::HeaderMap;

use crate::http::{Code, Correlation, Problem};

/// Tells of requests that are refused before a service has seen them.
#[derive(Debug, Clone)]
pub struct Teller {
    /// Where the events go.
    pub emitter: Emitter,
    /// Whose they are, as `service_name`.
    pub service: &'static str,
}

impl Teller {
    /// Writes the event of a refusal. One that cannot be kept is in the process's log:
    /// the refusal stands.
    pub fn refused(&self, peer: IpAddr, correlation: &Correlation, code: Code) {
        let mut event = self.emitter.event(Kind::Refusal, code.outcome());
        correlation.note(&mut event);
        event.service_name = Some(Text::from_static(self.service));
        event.network_protocol_name = Some(Text::from_static("http"));
        event.client_address = Some(peer.to_canonical().to_string().into());
        event.http_response_status_code = Some(code.status().as_u16().into());
        event.error_type = Some(Text::from_static(code.text()));
        debug_assert_ne!(event.outcome, Outcome::Success, "a refusal is no success");
        if let Err(error) = self.emitter.emit(event) {
            tracing::warn!(%error, code = code.text(), "the event of a refusal was not kept");
        }
    }

    /// The whole answer, as bytes, to a connection that has no request that could be
    /// read; its event is written.
    pub(super) fn refuse_connection(&self, peer: IpAddr, code: Code) -> Bytes {
        let correlation = Correlation::of(&HeaderMap::new(), || fastrand::u64(..));
        self.refused(peer, &correlation, code);
        Problem::from(code).raw(&correlation)
    }
}
