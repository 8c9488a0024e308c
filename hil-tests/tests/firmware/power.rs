//! Boards that lose their power at any instant, and what a board makes its keys of.

use std::{
    io::Read,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use weft_embassy::provision::Field;
use weft_hil::{
    board::{Board, PAGE_LEN, READINGS_PORT, random_seed},
    machine::Machine,
    mesh::{Mesh, Node},
    suite::Suite,
    wait,
};

use crate::{JOIN_LIMIT, LIMIT, both, joined, mesh_with};

/// How often a board is reset.
const RESETS: usize = 20;
/// From the link to traffic.
const BACK_LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn add(suite: Suite) -> Suite {
    both!(
        suite,
        test a_board_that_is_reset_twenty_times_is_back_within_ten_seconds_each_time,
        test power_that_fails_at_any_write_costs_a_board_neither_its_keys_nor_its_place,
        test two_boards_with_one_image_make_different_keys,
        test a_board_without_a_seed_makes_no_keys_and_says_so,
        test a_board_with_a_noise_source_needs_no_seed,
        test a_damaged_provisioning_page_is_told_and_written_again,
        test nothing_of_the_join_key_is_left_in_flash,
    )
}

fn a_board_that_is_reset_twenty_times_is_back_within_ten_seconds_each_time<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let readings = readings_at(&laptop)?;
    // One that pushes its readings, and so has to be let in by laptop, which takes no handshake whose timestamp is not later
    // than all before; and one that says nothing unless it is asked.
    let mut talker = bench.provisioned::<M>("talker", &mesh.join_key(&[])?)?;
    let mut silent = bench.board::<M>("silent")?;
    let seed = random_seed()?;
    silent.provision(&[Field::JoinKey(&mesh.join_key(&[])?), Field::Seed(&seed), Field::Hostname("silent")])?;
    let mut addresses = Vec::new();
    for board in [&mut talker, &mut silent] {
        board.start()?;
        addresses.push(joined(board)?);
        laptop.reaches(joined(board)?, LIMIT)?;
    }
    for reset in 0..RESETS {
        // At most a second and a half, in which a board starts, joins and opens a session.
        std::thread::sleep(Duration::from_millis(random()? % 1_500));
        for board in [&mut talker, &mut silent] {
            board.reset()?;
        }
        forget(&readings)?;
        next_reading(&readings, joined(&mut talker)?, LIMIT)?;
        laptop.reaches(joined(&mut silent)?, LIMIT)?;
        for (board, address) in [&mut talker, &mut silent].into_iter().zip(&addresses) {
            let name = board.name().to_owned();
            let link = board.wait_for("link up", LIMIT)?;
            let session = board.wait_for("first session", LIMIT)?;
            let late = session.time.saturating_sub(link.time);
            ensure!(late <= BACK_LIMIT, "after reset {reset} {name} had its first session {late:?} after the link");
            let now = joined(board)?;
            ensure!(now == *address, "after reset {reset} {name} is {now}, not {address}");
        }
    }
    ensure!(nodes(&mesh)? == 3, "a board registered as another node");
    Ok(())
}

fn power_that_fails_at_any_write_costs_a_board_neither_its_keys_nor_its_place<M: Machine>() -> Result<()> {
    /// Flash operations of a first start in which the power fails. Somewhat below 500 the board joins; what comes later
    /// erases the join key.
    const CUTS: [u32; 10] = [1, 60, 140, 220, 280, 340, 420, 600, 1_500, 3_000];
    /// And of the start after that one.
    const SECOND_CUT: u32 = 20;
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut cuts = [Vec::new(), Vec::new()];
    for cut in CUTS {
        let name = format!("sensor-{cut}");
        let mut sensor = bench.provisioned::<M>(&name, &mesh.join_key(&[])?)?;
        for (cut, cuts) in [cut, SECOND_CUT].into_iter().zip(&mut cuts) {
            sensor.set_arguments(&[format!("cut={cut}")]);
            sensor.start()?;
            // A start that writes less than that goes on as if nothing were.
            match sensor.wait_for_cut(Duration::from_secs(4)) {
                Ok(()) => cuts.push(cut),
                Err(_) => sensor.cut_power()?,
            }
        }
        sensor.set_arguments(&[]);
        sensor.start()?;
        let address = joined(&mut sensor)?;
        laptop.reaches(address, LIMIT).with_context(|| format!("after cuts at {cut} and {SECOND_CUT}"))?;
    }
    let [first, second] = cuts;
    ensure!(first.len() + 3 >= CUTS.len() && second.len() + 3 >= CUTS.len(), "cut in {first:?} and {second:?} only");
    ensure!(nodes(&mesh)? == 1 + CUTS.len(), "a board registered twice:\n{}", mesh.admin(&["node", "list"])?);
    Ok(())
}

fn two_boards_with_one_image_make_different_keys<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    // Not even the seed differs: a person copied one page to both. The chips' own numbers do.
    let seed = random_seed()?;
    let mut boards = Vec::new();
    for name in ["attic", "cellar"] {
        let mut board: Board<M> = bench.board(name)?;
        let key = mesh.join_key(&[])?;
        board.provision(&[Field::JoinKey(&key), Field::Seed(&seed), Field::Hostname(name)])?;
        board.start()?;
        boards.push(board);
    }
    let addresses = boards.iter_mut().map(joined).collect::<Result<Vec<_>>>()?;
    for address in addresses {
        laptop.reaches(address, LIMIT)?;
    }
    let key_of = |name| -> Result<String> {
        let peer = laptop.peer(name)?.with_context(|| format!("laptop does not know {name}"))?;
        peer["PublicKey"].as_str().map(str::to_owned).context("a peer without a key")
    };
    ensure!(key_of("attic")? != key_of("cellar")?, "two boards have one node key");
    Ok(())
}

