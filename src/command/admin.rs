use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use http::StatusCode;
use http::header::RETRY_AFTER;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::cli::{Failure, Settings};
use crate::config::{self, Config};

/// Where the admin API is, and what opens it.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// The admin API; as the settings say, if it is left out
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The file of the admin token; the one in the data directory, if it is left out
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Options {
    /// The file of the admin token, if it is named.
    pub(crate) fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }
}

/// The admin API, from outside.
pub(crate) struct Api {
    server: String,
    token: String,
    client: reqwest::Client,
    runtime: Runtime,
}

impl Api {
    pub(crate) fn open(settings: &Settings, options: &Options) -> Result<Self, Failure> {
        let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
        Self::with(&config, options)
    }

    pub(crate) fn with(config: &Config, options: &Options) -> Result<Self, Failure> {
        let token_file = options.token_file.clone();
        let token_file = token_file.unwrap_or_else(|| config.data_dir.join(config::TOKEN_FILE));
        let server = options.server.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            server: server.unwrap_or_else(|| format!("http://{}", config.manager.address)),
            token: super::read_token(&token_file)?,
            client: super::client()?,
            runtime: runtime.context("start the runtime")?,
        })
    }

    pub(crate) fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.server);
        self.answer(self.client.get(&url).query(query))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.server);
        self.answer(self.client.post(&url).json(body))
    }

    fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        self.runtime.block_on(async {
            let response = request.bearer_auth(&self.token).send().await.with_context(|| {
                format!("reach the admin API at {}; is weir running there?", self.server)
            })?;
            let status = response.status();
            let wait = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
            let wait = wait.map(|wait| format!("; try again in {wait} s")).unwrap_or_default();
            let read = response.json().await;
            let answer: Value = read.context("read the answer of the admin API")?;
            if status.is_success() {
                return Ok(answer);
            }
            let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
            let detail = text("detail");
            let told = if detail.is_empty() { text("title") } else { detail };
            let error = anyhow!(
                "{told} ({}, correlation id {}){wait}",
                text("code"),
                text("correlation_id")
            );
            // What the caller asked for was wrong, or something behind it failed.
            let is_asked_wrongly =
                status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
            Err(if is_asked_wrongly { Failure::Usage(error) } else { Failure::Other(error) })
        })
    }
}
