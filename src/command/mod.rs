//! The commands, a file each.

mod admin;
pub(crate) mod alerts;
mod answer;
pub(crate) mod apply;
pub(crate) mod backtest;
pub(crate) mod check;
pub(crate) mod decisions;
pub(crate) mod deliveries;
pub(crate) mod example;
pub(crate) mod export;
pub(crate) mod lake;
pub(crate) mod queries;
pub(crate) mod query;
pub(crate) mod replay_log;
mod rows;
pub(crate) mod run;
pub(crate) mod secret;
mod span;

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tracing_subscriber::EnvFilter;

use crate::cli::Failure;

/// What opens the APIs of a node.
fn read_token(file: &Path) -> Result<String, Failure> {
    let read = std::fs::read_to_string(file).with_context(|| {
        format!("read the admin token {}; name it by --token-file", file.display())
    });
    Ok(read.map_err(Failure::Usage)?.trim().to_owned())
}

/// A client that gives the token to nobody but the server that was named.
fn client() -> Result<reqwest::Client, Failure> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(60));
    Ok(client.build().context("make a client")?)
}

/// Logs to standard error: a line for each outcome, `info` and above of Weir's own
/// crates unless `WEIR_LOG` says otherwise.
fn start_logging() -> Result<()> {
    // The kernel of the lake's table looks for a table before it is made, and calls that
    // an error; one that matters comes back to Weir, which tells it.
    // Of two nodes that commit to it at once one is refused, and goes on.
    // The client of Kafka tells of everything twice, and of an end of a partition as an error.
    const USUAL: &str = "warn,weir=info,gateway=info,mediator=info,ingest=info,analytics=info,\
                         dashboards=info,buoyant_kernel=off,\
                         deltalake_core::kernel::transaction=off,rdkafka::client=off";
    let filter = match std::env::var("WEIR_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| {
            anyhow!("environment WEIR_LOG: {error}; give it as info or gateway=debug")
        })?,
        Err(_) => EnvFilter::new(USUAL),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter);
    subscriber.try_init().map_err(|error| anyhow!("start logging: {error}"))
}
