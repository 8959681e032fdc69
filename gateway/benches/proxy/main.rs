//! What a request costs the gateway, beside nginx and Envoy.
//!
//! Every proxy has one worker on one core; origin and clients have the other. A
//! round asks each proxy in turn; what counts is the time that the proxy's process
//! was on a processor, per request, the median of the rounds. `./dev bench` runs it.
//! With `--train` it asks Weir alone, and says nothing: for a profile of the program.
//!
//! | subject | what it does |
//! | --- | --- |
//! | nginx, Envoy | forward, without an access log |
//! | weir, silent | the data plane as it is, its events thrown away unwritten |
//! | weir, open | an open API: each request is an event in the log |
//! | weir, guarded | JWT (RS256, 100 tokens that come again), subscription, quota, events |

mod load;
mod processor;
mod subject;

use std::time::Duration;

use anyhow::{Context, Result};
use rig::Proxy;

use crate::load::Load;
use crate::subject::{Mode, Weir};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 15;
const CONNECTIONS: [usize; 2] = [64, 4];
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;
const WARM_UP: Duration = Duration::from_millis(500);
/// How long each is asked for a profile.
const TRAINING: Duration = Duration::from_secs(5);

/// One that is measured.
struct Subject {
    name: &'static str,
    pid: u32,
    address: std::net::SocketAddr,
    /// The heads that its clients send, in turn.
    heads: Vec<String>,
    results: Vec<(f64, f64, f64)>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--serve") {
        let mode = arguments.get(at + 1).context("a mode")?.parse()?;
        let origin = arguments.get(at + 2).context("an origin")?.parse()?;
        return subject::serve(mode, origin);
    }
    let time = Duration::from_secs_f64(
        std::env::var("WEIR_BENCH_SECONDS").map_or(Ok(1.0), |seconds| seconds.parse())?,
    );
    processor::pin(std::process::id(), LOAD_CORE)?;
    let load = Load::start()?;
    let origin = load.origin();
    let weirs = [Mode::Silent, Mode::Open, Mode::Guarded].map(|mode| Weir::start(mode, origin));
    let plain = |path: &str| vec![head(path, None)];
    let (mut running, mut of_weir) = (Vec::new(), Vec::new());
    for (name, weir) in ["weir, silent", "weir, open", "weir, guarded"].into_iter().zip(weirs) {
        let weir = weir?;
        let heads = match weir.tokens.as_slice() {
            [] => plain("/open/x"),
            tokens => tokens.iter().map(|token| head("/guarded/x", Some(token))).collect(),
        };
        of_weir.push(Subject::new(name, weir.pid, weir.address, heads));
        running.push(weir);
    }
    if arguments.iter().any(|argument| argument == "--train") {
        return train(&load, &of_weir);
    }
    let (nginx, envoy) = (Proxy::nginx(origin)?, Proxy::envoy(origin)?);
    let mut subjects = vec![
        Subject::new("nginx", nginx.pid(), nginx.address(), plain("/x")),
        Subject::new("Envoy", envoy.pid(), envoy.address(), plain("/x")),
    ];
    subjects.append(&mut of_weir);
    for subject in &subjects {
        processor::pin(subject.pid, PROXY_CORE)?;
    }
    for connections in CONNECTIONS {
        for subject in &mut subjects {
            subject.results.clear();
            load.ask(subject.address, &subject.heads, connections, WARM_UP)?;
        }
        for _ in 0..ROUNDS {
            for subject in &mut subjects {
                subject.measure(&load, connections, time)?;
            }
        }
        report(&subjects, connections);
    }
    Ok(())
}

/// Has each go through what it does, often enough to be counted.
fn train(load: &Load, subjects: &[Subject]) -> Result<()> {
    for subject in subjects {
        processor::pin(subject.pid, PROXY_CORE)?;
        for connections in CONNECTIONS {
            load.ask(subject.address, &subject.heads, connections, TRAINING)?;
        }
    }
    Ok(())
}

fn head(path: &str, token: Option<&String>) -> String {
    let authorization =
        token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nhost: api.example.org\r\nuser-agent: bench/1\r\naccept: */*\r\n\
         {authorization}\r\n"
    )
}

impl Subject {
    fn new(
        name: &'static str,
        pid: u32,
        address: std::net::SocketAddr,
        heads: Vec<String>,
    ) -> Self {
        Self { name, pid, address, heads, results: Vec::new() }
    }

    /// Microseconds of a processor per request, of the whole process and of the
    /// threads that serve, and requests per second.
    fn measure(&mut self, load: &Load, connections: usize, time: Duration) -> Result<()> {
        let all = || processor::on_processor_ns(self.pid, None);
        let serving = || processor::on_processor_ns(self.pid, Some("weir-plane"));
        let (before, serving_before) = (all()?, serving()?);
        let answered = load.ask(self.address, &self.heads, connections, time)? as f64;
        let us = |before: u64, after: u64| (after - before) as f64 / 1_000.0 / answered;
        let (whole, part) = (us(before, all()?), us(serving_before, serving()?));
        self.results.push((whole, part, answered / time.as_secs_f64()));
        Ok(())
    }

    fn median(&self, of: impl Fn(&(f64, f64, f64)) -> f64) -> f64 {
        let mut values: Vec<f64> = self.results.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}

fn report(subjects: &[Subject], connections: usize) {
    let nginx = subjects[0].median(|result| result.0);
    let silent = subjects[2].median(|result| result.0);
    println!("{connections} connections, {} bytes, {ROUNDS} rounds:", load::BODY_BYTES);
    println!("| proxy | CPU us/request | serving threads | / nginx | / silent | requests/s |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for subject in subjects {
        let whole = subject.median(|result| result.0);
        let serving = subject.median(|result| result.1);
        let serving = if serving > 0.0 { format!("{serving:.1}") } else { String::new() };
        let (to_nginx, to_silent) = (whole / nginx, whole / silent);
        let rate = subject.median(|result| result.2);
        let name = subject.name;
        println!(
            "| {name} | {whole:.1} | {serving} | {to_nginx:.2} | {to_silent:.2} | {rate:.0} |"
        );
    }
    println!();
}
