//! Boards on bad wires and under attack: alive, and serving their peer.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use weft_core::keys::NodeKey;
use weft_hil::{
    attack::{Flood, Weapon},
    board::Board,
    machine::Machine,
    mesh::Node,
    selftest::{ECHO_PORT, Orders},
    suite::Suite,
    transfer, wait,
    wire::Faults,
};

use crate::{JOIN_LIMIT, LIMIT, both, joined, mesh_with};

/// The port on which a board hears its peers.
const NODE_PORT: u16 = 41_641;

pub(crate) fn add(suite: Suite) -> Suite {
    both!(
        suite,
        test a_flood_of_garbage_leaves_a_board_serving_its_peer,
        test a_flood_of_forged_handshakes_leaves_a_board_serving_its_peer,
        test a_board_joins_and_talks_over_a_faulty_wire,
        test a_cable_that_is_pulled_and_put_back_is_all_the_same_to_a_board,
    )
}

fn a_flood_of_garbage_leaves_a_board_serving_its_peer<M: Machine>() -> Result<()> {
    flooded::<M>(Weapon::Garbage, 2_000)
}

fn a_flood_of_forged_handshakes_leaves_a_board_serving_its_peer<M: Machine>() -> Result<()> {
    flooded::<M>(Weapon::ForgedHandshakes, 500)
}

/// Floods a board with `rate` datagrams a second, and looks how its peer is served meanwhile and afterwards.
fn flooded<M: Machine>(weapon: Weapon, rate: u64) -> Result<()> {
    const PINGS: usize = 20;
    let (mut mesh, mut bench, laptop) = mesh_with("laptop")?;
    let attacker = mesh.lab.host("attacker")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, LIMIT)?;
    let socket = attacker.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    let victim = SocketAddr::from((sensor.ipv4().context("a board without an address")?, NODE_PORT));
    let flood = Flood::start(socket, victim, &key_of(&laptop, "sensor")?, weapon, rate)?;
    wait::until("the flood to swell", LIMIT, || flood.sent() > 2 * rate)?;
    let mut answered = 0;
    for _ in 0..PINGS {
        answered += usize::from(laptop.ping(address));
    }
    ensure!(answered * 2 >= PINGS, "in the flood {answered} of {PINGS} pings were answered within 300 ms");
    transfer::echoed(&laptop.host, (address, ECHO_PORT).into(), 20_000).context("in the flood")?;
    drop(flood);
    laptop.reaches(address, LIMIT)?;
    serves_still(&mut sensor, &laptop, address)
}

/// That a board did not start again meanwhile, and that all is as before.
fn serves_still<M: Machine>(sensor: &mut Board<M>, laptop: &Node, address: Ipv4Addr) -> Result<()> {
    let starts = sensor.lines("started on")?.len();
    ensure!(starts == 1, "the board started {starts} times");
    let answers = Orders::new(&laptop.host, address).ping(laptop.mesh_ipv4()?, 5)?;
    ensure!(answers == 5, "of 5 pings {answers} were answered afterwards");
    Ok(())
}

fn key_of(node: &Node, peer: &str) -> Result<NodeKey> {
    let peer = node.peer(peer)?.with_context(|| format!("{} does not know {peer}", node.name()))?;
    let key = peer["PublicKey"].as_str().context("a peer without a key")?;
    key.parse().map_err(|error| anyhow!("{key}: {error}"))
}

fn a_board_joins_and_talks_over_a_faulty_wire<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    let delay = Duration::from_millis(5);
    let lateness = Duration::from_millis(20);
    sensor.cable.set_faults(Faults { loss: 50, duplication: 50, reordering: 100, lateness, delay });
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, JOIN_LIMIT)?;
    transfer::echoed(&laptop.host, (address, ECHO_PORT).into(), 50_000)?;
    let counts = sensor.cable.counts();
    for counts in counts {
        ensure!(counts.lost > 0 && counts.duplicated > 0 && counts.late > 0, "the wire had no faults: {counts:?}");
    }
    sensor.cable.set_faults(Faults::default());
    transfer::echoed(&laptop.host, (address, ECHO_PORT).into(), 50_000)
}

fn a_cable_that_is_pulled_and_put_back_is_all_the_same_to_a_board<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, LIMIT)?;
    sensor.cable.set_link(false);
    ensure!(!laptop.ping(address), "a board without a cable answers");
    std::thread::sleep(Duration::from_secs(8));
    sensor.cable.set_link(true);
    laptop.reaches(address, LIMIT)?;
    serves_still(&mut sensor, &laptop, address)
}
