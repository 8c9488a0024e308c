//! `cargo xtask bench control`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use weft_hil::process::raise_open_files;

use super::{
    memory_group::MemoryGroup,
    server::{MEMORY_LIMIT, Server},
    swarm::{HOLDERS, Swarm, micros},
};
use crate::{
    sandbox, setup,
    tally::Tally,
    workspace::{heading, target},
};

/// What `cargo xtask bench control` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Simulated nodes
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(100..))]
    nodes: u16,
    /// Those of them that hold every peer; the others hold few and ask on demand
    #[arg(long, default_value_t = 10)]
    full: u16,
    /// Peers that a node which is not full declares that it can hold
    #[arg(long, default_value_t = 64)]
    capacity: u32,
}

/// Nodes in the run of CI.
const CI_NODES: u16 = 500;
/// From the call of the command line to the last node concerned.
const CHANGE_LIMIT: Duration = Duration::from_secs(1);
/// What one change may cost a node concerned, in bytes of records: two of the largest.
const CHANGE_BYTES_LIMIT: u64 = 2 << 10;
/// How many times the node is renamed; the slowest counts.
const CHANGES: usize = 5;

impl Options {
    /// What CI measures.
    pub(super) fn of_ci() -> Self {
        Self { nodes: CI_NODES, full: 10, capacity: 64 }
    }
}

/// Builds, and goes on inside the sandbox.
pub(super) fn prepare(options: &Options) -> Result<ExitCode> {
    setup::c_compiler()?;
    setup::required_tools(setup::NAMESPACES)?;
    super::build()?;
    let Options { nodes, full, capacity } = options;
    let arguments = format!("bench control --nodes {nodes} --full {full} --capacity {capacity}");
    sandbox::reexec(arguments.split(' '))
}

/// Measures.
pub(super) fn measure(options: &Options) -> Result<ExitCode> {
    sandbox::prepare()?;
    raise_open_files()?;
    // On a disk, since the server waits for it; the sandbox's own temporary files are in memory.
    let folder = tempfile::tempdir_in(target()).context("cannot make a folder for the server")?;
    heading(&format!("{} nodes, {} of them full", options.nodes, options.full));
    let server = Server::start(folder.path())?;
    let key = server.join_key(folder.path())?;
    let before = server.resident()?;

    let (mut swarm, joined) = Swarm::start(&key, options.nodes, options.full, options.capacity)?;
    let total = micros(&joined, "total_micros")?;
    line("all nodes joined after", &format!("{:.1} s", total.as_secs_f64()));
    line("", &format!("{:.0} nodes a second", f64::from(options.nodes) / total.as_secs_f64()));
    line("one node, median", &format!("{:.1} ms", millis(micros(&joined, "median_micros")?)));
    line("one node, slowest of a hundred", &format!("{:.1} ms", millis(micros(&joined, "slowest_percent_micros")?)));
    let resident = server.resident()?;
    line("server's resident memory, empty", &megabytes(before.now));
    line("server's resident memory, all connected", &megabytes(resident.now));
    line("for each node", &format!("{:.1} KB", (resident.now - before.now) as f64 / 1e3 / f64::from(options.nodes)));

    let target =
        joined.get("target").and_then(serde_json::Value::as_str).context("the nodes named no target")?.to_owned();
    swarm.order(&format!("hold {target}"))?;
    let mut slowest = Duration::ZERO;
    let (mut full, mut holder, mut others) = (0, 0, 0);
    let mut name = target;
    for change in 0..CHANGES {
        let new = format!("renamed-{change}");
        let arrived = swarm.change(&new, || server.admin(&["node", "rename", &name, &new]).map(drop))?;
        slowest = slowest.max(arrived.time);
        full = full.max(arrived.full_bytes / u64::from(options.full.max(1)));
        holder = holder.max(arrived.holder_bytes / u64::from(HOLDERS));
        others = others.max(arrived.other_bytes);
        name = new;
    }
    let concerned = options.full + HOLDERS;
    line("a node renamed: the last one concerned knew after", &format!("{:.1} ms", millis(slowest)));
    line("bytes to each full node", &full.to_string());
    line("bytes to each on-demand node that holds it", &holder.to_string());
    line(&format!("bytes to the {} other nodes together", options.nodes - 1 - concerned), &others.to_string());
    let resident = server.resident()?;
    let peak = server.group.as_ref().and_then(MemoryGroup::peak);
    line("server's resident memory at its most", &megabytes(resident.peak));
    match peak {
        Some(peak) => line("with the kernel's for it, at its most", &megabytes(peak)),
        None => println!("The memory is not limited and the kernel's share is not known here: {}.", server.unlimited),
    }
    drop(swarm);
    drop(server);

    heading("Limits");
    let mut tally = Tally::default();
    tally.check(
        &format!("the server stays within {}", megabytes(MEMORY_LIMIT)),
        within(peak.unwrap_or(resident.peak), MEMORY_LIMIT, "bytes"),
    );
    tally.check(
        &format!("a change reaches all concerned within {CHANGE_LIMIT:?}"),
        within(slowest.as_millis() as u64, CHANGE_LIMIT.as_millis() as u64, "ms"),
    );
    tally.check(
        &format!("a change costs a node concerned at most {CHANGE_BYTES_LIMIT} bytes, whatever the size of the mesh"),
        within(full.max(holder), CHANGE_BYTES_LIMIT, "bytes"),
    );
    tally.check("a change costs the nodes not concerned nothing", within(others, 0, "bytes"));
    Ok(tally.finish())
}

pub(super) fn within(measured: u64, limit: u64, unit: &str) -> Result<()> {
    ensure!(measured <= limit, "{measured} {unit}, of {limit} allowed");
    Ok(())
}

pub(super) fn line(what: &str, value: &str) {
    println!("{what:<56} {value:>16}");
}

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
