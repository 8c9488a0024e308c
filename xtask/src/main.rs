//! Everything that a person or CI runs, as `cargo xtask <command>`.
//!
//! | module | holds |
//! |---|---|
//! | [`workspace`] | where the workspace is, and cargo in it |
//! | [`setup`] | what the machine must have: Debian packages, packages of PyPI, rustup targets, cargo-deny, a C compiler |
//! | [`toolchain`] | which Rust compiler builds for a target that is not this machine |
//! | [`sandbox`] | fresh namespaces for everything that makes interfaces, so that nothing outlives the command |
//! | [`tally`] | counts of passed, failed and skipped |
//! | [`mod@bench`] | `cargo xtask bench` |
//! | [`demo`] | `cargo xtask demo` |
//! | [`dist`] | `cargo xtask dist` |
//! | [`firmware`] | `cargo xtask firmware` |
//! | [`mod@test`] | `cargo xtask test` |
//! | [`no_alloc`] | the checks that core needs no heap |
//! | [`lint`] | `cargo xtask lint` |

#![allow(clippy::print_stdout, reason = "a command-line program talks to its user there")]

mod bench;
mod demo;
mod dist;
mod firmware;
mod guide;
mod lint;
mod no_alloc;
mod sandbox;
mod setup;
mod tally;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Everything that a person or CI runs.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a mesh of three machines and a microcontroller: join, talk, and look at what the network in between sees
    ///
    /// Everything happens in network namespaces of this machine, as root or as a plain user, and is gone afterwards.
    Demo(demo::Options),
    /// Run all tests: unit tests, vectors, the fuzz corpus, core on chips without a heap, whole systems in namespaces
    ///
    /// Installs what is missing (as root) or says what to install, builds, and runs the tests inside fresh mount,
    /// network and process namespaces, as root or as a plain user. The last line reads
    /// `N passed, N failed, N skipped`; what was skipped is listed above it with the reason.
    Test(test::Options),
    /// Check formatting, clippy, documentation, licences, file lengths and the places of unsafe code
    Lint,
    /// What CI runs: lint, firmware, test, and the benchmarks: the control server with 500 nodes, the agent with 1,000, the cryptography of the chips
    Ci,
    /// Measure, and fail where a limit is missed
    Bench(bench::Options),
    /// Build the firmware of the boards and tell its memory; provision and flash a board
    ///
    /// Fails where the memory is not that of the table in boards/README.md, and tells how far weft is from its goal.
    Firmware(firmware::Options),
    /// Build static, stripped binaries for small routers and servers, into `target/dist`, and print their sizes
    ///
    /// For x86_64, aarch64 and armv7. The first run gets Zig, which compiles the C parts, from PyPI, and Debian's Rust for
    /// processors that rustup has no standard library for.
    Dist(dist::Options),
}

fn main() -> ExitCode {
    sandbox::note_program();
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            println!("\ncargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Command::Demo(options) => demo::run(options),
        Command::Test(options) => test::run(options),
        Command::Bench(options) => bench::run(options),
        Command::Lint => lint::run(),
        Command::Ci => ci(),
        Command::Firmware(options) => firmware::run(options),
        Command::Dist(options) => dist::run(options),
    }
}

fn ci() -> Result<ExitCode> {
    for part in
        [lint::run as fn() -> Result<ExitCode>, firmware::ci, || test::run(&test::Options::default()), bench::ci]
    {
        let code = part()?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
