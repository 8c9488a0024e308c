//! `cargo xtask bench control`.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow, ensure};
use weft_hil::{
    process::{Daemon, output, raise_open_files},
    wait,
};

use super::memory_group::MemoryGroup;
use crate::{
    sandbox, setup,
    tally::Tally,
    workspace::{cargo, heading, root, run as step},
};

/// What `cargo xtask bench control` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Simulated nodes
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(100..))]
    nodes: u16,
    /// Those of them that hold every peer; the others hold few and ask on demand
    #[arg(long, default_value_t = 10)]
    full: u16,
    /// Peers that a node which is not full declares that it can hold
    #[arg(long, default_value_t = 64)]
    capacity: u32,
}

/// Nodes in the run of CI.
const CI_NODES: u16 = 500;
/// On-demand nodes that hold the node that is changed.
const HOLDERS: u16 = 20;
/// The server's memory, with the kernel's for its sockets.
const MEMORY_LIMIT: u64 = 1 << 30;
/// From the call of the command line to the last node concerned.
const CHANGE_LIMIT: Duration = Duration::from_secs(1);
/// What one change may cost a node concerned, in bytes of records: two of the largest.
const CHANGE_BYTES_LIMIT: u64 = 2 << 10;
/// How many times the node is renamed; the slowest counts.
const CHANGES: usize = 5;
/// Where the server listens, inside the sandbox.
const ADDRESS: &str = "127.0.0.1:8080";

impl Options {
    /// What CI measures.
    pub(super) fn of_ci() -> Self {
        Self { nodes: CI_NODES, full: 10, capacity: 64 }
    }
}

/// Builds, and goes on inside the sandbox.
pub(super) fn prepare(options: &Options) -> Result<ExitCode> {
    setup::c_compiler()?;
    setup::required_tools(setup::NAMESPACES)?;
    heading("Building the server and the simulated nodes with optimisation");
    step(&mut cargo("build --release --package weft-control --package weft-hil --bins"))?;
    let Options { nodes, full, capacity } = options;
    let arguments = format!("bench control --nodes {nodes} --full {full} --capacity {capacity}");
    sandbox::reexec(arguments.split(' '))
}

/// Measures.
pub(super) fn measure(options: &Options) -> Result<ExitCode> {
    sandbox::prepare()?;
    raise_open_files()?;
    // On a disk, since the server waits for it; the sandbox's own temporary files are in memory.
    let folder = tempfile::tempdir_in(target()).context("cannot make a folder for the server")?;
    heading(&format!("{} nodes, {} of them full", options.nodes, options.full));
    let server = Server::start(folder.path())?;
    let key = folder.path().join("join-key");
    server.admin(&["user", "create", "bench"])?;
    let printed = server.admin(&["key", "create", "--user", "bench", "--reusable"])?;
    let text = printed.split_whitespace().find(|word| word.starts_with("weft"));
    fs::write(&key, text.ok_or_else(|| anyhow!("key create printed no key:\n{printed}"))?)?;
    let before = server.resident()?;

    let (mut swarm, joined) = Swarm::start(&key, options)?;
    let total = micros(&joined, "total_micros")?;
    line("all nodes joined after", &format!("{:.1} s", total.as_secs_f64()));
    line("", &format!("{:.0} nodes a second", f64::from(options.nodes) / total.as_secs_f64()));
    line("one node, median", &format!("{:.1} ms", millis(micros(&joined, "median_micros")?)));
    line("one node, slowest of a hundred", &format!("{:.1} ms", millis(micros(&joined, "slowest_percent_micros")?)));
    let resident = server.resident()?;
    line("server's resident memory, empty", &megabytes(before.now));
    line("server's resident memory, all connected", &megabytes(resident.now));
    line("for each node", &format!("{:.1} KB", (resident.now - before.now) as f64 / 1e3 / f64::from(options.nodes)));

    let target =
        joined.get("target").and_then(serde_json::Value::as_str).context("the nodes named no target")?.to_owned();
    swarm.order(&format!("hold {target}"))?;
    let mut slowest = Duration::ZERO;
    let (mut full, mut holder, mut others) = (0, 0, 0);
    let mut name = target;
    for change in 0..CHANGES {
        let new = format!("renamed-{change}");
        let arrived = swarm.change(&new, || server.admin(&["node", "rename", &name, &new]).map(drop))?;
        slowest = slowest.max(arrived.time);
        full = full.max(arrived.full_bytes / u64::from(options.full.max(1)));
        holder = holder.max(arrived.holder_bytes / u64::from(HOLDERS));
        others = others.max(arrived.other_bytes);
        name = new;
    }
    let concerned = options.full + HOLDERS;
    line("a node renamed: the last one concerned knew after", &format!("{:.1} ms", millis(slowest)));
    line("bytes to each full node", &full.to_string());
    line("bytes to each on-demand node that holds it", &holder.to_string());
    line(&format!("bytes to the {} other nodes together", options.nodes - 1 - concerned), &others.to_string());
    let resident = server.resident()?;
    let peak = server.group.as_ref().and_then(MemoryGroup::peak);
    line("server's resident memory at its most", &megabytes(resident.peak));
    match peak {
        Some(peak) => line("with the kernel's for it, at its most", &megabytes(peak)),
        None => println!("The memory is not limited and the kernel's share is not known here: {}.", server.unlimited),
    }
    drop(swarm);
    drop(server);

    heading("Limits");
    let mut tally = Tally::default();
    tally.check(
        &format!("the server stays within {}", megabytes(MEMORY_LIMIT)),
        within(peak.unwrap_or(resident.peak), MEMORY_LIMIT, "bytes"),
    );
    tally.check(
        &format!("a change reaches all concerned within {CHANGE_LIMIT:?}"),
        within(slowest.as_millis() as u64, CHANGE_LIMIT.as_millis() as u64, "ms"),
    );
    tally.check(
        &format!("a change costs a node concerned at most {CHANGE_BYTES_LIMIT} bytes, whatever the size of the mesh"),
        within(full.max(holder), CHANGE_BYTES_LIMIT, "bytes"),
    );
    tally.check("a change costs the nodes not concerned nothing", within(others, 0, "bytes"));
    Ok(tally.finish())
}

