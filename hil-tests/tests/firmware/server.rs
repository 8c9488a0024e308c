//! Boards and their control server: one that goes away and comes back, and join keys that are no good.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use weft_core::control::{JoinKey, JoinSecret};
use weft_embassy::provision::Field;
use weft_hil::{board::random_seed, machine::Machine, suite::Suite, wait};

use crate::{JOIN_LIMIT, LIMIT, both, joined, mesh_with};

/// How long no second try may be made after the server refused a key: a person has to act, so nobody should ask often.
const REST: Duration = Duration::from_secs(15);

pub(crate) fn add(suite: Suite) -> Suite {
    both!(
        suite,
        test a_board_outlives_its_server_and_comes_back_to_it,
        test a_board_that_starts_without_the_server_reaches_its_peers,
        test a_join_key_that_is_wrong_used_or_expired_is_told_and_not_tried_often,
        test a_removed_board_says_so_and_joins_again_with_a_new_key,
    )
}

fn a_board_outlives_its_server_and_comes_back_to_it<M: Machine>() -> Result<()> {
    let (mut mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, LIMIT)?;
    mesh.kill_server()?;
    sensor.wait_for("the control server does not answer", LIMIT)?;
    ensure!(laptop.ping(address) || laptop.ping(address), "traffic stopped with the server");
    mesh.start_server()?;
    sensor.wait_for_times(2, "registered with the control server", JOIN_LIMIT)?;
    // It hears of changes again.
    let pi = mesh.node("pi")?;
    pi.reaches(address, LIMIT)
}

fn a_board_that_starts_without_the_server_reaches_its_peers<M: Machine>() -> Result<()> {
    let (mut mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, LIMIT)?;
    // What it knows of laptop is kept within some seconds.
    std::thread::sleep(Duration::from_secs(5));
    mesh.kill_server()?;
    sensor.reset()?;
    laptop.reaches(address, LIMIT)?;
    ensure!(joined(&mut sensor)? == address, "another address than before");
    Ok(())
}

fn a_join_key_that_is_wrong_used_or_expired_is_told_and_not_tried_often<M: Machine>() -> Result<()> {
    let (mut mesh, mut bench, laptop) = mesh_with("laptop")?;
    let good = mesh.join_key(&[])?;
    let used = mesh.join_key(&[])?;
    let pi = mesh.machine("pi")?;
    pi.join(&used)?;
    let expired = mesh.join_key(&["--expires", "1s"])?;
    std::thread::sleep(Duration::from_millis(1_500));
    let keys = [("wrong", with_another_secret(&good)?), ("used", used), ("expired", expired)];
    let mut boards = Vec::new();
    for (name, key) in keys {
        let mut board = bench.provisioned::<M>(name, &key)?;
        board.start()?;
        boards.push(board);
    }
    for board in &mut boards {
        let line = board.wait_for("the control server refused", JOIN_LIMIT)?;
        ensure!(line.text.contains("key"), "{} is not told of its key: {line:?}", board.name());
    }
    std::thread::sleep(REST);
    for board in &mut boards {
        let tries = board.lines("connected to the control server")?;
        ensure!(tries.len() == 1, "{} asked again soon: {tries:?}", board.name());
        ensure!(board.lines("joined as")?.is_empty(), "{} joined", board.name());
    }
    // One of them is given a good key.
    let [wrong, ..] = boards.as_mut_slice() else { unreachable!("three were pushed") };
    wrong.cut_power()?;
    let seed = random_seed()?;
    wrong.provision(&[Field::JoinKey(&good), Field::Seed(&seed), Field::Hostname("mended")])?;
    wrong.start()?;
    laptop.reaches(joined(wrong)?, LIMIT)
}

/// The same key with a secret that the server does not know.
fn with_another_secret(key: &str) -> Result<String> {
    let key: JoinKey = key.parse().map_err(|error| anyhow!("{error}"))?;
    let addresses: Vec<_> = key.addresses().collect();
    let other = JoinKey::new(*key.server_key(), JoinSecret::from_bytes([7; 16]), &addresses);
    let other = other.map_err(|error| anyhow!("{error}"))?;
    Ok(other.to_text().as_str().to_owned())
}

fn a_removed_board_says_so_and_joins_again_with_a_new_key<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, LIMIT)?;
    let listed = mesh.admin_json(&["node", "list"])?;
    let node = listed.as_array().into_iter().flatten().find(|node| node["name"] == "sensor");
    let id = node.map(|node| node["id"].to_string()).with_context(|| format!("the server has no sensor: {listed}"))?;
    mesh.admin(&["node", "remove", id.trim_matches('"')])?;
    sensor.wait_for("no member of the mesh any more", LIMIT)?;
    wait::until("laptop to have forgotten the sensor", LIMIT, || {
        laptop.peer("sensor").is_ok_and(|peer| peer.is_none())
    })?;
    ensure!(!laptop.ping(address), "a removed board still answers");
    sensor.cut_power()?;
    sensor.provision(&[Field::JoinKey(&mesh.join_key(&[])?)])?;
    sensor.start()?;
    laptop.reaches(joined(&mut sensor)?, LIMIT)
}
