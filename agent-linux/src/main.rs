//! `weft`: Weft's daemon, command line and userspace WireGuard.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A node of a private WireGuard mesh.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a userspace WireGuard on a network device, configured by wg(8)
    Tunnel(weft_agent::tunnel::Args),
}

#[expect(clippy::print_stderr, reason = "a command line says its errors on standard error")]
fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Tunnel(args) => weft_agent::tunnel::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::FAILURE
        }
    }
}
