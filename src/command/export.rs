use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand, ValueEnum};

use crate::cli::{Failure, Settings};
use crate::config;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A board, as a page of its own, a picture, or its numbers
    Board(Board),
}

#[derive(Debug, Args)]
struct Board {
    /// Its name, such as traffic
    name: String,
    /// What it is exported as; by the ending of --out, if it is left out
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file; standard output, if it is left out
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// `live`, or the id of a replay; as the page chooses, if it is left out
    #[arg(long)]
    timeline: Option<String>,
    /// 15m, 1h, 6h, 24h, 7d or all; as the page chooses, if it is left out
    #[arg(long)]
    span: Option<String>,
    /// The colours of a picture
    #[arg(long, value_enum, default_value_t)]
    theme: Theme,
    /// The console; as the settings say, if it is left out
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The file of the console's token; the one in the data directory, if it is left out
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Theme {
    #[default]
    Light,
    Dark,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A page that needs nothing else
    Html,
    /// A picture
    Png,
    /// The rows of every panel
    Csv,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Png => "png",
            Self::Csv => "csv",
        }
    }
}

/// Has the console export something, and keeps it.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let What::Board(board) = &options.what;
    let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
    let of_out = board.out.as_ref().and_then(|out| out.extension()?.to_str());
    let of_out = of_out.and_then(|ending| Format::from_str(ending, true).ok());
    let format = board.format.or(of_out).ok_or_else(|| {
        Failure::Usage(anyhow!("say what it is exported as: --format html, png or csv"))
    })?;
    let own = config.data_dir.join(config::CONSOLE_TOKEN_FILE);
    let token = super::read_token(board.token_file.as_ref().unwrap_or(&own))?;
    let server = board.server.clone();
    let server = server.unwrap_or_else(|| format!("http://{}", config.console_address()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let body = runtime.block_on(fetch(&server, &token, board, format))?;
    match &board.out {
        Some(file) => {
            std::fs::write(file, body).with_context(|| format!("write {}", file.display()))?;
        }
        None => std::io::stdout().write_all(&body).context("print the board")?,
    }
    Ok(())
}

async fn fetch(
    server: &str,
    token: &str,
    board: &Board,
    format: Format,
) -> Result<Vec<u8>, Failure> {
    let url = format!("{server}/boards/{}/export.{}", board.name, format.ending());
    let choice = [("timeline", &board.timeline), ("span", &board.span)];
    let mut choice: Vec<(&str, &str)> =
        choice.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect();
    if board.theme == Theme::Dark {
        choice.push(("theme", "dark"));
    }
    let asked = super::client()?.get(&url).query(&choice).bearer_auth(token).send().await;
    let answer =
        asked.with_context(|| format!("reach the console at {server}; is weir running there?"))?;
    let status = answer.status();
    let body = answer.bytes().await.with_context(|| format!("read the answer of {server}"))?;
    if status.is_success() {
        return Ok(body.to_vec());
    }
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let told = told["detail"].as_str().or(told["title"].as_str());
    let error = match (status, told) {
        (http::StatusCode::UNAUTHORIZED, _) => anyhow!("the console does not take this token"),
        (_, Some(told)) => anyhow!("the console: {told}"),
        (status, None) => anyhow!("the console answered {status}"),
    };
    Err(if status.is_client_error() { Failure::Usage(error) } else { Failure::Other(error) })
}
