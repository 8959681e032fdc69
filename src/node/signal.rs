use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Waits until somebody asks the program to stop: SIGTERM, or SIGINT as from the
/// terminal.
pub(crate) async fn stop_asked() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
