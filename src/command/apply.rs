use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use ingest::registry::files::{self, Wanted};
use ingest::registry::{EntityKey, Kind};
use serde_json::{Value, json};

use super::admin::{self, Api};
use super::answer;
use super::rows::{plain, text};
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
    /// The analytics node, which says what becomes of continuous queries; as the settings say,
    /// if it is left out
    #[arg(long, value_name = "URL")]
    analytics: Option<String>,
    /// The file of that node's admin token; the one of the admin API, if it is left out
    #[arg(long, value_name = "FILE")]
    analytics_token_file: Option<PathBuf>,
    /// Do not ask what becomes of continuous queries
    #[arg(long)]
    without_analytics: bool,
    #[command(flatten)]
    admin: admin::Options,
}

/// Reads the directory, shows the plan, and has it made.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
    let wanted = files::load(&options.dir, crate::node::deep_check)
        .map_err(|errors| Failure::Usage(anyhow::Error::new(errors)))?;
    apply(settings, &Api::with(&config, &options.admin)?, &wanted, options)
}

fn apply(
    settings: &Settings,
    api: &Api,
    wanted: &Wanted,
    options: &Options,
) -> Result<(), Failure> {
    let entities: Vec<Value> = wanted
        .entities
        .iter()
        .map(|(key, (spec, _))| json!({"kind": key.kind, "name": key.name, "spec": spec}))
        .collect();
    let missing = if options.remove { "remove" } else { "keep" };
    let mut wish = json!({"entities": entities, "missing": missing});
    let mut planned = api.post("/admin/v1/plan", &wish)?;
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
    if let Some(of_queries) = of_queries(&planned, wanted).filter(|_| !options.without_analytics) {
        planned["queries"] = foresee(settings, &of_queries, options)?;
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

/// Which continuous queries, and tables that they read, a plan writes and removes, if any.
fn of_queries(planned: &Value, wanted: &Wanted) -> Option<Value> {
    let (mut queries, mut tables, mut remove) =
        (serde_json::Map::new(), serde_json::Map::new(), Vec::new());
    for step in planned["plan"]["steps"].as_array().into_iter().flatten() {
        let entity: EntityKey = serde_json::from_value(step["entity"].clone()).ok()?;
        let (put, field) = match entity.kind {
            Kind::Query => (&mut queries, "sql"),
            Kind::Table => (&mut tables, "csv"),
            _ => continue,
        };
        match step["do"].as_str() {
            Some("create" | "change") => {
                let (spec, _) = wanted.entities.get(&entity)?;
                put.insert(entity.name.to_string(), spec.0.get(field).cloned()?);
            }
            Some("remove") => remove.push(entity.name.to_string()),
            _ => {}
        }
    }
    let is_any = !queries.is_empty() || !tables.is_empty() || !remove.is_empty();
    is_any.then(|| json!({"queries": queries, "tables": tables, "remove": remove}))
}

/// Has the analytics node say what becomes of the queries, and prints it. One that could not
/// run is refused.
fn foresee(settings: &Settings, wish: &Value, options: &Options) -> Result<Value, Failure> {
    let token = options.analytics_token_file.as_deref().or(options.admin.token_file());
    let node = (options.analytics.as_deref(), token);
    let effects = match answer::tell(settings, node, "/v1/queries/plan", wish) {
        Ok(mut answer) => answer["queries"].take(),
        // Nothing is changed by a plan, so it may be shown without.
        Err(Failure::Other(error) | Failure::Usage(error)) if options.plan => {
            eprintln!("weir: what becomes of the continuous queries is not known: {error:#}");
            return Ok(Value::Null);
        }
        Err(failure) => {
            let more = "ask what becomes of the continuous queries; nothing was applied, and \
                        --without-analytics applies it unasked";
            return Err(failure.context(more.to_owned()));
        }
    };
    let effects: Vec<Value> = serde_json::from_value(effects).context("read their answer")?;
    if !options.admin.json {
        effects.iter().for_each(|effect| println!("  {}", plain(&text(effect, "told"))));
    }
    let failing = effects.iter().filter(|effect| effect["does"] == "fails");
    let failing: Vec<String> =
        failing.map(|of| format!("query/{}: {}", text(of, "query"), text(of, "why"))).collect();
    match failing.is_empty() {
        true => Ok(effects.into()),
        false => Err(Failure::Usage(anyhow!("{}", failing.join("\n")))),
    }
}
