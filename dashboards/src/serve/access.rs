//! Who may look: by the token, or by a session that it opened.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HOST};
use ingest::http::{Correlation, Door, Failure};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

const COOKIE_NAME: &str = "weir-console";
const SESSIONS_MAX: usize = 1_000;
const SESSION_FOR: Duration = Duration::from_hours(12);

type Digest = [u8; 32];

fn digest(text: &str) -> Digest {
    Sha256::digest(text.as_bytes()).into()
}

pub(super) struct Access {
    door: Arc<Door>,
    hosts: Vec<String>,
    /// By the hashes of their cookies.
    sessions: Mutex<HashMap<Digest, Session>>,
}

/// What somebody may who has logged in.
#[derive(Clone)]
pub(super) struct Session {
    ends: Instant,
    /// What opens the manager node, if that was brought. It is nowhere but in memory.
    pub(super) admin: Option<String>,
}

impl Access {
    pub(super) fn new(door: Arc<Door>, hosts: Vec<String>) -> Self {
        Self { door, hosts, sessions: Mutex::default() }
    }

    /// Whether a request came by a name that is ours.
    pub(super) fn is_called(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_ours = |of: &String| of.eq_ignore_ascii_case(name);
        bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(is_ours)
    }

    /// The bearer token of a request, if it has one.
    pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
        headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// Looks at a token; that it is wrong, or none, is told of.
    pub(super) fn try_token(
        &self,
        token: Option<&str>,
        peer: IpAddr,
        correlation: &Correlation,
    ) -> Result<(), Failure> {
        self.door.try_token(token.map(str::trim), peer, correlation)
    }

    /// Whether a token is the console's; that it is not is not told.
    pub(super) fn is_console_token(&self, token: &str) -> bool {
        self.door.is_opened_by(token)
    }

    /// The session whose cookie a request has.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let now = Instant::now();
        let sessions = self.sessions.lock();
        let mut cookies = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='));
        cookies.find_map(|cookie| sessions.get(&digest(cookie)).filter(|of| of.ends > now)).cloned()
    }

    /// Opens a session, of somebody who has brought an admin token or has not: its cookie.
    pub(super) fn open_session(&self, admin: Option<String>) -> Option<String> {
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = Instant::now();
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, of| of.ends > now);
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, of)| of.ends).map(|(key, _)| *key);
            oldest.map(|key| sessions.remove(&key));
        }
        sessions.insert(digest(&id), Session { ends: now + SESSION_FOR, admin });
        let seconds = SESSION_FOR.as_secs();
        Some(format!("{COOKIE_NAME}={id}; HttpOnly; SameSite=Lax; Path=/; Max-Age={seconds}"))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use ingest::http::{Code, TokenHash};

    use super::*;

    fn with(name: http::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    fn access(hosts: Vec<String>) -> Access {
        let log = Arc::new(ingest::log::embedded::EmbeddedLog::in_memory());
        let dir = tempfile::tempdir().unwrap();
        let producer = ingest::event::Producer::new("console").unwrap();
        let config = ingest::emit::Config::new(producer, dir.path(), std::num::NonZeroU32::MIN);
        let clock = Arc::new(ingest::event::SystemClock);
        let (emitter, _) = ingest::emit::open(config, log, clock).unwrap();
        Access::new(Door::new(TokenHash::of("right"), emitter, "weir-console"), hosts)
    }

    #[tokio::test]
    async fn a_token_or_its_session_lets_in() {
        let access = access(Vec::new());
        let correlation = Correlation::of(&HeaderMap::new(), || 7);
        let peer = IpAddr::from([127, 0, 0, 1]);
        let tried = |token| access.try_token(token, peer, &correlation);
        let code = |token| tried(token).map_err(|failure| failure.problem.code);
        assert_eq!(code(None), Err(Code::TokenMissing));
        assert_eq!(code(Some(" right\n")), Ok(()));
        for _ in 0..10 {
            assert_eq!(code(Some("wrong")), Err(Code::TokenMalformed));
        }
        assert_eq!(code(Some("wrong")), Err(Code::Throttled));
        assert_eq!(code(Some("right")), Ok(()), "others of the address do not keep it out");
        assert_eq!(Access::bearer(&with(AUTHORIZATION, "Bearer right")), Some("right"));
        assert!(access.session(&HeaderMap::new()).is_none());
        let cookie = access.open_session(Some("admin".to_owned())).unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        let (sent, _) = cookie.split_once(';').unwrap();
        let session = access.session(&with(COOKIE, &format!("other=1; {sent}"))).unwrap();
        assert_eq!(session.admin.as_deref(), Some("admin"));
        assert!(access.session(&with(COOKIE, &format!("{sent}0"))).is_none());
        assert!(access.session(&with(COOKIE, "weir-console=")).is_none());
    }

    #[tokio::test]
    async fn only_by_a_name_of_its_own_it_is_called() {
        let access = access(vec!["weir.example".to_owned()]);
        for host in ["127.0.0.1:9446", "[::1]:9446", "localhost", "LOCALHOST:1", "weir.example:443"]
        {
            assert!(access.is_called(&with(HOST, host)), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:9446", "", "127.0.0.1.evil.example"] {
            assert!(!access.is_called(&with(HOST, host)), "{host}");
        }
    }
}
