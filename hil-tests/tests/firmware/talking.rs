//! Firmware on emulated boards in a mesh of real daemons: joining, being found, and traffic of every kind, both ways.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use weft_hil::{
    machine::{Machine, Pace},
    selftest::{ECHO_PORT, Orders},
    suite::Suite,
    transfer,
};

use crate::{JOIN_LIMIT, LIMIT, both, joined, mesh_with};

/// From the network to the first answer from a peer, by the board's clock.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How often the sensor is read.
const READING_INTERVAL: Duration = Duration::from_secs(1);
/// Where the echo of a Linux node is.
const LINUX_ECHO: u16 = 7_007;
/// What a large transfer moves each way.
const MEGABYTE: usize = 1 << 20;

pub(crate) fn add(suite: Suite) -> Suite {
    both!(
        suite,
        test a_board_joins_with_a_key_and_is_pinged_within_five_seconds_of_its_network,
        test a_board_takes_its_address_from_dhcp,
        test a_linux_node_and_a_board_each_open_tcp_to_the_other,
        test a_megabyte_goes_each_way_unharmed,
        test two_boards_talk_to_each_other,
        test a_board_follows_a_peer_that_changes_networks,
    )
}

fn a_board_joins_with_a_key_and_is_pinged_within_five_seconds_of_its_network<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.set_pace(Pace::Chip);
    sensor.start()?;
    let up = sensor.wait_for("network up", LIMIT)?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, LIMIT)?;
    // The page comes after the answer to the ping, and has the latest reading, so that the ping was answered before the next.
    let url = format!("http://{address}/reading");
    let reading = laptop.host.run("curl", &["--silent", "--show-error", "--fail", "--max-time", "20", &url])?;
    let reading: serde_json::Value = serde_json::from_str(&reading).with_context(|| format!("no JSON: {reading}"))?;
    let session = sensor.wait_for("first session", LIMIT)?;
    let taken = reading["uptime_ms"].as_u64().map(Duration::from_millis).context("a reading without a time")?;
    for (what, time) in [("session", session.time), ("ping", taken + READING_INTERVAL)] {
        let late = time.saturating_sub(up.time);
        ensure!(
            late < FIRST_ANSWER,
            "the first {what} was {late:?} after the network:\n{up:?}\n{session:?}\n{reading}"
        );
    }
    ensure!(reading["temperature_c"].is_number(), "no temperature: {reading}");
    // The name that it asked for is the one that others know it by.
    let peer = laptop.peer("sensor")?.context("laptop does not know the sensor by its name")?;
    ensure!(peer["TailscaleIPs"].to_string().contains(&address.to_string()), "another address than {address}: {peer}");
    Ok(())
}

fn a_board_takes_its_address_from_dhcp<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let dhcp = bench.serve_dhcp(mesh.lab.router())?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.use_dhcp();
    sensor.start()?;
    let address = joined(&mut sensor)?;
    ensure!(dhcp.granted() == 1, "{} addresses were lent", dhcp.granted());
    laptop.reaches(address, LIMIT)
}

fn a_linux_node_and_a_board_each_open_tcp_to_the_other<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    transfer::echoed(&laptop.host, (address, ECHO_PORT).into(), 10_000)?;
    let echo = SocketAddr::from((laptop.mesh_ipv4()?, LINUX_ECHO));
    transfer::serve_echo(&laptop.host, echo)?;
    let orders = Orders::new(&laptop.host, address);
    orders.connect(echo, 10_000)?;
    let found = orders.resolve("laptop")?;
    ensure!(found == laptop.mesh_ipv4()?, "the board thinks that laptop is {found}");
    Ok(())
}

fn a_megabyte_goes_each_way_unharmed<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    transfer::echoed(&laptop.host, (address, ECHO_PORT).into(), MEGABYTE)?;
    let echo = SocketAddr::from((laptop.mesh_ipv4()?, LINUX_ECHO));
    transfer::serve_echo(&laptop.host, echo)?;
    Orders::new(&laptop.host, address).connect(echo, MEGABYTE)
}

fn two_boards_talk_to_each_other<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut boards = [
        bench.provisioned::<M>("attic", &mesh.join_key(&[])?)?,
        bench.provisioned::<M>("cellar", &mesh.join_key(&[])?)?,
    ];
    for board in &mut boards {
        board.start()?;
    }
    let [attic, cellar] = &mut boards;
    let (attic, cellar) = (joined(attic)?, joined(cellar)?);
    let orders = Orders::new(&laptop.host, attic);
    let answers = orders.ping(cellar, 5)?;
    ensure!(answers >= 4, "attic had {answers} answers of 5 from cellar");
    orders.connect((cellar, ECHO_PORT).into(), 100_000)?;
    Orders::new(&laptop.host, cellar).connect((attic, ECHO_PORT).into(), 10_000)
}

fn a_board_follows_a_peer_that_changes_networks<M: Machine>() -> Result<()> {
    let (mut mesh, mut bench, mut laptop) = mesh_with("laptop")?;
    let mut sensor = bench.provisioned::<M>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, JOIN_LIMIT)?;
    for _ in 0..2 {
        mesh.lab.move_host(&mut laptop.host)?;
        laptop.reaches(address, LIMIT)?;
        // What the board sends by itself goes to the new address too.
        let answers = Orders::new(&laptop.host, address).ping(laptop.mesh_ipv4()?, 3)?;
        ensure!(answers == 3, "of 3 pings {answers} were answered after the move");
    }
    Ok(())
}
