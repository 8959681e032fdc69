//! The settings of a node: defaults, then a file, then the environment.
//!
//! Each crate owns its part; they are put together here. Unknown keys are refused,
//! and everything is checked before a port is bound.

mod environment;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::auth::{Algorithm, Issuer};
use ingest::emit;
use ingest::registry::Fault;
use ingest::registry::files::{self, FileErrors, Override};
use serde::Deserialize;

use crate::cli::Settings;
use crate::node::{analysis, pseudonyms};

/// The file that is read if no other is named, and if it is there.
const FILE: &str = "weir.yaml";
/// The admin token, in the data directory.
pub(crate) const TOKEN_FILE: &str = "admin-token";
/// The console's token, in the data directory.
pub(crate) const CONSOLE_TOKEN_FILE: &str = "console-token";
/// The credential of replays, in the data directory of `weir run`.
const REPLAY_TOKEN_FILE: &str = "replay-token";
/// The same, of what opens the signing keys.
const PASSPHRASE_FILE: &str = "keys-passphrase";
/// The same, of the pseudonyms in events.
const HASH_KEY_FILE: &str = "hash-key";

/// The settings of a node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The name of the node, which its events carry; another on every node.
    pub(crate) node: String,
    /// The network zone that it stands in, such as dmz or lan.
    pub(crate) zone: Option<String>,
    /// Where it keeps what is its own.
    pub(crate) data_dir: PathBuf,
    /// The log.
    pub(crate) log: Log,
    /// The events.
    pub(crate) events: Events,
    /// The data plane.
    pub(crate) gateway: gateway::Config,
    /// The key manager.
    pub(crate) keys: gateway::keys::Config,
    /// The admin API.
    pub(crate) manager: gateway::manager::Config,
    /// The mediator.
    pub(crate) mediator: mediator::Config,
    /// What takes events of other systems.
    pub(crate) collector: ingest::receive::Config,
    /// The lake, and SQL over it.
    #[cfg(feature = "analytics")]
    pub(crate) analytics: analytics::serve::Config,
    /// The console.
    #[cfg(feature = "analytics")]
    pub(crate) console: dashboards::serve::Config,
    /// The bundled example.
    pub(crate) example: Example,
    #[serde(skip)]
    source: Source,
}

/// What the settings were read from.
#[derive(Debug, Clone, Default)]
struct Source {
    file: String,
    text: String,
    overrides: Vec<Override>,
}

/// The bundled example.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Example {
    /// Whether `weir run` begins with it when the registry is empty.
    pub(crate) enabled: bool,
    /// Where the services behind it listen.
    pub(crate) address: SocketAddr,
    /// Whether it sends an access log through the gateway, once.
    pub(crate) replay: bool,
}

impl Default for Example {
    fn default() -> Self {
        Self { enabled: true, address: (Ipv4Addr::LOCALHOST, 8290).into(), replay: true }
    }
}

/// Which log there is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Log {
    /// A log of this process alone, in the data directory.
    Embedded {},
    /// Apache Kafka.
    Kafka(Kafka),
}

/// How Kafka is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kafka {
    /// `host:port`, several with commas between.
    pub(crate) bootstrap: String,
    /// How many copies a new topic has; the cluster's default if it is left out.
    #[serde(default)]
    pub(crate) replication_factor: Option<NonZeroU32>,
    /// Further settings by librdkafka's names.
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, String>,
}

impl Log {
    fn validate(&self) -> Vec<Fault> {
        let Self::Kafka(kafka) = self else { return Vec::new() };
        let is_broker = |text: &str| {
            text.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        let wrong = kafka.bootstrap.split(',').find(|text| !is_broker(text.trim()));
        let fault = |text: &str| {
            let mend = "give host:port of one broker, or of several with commas between";
            Fault::new("kafka.bootstrap", format!("`{text}` is no broker"), mend)
        };
        wrong.map(fault).into_iter().collect()
    }
}

/// The events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Events {
    /// How many partitions their topic is made with; all nodes say the same.
    pub(crate) partitions: NonZeroU32,
    /// How much each spool may hold, 64 MiB to 1 TiB: one of the node, one for each thread
    /// of the gateway.
    pub(crate) spool_bytes_max: u64,
    /// How often spools are synced, 10 to 60,000 ms: what a power cut may lose.
    pub(crate) sync_interval_ms: u64,
    /// The key of the pseudonyms that redaction puts in the place of values, the same on all nodes;
    /// an embedded log makes one in its data directory.
    pub(crate) hash_key_file: Option<PathBuf>,
}

