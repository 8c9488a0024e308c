//! `cargo xtask bench`: measurements with limits that fail when they are missed.

mod agent;
mod control;
mod cost;
mod daemon;
mod footprint;
mod memory_group;
mod server;
mod swarm;

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    sandbox,
    workspace::{cargo, heading, run as step},
};

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
    /// The agent: memory with many known peers, some of them with sessions
    Agent(agent::Options),
    /// The chips: instructions and time of the cryptography, ours and that of others, counted in QEMU
    Cost,
    /// The agent on a small router: size for aarch64, memory idle in a mesh of 20 and of 2,000 nodes
    Footprint,
}

/// Builds what is measured and the simulated nodes: always the same packages, since cargo builds dependencies anew for
/// another selection.
fn build() -> Result<()> {
    heading("Building agent, server and simulated nodes with optimisation");
    step(&mut cargo("build --release --package weft-agent --package weft-control --package weft-hil --bins"))
}

/// Runs a benchmark.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    match (&options.subject, sandbox::inside()) {
        (Subject::Control(options), false) => control::prepare(options),
        (Subject::Control(options), true) => control::measure(options),
        (Subject::Agent(options), false) => agent::prepare(options),
        (Subject::Agent(options), true) => agent::measure(options),
        (Subject::Footprint, false) => footprint::prepare(),
        (Subject::Footprint, true) => footprint::measure(),
        (Subject::Cost, _) => cost::run(),
    }
}

/// The benchmarks that CI runs.
pub(crate) fn ci() -> Result<ExitCode> {
    let benchmarks: [fn() -> Result<ExitCode>; 4] = [
        || control::prepare(&control::Options::of_ci()),
        || agent::prepare(&agent::Options::of_ci()),
        footprint::prepare,
        cost::run,
    ];
    for benchmark in benchmarks {
        let code = benchmark()?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}
