use std::path::PathBuf;

use clap::Args;
use ingest::registry::files;

use crate::cli::{Failure, Settings};
use crate::config;
use crate::node::surroundings;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The directory of the configuration; without it, the settings alone are checked
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Checks settings and configuration without touching anything.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
    surroundings::check(&config, None)?;
    let Some(dir) = &options.dir else {
        say(options, "the settings are right", 0);
        return Ok(());
    };
    let wanted = files::load(dir, crate::node::deep_check)
        .map_err(|errors| Failure::Usage(anyhow::Error::new(errors)))?;
    // Against nothing: whatever is referred to has to be in the directory too.
    let nothing = ingest::registry::Snapshot::default();
    let wanted = wanted.without_secrets();
    let plan = files::plan(&wanted, &nothing, files::Missing::Keep);
    let refusals: Vec<String> =
        plan.refusals(&nothing).iter().map(|refusal| located(&wanted, refusal)).collect();
    if !refusals.is_empty() {
        return Err(Failure::Usage(anyhow::anyhow!("{}", refusals.join("\n"))));
    }
    let count = wanted.entities.len();
    let what = match count {
        1 => "1 entity, and it is right".to_owned(),
        _ => format!("{count} entities, all of them right"),
    };
    say(options, &what, count);
    Ok(())
}

/// A refusal with the place of what it is about.
pub(super) fn located(wanted: &files::Wanted, refusal: &ingest::registry::Refusal) -> String {
    let entity = refusal.entity.as_ref();
    match entity.and_then(|key| wanted.place(key, &refusal.fault.path)) {
        Some(place) => format!("{place}: {refusal}"),
        None => refusal.to_string(),
    }
}

fn say(options: &Options, text: &str, entities: usize) {
    if options.json {
        println!("{}", serde_json::json!({ "entities": entities }));
    } else {
        println!("{text}");
    }
}
