//! What an owner does to the server itself, under nodes that live: its key is rotated, a backup is restored.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_hil::{
    mesh::{Mesh, Node},
    requirement::{PING, Requirement},
    suite::Suite,
    wait,
};

const MESH: &[Requirement] = &[Requirement::WeftBinaries, Requirement::Netns, Requirement::Tun, PING];

/// How long a node may take to come back to a server that was restarted: its back-off, and a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("nodes_follow_a_rotated_key_also_one_that_was_away", MESH, nodes_follow_a_rotated_key)
        .test("nodes_follow_a_restored_backup", MESH, nodes_follow_a_restored_backup)
        .run()
}

fn all_return(nodes: &[&Node]) -> Result<()> {
    nodes.iter().try_for_each(|node| {
        let wanted = format!("{} to be connected again", node.name());
        wait::until(&wanted, LIMIT, || node.is_connected().unwrap_or(false))
    })
}

/// Waits until a node has lost the server that was killed, so that being connected means the new one.
fn all_leave(nodes: &[&Node]) -> Result<()> {
    nodes.iter().try_for_each(|node| {
        let wanted = format!("{} to notice that the server is away", node.name());
        wait::until(&wanted, LIMIT, || !node.is_connected().unwrap_or(true))
    })
}

fn nodes_follow_a_rotated_key() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let [nas, laptop, mut pi] = [mesh.node("nas")?, mesh.node("laptop")?, mesh.node("pi")?];
    let old_key = mesh.join_key(&["--reusable"])?;
    pi.kill()?;

    mesh.admin(&["rotate-key"])?;
    mesh.admin(&["rotate-key", "--switch"])?;
    let new_key = mesh.join_key(&["--reusable"])?;
    // The second field of a join key, behind its length, is the server's key.
    ensure!(old_key.get(..40) != new_key.get(..40), "the new join key names the old server key");

    mesh.kill_server()?;
    all_leave(&[&nas, &laptop])?;
    mesh.start_server()?;
    all_return(&[&nas, &laptop])?;
    // It knows nothing but the old key, which the server still answers to.
    pi.start()?;
    all_return(&[&pi])?;

    mesh.admin(&["rotate-key", "--retire"])?;
    mesh.kill_server()?;
    all_leave(&[&nas, &laptop, &pi])?;
    mesh.start_server()?;
    all_return(&[&nas, &laptop, &pi])?;
    let late = mesh.machine("late")?;
    late.join(&new_key)?;
    late.reaches(nas.mesh_ipv4()?, LIMIT)?;
    let too_late = mesh.machine("too-late")?;
    let refused = too_late.weft(&["up", "--timeout", "5s", "--join", &old_key]);
    ensure!(refused.is_err(), "a join key that names a forgotten server key was accepted");
    Ok(())
}

fn nodes_follow_a_restored_backup() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let [nas, laptop] = [mesh.node("nas")?, mesh.node("laptop")?];
    let backup = mesh.folder().join("backup.db");
    let backup = backup.to_str().context("a path that is not UTF-8")?.to_owned();
    mesh.admin(&["backup", &backup])?;
    mesh.admin(&["node", "rename", "laptop", "renamed"])?;
    let pi = mesh.node("pi")?;
    wait::until("nas to see both changes", LIMIT, || {
        matches!((nas.peer("renamed"), nas.peer("pi")), (Ok(Some(_)), Ok(Some(_))))
    })?;

    mesh.kill_server()?;
    mesh.admin(&["restore", &backup])?;
    mesh.start_server()?;
    // The history is another one now: what came after the backup has to go, and what it undid to come back.
    wait::until("nas to see laptop under its old name and pi no more", LIMIT, || {
        matches!((nas.peer("laptop"), nas.peer("renamed"), nas.peer("pi")), (Ok(Some(_)), Ok(None), Ok(None)))
    })?;
    all_return(&[&nas, &laptop])?;
    laptop.reaches(nas.mesh_ipv4()?, LIMIT)?;
    ensure!(!pi.ping(nas.mesh_ipv4()?), "a node that the restored server does not know reaches its old peers");
    Ok(())
}
