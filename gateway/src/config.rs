//! How the data plane is set up. Everything is checked before a port is bound.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ingest::emit::{self, WhenFull};
use ingest::event::Producer;
use ingest::registry::Fault;
use ipnet::IpNet;
use serde::Deserialize;

use crate::auth;
use crate::http::Acceptor;
use crate::upstream::Connector;
use ingest::http::TokenHash;

/// The shortest token that is taken; a shorter one could be guessed.
const TOKEN_BYTES_MIN: usize = 32;

/// How the data plane is set up. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients are listened to, 1 to 16 addresses; loopback unless told otherwise.
    pub listeners: Vec<Listener>,
    /// How many threads serve, 1 to 256; 0: one for each core.
    pub threads: usize,
    /// The node's name, and that of its producers, `<node>.<thread>`; set
    /// by the program, since all its parts share it, as zone and `spool_dir`.
    #[serde(skip)]
    pub node: String,
    /// The network zone of the node, as events carry it.
    #[serde(skip)]
    pub zone: Option<String>,
    /// The proxies whose `X-Forwarded-*` are believed, 0 to 1,000 networks.
    pub trusted_proxies: Vec<IpNet>,
    /// Where the threads' spools live, on a local disk.
    #[serde(skip)]
    pub spool_dir: PathBuf,
    /// How much they hold, and how often they are synced; the node's, too.
    #[serde(skip)]
    pub spool_limits: emit::Limits,
    /// What is done with a request whose event a full spool does not take.
    pub when_spool_full: WhenFull,
    /// Whether events are written; never from a file.
    #[serde(skip)]
    pub telling: Telling,
    /// Whose tokens are taken.
    pub auth: auth::Config,
    /// Certificates, as PEM, that are trusted of upstreams besides the machine's.
    pub upstream_ca_file: Option<PathBuf>,
    /// The file with the credential of replays: who has it is believed what it says of
    /// time, client and answer of a request, in a timeline of its own. None: no replays
    /// are taken. `weir run` makes one.
    pub replay_token_file: Option<PathBuf>,
    /// How much.
    pub limits: Limits,
    /// How long.
    pub timeouts: Timeouts,
}

/// Whether events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// Each request's, before its answer is complete.
    Events,
    /// None: only to measure what they cost.
    Nothing,
}

/// An address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// The certificate, if TLS is spoken.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// How much a thread takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest head of a request, 8 KiB to 1 MiB; more is answered 431.
    pub header_bytes_max: usize,
    /// The longest target of a request, 64 bytes to 64 KiB; more is answered 414.
    pub url_bytes_max: usize,
    /// Connections of a thread, 1 to 1,000,000; more wait to be accepted.
    pub connections_max: usize,
    /// Requests under way of a thread, 1 to 1,000,000; more are answered 503.
    pub requests_max: usize,
}

/// How long is waited.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// From the first byte of a head to its end, 10 to 600,000 ms; then 408. Also for
    /// a TLS handshake.
    pub header_read_ms: u64,
    /// Between two requests of a connection, 10 to 3,600,000 ms.
    pub idle_ms: u64,
    /// Between two parts of a request's body, 10 to 600,000 ms; then 408.
    pub body_idle_ms: u64,
    /// How long a client may take no byte of its answer, 10 to 600,000 ms; then its
    /// connection is closed.
    pub write_idle_ms: u64,
    /// How long a client that sends no more, and may be gone, is served until its
    /// answer begins, 0 to 600,000 ms.
    pub half_closed_ms: u64,
    /// How long a stop waits for the requests under way, 0 to 600,000 ms.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: vec![Listener { address: ([127, 0, 0, 1], 8080).into(), tls: None }],
            threads: 0,
            node: "gateway".to_owned(),
            zone: None,
            trusted_proxies: Vec::new(),
            spool_dir: PathBuf::from("spool"),
            spool_limits: emit::Limits::default(),
            when_spool_full: WhenFull::Refuse,
            telling: Telling::Events,
            auth: auth::Config::default(),
            upstream_ca_file: None,
            replay_token_file: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes_max: 64 * 1024,
            url_bytes_max: 8 * 1024,
            connections_max: 20_000,
            requests_max: 10_000,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header_read_ms: 10_000,
            idle_ms: 60_000,
            body_idle_ms: 30_000,
            write_idle_ms: 30_000,
            half_closed_ms: 5_000,
            drain_ms: 30_000,
        }
    }
}