impl Events {
    pub(crate) fn limits(&self) -> emit::Limits {
        let sync_interval = Duration::from_millis(self.sync_interval_ms);
        emit::Limits { spool_bytes_max: self.spool_bytes_max, sync_interval }
    }

    fn validate(&self) -> Vec<Fault> {
        let ranges = [
            ("spool_bytes_max", self.spool_bytes_max, 64 << 20, 1 << 40),
            ("sync_interval_ms", self.sync_interval_ms, 10, 60_000),
        ];
        let wrong = ranges.iter().filter(|(_, value, min, max)| !(min..=max).contains(&value));
        let fault = |(path, value, min, max): &(&str, u64, u64, u64)| {
            Fault::new(*path, format!("{value} is out of range"), format!("use {min} to {max}"))
        };
        let key = self.hash_key_file.as_deref().and_then(pseudonyms::fault);
        wrong.map(fault).chain(key).collect()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: "weir".to_owned(),
            zone: None,
            data_dir: PathBuf::from("weir-data"),
            log: Log::Embedded {},
            events: Events::default(),
            gateway: gateway::Config::default(),
            keys: gateway::keys::Config::default(),
            manager: gateway::manager::Config::default(),
            mediator: mediator::Config::default(),
            collector: ingest::receive::Config::default(),
            #[cfg(feature = "analytics")]
            analytics: analytics::serve::Config::default(),
            #[cfg(feature = "analytics")]
            console: dashboards::serve::Config::default(),
            example: Example::default(),
            source: Source::default(),
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        let emit::Limits { spool_bytes_max, sync_interval } = emit::Limits::default();
        Self {
            partitions: NonZeroU32::new(4).expect("four is not zero"),
            spool_bytes_max,
            sync_interval_ms: sync_interval.as_millis() as u64,
            hash_key_file: None,
        }
    }
}

/// Reads the settings.
///
/// # Errors
/// What is wrong, with its place and how to mend it.
pub(crate) fn load(settings: &Settings) -> Result<Config, FileErrors> {
    let named = settings.config.as_deref();
    let file = named.unwrap_or(Path::new(FILE));
    let mut name = file.display().to_string();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            name = format!("the defaults (there is no {name})");
            String::new()
        }
        Err(error) => return Err(files::unreadable(&name, &error)),
    };
    let overrides = environment::overrides(environment::variables());
    let mut config: Config = files::settings(&name, &text, &overrides)?;
    config.source = Source { file: name, text, overrides };
    config.complete();
    config.validate().map_err(|faults| config.placed(faults))?;
    Ok(config)
}

impl Config {
    /// Faults of settings with the places that those were read from.
    pub(crate) fn placed(&self, faults: Vec<Fault>) -> FileErrors {
        let Source { file, text, overrides } = &self.source;
        files::placed(file, text, overrides, faults)
    }

    /// Gives the parts what they share.
    fn complete(&mut self) {
        self.gateway.node.clone_from(&self.node);
        self.gateway.zone.clone_from(&self.zone);
        self.gateway.spool_dir = self.data_dir.join("spool");
        self.gateway.spool_limits = self.events.limits();
        // Known by its address, unless it is told by what.
        if self.keys.issuer.is_empty() {
            self.keys.issuer = format!("http://{}", self.keys.address);
        }
    }

