use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::answer;
use crate::cli::{Failure, Settings};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The file of a view or a detection
    file: PathBuf,
    /// Over a replay, instead of live traffic
    #[arg(long, value_name = "ID")]
    replay: Option<String>,
    /// Only windows that begin at this time or later, in RFC 3339
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only windows that begin before this time
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    #[command(flatten)]
    answer: answer::Options,
}

/// Has an analytics node run a query file over its history, and prints what it gives.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&options.file)
        .with_context(|| format!("read {}", options.file.display()))
        .map_err(Failure::Usage)?;
    let name = options.file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let mut query = vec![("name", name.to_owned())];
    let given = [("replay", &options.replay), ("from", &options.from), ("before", &options.before)];
    query.extend(given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))));
    answer::post(settings, &options.answer, "/v1/backtest", &query, text)
        .map_err(|failure| failure.context(options.file.display().to_string()))
}
