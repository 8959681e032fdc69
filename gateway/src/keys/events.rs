//! The events of the token endpoint: one for each answer.

use std::net::IpAddr;
use std::sync::Arc;

use ingest::emit::Emitter;
use ingest::event::{Event, Kind, Outcome, Text};
use ingest::http::{Code, Correlation};
use ingest::registry::kind::Environment;

use super::secret::PREFIX;

/// What is known of a request when it is answered.
#[derive(Default)]
pub(super) struct Told {
    /// The client that it says it is, if that is a name.
    pub(super) client: Option<String>,
    /// Of which of its keys the secret was one: the client is who it says.
    pub(super) proven: Option<Environment>,
    pub(super) scopes: Option<String>,
    /// Hash of the id of the token that is given.
    pub(super) token_id: Option<Arc<str>>,
    /// What decisions say of it.
    pub(super) decided: Option<Box<Event>>,
}

pub(super) fn event(
    emitter: &Emitter,
    told: &Told,
    correlation: &Correlation,
    peer: IpAddr,
    refused: Option<Code>,
) -> Box<Event> {
    let outcome = refused.map_or(Outcome::Success, Code::outcome);
    let kind = if told.proven.is_some() { Kind::Token } else { Kind::Authentication };
    let mut event = Box::new(emitter.event(kind, outcome));
    correlation.note(&mut event);
    event.service_name = Some(Text::from_static("weir-keys"));
    event.client_address = Some(peer.to_canonical().to_string().into());
    let status = refused.map_or(200, |code| code.status().as_u16());
    event.http_response_status_code = Some(status.into());
    event.error_type = refused.map(|code| code.text().into());
    event.auth_method = Some("password".into());
    let allowed = if told.proven.is_some() { "allowed" } else { "denied" };
    event.auth_outcome = Some(allowed.into());
    event.auth_reason = refused.map(|code| code.text().into());
    // Somebody may have put the secret into the place of the id.
    let client = told.client.as_ref().filter(|client| !client.starts_with(PREFIX));
    event.auth_subject = client.map(|client| client.clone().into());
    if let Some(environment) = told.proven {
        event.app_id = client.map(|client| client.clone().into());
        event.app_environment = Some(Text::from_static(environment.text()));
        event.token_action = Some("issue".into());
        event.token_grant = Some("client_credentials".into());
        event.auth_scopes = told.scopes.clone().map(Into::into);
        event.auth_token_id = told.token_id.clone().map(Into::into);
    }
    if let Some(decided) = &told.decided {
        event.decision_id.clone_from(&decided.decision_id);
        event.decision_action.clone_from(&decided.decision_action);
        event.decision_state.clone_from(&decided.decision_state);
        event.decision_subject_kind.clone_from(&decided.decision_subject_kind);
        event.decision_expires_time = decided.decision_expires_time;
        event.throttle_level.clone_from(&decided.throttle_level);
    }
    event
}
