//! Who may look: by the token, or by a session that it opened.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HOST};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

const COOKIE_NAME: &str = "weir-console";
const SESSIONS_MAX: usize = 1_000;
const SESSION_FOR: Duration = Duration::from_hours(12);
/// After how long a wrong token is answered, and how many are waited for at once.
const GUESS_PAUSE: Duration = Duration::from_secs(1);
const GUESSES_MAX: usize = 8;

type Digest = [u8; 32];

fn digest(text: &str) -> Digest {
    Sha256::digest(text.as_bytes()).into()
}

pub(super) struct Access {
    token: Digest,
    hosts: Vec<String>,
    /// When each ends, by the hash of its cookie.
    sessions: Mutex<HashMap<Digest, Instant>>,
    guesses: Semaphore,
}

impl Access {
    pub(super) fn new(token: &str, hosts: Vec<String>) -> Self {
        let guesses = Semaphore::new(GUESSES_MAX);
        Self { token: digest(token), hosts, sessions: Mutex::default(), guesses }
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

    /// Whether a request may be answered.
    pub(super) fn lets_in(&self, headers: &HeaderMap) -> bool {
        let text =
            |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        if let Some(token) = text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")) {
            return digest(token) == self.token;
        }
        let now = Instant::now();
        let sessions = self.sessions.lock();
        let mut cookies = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='));
        cookies.any(|cookie| sessions.get(&digest(cookie)).is_some_and(|ends| *ends > now))
    }

    /// Opens a session: the cookie, if the token is right. Guesses are slow.
    pub(super) async fn log_in(&self, token: &str) -> Option<String> {
        if digest(token.trim()) != self.token {
            let _turn = self.guesses.acquire().await;
            tokio::time::sleep(GUESS_PAUSE).await;
            return None;
        }
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = Instant::now();
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, ends| *ends > now);
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, ends)| **ends).map(|(key, _)| *key);
            oldest.map(|key| sessions.remove(&key));
        }
        sessions.insert(digest(&id), now + SESSION_FOR);
        let seconds = SESSION_FOR.as_secs();
        Some(format!("{COOKIE_NAME}={id}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}"))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(name: http::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[tokio::test]
    async fn a_token_or_its_session_lets_in() {
        let access = Access::new("right", Vec::new());
        assert!(!access.lets_in(&HeaderMap::new()));
        assert!(access.lets_in(&with(AUTHORIZATION, "Bearer right")));
        assert!(!access.lets_in(&with(AUTHORIZATION, "Bearer wrong")));
        assert_eq!(access.log_in("wrong").await, None);
        let cookie = access.log_in(" right\n").await.unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
        let (sent, _) = cookie.split_once(';').unwrap();
        assert!(access.lets_in(&with(COOKIE, &format!("other=1; {sent}"))));
        assert!(!access.lets_in(&with(COOKIE, &format!("{sent}0"))));
        assert!(!access.lets_in(&with(COOKIE, "weir-console=")));
    }

    #[test]
    fn only_by_a_name_of_its_own_it_is_called() {
        let access = Access::new("t", vec!["weir.example".to_owned()]);
        for host in ["127.0.0.1:9446", "[::1]:9446", "localhost", "LOCALHOST:1", "weir.example:443"]
        {
            assert!(access.is_called(&with(HOST, host)), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:9446", "", "127.0.0.1.evil.example"] {
            assert!(!access.is_called(&with(HOST, host)), "{host}");
        }
    }
}
