//! The commands, a file each.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod run;
pub(crate) mod secret;

use anyhow::{Result, anyhow};
use tracing_subscriber::EnvFilter;

/// Logs to standard error: a line for each outcome, `info` and above of Weir's own
/// crates unless `WEIR_LOG` says otherwise.
fn start_logging() -> Result<()> {
    const USUAL: &str = "warn,weir=info,gateway=info,mediator=info,ingest=info";
    let filter = match std::env::var("WEIR_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| {
            anyhow!("environment WEIR_LOG: {error}; give it as info or gateway=debug")
        })?,
        Err(_) => EnvFilter::new(USUAL),
    };
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    subscriber.try_init().map_err(|error| anyhow!("start logging: {error}"))
}
