//! `weft`: Weft's daemon, command line and userspace WireGuard.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    weft_agent::cli::run(weft_agent::cli::Cli::parse())
}
