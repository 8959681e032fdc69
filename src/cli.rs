//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::command;
use crate::node::Role;

/// An integration platform whose log is its heart.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

/// Where the settings are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// The file of the settings; `weir.yaml` here, if it is there
    #[arg(long, global = true, env = "WEIR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process, with the bundled example
    Run(command::run::Options),
    /// Run what clients call
    Gateway,
    /// Run the key manager and the admin API
    Keys,
    /// Run routes and the delivery of queues
    Mediator,
    /// Run what takes events of other systems
    Collector,
    /// Run the lake, continuous queries, and SQL over them
    #[cfg(feature = "analytics")]
    Analytics,
    /// Run the boards, over an analytics node
    #[cfg(feature = "analytics")]
    Console,
    /// Run the services behind the bundled example, and write its configuration
    Example,
    /// Ask the lake, in SQL
    Query(command::query::Options),
    /// Run a view or a detection over the history, and see what it would have given
    Backtest(command::backtest::Options),
    /// Take something away: a board
    Export(command::export::Options),
    /// Send a web server's access log again, as real traffic through a gateway
    ReplayLog(command::replay_log::Options),
    /// Check a directory of configuration, and the settings
    Check(command::check::Options),
    /// Bring the running configuration to what a directory says
    Apply(command::apply::Options),
    /// See what waits in queues and what is dead, and decide what becomes of it
    Deliveries(command::deliveries::Options),
    /// See whom gateways block or slow down, decide of somebody, and take a decision back
    Decisions(command::decisions::Options),
    /// See what detections have found, acknowledge it, and silence what is known
    Alerts(command::alerts::Options),
    /// See how the continuous queries fare, and let one rest or go on
    Queries(command::queries::Options),
    /// Look at the files of the lake, and set aside what is damaged
    Lake(command::lake::Options),
    /// Make a secret of an application or a key of a user, and the hash that the registry keeps
    Secret(command::secret::Options),
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for cannot be: settings, files or arguments. Exit code 2.
    Usage(anyhow::Error),
    /// It could be, and failed all the same. Exit code 1.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl Failure {
    /// Says more about it.
    pub(crate) fn context(self, more: String) -> Self {
        match self {
            Self::Usage(error) => Self::Usage(error.context(more)),
            Self::Other(error) => Self::Other(error.context(more)),
        }
    }
}

/// Runs the command that the arguments ask for.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(options) => command::run::run(&cli.settings, &options),
        Command::Gateway => command::run::role(&cli.settings, Role::Gateway),
        Command::Keys => command::run::role(&cli.settings, Role::Keys),
        Command::Mediator => command::run::role(&cli.settings, Role::Mediator),
        Command::Collector => command::run::role(&cli.settings, Role::Collector),
        #[cfg(feature = "analytics")]
        Command::Analytics => command::run::role(&cli.settings, Role::Analytics),
        #[cfg(feature = "analytics")]
        Command::Console => command::run::role(&cli.settings, Role::Console),
        Command::Example => command::example::run(&cli.settings),
        Command::Export(options) => command::export::run(&cli.settings, &options),
        Command::Query(options) => command::query::run(&cli.settings, &options),
        Command::Backtest(options) => command::backtest::run(&cli.settings, &options),
        Command::ReplayLog(options) => command::replay_log::run(&cli.settings, &options),
        Command::Check(options) => command::check::run(&cli.settings, &options),
        Command::Apply(options) => command::apply::run(&cli.settings, &options),
        Command::Alerts(options) => command::alerts::run(&cli.settings, &options),
        Command::Decisions(options) => command::decisions::run(&cli.settings, &options),
        Command::Deliveries(options) => command::deliveries::run(&cli.settings, &options),
        Command::Queries(options) => command::queries::run(&cli.settings, &options),
        Command::Lake(options) => command::lake::run(&cli.settings, &options),
        Command::Secret(options) => command::secret::run(&options),
    };
    let (code, error) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => (2, error),
        Err(Failure::Other(error)) => (1, error),
    };
    eprintln!("weir: {}", told(&error));
    ExitCode::from(code)
}

/// The chain of causes in one line; each part names its thing, and none says again what the
/// one before it has said.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !told.contains(&cause) {
            let between = if told.is_empty() { "" } else { ": " };
            told.push_str(between);
            told.push_str(&cause);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow!("in use").context("cannot listen: in use; free it").context("gateway");
        assert_eq!(told(&error), "gateway: cannot listen: in use; free it");
    }
}
