//! The binaries of `cargo xtask dist` for the processors of small routers, emulated: they join and talk.
//!
//! QEMU emulates the processor and passes system calls to the kernel of this machine, so TUN device, sockets and
//! netlink are the real ones, and what differs between processors (sizes of words, layouts of structures, system calls)
//! is under test. Time and memory are not: an emulated program is slower and larger.

use std::time::Duration;

use anyhow::{Result, ensure};
use weft_hil::{
    distribution::{Architecture, Program},
    mesh::{Mesh, Setup},
    requirement::{PING, Requirement},
    suite::Suite,
    transfer, wait,
};

/// The emulators; one Debian package has all of them.
const fn emulator(name: &'static str) -> Requirement {
    Requirement::Program { name, package: "qemu-user-static" }
}

const AARCH64: &[Requirement] = &[
    Requirement::WeftBinaries,
    Requirement::Distributed { architecture: Architecture::Aarch64, names: &["weft"] },
    emulator("qemu-aarch64-static"),
    Requirement::Netns,
    Requirement::Tun,
    PING,
];

const AARCH64_SERVER: &[Requirement] = &[
    Requirement::WeftBinaries,
    Requirement::Distributed { architecture: Architecture::Aarch64, names: &["weft", "weft-control"] },
    emulator("qemu-aarch64-static"),
    Requirement::Netns,
    Requirement::Tun,
    PING,
];

const ARMV7: &[Requirement] = &[
    Requirement::WeftBinaries,
    Requirement::Distributed { architecture: Architecture::Armv7, names: &["weft", "weft-control"] },
    emulator("qemu-arm-static"),
    Requirement::Netns,
    Requirement::Tun,
    PING,
];

/// How long a thing may take that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes each way.
const TRANSFER: usize = 4 << 20;
/// The TCP port of the transfers.
const PORT: u16 = 5201;

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("an_aarch64_router_joins_and_talks", AARCH64, || a_router_joins_and_talks(Architecture::Aarch64))
        .slow("an_armv7_router_joins_and_talks", ARMV7, || a_router_joins_and_talks(Architecture::Armv7))
        .slow("an_aarch64_server_serves", AARCH64_SERVER, || a_server_serves(Architecture::Aarch64))
        .slow("an_armv7_server_serves", ARMV7, || a_server_serves(Architecture::Armv7))
        .run()
}

fn a_router_joins_and_talks(architecture: Architecture) -> Result<()> {
    let mut mesh = Mesh::start()?;
    let laptop = mesh.node("laptop")?;
    let mut router = mesh.machine_with("router", Program::weft_of(architecture)?)?;
    router.join(&mesh.join_key(&[])?)?;
    let (near, far) = (laptop.mesh_ipv4()?, router.mesh_ipv4()?);
    laptop.reaches(far, LIMIT)?;
    router.reaches(near, LIMIT)?;
    transfer::both_ways(&laptop.host, &router.host, (far, PORT).into(), TRANSFER)?;
    transfer::both_ways(&router.host, &laptop.host, (near, PORT).into(), TRANSFER)?;
    let Some(peer) = router.peer("laptop")? else { anyhow::bail!("the router does not list the laptop") };
    let received = peer.get("RxBytes").and_then(serde_json::Value::as_u64).unwrap_or_default();
    ensure!(received as usize >= 2 * TRANSFER, "the router counts {received} bytes from the laptop");
    // What it kept on its disk serves after a power cut, without a key.
    router.kill()?;
    router.start()?;
    router.reaches(near, LIMIT)?;
    ensure!(router.mesh_ipv4()? == far, "the router has another address after its restart");
    Ok(())
}

fn a_server_serves(architecture: Architecture) -> Result<()> {
    let server = Some(Program::weft_control_of(architecture)?);
    let mut mesh = Mesh::start_with(Setup { server, ..Setup::default() })?;
    let laptop = mesh.node("laptop")?;
    let router = mesh.machine_with("router", Program::weft_of(architecture)?)?;
    router.join(&mesh.join_key(&[])?)?;
    laptop.reaches(router.mesh_ipv4()?, LIMIT)?;
    mesh.kill_server()?;
    mesh.start_server()?;
    wait::until("both nodes to be connected again", LIMIT, || {
        [&laptop, &router].into_iter().all(|node| node.is_connected().unwrap_or(false))
    })?;
    mesh.admin(&["node", "rename", "router", "gate"])?;
    wait::until("the laptop to know the new name", LIMIT, || laptop.peer("gate").is_ok_and(|peer| peer.is_some()))
}
