use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ingest::http::{Caller, Correlation, Door};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Extensions, Status, metadata::MetadataMap};

use super::status;

/// For how long a login is good after it was last used.
const GOOD_FOR: Duration = Duration::from_secs(60 * 60);
/// For how long it is good at most, however often it is used.
const GOOD_FOR_MAX: Duration = Duration::from_secs(12 * 60 * 60);
const LOGINS_MAX: usize = 1_000;
/// How many of them one user has; more take the place of its own.
const LOGINS_PER_CALLER_MAX: usize = 50;

/// By what hash a token is known. It is not kept.
type Known = [u8; 32];

/// Who has logged in by a handshake, which spares each request a password.
#[derive(Debug)]
pub(super) struct Logins {
    door: Arc<Door>,
    given: Mutex<HashMap<Known, Given>>,
}

/// A login that was given.
#[derive(Debug)]
struct Given {
    caller: Caller,
    begun: Instant,
    used: Instant,
}

impl Given {
    fn is_good(&self, now: Instant) -> bool {
        now.duration_since(self.used) < GOOD_FOR && now.duration_since(self.begun) < GOOD_FOR_MAX
    }
}

impl Logins {
    pub(super) fn new(door: Arc<Door>) -> Self {
        Self { door, given: Mutex::default() }
    }

    /// Who sends a request.
    ///
    /// # Errors
    /// The status to answer by, if that is nobody who is let in.
    pub(super) async fn admit(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Caller, Status> {
        if let Some(caller) = bearer(metadata).and_then(|token| self.find(token)) {
            return Ok(caller);
        }
        let headers = metadata.clone().into_headers();
        let correlation = Correlation::of(&headers, || fastrand::u64(..));
        let entered = self.door.enter(&headers, peer(extensions), &correlation).await;
        entered.map_err(|failure| status::of_failure(&failure))
    }

    /// A token for who has logged in.
    pub(super) fn give(&self, caller: Caller) -> String {
        let mut token = [0; 32];
        aws_lc_rs::rand::fill(&mut token).expect("the system has random bytes");
        let token = URL_SAFE_NO_PAD.encode(token);
        let (mut given, now) = (self.given.lock(), Instant::now());
        given.retain(|_, of| of.is_good(now));
        let of_caller = given.values().filter(|of| of.caller == caller).count();
        let is_his_own = of_caller >= LOGINS_PER_CALLER_MAX;
        if is_his_own || given.len() >= LOGINS_MAX {
            let others = given.iter().filter(|(_, of)| !is_his_own || of.caller == caller);
            let oldest = others.min_by_key(|(_, of)| of.used).map(|(known, _)| *known);
            oldest.map(|known| given.remove(&known));
        }
        given.insert(hash(&token), Given { caller, begun: now, used: now });
        token
    }

    fn find(&self, token: &str) -> Option<Caller> {
        let (mut given, now) = (self.given.lock(), Instant::now());
        let of = given.get_mut(&hash(token)).filter(|of| of.is_good(now))?;
        of.used = now;
        Some(of.caller.clone())
    }
}

fn bearer(metadata: &MetadataMap) -> Option<&str> {
    metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

fn hash(token: &str) -> Known {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn peer(extensions: &Extensions) -> IpAddr {
    let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip())
}
