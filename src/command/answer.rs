//! What an analytics node answers, printed.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::rows::plain;
use crate::cli::{Failure, Settings};
use crate::config;

/// There on answers that have fewer rows than the query (docs/sql.md).
const CUT_HEADER: &str = "weir-rows-cut";

/// Which node is asked, and how its rows are printed.
#[derive(Debug, Args)]
#[group(id = "answer")]
pub(crate) struct Options {
    /// How the rows are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print JSON; the same as `--format json`
    #[arg(long)]
    json: bool,
    /// The analytics node; as the settings say, if it is left out
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The file of the admin token, the one in the data directory if it is left out; with
    /// `--user`, of that user's key or password
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A user of the registry to ask as
    #[arg(long, value_name = "NAME", requires = "token_file")]
    user: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A table to read
    Table,
    /// A header and a line for each row
    Csv,
    /// An array of objects
    Json,
    /// An Arrow stream
    Arrow,
    /// A Parquet file
    Parquet,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain",
            Self::Csv => "text/csv",
            Self::Json => "application/json",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Which node is told something, and whether its answer is printed as JSON.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Asked {
    /// The analytics node; as the settings say, if it is left out
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The file of the admin token; the one in the data directory, if it is left out
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Who says something, and why.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Word {
    /// Who says so; the user of this shell, if it is left out
    #[arg(long, env = "USER", hide_env = true)]
    by: String,
    /// Why, for who looks at it later
    #[arg(long, default_value = "")]
    note: String,
}

impl Asked {
    /// The rows that a query answers.
    pub(crate) fn rows(&self, settings: &Settings, sql: String) -> Result<Vec<Value>, Failure> {
        let node = Node::of(settings, self.server.as_deref(), self.token_file.as_deref())?;
        let rows = node.ask("/v1/sql", &[], Body::Text(sql), Format::Json)?;
        Ok(serde_json::from_slice(&rows.body).context("read the rows")?)
    }

    /// Tells the node something, and reads its answer.
    pub(crate) fn tell(
        &self,
        settings: &Settings,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        tell(settings, (self.server.as_deref(), self.token_file.as_deref()), path, body)
    }

    /// Reads what stands at a path.
    pub(crate) fn get(&self, settings: &Settings, path: &str) -> Result<Value, Failure> {
        let node = Node::of(settings, self.server.as_deref(), self.token_file.as_deref())?;
        let answer = node.ask(path, &[], Body::None, Format::Json)?;
        Ok(serde_json::from_slice(&answer.body).context("read the answer of the analytics node")?)
    }

    /// Whether JSON is printed.
    pub(crate) fn wants_json(&self) -> bool {
        self.json
    }

    /// Prints rows, or that there are none.
    pub(crate) fn print(&self, rows: &[Value], none: &str, table: impl FnOnce(&[Value])) {
        match rows {
            _ if self.json => println!("{}", serde_json::json!(rows)),
            [] => println!("{none}"),
            rows => table(rows),
        }
    }

    /// Prints what was done.
    pub(crate) fn done(&self, answer: &Value, told: &str) {
        match self.json {
            true => println!("{answer}"),
            false => println!("{}", plain(told)),
        }
    }
}

/// Posts a body to an analytics node, and prints the rows of its answer.
pub(crate) fn post(
    settings: &Settings,
    options: &Options,
    path: &str,
    query: &[(&str, String)],
    body: String,
) -> Result<(), Failure> {
    let format = if options.json { Format::Json } else { options.format };
    let mut node = Node::of(settings, options.server.as_deref(), options.token_file.as_deref())?;
    node.user.clone_from(&options.user);
    let rows = node.ask(path, query, Body::Text(body), format)?;
    let mut out = std::io::stdout().lock();
    let end = if matches!(format, Format::Json) { &b"\n"[..] } else { b"" };
    let written =
        out.write_all(&rows.body).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    match written {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(Failure::Other(anyhow::Error::new(error).context("print the rows")));
        }
        _ => {}
    }
    if rows.are_cut {
        eprintln!("weir: there are more rows; these are as many as one query may answer");
    }
    Ok(())
}

impl Options {
    /// Whether the rows are to be printed as a table, or as JSON.
    pub(crate) fn is_table_or_json(&self) -> bool {
        self.json || matches!(self.format, Format::Table | Format::Json)
    }

    /// Whether they are to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        self.json || matches!(self.format, Format::Json)
    }
}

