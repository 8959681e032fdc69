//! `weir run`, `weir gateway`, `weir keys`, `weir mediator`, `weir collector`, `weir analytics`: a
//! node, until it is asked to stop.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use ingest::registry::files::{self, FileErrors, Missing};
use ingest::registry::{Fault, Outcome};
use tokio::task::JoinHandle;

use crate::cli::{Failure, Settings};
use crate::config::{self, Config};
use crate::example::{self, Origin, Places};
use crate::node::{Ground, Role, Roles, Token, analysis, open_files, stop_asked, surroundings};

/// How long a stop waits for what is still running aside.
const LEFT_OVER_WITHIN: Duration = Duration::from_secs(1);

/// The roles of a node that plays them all.
const WHOLE: &[Role] = &[
    #[cfg(feature = "analytics")]
    Role::Analytics,
    Role::Keys,
    Role::Mediator,
    Role::Gateway,
    Role::Collector,
    #[cfg(feature = "analytics")]
    Role::Console,
];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave the bundled example out
    #[arg(long)]
    no_example: bool,
}

/// Every role in one process, with the bundled example where nothing is configured.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let mut config = ready(settings, WHOLE)?;
    config.trust_own_keys();
    let with_example = config.example.enabled && !options.no_example;
    serve(config, WHOLE, with_example)
}

/// One role alone.
pub(crate) fn role(settings: &Settings, role: Role) -> Result<(), Failure> {
    let config = ready(settings, &[role])?;
    serve(config, &[role], false)
}

/// The settings, with the files that they name looked at: what is wrong is told before
/// anything is opened or written.
fn ready(settings: &Settings, wanted: &[Role]) -> Result<Config, Failure> {
    let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
    surroundings::check(&config, Some(wanted))?;
    Ok(config)
}

fn serve(mut config: Config, wanted: &[Role], with_example: bool) -> Result<(), Failure> {
    super::start_logging().map_err(Failure::Usage)?;
    open_files::fit(&mut config, wanted);
    // Whoever makes a TLS configuration finds this provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(async { node(config, wanted, with_example).await });
    // Everything that is to be kept is kept by now; an expression that never ends would
    // be waited for without end.
    runtime.shutdown_timeout(LEFT_OVER_WITHIN);
    ended
}

/// A setting or a file is to be mended first; a log or a disk that does not answer may do
/// so by the next start.
fn not_started(error: anyhow::Error) -> Failure {
    let sealed = matches!(error.downcast_ref(), Some(gateway::keys::Error::Sealed));
    let is_for_files = sealed || error.is::<FileErrors>();
    if is_for_files { Failure::Usage(error) } else { Failure::Other(error) }
}

async fn node(mut config: Config, wanted: &[Role], with_example: bool) -> Result<(), Failure> {
    let began = Instant::now();
    check_log(&config, wanted).map_err(|errors| Failure::Usage(errors.into()))?;
    check_ports(&config, wanted, with_example).map_err(Failure::Usage)?;
    let ground = Ground::open(&config, wanted).await.map_err(not_started)?;
    let token = Token::of(config.data_dir.join(config::TOKEN_FILE))?;
    let replay_token = match is_whole(wanted) {
        true => Some(Token::of(config.replay_token_file())?),
        false => None,
    };
    if let Some(token) = &replay_token {
        config.gateway.replay_token_file = Some(token.file.clone());
    }
    if with_example {
        config.keep_emails();
    }
    let origin = match with_example {
        true => Some(Origin::start(config.example.address).await?),
        false => None,
    };
    let mut roles = Roles::default();
    let secret = match begin(&config, &ground, &token, wanted, origin.as_ref(), &mut roles).await {
        Ok(secret) => secret,
        Err(error) => {
            roles.stop().await;
            ground.close().await;
            return Err(not_started(error));
        }
    };
    greet(&config, &roles, &token, secret.as_deref());
    tracing::info!(ms = began.elapsed().as_millis(), "started");
    let replaying = replaying(&config, &roles, origin.as_ref(), replay_token);

    stop_asked().await?;
    tracing::info!("stopping");
    replaying.abort();
    roles.stop().await;
    ground.close().await;
    Ok(())
}

