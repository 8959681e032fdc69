//! What an analytics node answers, printed.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::{Failure, Settings};
use crate::config;

/// Which node is asked, and how its rows are printed.
#[derive(Debug, Args)]
#[group(id = "answer")]
pub(crate) struct Options {
    /// How the rows are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print JSON; the same as `--format json`
    #[arg(long)]
    json: bool,
    /// The analytics node; as the settings say, if it is left out
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The file of the admin token; the one in the data directory, if it is left out
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A table to read
    Table,
    /// A header and a line for each row
    Csv,
    /// An array of objects
    Json,
    /// An Arrow stream
    Arrow,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain",
            Self::Csv => "text/csv",
            Self::Json => "application/json",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Posts a body to an analytics node, and prints the rows of its answer.
pub(crate) fn post(
    settings: &Settings,
    options: &Options,
    path: &str,
    query: &[(&str, String)],
    body: String,
) -> Result<(), Failure> {
    let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
    let token_file =
        options.token_file.clone().unwrap_or_else(|| config.data_dir.join(config::TOKEN_FILE));
    let token = super::read_token(&token_file)?;
    let server = options.server.clone();
    let server = server.unwrap_or_else(|| format!("http://{}", config.analytics.address));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let format = if options.json { Format::Json } else { options.format };
    let asked = async {
        let url = format!("{server}{path}");
        let request = super::client()?
            .post(&url)
            .query(query)
            .bearer_auth(token)
            .header(http::header::ACCEPT, format.media_type())
            .body(body);
        print(request, &server, format).await
    };
    runtime.block_on(asked)
}

async fn print(
    request: reqwest::RequestBuilder,
    server: &str,
    format: Format,
) -> Result<(), Failure> {
    let response = request
        .send()
        .await
        .with_context(|| format!("reach the analytics node at {server}; is weir running there?"))?;
    let status = response.status();
    let cut = response.headers().contains_key(analytics::serve::CUT_HEADER);
    let body = response.bytes().await.with_context(|| format!("read the answer of {server}"))?;
    if !status.is_success() {
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        let error = anyhow!("{} ({status}, {})", text("detail"), text("code"));
        let theirs = status.is_client_error();
        return Err(if theirs { Failure::Usage(error) } else { Failure::Other(error) });
    }
    let mut out = std::io::stdout().lock();
    let end = if matches!(format, Format::Json) { &b"\n"[..] } else { b"" };
    let written = out.write_all(&body).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    match written {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(Failure::Other(anyhow::Error::new(error).context("print the rows")));
        }
        _ => {}
    }
    if cut {
        eprintln!("weir: there are more rows; these are as many as one query may answer");
    }
    Ok(())
}
