use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use super::SERVICE;
use crate::emit::Emitter;
use crate::event::{Event, Text};
use crate::http::{Code, Correlation, Failure, Guesses, basic, tell_denied};
use crate::registry::kind::{Application, Environment};
use crate::registry::{Name, View};

/// The scope that an application needs to send events.
pub const SCOPE: &str = "events.write";

/// Who sends events: an application that has the scope.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) name: Arc<str>,
    owner: Arc<str>,
    environment: Environment,
    address: Arc<str>,
}

impl Sender {
    /// Writes who sent an event.
    pub(super) fn note(&self, event: &mut Event) {
        event.app_id = Some(self.name.clone().into());
        event.app_name = Some(self.name.clone().into());
        event.app_owner = Some(self.owner.clone().into());
        event.app_environment = Some(Text::from_static(self.environment.text()));
        event.client_address = Some(self.address.clone().into());
    }
}

/// Who may send.
#[derive(Debug)]
pub(super) struct Senders {
    view: View,
    emitter: Emitter,
    guesses: Guesses,
    started: Instant,
}

impl Senders {
    pub(super) fn new(view: View, emitter: Emitter) -> Self {
        Self { view, emitter, guesses: Guesses::default(), started: Instant::now() }
    }

    /// Who sends, by HTTP Basic (RFC 7617): the name of an application and one of its
    /// secrets. Who is refused is told of.
    ///
    /// # Errors
    /// The failure to answer by.
    pub(super) fn admit(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        correlation: &Correlation,
    ) -> Result<Sender, Failure> {
        let peer = peer.to_canonical();
        let found = self.find(headers, peer);
        if let Err(refusal) = &found {
            let code = refusal.problem.code;
            tell_denied(&self.emitter, SERVICE, "basic", peer, correlation, code);
        }
        found
    }

    fn find(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Sender, Failure> {
        let Some((name, secret)) = basic(headers) else {
            let mend = "send an application's name and secret by HTTP Basic";
            return Err(Failure::new(Code::ClientInvalid, mend));
        };
        let known = Name::new(&name).ok();
        let snapshot = self.view.snapshot();
        let application = known.as_ref().and_then(|name| snapshot.get::<Application>(name));
        let environment = Application::environment_of(application, &secret);
        let (Some(environment), Some(application)) = (environment, application) else {
            return Err(self.refuse_guess(&peer.to_string()));
        };
        if !application.scopes.iter().any(|scope| scope == SCOPE) {
            let mend = format!("give the application {name} the scope {SCOPE}");
            return Err(Failure::new(Code::ScopeMissing, mend));
        }
        let (owner, address) = (application.owner.as_str().into(), peer.to_string().into());
        Ok(Sender { name: name.into(), owner, environment, address })
    }

    /// Of an address that sent ten wrong secrets within a minute further ones are not answered
    /// as such for the rest of it; the right one is let in all the same, as by a [`Door`].
    ///
    /// [`Door`]: crate::http::Door
    fn refuse_guess(&self, peer: &str) -> Failure {
        let now_s = i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX);
        if let Some(wait_s) = self.guesses.wait_s(peer, now_s) {
            return Failure::waiting(Code::Throttled, wait_s);
        }
        self.guesses.count(peer, now_s);
        Code::ClientInvalid.into()
    }
}
