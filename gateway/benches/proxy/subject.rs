//! Weir as a process of its own, so that its time can be told from the load's.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_lc_rs::encoding::AsDer as _;
use gateway::auth::{self, Algorithm, Issuer};
use gateway::keys::{self, KeyManager, Passphrase};
use gateway::{Config, Gateway, Listener, Parts, Telling};
use ingest::decision::Decisions;
use ingest::emit;
use ingest::event::{Producer, SystemClock};
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::{EventLog, TopicSpec};
use ingest::registry::{
    Change, ChangeSet, EntityKey, Json, Proposer, Topics, View, no_deep_check, run_applier,
};

/// How many tokens come again and again.
const TOKENS: usize = 100;
const PARTITIONS: u32 = 4;

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Silent,
    Open,
    Guarded,
}

impl FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "silent" => Self::Silent,
            "open" => Self::Open,
            "guarded" => Self::Guarded,
            _ => bail!("there is no mode {text}"),
        })
    }
}

/// A gateway in a process, until it is dropped.
pub(crate) struct Weir {
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
    pub(crate) tokens: Vec<String>,
    child: Child,
}

impl Weir {
    pub(crate) fn start(mode: Mode, origin: SocketAddr) -> Result<Self> {
        let text = match mode {
            Mode::Silent => "silent",
            Mode::Open => "open",
            Mode::Guarded => "guarded",
        };
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", text, &origin.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a gateway")?;
        let mut lines =
            BufReader::new(child.stdout.take().context("read from the gateway")?).lines();
        let address = lines.next().context("the gateway did not start")??.parse()?;
        let mut tokens = Vec::new();
        for line in lines {
            let line = line?;
            if line == "." {
                break;
            }
            tokens.push(line);
        }
        Ok(Self { pid: child.id(), address, tokens, child })
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Serves until the input ends.
pub(crate) fn serve(mode: Mode, origin: SocketAddr) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(Box::pin(run(mode, origin)))
}

async fn run(mode: Mode, origin: SocketAddr) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = embedded::Config::new(dir.path().join("log"));
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(&settings)?);
    // Events go after a while, so that a long run does not fill the disk.
    let events = TopicSpec::retained(emit::TOPIC, PARTITIONS, Duration::from_secs(60));
    log.create_topic(&events).await?;
    let topics = Topics::default();
    let applier = tokio::spawn(run_applier(log.clone(), topics.clone(), no_deep_check));
    let view = View::open(log.clone(), topics.clone()).await?;
    let proposer = Proposer::new(log.clone(), topics, Duration::from_secs(10));
    let (secret, sha256) = keys::new_secret();
    let passphrase = Passphrase::new(keys::new_token());
    configure(&proposer, origin, &sha256, &passphrase).await?;
    let clock = Arc::new(SystemClock);

    let producer = Producer::new("bench-keys")?;
    let partitions: std::num::NonZeroU32 = PARTITIONS.try_into()?;
    let settings = emit::Config::new(producer, dir.path().join("keys"), partitions);
    let (emitter, service) = emit::open(settings, log.clone(), clock.clone())?;
    let draining = tokio::spawn(service.run(std::future::pending()));
    let mut settings = keys::Config { address: ([127, 0, 0, 1], 0).into(), ..Default::default() };
    settings.issuer = "http://keys.example".to_owned();
    settings.token_ttl_s = 86_400;
    let parts = keys::Parts {
        view: view.clone(),
        decisions: Decisions::default(),
        proposer,
        passphrase,
        emitter,
        clock: clock.clone(),
    };
    let manager = KeyManager::start(settings.clone(), parts).await?;
    let issuer = Issuer {
        issuer: settings.issuer,
        jwks_url: format!("http://{}/oauth2/jwks", manager.address()),
        audience: settings.audience,
        algorithms: vec![Algorithm::Rs256],
    };
    let config = Config {
        listeners: vec![Listener { address: ([127, 0, 0, 1], 0).into(), tls: None }],
        threads: 1,
        spool_dir: dir.path().join("spool"),
        telling: if mode == Mode::Silent { Telling::Nothing } else { Telling::Events },
        auth: auth::Config { issuers: vec![issuer], ..auth::Config::default() },
        ..Config::default()
    };
    let gateway = Gateway::start(
        config,
        Parts {
            view,
            decisions: Decisions::default(),
            log: log.clone(),
            partitions,
            clock,
            pseudonyms: None,
        },
    )
    .await?;
    let mut tokens = Vec::new();
    if mode == Mode::Guarded {
        let client = reqwest::Client::new();
        for _ in 0..TOKENS {
            tokens.push(token(&client, manager.address(), &secret).await?);
        }
    }
    println!("{}", gateway.addresses()[0]);
    tokens.iter().for_each(|token| println!("{token}"));
    println!(".");
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    gateway.shutdown().await;
    manager.shutdown().await;
    draining.abort();
    applier.abort();
    Ok(())
}

async fn configure(
    proposer: &Proposer,
    origin: SocketAddr,
    sha256: &str,
    passphrase: &Passphrase,
) -> Result<()> {
    let upstream = format!(r#"{{"targets": [{{"url": "http://{origin}"}}]}}"#);
    let api = |context: &str, more: &str| {
        format!(
            r#"{{"context": "{context}", "version": "1", "default_version": true,
                "lifecycle": "published", "upstream": "origin", {more}
                "resources": [{{"methods": ["GET"], "path": "/*"}}]}}"#
        )
    };
    // The manager signs by the key that is there.
    let pem = rsa_pem(passphrase)?;
    let key = serde_json::json!({"algorithm": "rs256", "state": "active", "private_key_pem": pem});
    let application = format!(r#"{{"owner": "bench", "secrets": [{{"sha256": "{sha256}"}}]}}"#);
    let entities = [
        ("upstream/origin", upstream),
        ("api/open", api("/open", r#""authentication": ["none"],"#)),
        ("api/guarded", api("/guarded", r#""tiers": ["much"],"#)),
        ("tier/much", r#"{"requests": {"max": 1000000000, "window_ms": 60000}}"#.to_owned()),
        ("application/bench", application),
        (
            "subscription/bench",
            r#"{"api": "guarded", "application": "bench", "tier": "much"}"#.to_owned(),
        ),
        ("key/rsa", key.to_string()),
    ];
    let mut changes = Vec::new();
    for (key, spec) in entities {
        let EntityKey { kind, name } = EntityKey::parse(key).context("a key")?;
        let spec = Json(serde_json::from_str(&spec)?);
        changes.push(Change::Put { kind, name, expected: None, spec });
    }
    let set = ChangeSet {
        id: "bench".parse()?,
        author: "bench".to_owned(),
        message: "bench".to_owned(),
        changes,
    };
    let verdict = proposer.propose(&set).await?;
    if !verdict.is_accepted() {
        bail!("refused: {:?}", verdict.outcome);
    }
    Ok(())
}

fn rsa_pem(passphrase: &Passphrase) -> Result<String> {
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)
        .map_err(|_| anyhow::anyhow!("make a key"))?;
    let der = key.as_der().map_err(|_| anyhow::anyhow!("encode a key"))?;
    passphrase.seal(der.as_ref()).context("encrypt a key")
}

async fn token(client: &reqwest::Client, manager: SocketAddr, secret: &str) -> Result<String> {
    let request = client
        .post(format!("http://{manager}/oauth2/token"))
        .basic_auth("bench", Some(secret))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials");
    let answer: serde_json::Value = request.send().await?.error_for_status()?.json().await?;
    Ok(answer["access_token"].as_str().context("a token")?.to_owned())
}
