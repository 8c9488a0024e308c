//! Sixteen slots in a mesh of two thousand nodes: firmware in QEMU among core's nodes on real sockets.

#![allow(clippy::print_stdout, reason = "it tells how long its parts took")]

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use weft_core::keys::NodeKey;
use weft_hil::{
    attack,
    board::Bench,
    crowd::Crowd,
    machine::{Machine, Mps2},
    mesh::{Mesh, Node},
    selftest::Orders,
    suite::Suite,
};

/// Nodes beside the board and the Linux node that gives it orders.
const NODES: u16 = 2_000;
/// The first of those that the board pings.
const PINGED: usize = 1_000;
/// Echo requests of the board to each at most; it gives up one after two seconds.
const TRIES: usize = 8;
/// The first of those whose sessions the forgeries are about.
const FIRST_HELD: usize = 500;
/// Places of the board that are not for newcomers are fourteen; the Linux node has one of them.
const HELD: usize = 13;
/// The port on which a board hears its peers.
const NODE_PORT: u16 = 41_641;
/// Between two forged initiations: as fast as the board works through them, for the most part.
const FORGERY_INTERVAL: Duration = Duration::from_millis(10);
/// How long all nodes may take to join.
const CROWD_LIMIT: Duration = Duration::from_secs(120);
/// How long a thing may take that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(30);
/// How long an answer may take, a lookup and a handshake on both sides included.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("sixteen_slots_serve_fifty_of_two_thousand_and_forgeries_evict_nobody", Mps2::NEEDS, || serve(25))
        .slow("sixteen_slots_serve_four_hundred_of_two_thousand", Mps2::NEEDS, || serve(200))
        .run()
}

/// So many nodes ping the board, and it pings as many others, in turn; then somebody claims the keys of all.
fn serve(talkers: usize) -> Result<()> {
    let mut mesh = Mesh::start()?;
    let folder = mesh.folder().to_path_buf();
    let mut bench = Bench::new(&mut mesh.lab, &folder)?;
    let city = mesh.lab.host("city")?;
    let begin = Instant::now();
    let crowd = Crowd::join(&city, &mesh.join_key(&["--reusable"])?, NODES, CROWD_LIMIT)?;
    println!("{NODES} nodes joined after {:.1} s", begin.elapsed().as_secs_f64());
    let laptop = mesh.node("laptop")?;
    let mut sensor = bench.provisioned::<Mps2>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    let address = sensor.wait_for("joined as", LIMIT)?.address()?;
    laptop.reaches(address, LIMIT)?;

    let begin = Instant::now();
    let (mut unanswered, mut unanswering) = (Vec::new(), Vec::new());
    for number in 0..talkers {
        if !crowd.ping(number, address, ANSWER_LIMIT)? {
            unanswered.push(number);
        }
        let other = PINGED + number;
        if !is_answered(Orders::new(&laptop.host, address), crowd.address(other)?)? {
            unanswering.push(other);
        }
    }
    println!("{talkers} pings each way took {:.1} s", begin.elapsed().as_secs_f64());
    ensure!(unanswered.is_empty(), "the board did not answer the nodes {unanswered:?}");
    ensure!(unanswering.is_empty(), "the nodes {unanswering:?} did not answer the board");

    let victim = SocketAddr::from((sensor.ipv4().context("a board without an address")?, NODE_PORT));
    forgeries_evict_nobody(&mesh, &crowd, &laptop, address, victim)?;
    let starts = sensor.lines("started on")?.len();
    ensure!(starts == 1, "the board started {starts} times");
    Ok(())
}

/// Whether the board gets an answer from an address.
fn is_answered(board: Orders<'_>, address: Ipv4Addr) -> Result<bool> {
    for _ in 0..TRIES {
        if board.ping(address, 1)? == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Claims the keys of all nodes towards a board that holds as many as it can, and looks whether they have their sessions
/// still.
fn forgeries_evict_nobody(
    mesh: &Mesh,
    crowd: &Crowd,
    laptop: &Node,
    address: Ipv4Addr,
    victim: SocketAddr,
) -> Result<()> {
    let held: Vec<usize> = (FIRST_HELD..FIRST_HELD + HELD).collect();
    for number in &held {
        ensure!(crowd.ping(*number, address, LIMIT)?, "the board does not answer node {number}");
    }
    laptop.reaches(address, LIMIT)?;
    // A node whose session the board forgot would have to begin a new one, after it waited 15 s for an answer.
    let initiations = || held.iter().map(|number| crowd.initiations(*number)).collect::<Result<Vec<_>>>();
    let before = initiations()?;
    for number in &held {
        ensure!(crowd.ping(*number, address, ANSWER_LIMIT)?, "the board does not answer node {number} again");
    }
    ensure!(before == initiations()?, "the board did not hold {HELD} nodes and the laptop to begin with");

    let board = key_of(laptop, "sensor")?;
    let socket = mesh.server_host().enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    let begin = Instant::now();
    for number in 0..usize::from(NODES) {
        socket.send_to(&attack::impostors_initiation(&crowd.key(number)?, &board)?, victim)?;
        std::thread::sleep(FORGERY_INTERVAL);
    }
    socket.set_nonblocking(true)?;
    let mut answer = [0; 256];
    let put_off = std::iter::from_fn(|| socket.recv(&mut answer).ok()).count();
    println!(
        "{NODES} forged initiations took {:.1} s; {put_off} of them were answered with a cookie",
        begin.elapsed().as_secs_f64()
    );
    for number in &held {
        ensure!(crowd.ping(*number, address, ANSWER_LIMIT)?, "after the forgeries the board does not answer {number}");
    }
    ensure!(before == initiations()?, "nodes that the board held had to make new sessions after the forgeries");
    // And who is real gets in.
    let newcomer = FIRST_HELD + HELD;
    ensure!(crowd.ping(newcomer, address, LIMIT)?, "after the forgeries the board does not answer a newcomer");
    Ok(())
}

fn key_of(node: &Node, peer: &str) -> Result<NodeKey> {
    let peer = node.peer(peer)?.with_context(|| format!("{} does not know {peer}", node.name()))?;
    let key = peer["PublicKey"].as_str().context("a peer without a key")?;
    key.parse().map_err(|error| anyhow!("{key}: {error}"))
}
