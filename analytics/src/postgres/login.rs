//! Who is let in: by the node's token, which SCRAM proves without sending it.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::Sink;
use ingest::http::Door;
use pgwire::api::auth::sasl::SASLAuthStartupHandler;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramAuth, gen_salted_password};
use pgwire::api::auth::{
    AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler,
};
use pgwire::api::{ClientInfo, METADATA_USER, PgWireConnectionState};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::Server;
use super::control::VERSION;
use super::sqlstate::{self, INVALID_PASSWORD};

const SALT_BYTES: usize = 16;

/// The token, as SCRAM compares it (RFC 5802, section 3).
pub(super) struct Secret {
    salt: Vec<u8>,
    salted: Vec<u8>,
}

impl Secret {
    pub(super) fn new(token: &str) -> Self {
        let salt: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(SALT_BYTES).collect();
        let salted = gen_salted_password(token, &salt, SCRAM_ITERATIONS);
        Self { salt, salted }
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

/// The one secret, whoever the user says to be.
#[derive(Debug)]
struct Source(Arc<Secret>);

#[async_trait]
impl AuthSource for Source {
    async fn get_password(&self, _: &LoginInfo) -> PgWireResult<Password> {
        Ok(Password::new(Some(self.0.salt.clone()), self.0.salted.clone()))
    }
}

/// The login of one connection.
pub(super) struct Login {
    scram: SASLAuthStartupHandler<DefaultServerParameterProvider>,
    door: Arc<Door>,
    peer: IpAddr,
    /// Whether it has succeeded.
    pub(super) let_in: Arc<AtomicBool>,
}

impl Login {
    pub(super) fn new(server: &Server, peer: IpAddr) -> Self {
        let mut parameters = DefaultServerParameterProvider::default();
        parameters.server_version = VERSION.to_owned();
        parameters.default_transaction_read_only = true;
        parameters.is_superuser = false;
        let scram = ScramAuth::new(Arc::new(Source(server.secret.clone())));
        let scram = SASLAuthStartupHandler::new(Arc::new(parameters))
            .with_scram(scram)
            .with_pid_secret_key_generator(server.keys.clone())
            .with_connection_manager(server.running.clone());
        Self { scram, door: server.door.clone(), peer, let_in: Arc::default() }
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
        let asked = self.scram.on_startup(client, message).await;
        if let Err(PgWireError::InvalidPassword(_)) = &asked {
            self.door.refuse_secret(self.peer, "scram");
            let user = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
            let why = format!(
                "password authentication failed for user \"{user}\": it is the admin token"
            );
            return Err(sqlstate::refusal(INVALID_PASSWORD, why));
        }
        asked?;
        if matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            self.let_in.store(true, Ordering::Release);
        }
        Ok(())
    }
}
