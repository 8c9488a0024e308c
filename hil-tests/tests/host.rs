//! The machine that a node is a guest on: its uplink, its other software, its clones.

use std::{net::Ipv6Addr, process::Command, time::Duration};

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
        .test("a_name_server_inside_the_mesh_range_stays_reachable", MESH, a_name_server_inside_the_mesh_range)
        .test("an_address_that_the_machine_has_already_is_left_to_it", MESH, an_address_that_is_taken)
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

fn a_name_server_inside_the_mesh_range() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let (nas, pi) = (mesh.node("nas")?, mesh.node("pi")?);
    // The provider's name server has the very address that the mesh gave to nas, on an uplink outside the range.
    let name_server = nas.mesh_ipv4()?;
    mesh.lab.router().ip(&format!("addr add {name_server}/32 dev lo"))?;
    let mut laptop = mesh.machine("laptop")?;
    laptop.kill()?;
    laptop.set_resolv_conf(&format!("nameserver {name_server}\n"))?;
    let way = |node: &Node| node.host.ip(&format!("route get {name_server}"));
    let before = way(&laptop)?;
    laptop.start()?;
    laptop.join(&mesh.join_key(&[])?)?;
    laptop.reaches(pi.mesh_ipv4()?, LIMIT)?;
    let after = way(&laptop)?;
    ensure!(before == after, "the way to the name server was {before} and is {after}");
    ensure!(laptop.ping(name_server), "the name server does not answer any more");
    let health = laptop.health()?.join("\n");
    ensure!(health.contains(&format!("name server {name_server}")) && health.contains("nas"), "{health:?}");
    laptop.reaches(mesh_ipv6(&nas)?, LIMIT)
}

fn an_address_that_is_taken() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let (mut nas, pi) = (mesh.node("nas")?, mesh.node("pi")?);
    let address = nas.mesh_ipv4()?;
    nas.kill()?;
    nas.host.ip("tuntap add dev other mode tun")?;
    nas.host.ip(&format!("addr add {address}/32 dev other"))?;
    nas.start()?;
    let said = || nas.health().is_ok_and(|health| health.iter().any(|text| text.contains("is not set")));
    wait::until("a sentence about the address", LIMIT, said)?;
    ensure!(!nas.host.ip("addr show dev weft0")?.contains(&address.to_string()), "the address is set twice");
    ensure!(nas.host.ip("addr show dev other")?.contains(&address.to_string()), "the owner lost its address");
    pi.reaches(mesh_ipv6(&nas)?, LIMIT)
}

fn mesh_ipv6(node: &Node) -> Result<Ipv6Addr> {
    Ok(node.weft(&["ip", "-6"])?.trim().parse()?)
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
