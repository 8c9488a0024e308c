//! Agents and the server are killed and come back: who they are, whom they reach, and what was acknowledged, stays.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use weft_hil::{
    mesh::{Mesh, Node},
    requirement::{PING, Requirement},
    suite::Suite,
    wait,
};

const MESH: &[Requirement] = &[Requirement::WeftBinaries, Requirement::Netns, Requirement::Tun, PING];

/// How long a thing may take that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(30);
/// From the start of an agent to traffic.
const BACK_LIMIT: Duration = Duration::from_secs(5);

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("a_killed_agent_is_the_same_node_again_within_five_seconds", MESH, a_killed_agent_is_the_same_node_again)
        .test("a_restarted_agent_is_reached_where_only_the_survivor_sends", MESH, only_the_survivor_sends)
        .test("traffic_goes_on_without_the_server", MESH, traffic_goes_on_without_the_server)
        .test("an_agent_restarted_without_the_server_reaches_its_peers", MESH, restarted_without_the_server)
        .test("every_node_comes_back_to_a_restarted_server", MESH, nodes_come_back_to_a_restarted_server)
        .test("no_acknowledged_change_is_lost_with_a_killed_server", MESH, no_acknowledged_change_is_lost)
        .run()
}

/// Two nodes with a session between them.
fn pair() -> Result<(Mesh, Node, Node)> {
    let mut mesh = Mesh::start()?;
    let (a, b) = (mesh.node("nas")?, mesh.node("laptop")?);
    a.reaches(b.mesh_ipv4()?, LIMIT)?;
    Ok((mesh, a, b))
}

fn a_killed_agent_is_the_same_node_again() -> Result<()> {
    let (_mesh, mut nas, laptop) = pair()?;
    let before = (nas.mesh_ipv4()?, nas.mesh_name()?);
    nas.kill()?;
    nas.start()?;
    nas.reaches(laptop.mesh_ipv4()?, BACK_LIMIT)?;
    laptop.reaches(before.0, BACK_LIMIT)?;
    ensure!((nas.mesh_ipv4()?, nas.mesh_name()?) == before, "the restarted node is another one than {before:?}");
    Ok(())
}

fn only_the_survivor_sends() -> Result<()> {
    let (_mesh, mut nas, laptop) = pair()?;
    let address = nas.mesh_ipv4()?;
    nas.kill()?;
    nas.start()?;
    laptop.reaches(address, BACK_LIMIT)
}

fn traffic_goes_on_without_the_server() -> Result<()> {
    let (mut mesh, nas, laptop) = pair()?;
    let (to_nas, to_laptop) = (nas.mesh_ipv4()?, laptop.mesh_ipv4()?);
    mesh.kill_server()?;
    wait::until("laptop to notice that the server is gone", LIMIT, || laptop.is_connected().is_ok_and(|yes| !yes))?;
    ensure!(laptop.ping(to_nas) && nas.ping(to_laptop), "traffic stopped with the server");
    Ok(())
}

fn restarted_without_the_server() -> Result<()> {
    let (mut mesh, mut nas, laptop) = pair()?;
    let (to_nas, to_laptop) = (nas.mesh_ipv4()?, laptop.mesh_ipv4()?);
    mesh.kill_server()?;
    nas.kill()?;
    nas.start()?;
    nas.reaches(to_laptop, BACK_LIMIT)?;
    laptop.reaches(to_nas, BACK_LIMIT)?;
    ensure!(nas.peer("laptop")?.is_some(), "the kept netmap names laptop");
    Ok(())
}

fn nodes_come_back_to_a_restarted_server() -> Result<()> {
    let (mut mesh, nas, laptop) = pair()?;
    mesh.kill_server()?;
    wait::until("laptop to notice that the server is gone", LIMIT, || laptop.is_connected().is_ok_and(|yes| !yes))?;
    mesh.start_server()?;
    for node in [&nas, &laptop] {
        wait::until("the node to be connected again", LIMIT, || node.is_connected().unwrap_or(false))?;
    }
    let pi = mesh.node("pi")?;
    pi.reaches(nas.mesh_ipv4()?, LIMIT)
}

fn no_acknowledged_change_is_lost() -> Result<()> {
    const WRITERS: usize = 4;
    const BEFORE_THE_KILL: usize = 40;
    let mut mesh = Mesh::start()?;
    let mut server = mesh.take_server()?;
    let (acknowledged, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| -> Result<()> {
        for writer in 0..WRITERS {
            let (mesh, acknowledged, stop, made) = (&mesh, &acknowledged, &stop, &made);
            scope.spawn(move || {
                for number in 0.. {
                    let name = format!("user-{writer}-{number}");
                    if stop.load(Ordering::Acquire) || mesh.admin(&["user", "create", &name]).is_err() {
                        return;
                    }
                    acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                    made.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        let burst = wait::until("the burst to be under way", LIMIT, || made.load(Ordering::Acquire) >= BEFORE_THE_KILL);
        let killed = server.kill();
        // The command line works without a server too; it must not go on writing then.
        stop.store(true, Ordering::Release);
        burst.and(killed)
    })?;
    mesh.start_server()?;
    let listed = mesh.admin(&["user", "list"])?;
    let listed: Vec<&str> = listed.split_whitespace().collect();
    let acknowledged = acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner);
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !listed.contains(&name.as_str())).collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    Ok(())
}
