//! The machine that a node is a guest on: its uplink, its other software, its clones.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};
use weft_hil::{
    mesh::{Mesh, Node},
    process::output,
    requirement::{PING, Requirement},
    suite::Suite,
    wait,
};

const MESH: &[Requirement] = &[Requirement::WeftBinaries, Requirement::Netns, Requirement::Tun, PING];

/// How long a thing may take that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("an_uplink_inside_the_mesh_range_keeps_its_gateway", MESH, an_uplink_inside_the_mesh_range)
        .test("a_running_tailscaled_is_named_and_left_alone", MESH, a_running_tailscaled)
        .test("two_machines_with_one_identity_are_named_at_both", MESH, two_machines_with_one_identity)
        .run()
}

/// Gives a machine, whose daemon does not run, an uplink behind carrier NAT: 100.64.0.0/10 is on its own wire.
fn move_into_mesh_range(mesh: &Mesh, node: &Node) -> Result<()> {
    let port = node.host.router_port();
    mesh.lab.router().ip(&format!("addr add 100.80.0.1/24 dev {port}"))?;
    node.host.ip("addr flush dev eth0 scope global")?;
    node.host.ip("addr add 100.80.0.2/24 dev eth0")?;
    node.host.ip("route add default via 100.80.0.1")?;
    Ok(())
}

fn an_uplink_inside_the_mesh_range() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let nas = mesh.node("nas")?;
    let mut phone = mesh.machine("phone")?;
    phone.kill()?;
    move_into_mesh_range(&mesh, &phone)?;
    let uplink = |node: &Node| -> Result<[String; 2]> {
        Ok([node.host.ip("route show default")?, node.host.ip("route get 100.80.0.1")?])
    };
    let before = uplink(&phone)?;
    phone.start()?;
    phone.join(&mesh.join_key(&[])?)?;
    phone.reaches(nas.mesh_ipv4()?, LIMIT)?;
    let after = uplink(&phone)?;
    ensure!(before == after, "the way to the gateway was {before:?} and is {after:?}");
    ensure!(phone.ping([100, 80, 0, 1]), "the gateway does not answer any more");
    Ok(())
}

fn a_running_tailscaled() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let mut laptop = mesh.machine("laptop")?;
    laptop.kill()?;
    // What a running tailscaled leaves in the kernel: its device, its address, its rules and its table.
    for line in [
        "tuntap add dev tailscale0 mode tun",
        "addr add 100.101.102.103/32 dev tailscale0",
        "link set tailscale0 up",
        "route add 100.64.0.0/10 dev tailscale0 table 52",
        "rule add pref 5210 fwmark 0x80000/0xff0000 lookup main",
        "rule add pref 5270 lookup 52",
    ] {
        laptop.host.ip(line)?;
    }
    let picture = |node: &Node| -> Result<[String; 3]> {
        Ok([
            node.host.ip("addr show dev tailscale0")?,
            node.host.ip("route show table 52")?,
            node.host.ip("rule show")?,
        ])
    };
    let before = picture(&laptop)?;
    laptop.start()?;
    laptop.join(&mesh.join_key(&[])?)?;
    let named =
        || laptop.health().is_ok_and(|sentences| sentences.iter().any(|sentence| sentence.contains("tailscaled")));
    wait::until("a sentence about tailscaled", LIMIT, named)?;
    let after = picture(&laptop)?;
    ensure!(before == after, "tailscaled's set-up was {before:?} and is {after:?}");
    Ok(())
}

fn two_machines_with_one_identity() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let original = mesh.node("pi")?;
    let mut clone = mesh.machine("copy")?;
    clone.kill()?;
    output(Command::new("cp").args(["-a", "-T"]).arg(original.state()).arg(clone.state()))?;
    clone.start()?;
    for node in [&original, &clone] {
        let named =
            || node.health().is_ok_and(|sentences| sentences.iter().any(|sentence| sentence.contains("identity")));
        wait::until(&format!("a sentence about the second machine in the status of {}", node.name()), LIMIT, named)?;
    }
    Ok(())
}
