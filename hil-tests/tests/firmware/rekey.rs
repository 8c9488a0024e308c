//! New sessions between a board and its peers, because the peer started again or because two minutes are over.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use weft_hil::{machine::Machine, process::output, selftest::Orders, suite::Suite};

use crate::{LIMIT, both, joined, mesh_with};

/// From the start of a peer to traffic.
const BACK_LIMIT: Duration = Duration::from_secs(10);
/// Longer than two sessions of WireGuard's 120 seconds.
const TWO_REKEYS: Duration = Duration::from_secs(250);

pub(crate) fn add(suite: Suite) -> Suite {
    both!(
        suite,
        test a_peer_that_started_again_has_a_new_session_with_a_board,
        slow traffic_goes_on_through_two_rekeys_without_a_loss,
    )
}

fn a_peer_that_started_again_has_a_new_session_with_a_board<M: Machine>() -> Result<()> {
    let (mesh, mut bench, mut laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, LIMIT)?;
    sensor.wait_for("first session", LIMIT)?;
    laptop.kill()?;
    laptop.start()?;
    laptop.reaches(address, BACK_LIMIT)?;
    let answers = Orders::new(&laptop.host, address).ping(laptop.mesh_ipv4()?, 3)?;
    ensure!(answers == 3, "of 3 pings {answers} were answered in the new session");
    Ok(())
}

fn traffic_goes_on_through_two_rekeys_without_a_loss<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, LIMIT)?;
    let began = Instant::now();
    let seconds = TWO_REKEYS.as_secs().to_string();
    let mut ping = laptop.host.command("ping");
    let printed = output(ping.args(["-n", "-i", "0.2", "-w", &seconds, &address.to_string()]) as &mut Command)?;
    ensure!(began.elapsed() >= TWO_REKEYS, "ping ended early:\n{printed}");
    let loss = printed.split(", ").find(|part| part.contains("packet loss")).context("ping printed no loss")?;
    ensure!(loss.starts_with("0% "), "{loss}");
    // Meanwhile the server had nothing to say, which is no reason to leave it.
    ensure!(sensor.lines("does not answer")?.is_empty(), "the board took its silent server for dead");
    Ok(())
}
