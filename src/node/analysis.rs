//! What stands on the history: the lake with its SQL, and the boards. A program that is
//! built without the feature `analytics` has none of it (`no_analysis.rs`).

use std::net::SocketAddr;
use std::path::Path;

use analytics::run::Library;
use analytics::serve::{self, Analytics};
use anyhow::{Context as _, Result};
use dashboards::board::Library as Boards;
use dashboards::serve::{self as console, Console};
use ingest::registry::{EntityKey, Fault, Spec};

use super::surroundings::{directory, own_token};
use super::{Ground, Role, Token};
use crate::cli::Failure;
use crate::config::{CONSOLE_TOKEN_FILE, Config};

/// The roles that run.
#[derive(Default)]
pub(super) struct Analysis {
    lake: Option<Analytics>,
    console: Option<Console>,
    console_token: Option<Token>,
}

impl Analysis {
    pub(super) async fn start_lake(
        &mut self,
        config: &Config,
        ground: &Ground,
        token: &Token,
        wanted: &[Role],
    ) -> Result<()> {
        if !wanted.contains(&Role::Analytics) {
            return Ok(());
        }
        let lake_dir = config.analytics.lake_dir.clone();
        let parts = serve::Parts {
            log: ground.log.clone(),
            lake_dir: lake_dir.unwrap_or_else(|| config.data_dir.join("lake")),
            search_dir: config.data_dir.join("search"),
            token: token.text.clone(),
            view: ground.view.clone(),
            decisions: ground.decisions.clone(),
            emitter: ground.emitter.clone(),
        };
        self.lake = Some(Analytics::start(&config.analytics, parts).await?);
        Ok(())
    }

    /// The console asks the analytics node that is named, else this node's own, and so the
    /// manager node.
    pub(super) async fn start_console(
        &mut self,
        config: &Config,
        ground: &Ground,
        token: &Token,
        manager: Option<SocketAddr>,
        wanted: &[Role],
    ) -> Result<()> {
        if !wanted.contains(&Role::Console) {
            return Ok(());
        }
        let own = self.lake.as_ref().map_or(config.analytics.address, Analytics::address);
        let url = config.console.analytics_url.clone();
        let analytics_token = match &config.console.analytics_token_file {
            Some(file) => Token::read(file)?.text,
            None => token.text.clone(),
        };
        let console_token = Token::of(config.data_dir.join(CONSOLE_TOKEN_FILE))?;
        let own_manager = || manager.map(|address| format!("http://{address}"));
        let parts = console::Parts {
            analytics_url: url.unwrap_or_else(|| format!("http://{own}")),
            analytics_token,
            manager_url: config.console.manager_url.clone().or_else(own_manager),
            token: console_token.text.clone(),
            emitter: ground.emitter.clone(),
        };
        self.console = Some(Console::start(&config.console, parts).await?);
        self.console_token = Some(console_token);
        Ok(())
    }

    pub(super) fn addresses(&self) -> [(&'static str, Option<SocketAddr>); 2] {
        let lake = self.lake.as_ref().map(Analytics::address);
        [("analytics", lake), ("console", self.console.as_ref().map(Console::address))]
    }

    /// Where SQL is asked by PostgreSQL's protocol.
    pub(super) fn postgres_address(&self) -> Option<SocketAddr> {
        self.lake.as_ref().and_then(Analytics::postgres_address)
    }

    /// Where SQL is asked by Flight SQL.
    pub(super) fn flight_address(&self) -> Option<SocketAddr> {
        self.lake.as_ref().and_then(Analytics::flight_address)
    }

    /// What opens the console, if it runs.
    pub(super) fn console_token(&self) -> Option<&Token> {
        self.console_token.as_ref()
    }

    pub(super) async fn stop_console(&mut self) {
        if let Some(console) = self.console.take() {
            console.shutdown().await;
        }
    }

    pub(super) async fn stop_lake(&mut self) {
        if let Some(lake) = self.lake.take() {
            lake.shutdown().await;
        }
    }
}

/// Everything that is wrong with the settings, by part.
pub(crate) fn faults(config: &Config) -> Vec<(&'static str, Vec<Fault>)> {
    let lake = config.analytics.validate().err().unwrap_or_default();
    vec![("analytics", lake), ("console", config.console.validate())]
}

/// What is wrong with files and directories of settings.
pub(crate) fn faults_around(config: &Config, is_wanted: impl Fn(Role) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    if is_wanted(Role::Analytics) {
        let lake_dir = config.analytics.lake_dir.as_deref();
        faults.extend(lake_dir.and_then(|dir| directory("analytics.lake_dir", dir)));
        let queries_dir = config.analytics.queries_dir.as_deref();
        faults.extend(readable("analytics.queries_dir", queries_dir, ".sql"));
    }
    if is_wanted(Role::Console) {
        let boards_dir = config.console.boards_dir.as_deref();
        faults.extend(readable("console.boards_dir", boards_dir, ".yaml"));
        if let Some(file) = &config.console.analytics_token_file
            && let Err(wrong) = Token::read(file)
        {
            let mend = "name a file with the admin token of the analytics node";
            faults.push(Fault::new("console.analytics_token_file", format!("{wrong:#}"), mend));
        }
        faults.extend(own_token(&config.data_dir.join(CONSOLE_TOKEN_FILE)));
    }
    faults
}

fn readable(setting: &str, dir: Option<&Path>, extension: &str) -> Option<Fault> {
    let dir = dir?;
    let error = std::fs::read_dir(dir).err()?;
    let mend = format!("give a directory of {extension} files");
    Some(Fault::new(setting, format!("{}: {error}", dir.display()), mend))
}

/// Finds what is wrong with what the lake is read by.
pub(crate) fn deep_check(key: &EntityKey, spec: &Spec) -> Result<(), Vec<Fault>> {
    analytics::deep_check(key, spec)
}

/// Looks at the queries and boards themselves.
pub(crate) fn check_library(
    config: &Config,
    is_wanted: impl Fn(Role) -> bool,
) -> Result<(), Failure> {
    if is_wanted(Role::Analytics) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let analytics = &config.analytics;
        let loading = Library::load(analytics.queries_dir.as_deref(), &analytics.shipped);
        let loaded = runtime.context("start the runtime")?.block_on(loading);
        loaded.map(drop).map_err(|faults| Failure::Usage(faults.into()))?;
    }
    if is_wanted(Role::Console) {
        let boards = Boards::load(config.console.boards_dir.as_deref());
        boards.map(drop).map_err(|errors| Failure::Usage(errors.into()))?;
    }
    Ok(())
}

/// Where they are to listen, by part.
pub(crate) fn ports(config: &Config, wanted: &[Role]) -> Vec<(&'static str, SocketAddr)> {
    let all = [
        (Role::Analytics, "analytics", config.analytics.address),
        (Role::Console, "console", config.console.address),
    ];
    let all = all.into_iter().filter(|(role, ..)| wanted.contains(role));
    all.map(|(_, part, address)| (part, address)).collect()
}
