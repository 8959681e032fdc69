use std::net::SocketAddr;
use std::path::PathBuf;

use ingest::registry::Fault;
use serde::Deserialize;

use crate::alert::{self, Mail, Route, Webhook};
use crate::run::shipped::{self, SHIPPED};
use crate::sql::Limits;

/// How the analytics role listens, commits and answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where SQL is answered; port 0 takes any that is free.
    pub address: SocketAddr,
    /// Where SQL is answered over PostgreSQL's protocol, for psql and its like; nowhere if it
    /// is left out.
    pub postgres_address: Option<SocketAddr>,
    /// Where SQL is answered over Arrow Flight SQL, for ADBC and its like; nowhere if it is
    /// left out.
    pub flight_address: Option<SocketAddr>,
    /// The directory of the lake, which several nodes may share; `lake` in the data
    /// directory if it is left out.
    pub lake_dir: Option<PathBuf>,
    /// How often rows are committed to the lake, 100 to 600,000 ms.
    pub commit_ms: u64,
    /// At how many bytes in memory they are committed earlier, 1 MB to 4 GB.
    pub tail_bytes_max: usize,
    /// For how many days events stay in the lake, 1 to 36,500; for ever if it is left out.
    pub keep_days: Option<u32>,
    /// What queries may take.
    pub queries: Limits,
    /// A directory of continuous queries, `*.sql` in it and in its `views` and
    /// `detections`, beside those that come with Weir.
    pub queries_dir: Option<PathBuf>,
    /// Which of the queries that come with Weir run, by name; `all` for all of them.
    pub shipped: Vec<String>,
    /// How alerts are sent by email; if it is left out, they are in the log alone.
    pub mail: Option<Mail>,
    /// Where alerts are posted besides, up to 10.
    pub webhooks: Vec<Webhook>,
    /// Who is told of which alerts, and when: the first that an alert fits. Without any, all
    /// of `mail` and `webhooks` are told of all at once. Up to 100.
    pub routes: Vec<Route>,
}

/// How many webhooks there are at most.
const WEBHOOKS_MAX: usize = 10;

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9447)),
            postgres_address: None,
            flight_address: None,
            lake_dir: None,
            commit_ms: 30_000,
            tail_bytes_max: 128 * 1024 * 1024,
            keep_days: None,
            queries: Limits::default(),
            queries_dir: None,
            shipped: shipped::by_default(),
            mail: None,
            webhooks: Vec::new(),
            routes: Vec::new(),
        }
    }
}

impl Config {
    /// Says everything that is wrong with it.
    ///
    /// # Errors
    /// The faults, at least one.
    pub fn validate(&self) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        let mut range = |path: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                let what = format!("{value} is out of range");
                faults.push(Fault::new(path, what, format!("use {min} to {max}")));
            }
        };
        range("commit_ms", self.commit_ms, 100, 600_000);
        range("tail_bytes_max", self.tail_bytes_max as u64, 1_000_000, 4_000_000_000);
        range("keep_days", self.keep_days.map_or(1, u64::from), 1, 36_500);
        let queries = &self.queries;
        range("queries.time_ms", queries.time_ms, 10, 600_000);
        let memory = queries.memory_bytes_max as u64;
        range("queries.memory_bytes_max", memory, 1_000_000, 64_000_000_000);
        range("queries.rows_max", queries.rows_max as u64, 1, 10_000_000);
        range("queries.at_once_max", queries.at_once_max as u64, 1, 1_000);
        let per_user = queries.at_once_per_user_max as u64;
        range("queries.at_once_per_user_max", per_user, 1, 1_000);
        for (at, name) in self.shipped.iter().enumerate() {
            if name != shipped::ALL && SHIPPED.iter().all(|of| of.name != name) {
                let names = SHIPPED.iter().map(|of| of.name).collect::<Vec<_>>().join(", ");
                let what = format!("no query that comes with Weir is called {name}");
                let mend = format!("use all, or some of {names}");
                faults.push(Fault::new(format!("shipped[{at}]"), what, mend));
            }
        }
        faults.extend(self.mail.iter().flat_map(Mail::faults));
        if self.webhooks.len() > WEBHOOKS_MAX {
            let what = format!("{} of them", self.webhooks.len());
            faults.push(Fault::new("webhooks", what, format!("give up to {WEBHOOKS_MAX}")));
        }
        for (at, webhook) in self.webhooks.iter().enumerate().take(WEBHOOKS_MAX) {
            let path = format!("webhooks[{at}]");
            faults.extend(webhook.faults(&path));
            if self.webhooks[..at].iter().any(|other| other.name == webhook.name) {
                let what = format!("two are called {}", webhook.name);
                faults.push(Fault::new(format!("{path}.name"), what, "give each its own name"));
            }
        }
        faults.extend(alert::route_faults(&self.routes, self.mail.as_ref(), &self.webhooks));
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_told_of_at_once() {
        assert!(Config::default().validate().is_ok());
        let queries = Limits { time_ms: 1, rows_max: 0, ..Limits::default() };
        let shipped = vec!["scanner".to_owned(), "scaner".to_owned()];
        let keep_days = Some(0);
        let config = Config { commit_ms: 1, keep_days, queries, shipped, ..Config::default() };
        let faults = config.validate().unwrap_err();
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            ["commit_ms", "keep_days", "queries.time_ms", "queries.rows_max", "shipped[1]"]
        );
    }
}