impl Config {
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut range = |path: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                let what = format!("{value} is out of range");
                faults.push(Fault::new(path, what, format!("use {min} to {max}")));
            }
        };
        range("listeners", self.listeners.len() as u64, 1, 16);
        range("threads", self.threads as u64, 0, 256);
        range("trusted_proxies", self.trusted_proxies.len() as u64, 0, 1_000);
        let limits = &self.limits;
        range("limits.header_bytes_max", limits.header_bytes_max as u64, 8 * 1024, 1024 * 1024);
        range("limits.url_bytes_max", limits.url_bytes_max as u64, 64, 64 * 1024);
        range("limits.connections_max", limits.connections_max as u64, 1, 1_000_000);
        range("limits.requests_max", limits.requests_max as u64, 1, 1_000_000);
        let timeouts = &self.timeouts;
        range("timeouts.header_read_ms", timeouts.header_read_ms, 10, 600_000);
        range("timeouts.idle_ms", timeouts.idle_ms, 10, 3_600_000);
        range("timeouts.body_idle_ms", timeouts.body_idle_ms, 10, 600_000);
        range("timeouts.write_idle_ms", timeouts.write_idle_ms, 10, 600_000);
        range("timeouts.half_closed_ms", timeouts.half_closed_ms, 0, 600_000);
        range("timeouts.drain_ms", timeouts.drain_ms, 0, 600_000);
        for fault in self.auth.validate().err().unwrap_or_default() {
            faults.push(Fault { path: format!("auth.{}", fault.path), ..fault });
        }
        if let Err(error) = Producer::new(format!("{}.255", self.node)) {
            let mend = "give letters, digits, dots, hyphens and underscores";
            let what = error.to_string();
            let what = what.strip_prefix("producer: ").unwrap_or(&what);
            let what = what.split("; allowed are").next().unwrap_or(what);
            faults.push(Fault::new("node", what, mend));
        }
        faults
    }

    /// Everything that is wrong with the files that it names, which are read for it.
    pub fn check_files(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fail = |path: String, what: String| {
            faults.push(Fault::new(path, what, "give PEM files that can be read"));
        };
        for (i, listener) in self.listeners.iter().enumerate() {
            if let Some(Err((setting, what))) = listener.tls.as_ref().map(Acceptor::new) {
                fail(format!("listeners[{i}].tls.{setting}"), what);
            }
        }
        if let Err(what) = Connector::new(self.upstream_ca_file.as_deref()) {
            fail("upstream_ca_file".to_owned(), what);
        }
        if let Err(what) = self.replay_token() {
            let mend = "give a file with a token that can be read";
            faults.push(Fault::new("replay_token_file", what, mend));
        }
        faults
    }

    /// The credential of replays, from its file.
    pub(crate) fn replay_token(&self) -> Result<Option<TokenHash>, String> {
        let Some(file) = &self.replay_token_file else { return Ok(None) };
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
        match text.trim() {
            token if token.len() >= TOKEN_BYTES_MIN => Ok(Some(TokenHash::of(token))),
            _ => Err(format!("{} holds no token of 32 characters or more", file.display())),
        }
    }

    /// How many threads serve.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(256),
            threads => threads,
        }
    }

    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

impl Timeouts {
    pub(crate) fn header_read(&self) -> Duration {
        Duration::from_millis(self.header_read_ms)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub(crate) fn body_idle(&self) -> Duration {
        Duration::from_millis(self.body_idle_ms)
    }

    pub(crate) fn write_idle(&self) -> Duration {
        Duration::from_millis(self.write_idle_ms)
    }

    pub(crate) fn half_closed(&self) -> Duration {
        Duration::from_millis(self.half_closed_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut Config), expected: &[&str]) {
        let mut config = Config::default();
        change(&mut config);
        let found: Vec<String> = config.validate().iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn numbers_and_names_out_of_range_are_named() {
        check(|_| {}, &[]);
        check(|c| c.listeners.clear(), &["listeners: 0 is out of range; use 1 to 16"]);
        check(
            |c| c.limits.url_bytes_max = 1,
            &["limits.url_bytes_max: 1 is out of range; use 64 to 65536"],
        );
        check(
            |c| c.timeouts.idle_ms = 0,
            &["timeouts.idle_ms: 0 is out of range; use 10 to 3600000"],
        );
        check(|c| c.auth.leeway_s = 301, &["auth.leeway_s: 301 is out of range; use 0 to 300"]);
        check(
            |c| c.node = "a b".to_owned(),
            &["node: the name holds ' '; give letters, digits, dots, hyphens and underscores"],
        );
    }

    #[test]
    fn unknown_keys_are_refused_and_missing_ones_have_defaults() {
        let read = serde_json::from_str::<Config>;
        assert_eq!(read("{}").unwrap(), Config::default());
        assert!(read(r#"{"listener": []}"#).is_err());
        assert!(read(r#"{"node": "set by the program"}"#).is_err());
        assert!(read(r#"{"limits": {"url_max": 1}}"#).is_err());
        let some = read(r#"{"trusted_proxies": ["10.0.0.0/8"]}"#).unwrap();
        assert!(some.is_trusted("10.1.2.3".parse().unwrap()));
        assert!(some.is_trusted("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!some.is_trusted("11.1.2.3".parse().unwrap()));
    }
}
