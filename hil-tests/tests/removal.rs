//! Nodes are removed, expired and renamed on the server, and the others act on it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_hil::{
    mesh::{Mesh, Node, Setup},
    requirement::{PING, Requirement},
    suite::Suite,
    wait,
};

const MESH: &[Requirement] = &[Requirement::WeftBinaries, Requirement::Netns, Requirement::Tun, PING];

/// How long a thing may take that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(30);
/// From the call of the command line to the last connected node that acts on it.
const CHANGE_LIMIT: Duration = Duration::from_secs(1);

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("a_removed_node_is_unreachable_within_a_second", MESH, a_removed_node_is_unreachable)
        .test("a_removed_node_that_does_not_hear_of_it_is_refused_by_its_peers", MESH, a_deaf_node_is_refused)
        .test("a_node_that_was_away_learns_of_a_removal_when_it_reconnects", MESH, a_removal_is_learned_later)
        .test("an_expired_node_is_unreachable_within_a_second", MESH, an_expired_node_is_unreachable)
        .test("expiry_is_enforced_without_the_server", MESH, expiry_is_enforced_without_the_server)
        .test("a_renamed_node_shows_its_new_name", MESH, a_renamed_node_shows_its_new_name)
        .test("tagged_nodes_do_not_expire_and_others_do", MESH, tagged_nodes_do_not_expire)
        .run()
}

/// Three nodes; `laptop` and `pi` have talked to `nas`.
fn three() -> Result<(Mesh, [Node; 3])> {
    let mut mesh = Mesh::start()?;
    let nodes = [mesh.node("nas")?, mesh.node("laptop")?, mesh.node("pi")?];
    let [nas, laptop, pi] = &nodes;
    laptop.reaches(nas.mesh_ipv4()?, LIMIT)?;
    pi.reaches(nas.mesh_ipv4()?, LIMIT)?;
    Ok((mesh, nodes))
}

/// Makes a change and checks that none of `peers` reaches `address` a second later.
fn unreachable_after(change: impl FnOnce() -> Result<()>, peers: &[&Node], address: std::net::Ipv4Addr) -> Result<()> {
    let begin = Instant::now();
    change()?;
    for peer in peers {
        // One ping takes 300 ms where it is not answered, so the condition is last looked at when the second is over.
        let left = CHANGE_LIMIT.saturating_sub(begin.elapsed());
        wait::until(&format!("{} to stop reaching {address}", peer.name()), left, || !peer.ping(address))?;
    }
    for peer in peers {
        ensure!(!peer.ping(address), "{} reaches {address} again", peer.name());
    }
    Ok(())
}

fn a_removed_node_is_unreachable() -> Result<()> {
    let (mesh, [nas, laptop, pi]) = three()?;
    let address = nas.mesh_ipv4()?;
    unreachable_after(|| mesh.admin(&["node", "remove", "nas"]).map(drop), &[&laptop, &pi], address)?;
    for peer in [&laptop, &pi] {
        ensure!(peer.peer("nas")?.is_none(), "the status of {} still names nas", peer.name());
    }
    laptop.reaches(pi.mesh_ipv4()?, LIMIT)
}

fn a_deaf_node_is_refused() -> Result<()> {
    let (mesh, [nas, laptop, pi]) = three()?;
    let (address, others) = (nas.mesh_ipv4()?, [laptop.mesh_ipv4()?, pi.mesh_ipv4()?]);
    // Nothing that nas sends to the server arrives, so what the server says stays without an answer; nas itself goes
    // on, and only the peers can end it.
    nas.host.ip(&format!("route add blackhole {}/32", mesh.server_address().ip()))?;
    mesh.lab.router().ip(&format!("route add blackhole {}/32 table 7", nas.host.ipv4()))?;
    mesh.lab.router().ip(&format!("rule add from {} to {} lookup 7", mesh.server_address().ip(), nas.host.ipv4()))?;
    unreachable_after(|| mesh.admin(&["node", "remove", "nas"]).map(drop), &[&laptop, &pi], address)?;
    for other in others {
        ensure!(!nas.ping(other), "the removed node still reaches {other}");
    }
    ensure!(nas.peer("laptop")?.is_some(), "nas has heard of its removal, so this shows nothing about its peers");
    laptop.reaches(pi.mesh_ipv4()?, LIMIT)
}

