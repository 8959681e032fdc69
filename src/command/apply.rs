use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use ingest::registry::files::{self, Wanted};
use serde_json::{Value, json};

use super::admin::{self, Api};
use crate::cli::{Failure, Settings};
use crate::config;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The directory of the configuration
    dir: PathBuf,
    /// Only show what would change
    #[arg(long)]
    plan: bool,
    /// Remove what no file speaks of, applications with their secrets too; a signing key only
    /// if it is retired
    #[arg(long)]
    remove: bool,
    /// Why, for those who read the history
    #[arg(long, short, default_value = "weir apply")]
    message: String,
    #[command(flatten)]
    admin: admin::Options,
}

/// Reads the directory, shows the plan, and has it made.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
    let wanted = files::load(&options.dir, crate::node::deep_check)
        .map_err(|errors| Failure::Usage(anyhow::Error::new(errors)))?;
    apply(&Api::with(&config, &options.admin)?, &wanted, options)
}

fn apply(api: &Api, wanted: &Wanted, options: &Options) -> Result<(), Failure> {
    let entities: Vec<Value> = wanted
        .entities
        .iter()
        .map(|(key, (spec, _))| json!({"kind": key.kind, "name": key.name, "spec": spec}))
        .collect();
    let missing = if options.remove { "remove" } else { "keep" };
    let mut wish = json!({"entities": entities, "missing": missing});
    let planned = api.post("/admin/v1/plan", &wish)?;
    let refusals: Vec<ingest::registry::Refusal> =
        serde_json::from_value(planned["refusals"].clone()).context("read the plan")?;
    if !options.admin.json {
        println!("{}", planned["text"].as_str().unwrap_or_default());
    }
    if !refusals.is_empty() {
        let told: Vec<String> =
            refusals.iter().map(|refusal| super::check::located(wanted, refusal)).collect();
        return Err(Failure::Usage(anyhow!("{}", told.join("\n"))));
    }
    if options.plan {
        if options.admin.json {
            println!("{planned}");
        }
        return Ok(());
    }
    wish["revision"] = planned["revision"].clone();
    wish["message"] = options.message.as_str().into();
    let applied = api.post("/admin/v1/apply", &wish)?;
    if options.admin.json {
        println!("{applied}");
    } else if applied["id"].is_null() {
        println!("nothing to change, at revision {}", applied["revision"]);
    } else {
        println!("applied as revision {}", applied["revision"]);
    }
    Ok(())
}