fn within(measured: u64, limit: u64, unit: &str) -> Result<()> {
    ensure!(measured <= limit, "{measured} {unit}, of {limit} allowed");
    Ok(())
}

fn line(what: &str, value: &str) {
    println!("{what:<56} {value:>16}");
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn release(binary: &str) -> PathBuf {
    target().join("release").join(binary)
}

/// The server under measurement.
#[derive(Debug)]
struct Server {
    // Dropped in this order: a control group can be removed once it is empty.
    daemon: Daemon,
    group: Option<MemoryGroup>,
    /// Why there is no group.
    unlimited: String,
    data: PathBuf,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug)]
struct Resident {
    now: u64,
    peak: u64,
}

impl Server {
    fn start(folder: &Path) -> Result<Self> {
        let (group, unlimited) = match MemoryGroup::new(MEMORY_LIMIT) {
            Ok(group) => (Some(group), String::new()),
            Err(error) => (None, format!("{error:#}")),
        };
        let data = folder.join("data");
        // A shell moves itself into the group and then becomes the server.
        let mut command = Command::new("sh");
        let enter = group.as_ref().map(|group| format!("echo 0 > {} && ", group.processes().display()));
        command.arg("-c").arg(format!("{}exec \"$@\"", enter.unwrap_or_default())).arg("sh");
        command.arg(release("weft-control")).args(["serve", "--data"]).arg(&data);
        command.args(["--listen", ADDRESS, "--url", &format!("http://{ADDRESS}")]);
        let mut daemon = Daemon::spawn("weft-control", &mut command)?;
        wait::for_ok("the control server to listen", Duration::from_secs(20), || {
            if let Some(status) = daemon.exit_status()? {
                return Ok(Err(anyhow!("weft-control ended ({status}):\n{}", daemon.log())));
            }
            TcpStream::connect(ADDRESS)?;
            Ok(Ok(()))
        })??;
        Ok(Self { daemon, group, unlimited, data })
    }

    fn admin(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new(release("weft-control")).arg("--data").arg(&self.data).args(arguments))
    }

    fn resident(&self) -> Result<Resident> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid()))
            .with_context(|| format!("the server is gone; its log:\n{}", self.daemon.log()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
        };
        let (now, peak) =
            field("VmRSS:").zip(field("VmHWM:")).context("the kernel does not tell the server's memory")?;
        Ok(Resident { now, peak })
    }
}

/// The process of the simulated nodes.
#[derive(Debug)]
struct Swarm {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// How a change arrived.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    time: Duration,
    full_bytes: u64,
    holder_bytes: u64,
    other_bytes: u64,
}

impl Swarm {
    /// Starts the nodes; returns how they joined.
    fn start(key: &Path, options: &Options) -> Result<(Self, serde_json::Value)> {
        let mut command = Command::new(release("weft-swarm"));
        command.arg("--key").arg(key).args([
            "--nodes",
            &options.nodes.to_string(),
            "--full",
            &options.full.to_string(),
        ]);
        command.args(["--holders", &HOLDERS.to_string(), "--capacity", &options.capacity.to_string()]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start weft-swarm")?;
        let orders = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let mut swarm = Self { child, orders, answers };
        let joined = swarm.answer()?;
        Ok((swarm, joined))
    }

    fn order(&mut self, order: &str) -> Result<serde_json::Value> {
        writeln!(self.orders, "{order}").context("the simulated nodes are gone")?;
        self.answer()
    }

    /// Awaits a change to `name` that `make` makes.
    fn change(&mut self, name: &str, make: impl FnOnce() -> Result<()>) -> Result<Arrived> {
        writeln!(self.orders, "change {name}").context("the simulated nodes are gone")?;
        let begin = SystemTime::now().duration_since(UNIX_EPOCH)?;
        make()?;
        let arrived = self.answer()?;
        Ok(Arrived {
            time: micros(&arrived, "last_micros")?.saturating_sub(begin),
            full_bytes: number(&arrived, "full_bytes")?,
            holder_bytes: number(&arrived, "holder_bytes")?,
            other_bytes: number(&arrived, "other_bytes")?,
        })
    }

    fn answer(&mut self) -> Result<serde_json::Value> {
        let line = self.answers.next().context("the simulated nodes ended; what they said is above")??;
        serde_json::from_str(&line).with_context(|| format!("the simulated nodes said {line:?}"))
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn micros(value: &serde_json::Value, name: &str) -> Result<Duration> {
    number(value, name).map(Duration::from_micros)
}

fn number(value: &serde_json::Value, name: &str) -> Result<u64> {
    value.get(name).and_then(serde_json::Value::as_u64).with_context(|| format!("the answer has no {name}: {value}"))
}
