//! `cargo xtask bench`: measurements with limits that fail when they are missed.

mod control;
mod memory_group;

use std::process::ExitCode;

use anyhow::Result;

use crate::sandbox;

/// What `cargo xtask bench` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, clap::Subcommand)]
enum Subject {
    /// The control server: memory, time to join, time and bytes for a change of one node
    ///
    /// Simulated nodes in a process of their own hold real TCP connections to a server whose memory is limited
    /// to 1 GB. Exits non-zero where a limit is missed.
    Control(control::Options),
}

/// Runs a benchmark.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let Subject::Control(options) = &options.subject;
    if sandbox::inside() { control::measure(options) } else { control::prepare(options) }
}

/// The benchmark that CI runs.
pub(crate) fn ci() -> Result<ExitCode> {
    control::prepare(&control::Options::of_ci())
}
