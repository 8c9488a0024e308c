//! `cargo xtask bench footprint`: whether the agent fits on a small router.
//!
//! The size is that of the aarch64 binary of `cargo xtask dist`. The memory is that of its x86_64 binary on this machine:
//! QEMU's user emulation adds its own translated code to a process, so it cannot tell what an ARM router would. On
//! another machine than x86_64 it is that of the ordinary release build, which is told beside it in any case.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use weft_hil::{
    distribution::{Architecture, distributed},
    process::raise_open_files,
};

use super::{
    control::{line, megabytes, within},
    daemon::Agent,
    server::{Resident, Server, release},
    swarm::Swarm,
};
use crate::{
    dist::{Builder, Program},
    sandbox, setup,
    tally::Tally,
    workspace::{heading, target},
};

/// Bytes of `weft` for aarch64.
const SIZE_LIMIT: u64 = 5_000_000;
/// Nodes of a mesh, the agent included, and the resident memory of the idle agent at its most, in bytes.
const MESHES: [(u16, u64); 2] = [(20, 8_000_000), (2_000, 16_000_000)];
/// Peers that the simulated nodes hold, fewer than there are; the agent holds all of them.
const CAPACITY: u32 = 8;

/// What others have published of tailscaled, as they put it, and where.
const PUBLISHED: [(&str, &str, &str); 5] = [
    ("binary, full, for OpenWrt", "30 to 35 MB", "github.com/fl0w1nd/openwrt-tailscale"),
    ("binary, 1.90.8 without its optional parts, mipsel", "16.6 MB", "github.com/tailscale/tailscale/issues/18013"),
    ("resident, the same build on a router", "32.3 MB", "github.com/tailscale/tailscale/issues/18013"),
    ("resident, as tailscale's support has it", "about 40 MB", "github.com/tailscale/tailscale/issues/15435"),
    ("resident, at run time on OpenWrt", "about 60 MB", "github.com/GuNanOvO/openwrt-tailscale"),
];

/// Builds, and goes on inside the sandbox.
pub(super) fn prepare() -> Result<ExitCode> {
    setup::c_compiler()?;
    setup::required_tools(setup::NAMESPACES)?;
    Builder::set_up(Architecture::Aarch64)?.build(Program::Agent)?;
    if cfg!(target_arch = "x86_64") {
        Builder::set_up(Architecture::X86_64)?.build(Program::Agent)?;
    }
    super::build()?;
    sandbox::reexec(["bench", "footprint"])
}

/// Measures.
pub(super) fn measure() -> Result<ExitCode> {
    sandbox::prepare()?;
    raise_open_files()?;
    let aarch64 = distributed(Architecture::Aarch64, "weft")?;
    let size = aarch64.metadata().with_context(|| format!("cannot read {}", aarch64.display()))?.len();
    heading("weft on a small router");
    line("weft for aarch64, static, stripped", &megabytes(size));
    let mut idle = Vec::new();
    for program in programs()? {
        println!("{}:", program.display());
        idle.clear();
        for (nodes, limit) in MESHES {
            let resident = idle_in_mesh(&program, nodes)?;
            line(&format!("  resident memory, idle in a mesh of {nodes} nodes"), &megabytes(resident.now));
            line("  at its most, while it joined", &megabytes(resident.peak));
            idle.push((nodes, resident, limit));
        }
    }
    heading("tailscaled, as published");
    for (what, figure, source) in PUBLISHED {
        println!("{what:<52} {figure:>12}   {source}");
    }
    println!("Nobody seems to have published its memory in a mesh of 2,000 nodes.");

    heading("Limits");
    let mut tally = Tally::default();
    tally.check(&format!("weft for aarch64 has at most {}", megabytes(SIZE_LIMIT)), within(size, SIZE_LIMIT, "bytes"));
    for (nodes, resident, limit) in idle {
        tally.check(
            &format!("idle in a mesh of {nodes} nodes, the agent stays within {}", megabytes(limit)),
            within(resident.peak, limit, "bytes"),
        );
    }
    Ok(tally.finish())
}

/// The builds for this machine; the last one is that which limits are for.
fn programs() -> Result<Vec<PathBuf>> {
    let mut programs = vec![release("weft")];
    if cfg!(target_arch = "x86_64") {
        programs.push(distributed(Architecture::X86_64, "weft")?);
    }
    Ok(programs)
}

/// The memory of an agent that knows all nodes of its mesh and talks to none.
fn idle_in_mesh(program: &Path, nodes: u16) -> Result<Resident> {
    let folder = tempfile::tempdir_in(target()).context("cannot make a folder for the server")?;
    let server = Server::start(folder.path())?;
    let key = server.join_key(folder.path())?;
    let agent = Agent::start(program, folder.path())?;
    agent.join(&key)?;
    let peers = nodes - 1;
    let _swarm = Swarm::start(&key, peers, 0, CAPACITY)?;
    agent.wait_until_it_knows(peers.into())?;
    agent.wait_until_it_keeps(peers.into())?;
    agent.resident()
}
