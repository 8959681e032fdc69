use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use ingest::registry::files::{self, Wanted};
use serde_json::{Value, json};

use crate::cli::{Failure, Settings};
use crate::config;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The directory of the configuration
    dir: PathBuf,
    /// Only show what would change
    #[arg(long)]
    plan: bool,
    /// Remove what no file speaks of, applications with their secrets too; never a signing key
    #[arg(long)]
    remove: bool,
    /// Why, for those who read the history
    #[arg(long, short, default_value = "weir apply")]
    message: String,
    /// The admin API; as the settings say, if it is left out
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The file of the admin token; the one in the data directory, if it is left out
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads the directory, shows the plan, and has it made.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
    let wanted = files::load(&options.dir, mediator::deep_check)
        .map_err(|errors| Failure::Usage(anyhow::Error::new(errors)))?;
    let token_file =
        options.token_file.clone().unwrap_or_else(|| config.data_dir.join(config::TOKEN_FILE));
    let token = super::read_token(&token_file)?;
    let server = options.server.clone();
    let server = server.unwrap_or_else(|| format!("http://{}", config.manager.address));
    let api = Api { server, token, client: super::client()? };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(apply(&api, &wanted, options))
}

async fn apply(api: &Api, wanted: &Wanted, options: &Options) -> Result<(), Failure> {
    let entities: Vec<Value> = wanted
        .entities
        .iter()
        .map(|(key, (spec, _))| json!({"kind": key.kind, "name": key.name, "spec": spec}))
        .collect();
    let missing = if options.remove { "remove" } else { "keep" };
    let mut wish = json!({"entities": entities, "missing": missing});
    let planned = api.post("/admin/v1/plan", &wish).await?;
    let refusals: Vec<ingest::registry::Refusal> =
        serde_json::from_value(planned["refusals"].clone()).context("read the plan")?;
    if !options.json {
        println!("{}", planned["text"].as_str().unwrap_or_default());
    }
    if !refusals.is_empty() {
        let told: Vec<String> =
            refusals.iter().map(|refusal| super::check::located(wanted, refusal)).collect();
        return Err(Failure::Usage(anyhow!("{}", told.join("\n"))));
    }
    if options.plan {
        if options.json {
            println!("{planned}");
        }
        return Ok(());
    }
    wish["revision"] = planned["revision"].clone();
    wish["message"] = options.message.as_str().into();
    let applied = api.post("/admin/v1/apply", &wish).await?;
    if options.json {
        println!("{applied}");
    } else if applied["id"].is_null() {
        println!("nothing to change, at revision {}", applied["revision"]);
    } else {
        println!("applied as revision {}", applied["revision"]);
    }
    Ok(())
}

/// The admin API, from outside.
struct Api {
    server: String,
    token: String,
    client: reqwest::Client,
}

impl Api {
    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.server);
        let request = self.client.post(&url).bearer_auth(&self.token).json(body);
        let response = request.send().await.with_context(|| {
            format!("reach the admin API at {}; is weir running there?", self.server)
        })?;
        let status = response.status();
        let answer: Value = response.json().await.with_context(|| format!("read {url}"))?;
        if status.is_success() {
            return Ok(answer);
        }
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        let detail = text("detail");
        let told = if detail.is_empty() { text("title") } else { detail };
        let error = anyhow!("{told} ({}, correlation id {})", text("code"), text("correlation_id"));
        // What the caller asked for was wrong, or something behind it failed.
        Err(if status.is_client_error() { Failure::Usage(error) } else { Failure::Other(error) })
    }
}