    /// Lets the gateway take the tokens of this very process, if nobody else's are
    /// named.
    pub(crate) fn trust_own_keys(&mut self) {
        if self.gateway.auth.issuers.is_empty() {
            self.gateway.auth.issuers.push(Issuer {
                issuer: self.keys.issuer.clone(),
                jwks_url: format!("http://{}/oauth2/jwks", self.keys.address),
                audience: self.keys.audience.clone(),
                algorithms: vec![Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa],
            });
        }
    }

    /// With the example, emails of alerts are files, where nothing else is said.
    #[cfg_attr(not(feature = "analytics"), expect(clippy::unused_self))]
    pub(crate) fn keep_emails(&mut self) {
        #[cfg(feature = "analytics")]
        if self.analytics.mail.is_none() {
            let directory = self.data_dir.join("example/mail");
            self.analytics.mail = Some(analytics::alert::Mail::to_files(directory));
        }
    }

    /// The directory of emails that are files.
    pub(crate) fn mail_directory(&self) -> Option<&Path> {
        #[cfg(feature = "analytics")]
        return self.analytics.mail.as_ref()?.directory.as_deref();
        #[cfg(not(feature = "analytics"))]
        None
    }

    /// Where an analytics node listens, if nobody says otherwise.
    pub(crate) fn analytics_address(&self) -> SocketAddr {
        #[cfg(feature = "analytics")]
        return self.analytics.address;
        #[cfg(not(feature = "analytics"))]
        return (Ipv4Addr::LOCALHOST, 9447).into();
    }

    /// Where a console listens, if nobody says otherwise.
    pub(crate) fn console_address(&self) -> SocketAddr {
        #[cfg(feature = "analytics")]
        return self.console.address;
        #[cfg(not(feature = "analytics"))]
        return (Ipv4Addr::LOCALHOST, 9446).into();
    }

    /// Where the credential of replays is: as it is set, else where `weir run` makes one.
    pub(crate) fn replay_token_file(&self) -> PathBuf {
        let set = self.gateway.replay_token_file.clone();
        set.unwrap_or_else(|| self.data_dir.join(REPLAY_TOKEN_FILE))
    }

    /// Where the passphrase of the signing keys is: as it is set, else where the first start
    /// makes one.
    pub(crate) fn passphrase_file(&self) -> PathBuf {
        let set = self.keys.passphrase_file.clone();
        set.unwrap_or_else(|| self.data_dir.join(PASSPHRASE_FILE))
    }

    /// Where an embedded log has the key of the pseudonyms in its events.
    pub(crate) fn hash_key_file(&self) -> PathBuf {
        self.data_dir.join(HASH_KEY_FILE)
    }

    /// Everything that is out of range, and every file that cannot be used.
    fn validate(&self) -> Result<(), Vec<Fault>> {
        let gateway = self.gateway.validate().into_iter().chain(self.gateway.check_files());
        let parts = [
            ("log", self.log.validate()),
            ("events", self.events.validate()),
            ("gateway", gateway.collect()),
            ("keys", self.keys.validate().err().unwrap_or_default()),
            ("mediator", self.mediator.validate().err().unwrap_or_default()),
        ];
        let faults: Vec<Fault> = parts
            .into_iter()
            .chain(analysis::faults(self))
            .flat_map(|(part, faults)| {
                faults.into_iter().map(move |fault| match (part, fault.path.as_str()) {
                    // The node's own, which the gateway is given.
                    ("gateway", "node") => fault,
                    _ => Fault { path: format!("{part}.{}", fault.path), ..fault },
                })
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_follows_the_address_unless_it_is_named() {
        let check = |text: &str, expected: &str| {
            let mut config: Config = files::settings("weir.yaml", text, &[]).unwrap();
            config.complete();
            config.trust_own_keys();
            let trusted = &config.gateway.auth.issuers[0].issuer;
            assert_eq!((config.keys.issuer.as_str(), trusted.as_str()), (expected, expected));
        };
        check("", "http://127.0.0.1:9443");
        check("keys: {address: '127.0.0.1:1'}", "http://127.0.0.1:1");
        check(
            "keys: {address: '127.0.0.1:1', issuer: 'https://keys.example'}",
            "https://keys.example",
        );
    }
}
