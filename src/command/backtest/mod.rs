mod compare;
#[cfg(feature = "analytics")]
mod picture;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use self::compare::{Compared, compare};
use super::answer;
use super::rows::{plain, table_of};
use super::span::span;
use crate::cli::{Failure, Settings};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The file of a view or a detection
    file: PathBuf,
    /// Over a replay, instead of live traffic
    #[arg(long, value_name = "ID")]
    replay: Option<String>,
    /// Only windows that begin at this time or later: RFC 3339, or how long ago, as 7d or 12h
    #[arg(long, visible_alias = "from", value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only windows that begin before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<Timestamp>,
    /// Of a detection: the alerts that it would have raised, in place of its findings
    #[arg(long)]
    alerts: bool,
    /// With the requests that would have been refused, had each subject been blocked for so
    /// long from when its alert was told, as 15m or 24h; up to 30d
    #[arg(long, value_name = "TIME", value_parser = span, requires = "alerts")]
    block: Option<SignedDuration>,
    /// Compare with another version of it: what both would have given, and what only one
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Draw how many alerts there were over time, or rows, as a PNG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    #[command(flatten)]
    answer: answer::Options,
}

/// Has an analytics node run a query file over its history, and prints what it gives.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    if options.against.is_none() && options.chart.is_none() {
        let (query, text) = options.asked(&options.file)?;
        return answer::post(settings, &options.answer, "/v1/backtest", &query, text)
            .map_err(|failure| failure.context(options.file.display().to_string()));
    }
    if !options.answer.is_table_or_json() {
        let what = "--against and --chart print a table or JSON";
        return Err(Failure::Usage(anyhow!("{what}; leave --format out, or give --json")));
    }
    if let Some(file) = options.chart.as_ref().filter(|file| !is_png(file)) {
        let what = format!("{}: the chart is a PNG", file.display());
        return Err(Failure::Usage(anyhow!("{what}; call it so")));
    }
    let rows = options.rows(settings, &options.file)?;
    let compared = match &options.against {
        None => rows.into_iter().map(|row| Compared { row, only: None }).collect(),
        Some(other) => {
            let others = options.rows(settings, other)?;
            compare(rows, others, options.alerts, names(&options.file, other))
        }
    };
    print(options, &compared);
    match &options.chart {
        Some(file) => draw(options, &compared, file),
        None => Ok(()),
    }
}

/// The parameters of a request, by name.
type Parameters = Vec<(&'static str, String)>;

impl Options {
    /// What is asked of a file, and its text.
    fn asked(&self, file: &Path) -> Result<(Parameters, String), Failure> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("read {}", file.display()))
            .map_err(Failure::Usage)?;
        let mut query = vec![("name", query_name(&self.file).to_owned())];
        let times = [("from", self.since), ("before", self.before)];
        query.extend(times.into_iter().filter_map(|(key, time)| Some((key, time?.to_string()))));
        query.extend(self.replay.clone().map(|replay| ("replay", replay)));
        if self.alerts {
            query.push(("as", "alerts".to_owned()));
        }
        query.extend(self.block.map(|block| ("block_s", block.as_secs().to_string())));
        Ok((query, text))
    }

    fn rows(&self, settings: &Settings, file: &Path) -> Result<Vec<Value>, Failure> {
        let (query, text) = self.asked(file)?;
        answer::all_rows(settings, &self.answer, "/v1/backtest", &query, text)
            .map_err(|failure| failure.context(file.display().to_string()))
    }
}

fn is_png(file: &Path) -> bool {
    file.extension().is_some_and(|of| of.eq_ignore_ascii_case("png"))
}

/// What a query file is called by: both versions by that of the first.
fn query_name(file: &Path) -> &str {
    file.file_stem().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What two files are called beside each other: by their names, or where they are if those are
/// the same.
fn names(file: &Path, other: &Path) -> [String; 2] {
    let names = [file, other].map(|of| of.file_name().unwrap_or_default());
    let paths = [file, other].map(|of| of.display().to_string());
    if names[0] == names[1] { paths } else { names.map(|of| of.to_string_lossy().into_owned()) }
}

fn print(options: &Options, compared: &[Compared]) {
    if options.answer.wants_json() {
        let rows = compared.iter().map(|of| match (&of.only, options.against.is_some()) {
            (_, false) => of.row.clone(),
            (only, true) => {
                let mut row = of.row.clone();
                row["only_in"] = json!(only);
                row
            }
        });
        println!("{}", Value::from_iter(rows));
        return;
    }
    if compared.is_empty() {
        println!("nothing would have been {}", if options.alerts { "told" } else { "given" });
        return;
    }
    let mut heads: Vec<String> = Vec::new();
    for of in compared {
        for key in of.row.as_object().into_iter().flatten().map(|(key, _)| key) {
            if !heads.contains(key) {
                heads.push(key.clone());
            }
        }
    }
    let cell = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = compared.iter().map(|of| {
        let cells = heads.iter().map(|head| cell(&of.row[head.as_str()]));
        let only = options.against.is_some().then(|| of.only.clone().unwrap_or("both".to_owned()));
        only.into_iter().chain(cells).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let first = options.against.is_some().then(|| "in".to_owned());
    let heads: Vec<String> = first.into_iter().chain(heads.iter().cloned()).collect();
    table_of(&heads, &rows);
    if let Some(other) = &options.against {
        let what = if options.alerts { "alerts" } else { "rows" };
        let count =
            |name: Option<&str>| compared.iter().filter(|of| of.only.as_deref() == name).count();
        let [file, other] = names(&options.file, other);
        let told = format!(
            "{} {what} in both, {} only in {file}, {} only in {other}",
            count(None),
            count(Some(&file)),
            count(Some(&other)),
        );
        println!("\n{}", plain(&told));
    }
}

#[cfg(feature = "analytics")]
fn draw(options: &Options, compared: &[Compared], file: &Path) -> Result<(), Failure> {
    let time = if options.alerts { "told" } else { "window_start" };
    let what = if options.alerts { "Alerts" } else { "Rows" };
    let title = format!("{what} of {}", query_name(&options.file));
    let names = options.against.as_ref().map(|other| names(&options.file, other));
    let png = picture::draw(title, compared, time, names)?;
    let written = std::fs::write(file, png).with_context(|| format!("write {}", file.display()));
    written.map_err(Failure::Usage)
}

#[cfg(not(feature = "analytics"))]
fn draw(_: &Options, _: &[Compared], _: &Path) -> Result<(), Failure> {
    Err(Failure::Usage(anyhow!("this program is built without analytics, and draws no charts")))
}

/// A time in RFC 3339, or how long ago.
fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = span(text).map_err(|_| {
        format!("{text:?} is no time; write 2026-01-31T10:00:00Z, or 12h or 7d for so long ago")
    })?;
    Timestamp::now().checked_sub(ago).map_err(|error| error.to_string())
}
