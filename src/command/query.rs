use clap::Args;

use super::answer;
use crate::cli::{Failure, Settings};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The query, in DataFusion's SQL; the tables are `events` and the views
    sql: String,
    #[command(flatten)]
    answer: answer::Options,
}

/// Has an analytics node answer a query, and prints the rows.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    answer::post(settings, &options.answer, "/v1/sql", &[], options.sql.clone())
}
