//! Agents and the server are killed and come back: who they are, whom they reach, and what was acknowledged, stays.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
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
/// From the start of an agent to traffic.
const BACK_LIMIT: Duration = Duration::from_secs(5);

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("a_killed_agent_is_the_same_node_again_within_five_seconds", MESH, a_killed_agent_is_the_same_node_again)
        .test("a_restarted_agent_is_reached_where_only_the_survivor_sends", MESH, only_the_survivor_sends)
        .test("a_node_that_logged_out_comes_back_as_itself", MESH, a_node_that_logged_out_comes_back)
        .test("traffic_goes_on_without_the_server", MESH, traffic_goes_on_without_the_server)
        .test("an_agent_restarted_without_the_server_reaches_its_peers", MESH, restarted_without_the_server)
        .test("every_node_comes_back_to_a_restarted_server", MESH, nodes_come_back_to_a_restarted_server)
        .test("no_acknowledged_change_is_lost_with_a_killed_server", MESH, no_acknowledged_change_is_lost)
        .test("a_server_killed_while_nodes_join_and_change_loses_none_of_them", MESH, killed_while_nodes_join)
        .run()
}

/// Two nodes with a session between them, each of which has kept on its disk what it knows of the other.
fn pair() -> Result<(Mesh, Node, Node)> {
    let mut mesh = Mesh::start()?;
    let (a, b) = (mesh.node("nas")?, mesh.node("laptop")?);
    a.reaches(b.mesh_ipv4()?, LIMIT)?;
    for (node, peer) in [(&a, &b), (&b, &a)] {
        let kept = || has_kept(node, peer.name());
        wait::until(&format!("{} to have kept {}", node.name(), peer.name()), LIMIT, kept)?;
    }
    Ok((mesh, a, b))
}

/// Whether the files of a node name a peer and hold a session.
fn has_kept(node: &Node, peer: &str) -> bool {
    let netmap = std::fs::read(node.state().join("netmap")).unwrap_or_default();
    netmap.windows(peer.len()).any(|part| part == peer.as_bytes()) && node.state().join("recent-peers").exists()
}

fn a_killed_agent_is_the_same_node_again() -> Result<()> {
    let (_mesh, mut nas, laptop) = pair()?;
    let before = (nas.mesh_ipv4()?, nas.mesh_name()?);
    nas.kill()?;
    nas.start()?;
    let started = Instant::now();
    nas.reaches(laptop.mesh_ipv4()?, BACK_LIMIT)?;
    laptop.reaches(before.0, BACK_LIMIT.saturating_sub(started.elapsed()))?;
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

fn a_node_that_logged_out_comes_back() -> Result<()> {
    let (mesh, mut nas, laptop) = pair()?;
    let before = (nas.mesh_ipv4()?, nas.mesh_name()?);
    nas.weft(&["logout"])?;
    nas.kill()?;
    nas.start()?;
    let status = nas.status()?;
    ensure!(status["BackendState"] == "NeedsLogin" && status["Self"].is_null(), "logged out, but {status}");
    ensure!(nas.weft(&["up"]).is_err(), "a node that logged out came up without a join key");
    ensure!(nas.join("weft1notajoinkey").is_err(), "a text that is no join key was taken");
    nas.join(&mesh.join_key(&[])?)?;
    ensure!((nas.mesh_ipv4()?, nas.mesh_name()?) == before, "the node that came back is another one than {before:?}");
    laptop.reaches(before.0, LIMIT)
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

fn killed_while_nodes_join() -> Result<()> {
    const JOINING: usize = 6;
    /// Of each kind, before the server is killed.
    const ACKNOWLEDGED: usize = 2;
    let mut mesh = Mesh::start()?;
    let (nas, laptop) = (mesh.node("nas")?, mesh.node("laptop")?);
    let id = number_of(&mesh, "nas")?;
    let key = mesh.join_key(&["--reusable"])?;
    let joining = (0..JOINING).map(|number| mesh.machine(&format!("pi-{number}"))).collect::<Result<Vec<_>>>()?;
    let renames = (0..1_000).map(|number| {
        let name = format!("nas-{number}");
        mesh.admin_command(&["node", "rename", &id, &name]).map(|command| (name, command))
    });
    let renames = renames.collect::<Result<Vec<_>>>()?;
    let mut server = mesh.take_server()?;

    let (joined, renamed, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let addresses = std::thread::scope(|scope| -> Result<Vec<std::net::Ipv4Addr>> {
        let (joined, renamed, stop, key) = (&joined, &renamed, &stop, &key);
        let joins: Vec<_> = joining
            .iter()
            .map(|node| {
                scope.spawn(move || {
                    node.join(key)?;
                    let address = node.mesh_ipv4();
                    joined.fetch_add(1, Ordering::AcqRel);
                    address
                })
            })
            .collect();
        let renaming = scope.spawn(move || {
            for (number, (_, mut command)) in renames.into_iter().enumerate() {
                if stop.load(Ordering::Acquire) || output(&mut command).is_err() {
                    return;
                }
                renamed.store(number + 1, Ordering::Release);
            }
        });
        let burst = wait::until("the burst to be under way", LIMIT, || {
            joined.load(Ordering::Acquire) >= ACKNOWLEDGED && renamed.load(Ordering::Acquire) >= ACKNOWLEDGED
        });
        let killed = server.kill();
        stop.store(true, Ordering::Release);
        renaming.join().map_err(|_| anyhow!("the administrator panicked"))?;
        burst.and(killed)?;
        mesh.start_server()?;
        // Who was about to join when the server died joins when it is back, and nobody types anything again.
        joins.into_iter().map(|join| join.join().map_err(|_| anyhow!("a join panicked"))?).collect()
    })?;

    for node in joining.iter().chain([&nas, &laptop]) {
        let back = || node.is_connected().unwrap_or(false);
        wait::until(&format!("{} to be connected again", node.name()), LIMIT, back)?;
    }
    for (node, address) in joining.iter().zip(&addresses) {
        let now = (node.mesh_name()?, node.mesh_ipv4()?);
        ensure!(now == (node.name().to_owned(), *address), "{} joined as {address} and is {now:?}", node.name());
        laptop.reaches(*address, LIMIT)?;
    }
    let listed = mesh.admin_json(&["node", "list"])?;
    ensure!(listed.as_array().is_some_and(|nodes| nodes.len() == JOINING + 2), "the server has other nodes: {listed}");
    // The last rename that was acknowledged holds, unless the next one was made and its answer lost.
    let acknowledged = renamed.into_inner();
    let allowed = [format!("nas-{}", acknowledged - 1), format!("nas-{acknowledged}")];
    wait::until(&format!("nas to be called {allowed:?}"), LIMIT, || {
        nas.mesh_name().is_ok_and(|name| allowed.contains(&name) && laptop.peer(&name).is_ok_and(|peer| peer.is_some()))
    })
}

/// The number that the server knows a node by.
fn number_of(mesh: &Mesh, name: &str) -> Result<String> {
    let listed = mesh.admin_json(&["node", "list"])?;
    let mut nodes = listed.as_array().into_iter().flatten();
    let node = nodes.find(|node| node.get("name").and_then(Value::as_str) == Some(name));
    let id = node.and_then(|node| node.get("id")).with_context(|| format!("the server has no {name}: {listed}"))?;
    Ok(id.to_string().trim_matches('"').to_owned())
}
