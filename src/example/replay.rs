use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ingest::event::{Clock as _, SystemClock};

use crate::replay::{self, Bar, Source, Speed, Summary, Wish};

/// 10,000 requests to a public web site in May 2015; see `docs/replay.md`.
const LOG: &[u8] = include_bytes!("access.log.zst");

/// In the example's folder: the replay that was begun, and whether it ended.
const STATE: &str = "replay";
const ENDED: &str = " ended";

/// How many requests are under way at once: the machine has other work.
const CONNECTIONS: usize = 8;

/// Sends the log that comes with the example through the gateway, once: not if it was
/// sent before, and anew if it was broken off. Answers what was sent, if it was.
pub(crate) async fn replay_once(
    dir: &Path,
    gateway: &str,
    credential: &str,
) -> Result<Option<Summary>> {
    let state = dir.join(STATE);
    let before = std::fs::read_to_string(&state).unwrap_or_default();
    if before.trim_end().ends_with(ENDED) {
        return Ok(None);
    }
    // Never that of the one before, which has ended: a start may follow within a second.
    let id = format!("access-log-{}", SystemClock.now().as_micros());
    let mut wish = Wish {
        id: before.trim().to_owned(),
        gateways: vec![gateway.to_owned()],
        credential: credential.to_owned(),
        prefix: "/site".to_owned(),
        token: None,
        speed: Speed::Max,
        connections: CONNECTIONS,
        resend: false,
        patience: Duration::from_secs(60),
    };
    if replay::check_id(&wish.id).is_ok() {
        replay::end(&wish).await.context("end the replay that was broken off")?;
    }
    wish.id = id;
    let keep = |text: String| {
        std::fs::write(&state, text).with_context(|| format!("write {}", state.display()))
    };
    keep(wish.id.clone())?;
    let bar = Bar::hidden();
    let summary = replay::replay(&wish, Source::carried(LOG, &bar)?, &bar).await?;
    keep(format!("{}{ENDED}", wish.id))?;
    Ok(Some(summary))
}
