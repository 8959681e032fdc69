//! What a queue takes and delivers, beside another broker; what poisoned keys, and a million
//! messages that wait, cost the others; and what a schedule costs.
//!
//! `./dev bench` prints tables in Markdown. One node on the embedded log, on this machine's
//! disk; the target is an HTTP server in the same process. `-- brokers`, `-- poison`,
//! `-- waiting` and `-- scheduled` measure one of the four.

mod brokers;
mod node;
mod poison;
mod scheduled;
mod waiting;

use anyhow::Result;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(at) = arguments.iter().position(|argument| argument == "--node") {
        return runtime.block_on(waiting::serve(&arguments[at + 1..]));
    }
    let is_asked = |name: &str| {
        let mut names = arguments[1..].iter().filter(|of| !of.starts_with('-')).peekable();
        names.peek().is_none() || names.any(|of| of == name)
    };
    if is_asked("brokers") {
        runtime.block_on(brokers::measure())?;
    }
    if is_asked("poison") {
        runtime.block_on(poison::measure())?;
    }
    if is_asked("scheduled") {
        runtime.block_on(scheduled::measure())?;
    }
    if is_asked("waiting") {
        runtime.block_on(waiting::measure())?;
    }
    Ok(())
}
