//! Who is let in: the users of the registry by their passwords, and who has the node's token
//! by that, as whom it likes. SCRAM proves either without sending it.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures_util::{Sink, SinkExt as _};
use ingest::http::{Caller, Door};
use ingest::scram::{Exchange, Refused, Verifier};
use parking_lot::Mutex;
use pgwire::api::auth::sasl::SCRAM_SHA_256_METHOD;
use pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::{
    ClientInfo, ConnectionGuard, ConnectionHandle, METADATA_USER, PgWireConnectionState,
    PidSecretKeyGenerator as _,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::startup::{Authentication, PasswordMessageFamily};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::Server;
use super::control::VERSION;
use super::sqlstate::{self, INVALID_PASSWORD, PROTOCOL_VIOLATION};

/// How often the token is hashed: it is too long to be guessed, so that a few times do.
const TOKEN_ITERATIONS: u32 = ingest::scram::ITERATIONS_MIN;

/// What is kept of the token.
pub(super) fn verifier_of(token: &str) -> Verifier {
    Verifier::of(token, TOKEN_ITERATIONS)
}

/// How far a login is.
#[derive(Debug)]
enum At {
    Start,
    /// A user is named: who it is, and what proves it.
    Named(Caller, Verifier),
    /// The first message was answered.
    Begun(Caller, Exchange),
    Over,
}

/// The login of one connection.
pub(super) struct Login {
    at: Mutex<At>,
    token: Verifier,
    door: Arc<Door>,
    peer: IpAddr,
    server: Server,
    parameters: DefaultServerParameterProvider,
    /// Who is let in; shared with the session.
    caller: Arc<OnceLock<Caller>>,
    /// Whether it has succeeded.
    pub(super) let_in: Arc<AtomicBool>,
}

impl Login {
    pub(super) fn new(server: &Server, peer: IpAddr, caller: Arc<OnceLock<Caller>>) -> Self {
        let mut parameters = DefaultServerParameterProvider::default();
        parameters.server_version = VERSION.to_owned();
        parameters.default_transaction_read_only = true;
        parameters.is_superuser = false;
        Self {
            at: Mutex::new(At::Start),
            token: server.token.clone(),
            door: server.door.clone(),
            peer,
            server: server.clone(),
            parameters,
            caller,
            let_in: Arc::default(),
        }
    }

    /// What proves whoever says to be a user.
    fn named(&self, user: &str) -> PgWireResult<At> {
        let Some(name) = self.door.user(user) else {
            return Ok(At::Named(Caller::Admin, self.token.clone()));
        };
        if let Some(wait_s) = self.door.wait_s(self.peer) {
            let why = format!("too many wrong passwords came from here; wait {wait_s} s");
            return Err(sqlstate::refusal(INVALID_PASSWORD, why));
        }
        match self.door.verifier(&name) {
            Some(verifier) => Ok(At::Named(Caller::User(name), verifier)),
            None => {
                let why = format!(
                    "the user \"{user}\" has no password, by which alone one logs in here: keys \
                     are for HTTP and Flight SQL"
                );
                Err(sqlstate::refusal(INVALID_PASSWORD, why))
            }
        }
    }

    /// Looks at one message. Answers what is said to it, and who is let in by it.
    fn step(
        &self,
        message: PasswordMessageFamily,
    ) -> PgWireResult<(Authentication, Option<Caller>)> {
        let mut at = self.at.lock();
        match std::mem::replace(&mut *at, At::Over) {
            At::Named(caller, verifier) => {
                let first = message.into_sasl_initial_response()?;
                if first.auth_method != SCRAM_SHA_256_METHOD {
                    return Err(PgWireError::UnsupportedSASLAuthMethod(first.auth_method));
                }
                let begun = Exchange::begin(verifier, first.data.as_deref().unwrap_or_default());
                let begun = begun.map_err(|error| self.refused(&caller, error))?;
                let answer = begun.server_first().to_owned();
                *at = At::Begun(caller, begun);
                Ok((Authentication::SASLContinue(answer.into()), None))
            }
            At::Begun(caller, exchange) => {
                let last = message.into_sasl_response()?;
                let proved = exchange.finish(&last.data);
                let answer = proved.map_err(|error| self.refused(&caller, error))?;
                Ok((Authentication::SASLFinal(answer.into()), Some(caller)))
            }
            At::Start | At::Over => {
                Err(sqlstate::refusal(PROTOCOL_VIOLATION, "a password comes at another time"))
            }
        }
    }

    fn refused(&self, caller: &Caller, why: Refused) -> PgWireError {
        match (why, caller) {
            (Refused::Malformed(_), _) => sqlstate::refusal(PROTOCOL_VIOLATION, why.to_string()),
            (Refused::WrongPassword, Caller::User(user)) => {
                self.door.refuse_secret(self.peer, "scram");
                let why = format!("password authentication failed for user \"{user}\"");
                sqlstate::refusal(INVALID_PASSWORD, why)
            }
            (Refused::WrongPassword, Caller::Admin) => {
                self.door.refuse_secret(self.peer, "scram");
                let why = "password authentication failed: there is no such user, and whoever is \
                           none logs in by the admin token";
                sqlstate::refusal(INVALID_PASSWORD, why)
            }
        }
    }
}

#[async_trait]
impl StartupHandler for Login {
    async fn on_startup<C>(
        &self,
        client: &mut C,
        message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(startup) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                let user = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
                *self.at.lock() = self.named(&user)?;
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                let methods = vec![SCRAM_SHA_256_METHOD.to_owned()];
                let ask = Authentication::SASL(methods);
                client.send(PgWireBackendMessage::Authentication(ask)).await?;
            }
            PgWireFrontendMessage::PasswordMessageFamily(message) => {
                let (answer, caller) = self.step(message)?;
                client.send(PgWireBackendMessage::Authentication(answer)).await?;
                let Some(caller) = caller else { return Ok(()) };
                self.caller.get_or_init(|| caller);
                let (pid, key) = self.server.keys.generate(client);
                client.set_pid_and_secret_key(pid, key.clone());
                let (handle, guard) = self.server.running.register(pid, key);
                client.session_extensions().insert::<Arc<ConnectionHandle>>(handle);
                client.session_extensions().insert::<ConnectionGuard>(guard);
                finish_authentication(client, &self.parameters).await?;
                self.let_in.store(true, Ordering::Release);
            }
            _ => {}
        }
        Ok(())
    }
}