fn a_removal_is_learned_later() -> Result<()> {
    let (mesh, [nas, mut laptop, _pi]) = three()?;
    let address = nas.mesh_ipv4()?;
    laptop.kill()?;
    mesh.admin(&["node", "remove", "nas"])?;
    laptop.start()?;
    wait::until("laptop to be connected", LIMIT, || laptop.is_connected().unwrap_or(false))?;
    wait::until("laptop to stop reaching nas", CHANGE_LIMIT, || !laptop.ping(address))?;
    ensure!(laptop.peer("nas")?.is_none(), "laptop's status still names nas");
    Ok(())
}

fn an_expired_node_is_unreachable() -> Result<()> {
    let (mesh, [nas, laptop, pi]) = three()?;
    let address = nas.mesh_ipv4()?;
    unreachable_after(|| mesh.admin(&["node", "expire", "nas"]).map(drop), &[&laptop, &pi], address)?;
    laptop.reaches(pi.mesh_ipv4()?, LIMIT)
}

fn expiry_is_enforced_without_the_server() -> Result<()> {
    let mut mesh = Mesh::start_with(Setup { serve: &["--key-validity", "15s"], ..Setup::default() })?;
    let (nas, laptop) = (mesh.node("nas")?, mesh.machine("laptop")?);
    laptop.join(&mesh.join_key(&["--tag", "tag:laptop"])?)?;
    let address = nas.mesh_ipv4()?;
    laptop.reaches(address, LIMIT)?;
    mesh.kill_server()?;
    ensure!(laptop.ping(address), "nas is unreachable before its key expires");
    wait::until("laptop to stop reaching nas", LIMIT, || !laptop.ping(address))?;
    let nas = laptop.peer("nas")?.context("the kept netmap names nas")?;
    ensure!(nas.get("Expired") == Some(&Value::Bool(true)), "the status does not say that the key expired: {nas}");
    Ok(())
}

fn a_renamed_node_shows_its_new_name() -> Result<()> {
    let (mesh, [nas, laptop, pi]) = three()?;
    let address = nas.mesh_ipv4()?;
    mesh.admin(&["node", "rename", "nas", "vault"])?;
    for peer in [&laptop, &pi] {
        let known = || peer.peer("vault").is_ok_and(|peer| peer.is_some());
        wait::until(&format!("{} to know the new name", peer.name()), CHANGE_LIMIT, known)?;
        ensure!(peer.peer("nas")?.is_none(), "{} still knows the old name", peer.name());
    }
    wait::until("nas to know its own new name", CHANGE_LIMIT, || nas.mesh_name().is_ok_and(|name| name == "vault"))?;
    let printed = laptop.weft(&["ip", "-4", "vault"])?;
    ensure!(printed.trim() == address.to_string(), "the new name has the address {printed}, not {address}");
    Ok(())
}

fn tagged_nodes_do_not_expire() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let (tagged, owned) = (mesh.machine("sensor")?, mesh.machine("laptop")?);
    tagged.join(&mesh.join_key(&["--tag", "tag:sensor"])?)?;
    owned.join(&mesh.join_key(&[])?)?;
    let expiry = |node: &Node| -> Result<Option<Value>> {
        let status = node.status()?;
        let this = status.get("Self").context("the status has no Self")?;
        Ok(this.get("KeyExpiry").filter(|expiry| !expiry.is_null()).cloned())
    };
    let (tagged, owned) = (expiry(&tagged)?, expiry(&owned)?);
    ensure!(tagged.is_none(), "the tagged node expires: {tagged:?}");
    ensure!(owned.is_some(), "the node of a user never expires");
    Ok(())
}