/// All rows of what a body is answered, or an error.
pub(crate) fn all_rows(
    settings: &Settings,
    options: &Options,
    path: &str,
    query: &[(&str, String)],
    body: String,
) -> Result<Vec<Value>, Failure> {
    let mut node = Node::of(settings, options.server.as_deref(), options.token_file.as_deref())?;
    node.user.clone_from(&options.user);
    let rows = node.ask(path, query, Body::Text(body), Format::Json)?;
    if rows.are_cut {
        return Err(Failure::Usage(anyhow!(
            "it gives more rows than one query may answer; narrow the time"
        )));
    }
    Ok(serde_json::from_slice(&rows.body).context("read the rows")?)
}

/// The texts that a query answers in its one column; all of them, or an error.
pub(crate) fn texts(
    settings: &Settings,
    server: Option<&str>,
    token_file: Option<&Path>,
    sql: String,
) -> Result<Vec<String>, Failure> {
    let node = Node::of(settings, server, token_file)?;
    let rows = node.ask("/v1/sql", &[], Body::Text(sql), Format::Json)?;
    let usage = |reason: &str| Failure::Usage(anyhow!("the query {reason}"));
    if rows.are_cut {
        return Err(usage("answers more rows than one may; narrow it"));
    }
    let read = serde_json::from_slice(&rows.body);
    let rows: Vec<serde_json::Map<String, Value>> = read.context("read the rows")?;
    let mut texts = Vec::with_capacity(rows.len());
    for row in rows {
        // What is null is left out.
        match row.into_iter().collect::<Vec<_>>().as_slice() {
            [] => {}
            [(_, Value::String(text))] => texts.push(text.clone()),
            [(_, Value::Null)] => {}
            [_] => return Err(usage("answers no texts")),
            _ => return Err(usage("answers more than one column; select the ids alone")),
        }
    }
    Ok(texts)
}

/// Tells an analytics node something, and reads its answer.
pub(crate) fn tell(
    settings: &Settings,
    (server, token_file): (Option<&str>, Option<&Path>),
    path: &str,
    body: &Value,
) -> Result<Value, Failure> {
    let node = Node::of(settings, server, token_file)?;
    let answer = node.ask(path, &[], Body::Json(body), Format::Json)?;
    Ok(serde_json::from_slice(&answer.body).context("read the answer of the analytics node")?)
}

/// What a request has.
enum Body<'a> {
    /// It is a GET.
    None,
    Text(String),
    Json(&'a Value),
}

/// An analytics node, from outside.
struct Node {
    server: String,
    token: String,
    /// Whose key or password the token is.
    user: Option<String>,
}

struct Rows {
    body: Vec<u8>,
    /// Whether there were more.
    are_cut: bool,
}

impl Node {
    fn of(
        settings: &Settings,
        server: Option<&str>,
        token_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
        let kept = config.data_dir.join(config::TOKEN_FILE);
        let server = server.map(str::to_owned);
        Ok(Self {
            server: server.unwrap_or_else(|| format!("http://{}", config.analytics_address())),
            token: super::read_token(token_file.unwrap_or(&kept))?,
            user: None,
        })
    }

    fn ask(
        &self,
        path: &str,
        query: &[(&str, String)],
        body: Body<'_>,
        format: Format,
    ) -> Result<Rows, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let server = &self.server;
        let asked = async {
            let url = format!("{server}{path}");
            let request = match body {
                Body::None => super::client()?.get(url),
                Body::Text(_) | Body::Json(_) => super::client()?.post(url),
            };
            let request = request.query(query).header(http::header::ACCEPT, format.media_type());
            let request = match &self.user {
                Some(user) => request.basic_auth(user, Some(&self.token)),
                None => request.bearer_auth(&self.token),
            };
            let request = match body {
                Body::Text(text) => request.body(text),
                Body::Json(value) => request.json(value),
                Body::None => request,
            };
            let response = request.send().await.with_context(|| {
                format!("reach the analytics node at {server}; is weir running there?")
            })?;
            let status = response.status();
            let are_cut = response.headers().contains_key(CUT_HEADER);
            let body = response.bytes().await;
            let body = body.with_context(|| format!("read the answer of {server}"))?;
            if status.is_success() {
                return Ok(Rows { body: body.to_vec(), are_cut });
            }
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
            let detail = text("detail");
            let told = if detail.is_empty() { text("title") } else { detail };
            let error = anyhow!("{told} ({status}, {})", text("code"));
            let theirs = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
            Err(if theirs { Failure::Usage(error) } else { Failure::Other(error) })
        };
        runtime.context("start the runtime")?.block_on(asked)
    }
}