fn a_board_without_a_seed_makes_no_keys_and_says_so<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.board::<M>("sensor")?;
    let key = mesh.join_key(&[])?;
    sensor.provision(&[Field::JoinKey(&key), Field::Hostname("sensor")])?;
    sensor.start()?;
    sensor.wait_for("no seed in flash", LIMIT)?;
    ensure!(sensor.lines("joined as")?.is_empty(), "it joined with keys made of nothing");
    ensure!(nodes(&mesh)? == 1, "it registered with keys made of nothing");
    // What it lacked is given to it; the join key that it was given before is still good.
    sensor.cut_power()?;
    let seed = random_seed()?;
    sensor.provision(&[Field::JoinKey(&key), Field::Seed(&seed), Field::Hostname("sensor")])?;
    sensor.start()?;
    laptop.reaches(joined(&mut sensor)?, LIMIT)
}

fn a_board_with_a_noise_source_needs_no_seed<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let mut sensor = bench.board::<M>("sensor")?;
    let key = mesh.join_key(&[])?;
    sensor.provision(&[Field::JoinKey(&key), Field::Hostname("sensor")])?;
    // Bits that the board vouches for in each sample of its noise.
    sensor.set_arguments(&["entropy=64".into()]);
    sensor.start()?;
    let address = joined(&mut sensor)?;
    laptop.reaches(address, LIMIT)?;
    // From now on it has a seed, which carries it where its noise is no good.
    sensor.cut_power()?;
    sensor.set_arguments(&[]);
    sensor.start()?;
    ensure!(joined(&mut sensor)? == address, "another address than {address}");
    Ok(())
}

fn a_damaged_provisioning_page_is_told_and_written_again<M: Machine>() -> Result<()> {
    let (mesh, mut bench, laptop) = mesh_with("laptop")?;
    let key = mesh.join_key(&[])?;
    let mut sensor = bench.provisioned::<M>("sensor", &key)?;
    let whole = sensor.read_flash()?;
    let mut damaged = whole.clone();
    *damaged.get_mut(100).context("a flash of less than a page")? ^= 1;
    sensor.write_flash(&damaged)?;
    sensor.start()?;
    sensor.wait_for("the provisioning page cannot be taken (Damaged): write it again", LIMIT)?;
    sensor.wait_for("no seed in flash", LIMIT)?;
    ensure!(sensor.lines("joined as")?.is_empty(), "it joined with what a damaged page said");
    sensor.cut_power()?;
    // What the node made of its flash meanwhile stays; only the page is written again.
    let mut mended = sensor.read_flash()?;
    let (page, _) = whole.split_at(PAGE_LEN);
    mended.get_mut(..PAGE_LEN).context("a flash of less than a page")?.copy_from_slice(page);
    sensor.write_flash(&mended)?;
    sensor.start()?;
    laptop.reaches(joined(&mut sensor)?, LIMIT)
}

fn nothing_of_the_join_key_is_left_in_flash<M: Machine>() -> Result<()> {
    let (mesh, mut bench, _laptop) = mesh_with("laptop")?;
    let key = mesh.join_key(&[])?;
    let mut sensor = bench.provisioned::<M>("sensor", &key)?;
    ensure!(holds_part_of(&sensor.read_flash()?, &key), "the search finds no key where there is one");
    sensor.start()?;
    joined(&mut sensor)?;
    wait::until("the join key to be gone from flash", JOIN_LIMIT, || {
        sensor.read_flash().is_ok_and(|flash| !holds_part_of(&flash, &key))
    })
}

/// Whether flash holds a part of a join key: twelve of its characters, or twelve bytes of its secret.
fn holds_part_of(flash: &[u8], key: &str) -> bool {
    // Its prefix is no secret.
    let text = key.as_bytes().get(8..).unwrap_or_default();
    let parts: std::collections::HashSet<&[u8]> = text.windows(12).collect();
    flash.windows(12).any(|window| parts.contains(window))
}

fn readings_at(laptop: &Node) -> Result<UdpSocket> {
    let socket = laptop.host.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, READINGS_PORT)))?;
    let socket = socket.context("cannot listen for readings")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Throws away what came so far.
fn forget(readings: &UdpSocket) -> Result<()> {
    let mut datagram = [0; 256];
    loop {
        match readings.recv(&mut datagram) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => bail!("cannot listen for readings: {error}"),
        }
    }
}

/// Waits for a reading from a board.
fn next_reading(readings: &UdpSocket, from: Ipv4Addr, limit: Duration) -> Result<()> {
    let mut datagram = [0; 256];
    wait::until(&format!("a reading from {from}"), limit, || {
        readings.recv_from(&mut datagram).is_ok_and(|(_, sender)| sender.ip() == from)
    })
}

/// How many nodes the server has.
fn nodes(mesh: &Mesh) -> Result<usize> {
    let listed = mesh.admin_json(&["node", "list"])?;
    listed.as_array().map(Vec::len).context("no list of nodes")
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
