use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use ingest::event::{Clock as _, SystemClock};

use crate::cli::{Failure, Settings};
use crate::config::{self, Config};
use crate::replay::{self, Bar, NoLog, Refused, Source, Speed, Wish};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// An access log in the combined format; it may be compressed by gzip or Zstandard
    file: PathBuf,
    /// A gateway, several of them by repetition; as the settings say, if it is left out
    #[arg(long, value_name = "URL")]
    gateway: Vec<String>,
    /// How many times as fast as it happened, or `max`
    #[arg(long, default_value = "max")]
    speed: Speed,
    /// What comes before each path, such as the context of an API
    #[arg(long, value_name = "PATH", default_value = "")]
    prefix: String,
    /// The replay's id, which its events carry; of file and time, if it is left out
    #[arg(long)]
    id: Option<String>,
    /// How many requests may be under way at once, 1 to 10000
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Send again what was not answered though it may have been sent, by the same
    /// correlation id
    #[arg(long)]
    resend: bool,
    /// For how many seconds a request is tried, 1 to 3600
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3_600))]
    patience: u16,
    /// The file of the replay credential; as the settings say, if it is left out
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// The file of a bearer token for the API
    #[arg(long, value_name = "FILE")]
    bearer_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Sends an access log as real traffic.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
    let wish = wish(&config, options)?;
    let bar = Bar::new();
    let source = Source::open(&options.file, &bar).map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let summary = runtime.block_on(replay::replay(&wish, source, &bar));
    let summary = summary.map_err(|error| {
        let theirs = error.is::<Refused>() || error.is::<NoLog>();
        let error = error.context(format!("replay {}", options.file.display()));
        if theirs { Failure::Usage(error) } else { Failure::Other(error) }
    })?;
    if options.json {
        println!("{}", serde_json::to_string(&summary).context("print the summary")?);
    } else {
        println!("{summary}");
    }
    match summary.unanswered.count {
        0 => Ok(()),
        count => Err(anyhow!("{count} requests were not answered").into()),
    }
}

fn wish(config: &Config, options: &Options) -> Result<Wish, Failure> {
    let usual = config.gateway.listeners.first().map(|listener| {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", listener.address)
    });
    let mut gateways = options.gateway.clone();
    if gateways.is_empty() {
        gateways.extend(usual);
    }
    for gateway in &mut gateways {
        gateway.truncate(gateway.trim_end_matches('/').len());
        if gateway.parse::<reqwest::Url>().is_ok_and(|url| url.has_host()) {
            continue;
        }
        let error = anyhow!("the gateway {gateway} is no address; give it as http://host:port");
        return Err(Failure::Usage(error));
    }
    let prefix = options.prefix.trim_end_matches('/').to_owned();
    if !prefix.is_empty() && !prefix.starts_with('/') {
        let error = anyhow!("the prefix {prefix} is no path; give it as /site");
        return Err(Failure::Usage(error));
    }
    let id = options.id.clone().unwrap_or_else(|| id_of(&options.file));
    replay::check_id(&id).map_err(Failure::Usage)?;
    let of_settings = config.replay_token_file();
    let credential_file = options.credential_file.as_ref().unwrap_or(&of_settings);
    let credential = std::fs::read_to_string(credential_file).with_context(|| {
        let file = credential_file.display();
        format!("read the replay credential {file}; name it by --credential-file")
    });
    let token = options.bearer_file.as_ref().map(|file| {
        std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
    });
    let token = token.transpose().map_err(Failure::Usage)?;
    Ok(Wish {
        id,
        gateways,
        credential: credential.map_err(Failure::Usage)?.trim().to_owned(),
        prefix,
        token: token.map(|token| token.trim().to_owned()),
        speed: options.speed,
        connections: options.connections.into(),
        resend: options.resend,
        patience: Duration::from_secs(options.patience.into()),
    })
}

/// The file's name and the time, such as `access.log-20261125t173000.123456z`.
fn id_of(file: &Path) -> String {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("log");
    let is_part = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(*c);
    let name: String = name.to_ascii_lowercase().chars().filter(is_part).take(48).collect();
    let now = SystemClock.now().to_string();
    let now: String = now.to_ascii_lowercase().chars().filter(|c| !"-:".contains(*c)).collect();
    format!("{name}-{now}")
}
