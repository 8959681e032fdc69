//! Weir, the program: its command line, its settings, and the wiring of its roles.

mod cli;
mod command;
mod config;
mod example;
mod node;
mod replay;

use std::process::ExitCode;

/// A request through the gateway costs 6 in 100 less with it than with glibc's, whose fast
/// path ends at 1 KiB (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
