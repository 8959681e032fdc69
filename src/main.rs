//! Weir, the program: its command line, its settings, and the wiring of its roles.

mod cli;
mod command;
mod config;
mod example;
mod node;
mod replay;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