/// Refuses a log that nobody else can have, where the other roles are other processes.
fn check_log(config: &Config, wanted: &[Role]) -> Result<(), FileErrors> {
    let is_alone = matches!(config.log, config::Log::Embedded {}) && !is_whole(wanted);
    if !is_alone || wanted.iter().all(|role| role.needs_no_log()) {
        return Ok(());
    }
    let mend = "set log.kafka.bootstrap to the Kafka of all nodes, or use weir run";
    let what = "is embedded, and this role works with other processes by the log";
    Err(config.placed(vec![Fault::new("log", what, mend)]))
}

/// Refuses ports that cannot be had before anything is opened or written: what the
/// first start makes, such as the example's secret, is shown only once.
fn check_ports(config: &Config, wanted: &[Role], with_example: bool) -> Result<()> {
    let mut ports: Vec<(String, SocketAddr)> = Vec::new();
    let mut add = |part: &str, address| ports.push((format!("{part}.address"), address));
    if wanted.contains(&Role::Keys) {
        add("keys", config.keys.address);
        add("manager", config.manager.address);
    }
    if wanted.contains(&Role::Mediator) {
        add("mediator", config.mediator.address);
    }
    if wanted.contains(&Role::Gateway) {
        for (at, listener) in config.gateway.listeners.iter().enumerate() {
            add(&format!("gateway.listeners[{at}]"), listener.address);
        }
    }
    if wanted.contains(&Role::Collector) {
        add("collector", config.collector.address);
    }
    for (part, address) in analysis::ports(config, wanted) {
        add(part, address);
    }
    if with_example {
        add("example", config.example.address);
    }
    let grpc = config.collector.grpc_address.filter(|_| wanted.contains(&Role::Collector));
    ports.extend(grpc.map(|address| ("collector.grpc_address".to_owned(), address)));
    // All are held until all are known to be free, so that two of ours may not share one.
    let (mut held, mut faults) = (Vec::with_capacity(ports.len()), Vec::new());
    for (setting, address) in ports {
        match TcpListener::bind(address) {
            Ok(listener) => held.push(listener),
            Err(error) => {
                let what = format!("cannot listen on {address}: {error}");
                faults.push(Fault::new(setting, what, "free the port, or set another one"));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(config.placed(faults).into()) }
}

/// Starts the roles. The example is applied before those that serve it, so that they
/// have it from their first request on.
async fn begin(
    config: &Config,
    ground: &Ground,
    token: &Token,
    wanted: &[Role],
    origin: Option<&Origin>,
    roles: &mut Roles,
) -> Result<Option<String>> {
    let (first, then): (Vec<Role>, Vec<Role>) =
        wanted.iter().partition(|role| **role == Role::Keys);
    roles.add(config, ground, token, &first).await?;
    let secret = match origin {
        Some(origin) => first_start(config, ground, origin).await?,
        None => None,
    };
    let added = roles.add(config, ground, token, &then).await;
    if let (Err(_), Some(secret)) = (&added, &secret) {
        println!("{}", of_the_example(config, secret));
    }
    added.map(|()| secret)
}

/// Applies the example if the registry is empty. Answers the secret of its
/// application, which is shown this once.
async fn first_start(config: &Config, ground: &Ground, origin: &Origin) -> Result<Option<String>> {
    let snapshot = ground.view.snapshot();
    // The key manager's own key does not count.
    if snapshot.entities().any(|entity| entity.key.kind != ingest::registry::Kind::Key) {
        return Ok(None);
    }
    let (secret, secret_sha256) = gateway::keys::new_secret();
    let mediator = config.mediator.address;
    let places = Places { origin: origin.address(), mediator, secret_sha256 };
    let dir = example::write(&config.data_dir, &places)?;
    let wanted = files::load(&dir, crate::node::deep_check)?;
    let plan = files::plan(&wanted, &snapshot, Missing::Keep);
    let id = "example".parse().context("name the example")?;
    let set = plan.change_set(id, "weir".to_owned(), "the bundled example".to_owned());
    let verdict = ground.proposer.propose(&set).await?;
    match &verdict.outcome {
        Outcome::Accepted { revision, .. } => ground.view.wait_for(*revision).await?,
        Outcome::Refused { reasons } => {
            let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            bail!("the example was refused: {}", reasons.join("; "));
        }
    };
    Ok(Some(secret))
}

/// Sends the example's access log through the gateway, beside everything else.
fn replaying(
    config: &Config,
    roles: &Roles,
    origin: Option<&Origin>,
    token: Option<Token>,
) -> JoinHandle<()> {
    let dir = config.data_dir.join("example");
    let gateway = roles.addresses().into_iter().find(|(name, _)| *name == "gateway");
    let is_wanted = config.example.replay && origin.is_some() && dir.exists();
    let asked = is_wanted.then_some(gateway.zip(token)).flatten();
    tokio::spawn(async move {
        let Some(((_, gateway), token)) = asked else { return };
        match example::replay_once(&dir, &gateway, &token.text).await {
            Ok(Some(summary)) => println!("The example has sent its access log:\n{summary}"),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the access log was not sent");
            }
        }
    })
}

/// Whether a node plays every role.
fn is_whole(wanted: &[Role]) -> bool {
    WHOLE.iter().all(|role| wanted.contains(role))
}

/// This program as a shell finds it: by its name, if that leads here, else by its path.
fn program() -> String {
    let Ok(own) = std::env::current_exe() else { return "weir".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("weir")).find(|of| of.is_file());
    match found.and_then(|found| found.canonicalize().ok()) {
        Some(found) if found == own => "weir".to_owned(),
        _ => own.display().to_string(),
    }
}

/// What the first start says of the example; it is said also if that start then fails, since
/// no other one knows the secret.
fn of_the_example(config: &Config, secret: &str) -> String {
    format!(
        "
The example's configuration is in {dir}. Its application is called
{application}, and its secret, which is shown only now, is
  {secret}",
        dir = config.data_dir.join("example").display(),
        application = example::APPLICATION,
    )
}

/// Tells where everything is, and what to try.
fn greet(config: &Config, roles: &Roles, token: &Token, secret: Option<&str>) {
    println!("Weir runs.\n");
    for (name, url) in roles.addresses() {
        println!("  {name:<12} {url}");
    }
    println!("  {:<12} {}", "admin token", token.file.display());
    if let Some(directory) = config.mail_directory()
        && roles.addresses().iter().any(|(name, _)| *name == "analytics")
    {
        println!("  {:<12} {}", "emails", directory.display());
    }
    let url = |wanted: &str| {
        let addresses = roles.addresses();
        addresses.into_iter().find(|(name, _)| *name == wanted).map(|(_, url)| url)
    };
    if let (Some(console), Some(token)) = (url("console"), roles.console_token()) {
        // In full once: what is printed is kept, by a journal or a container's log.
        match token.is_new {
            true => println!("\nThe boards, in a browser:\n  {console}/?token={}", token.text),
            false => println!(
                "\nThe boards, in a browser, which asks for the token in {}:\n  {console}/",
                token.file.display()
            ),
        }
    }
    let (gateway, keys) = (url("gateway"), url("key manager"));
    if let Some(secret) = secret {
        println!("{}", of_the_example(config, secret));
    }
    let here = std::env::current_dir().unwrap_or_default();
    if url("analytics").is_some() || url("admin API").is_some() {
        println!("\nTry, in another terminal, in {}:", here.display());
    }
    let weir = program();
    if let (Some(secret), Some(gateway), Some(keys)) = (secret, gateway, keys) {
        println!(
            "  curl {gateway}/site/
  TOKEN=$(curl -s -u {application}:{secret} -d grant_type=client_credentials \\
    {keys}/oauth2/token | sed 's/.*\"access_token\":\"\\([^\"]*\\).*/\\1/')
  curl -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
    -d '{{\"article\": \"bolt\", \"pieces\": 100}}' {gateway}/shop/quotes
  curl -i -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
    -d '{{\"customer\": \"ada\", \"article\": \"nut\", \"pieces\": 2}}' {gateway}/shop/orders
  curl http://{origin}/warehouse/orders",
            application = example::APPLICATION,
            origin = config.example.address,
        );
    }
    if url("analytics").is_some() {
        println!(
            "  {weir} query \"SELECT event_time, kind, outcome, http_route, latency_total_us FROM events
    WHERE kind <> 'heartbeat' ORDER BY event_time DESC LIMIT 20\"
  {weir} query 'SELECT detection, subject, severity, state, message FROM alerts'"
        );
    }
    if let Some(postgres) = url("postgres") {
        println!("  PGPASSWORD=$(cat {}) psql {postgres} -c '\\d'", token.file.display());
    }
    if url("admin API").is_some() {
        println!("  {weir} deliveries queues");
    }
    println!();
    if secret.is_some() && config.example.replay {
        println!(
            "The example sends 10,000 requests of May 2015 through the gateway now; the board shows\nthem as a replay (docs/replay.md).\n"
        );
    }
}
