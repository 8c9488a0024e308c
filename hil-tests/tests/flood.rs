//! Ten thousand connections to the server that never say who they are, while honest nodes talk and one more joins.

use std::{
    collections::VecDeque,
    io::Write,
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use weft_core::control::{JoinKey, VERSIONS, upgrade::write_request};
use weft_hil::{
    mesh::Mesh,
    process::{Daemon, output, raise_open_files},
    requirement::{PING, Requirement},
    suite::Suite,
    wait,
};

const MESH: &[Requirement] = &[Requirement::WeftBinaries, Requirement::Netns, Requirement::Tun, PING];

/// Connections that are held open at once by the attacker.
const CONNECTIONS: usize = 10_000;
/// What the flood may cost the server at its worst moment, in bytes of resident memory.
const ALLOWED: u64 = 64 << 20;
/// How long a thing may take that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> std::process::ExitCode {
    Suite::new()
        .test(
            "ten_thousand_connections_that_prove_nothing_cost_bounded_memory_and_keep_nobody_out",
            MESH,
            ten_thousand_connections,
        )
        .test("a_server_with_few_descriptors_serves_its_nodes_in_a_flood", MESH, few_descriptors)
        .run()
}

fn ten_thousand_connections() -> Result<()> {
    let (made, grown) = flooded(CONNECTIONS, |_| Ok(()))?;
    ensure!(grown <= ALLOWED, "{made} connections cost {grown} bytes, of {ALLOWED} allowed");
    Ok(())
}

/// Fewer than the server gives to connections that prove nothing.
fn few_descriptors() -> Result<()> {
    let limit = |server: &Daemon| {
        let pid = server.pid().to_string();
        output(Command::new("prlimit").args(["--pid", &pid, "--nofile=600:600"])).map(drop)
    };
    flooded(2_000, limit).map(drop)
}

/// Floods a server, which `prepare` is given first, with `connections` and more, and checks that its nodes are served.
/// Returns how many connections there were, and by how many bytes the server's memory had grown at most.
fn flooded(connections: usize, prepare: impl FnOnce(&Daemon) -> Result<()>) -> Result<(usize, u64)> {
    raise_open_files()?;
    let mut mesh = Mesh::start()?;
    prepare(mesh.server()?)?;
    let (nas, laptop) = (mesh.node("nas")?, mesh.node("laptop")?);
    nas.reaches(laptop.mesh_ipv4()?, LIMIT)?;
    let flood = Flood::new(&mesh)?;
    let newcomer = mesh.machine("pi")?;
    let key = mesh.join_key(&[])?;
    let attacker = mesh.lab.host("attacker")?;
    let server = Memory::of(mesh.server()?);
    let before = server.begin()?;

    std::thread::scope(|scope| -> Result<()> {
        let attack = scope.spawn(|| {
            let flood = flood.clone();
            attacker.enter(move || flood.run())
        });
        let served = (|| -> Result<()> {
            wait::until("the flood", LIMIT, || flood.count() >= connections || attack.is_finished())?;
            // The flood goes on: each connection that the server closes is followed by another one.
            newcomer.weft(&["up", "--timeout", "2m", "--join", &key])?;
            newcomer.reaches(nas.mesh_ipv4()?, LIMIT)?;
            mesh.admin(&["node", "rename", "laptop", "portable"])?;
            wait::until("nas to hear of a new name", LIMIT, || nas.peer("portable").is_ok_and(|peer| peer.is_some()))?;
            for node in [&nas, &laptop] {
                ensure!(node.is_connected()?, "the flood cost {} its connection", node.name());
            }
            Ok(())
        })();
        flood.stop();
        attack.join().map_err(|_| anyhow!("the attacker panicked"))???;
        served
    })?;

    let made = flood.count();
    ensure!(made >= connections, "only {made} connections were made");
    ensure!(nas.ping(laptop.mesh_ipv4()?), "the flood broke a session");
    Ok((made, server.peak()?.saturating_sub(before)))
}

/// Somebody who opens connections without end and holds the last [`CONNECTIONS`] of them.
#[derive(Clone)]
struct Flood {
    server: SocketAddr,
    beginnings: Arc<[Vec<u8>]>,
    made: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Flood {
    fn new(mesh: &Mesh) -> Result<Self> {
        let key: JoinKey = mesh.join_key(&[])?.parse().map_err(|error| anyhow!("{error}"))?;
        let address = key.addresses().next().context("the join key names no address")?;
        let mut request = vec![0; 512];
        let len =
            write_request(&mut request, &address, VERSIONS, key.server_key()).map_err(|error| anyhow!("{error}"))?;
        request.truncate(len);
        let half = request.get(..len / 2).unwrap_or_default().to_vec();
        // The first message has 96 bytes, and its length comes before it.
        let half_a_message = [&request, [0, 96].as_slice(), &[0x5a; 48]].concat();
        let garbage: Vec<u8> = (0..600_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        Ok(Self {
            server: mesh.server_address(),
            beginnings: [Vec::new(), half, request, half_a_message, garbage].into(),
            made: Arc::default(),
            stopped: Arc::default(),
        })
    }

    fn count(&self) -> usize {
        self.made.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    fn run(&self) -> Result<()> {
        let mut held = VecDeque::with_capacity(CONNECTIONS);
        for beginning in self.beginnings.iter().cycle() {
            if self.stopped.load(Ordering::Acquire) {
                break;
            }
            // Where the server's queue is full, the kernel drops the first packet and sends it again.
            let mut connection = TcpStream::connect_timeout(&self.server, LIMIT).context("a connection is refused")?;
            // The server may have closed it already.
            let _ = connection.write_all(beginning);
            if held.len() == CONNECTIONS {
                held.pop_front();
            }
            held.push_back(connection);
            self.made.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }
}

/// The resident memory of a process.
struct Memory {
    folder: String,
}

impl Memory {
    fn of(daemon: &Daemon) -> Self {
        Self { folder: format!("/proc/{}", daemon.pid()) }
    }

    /// What it is now; its peak counts from now on.
    fn begin(&self) -> Result<u64> {
        std::fs::write(format!("{}/clear_refs", self.folder), "5").context("cannot reset the peak of a process")?;
        self.figure("VmRSS:")
    }

    fn peak(&self) -> Result<u64> {
        self.figure("VmHWM:")
    }

    fn figure(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("{}/status", self.folder))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        let kilobytes: u64 = line.split_whitespace().next().context("no number")?.parse()?;
        Ok(kilobytes * 1024)
    }
}
