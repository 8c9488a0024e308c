//! `cargo xtask demo`: a mesh of three machines and a microcontroller on this one, from the first command to the proof.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use weft_hil::{
    binaries,
    board::{Bench, Board, READINGS_PORT},
    capture::Capture,
    file_server,
    machine::{Machine as _, Mps2},
    mesh::{Mesh, Node},
    process::output,
    wait,
};

use crate::{
    firmware, sandbox, setup,
    workspace::{cargo, heading, run as step},
};

/// What `cargo xtask demo` takes.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Leave the mesh running, with a shell on the machine `laptop`
    #[arg(long)]
    shell: bool,
}

/// A line that the file is full of, and that nobody on the way may read.
const SECRET: &str = "the quick brown fox buries the family photographs";
/// Length of the file in bytes.
const FILE_LEN: usize = 4 << 20;
/// The web server's port on `nas`.
const HTTP_PORT: u16 = 8000;
/// How long something may take that usually takes well below a second.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs the demo.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if sandbox::inside() {
        return show(options).map(|()| ExitCode::SUCCESS);
    }
    setup::c_compiler()?;
    setup::required_tools(&[setup::NAMESPACES, setup::DEMO].concat())?;
    setup::chip_targets()?;
    heading("Building weft and weft-control");
    step(&mut cargo("build --package weft-agent --package weft-control"))?;
    heading("Building the firmware of the sensor");
    firmware::image(Mps2::BOARD)?;
    sandbox::reexec(["demo"].into_iter().chain(options.shell.then_some("--shell")))
}

fn show(options: &Options) -> Result<()> {
    sandbox::prepare()?;
    heading("Four machines, a microcontroller and a router");
    tell(
        "Each machine is a network namespace of this computer, in a subnet of its own. The microcontroller is emulated by",
    );
    tell("QEMU, and its Ethernet cable ends in a subnet too. Only the router joins them:");
    let mut mesh = Mesh::start()?;
    let folder = mesh.folder().to_path_buf();
    let mut bench = Bench::new(&mut mesh.lab, &folder)?;
    let machines = [mesh.machine("laptop")?, mesh.machine("nas")?, mesh.machine("pi")?];
    let [laptop, nas, pi] = &machines;
    let name = |host: &str, address: &dyn std::fmt::Display| println!("    {host:<9} {address}");
    println!();
    name("control", &mesh.server_host().ipv4());
    for node in [laptop, nas, pi] {
        name(node.name(), &node.host.ipv4());
    }
    name("sensor", &bench.ipv4());

    heading("The control server");
    tell("It hands out addresses and introduces the nodes to each other; their traffic does not pass through it.");
    let serve =
        format!("weft-control serve --data control --listen 0.0.0.0:8080 --url http://{}", mesh.server_address());
    typed("control", &serve);
    typed("control", "weft-control --data control user create ada");

    heading("Joining");
    tell(
        "A join key is one string. It holds the server's address, the server's public key and a secret. Whoever joins gets",
    );
    tell("an address of each kind, for good.");
    for node in [laptop, nas, pi] {
        let key = mesh.join_key(&[])?;
        typed("control", "weft-control --data control key create --user ada");
        println!("{}", indent(&key));
        let shown = key.get(..12).unwrap_or(&key);
        typed(node.name(), &format!("weft up --hostname {} --join {shown}...", node.name()));
        node.join(&key)?;
        weft(node, &["ip"])?;
    }

    let readings = laptop.host.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, READINGS_PORT)))??;
    let mut sensor = join_sensor(&mesh, &mut bench)?;
    let sensor_ip = sensor.wait_for("joined as", LIMIT)?.address()?;

    heading("The mesh, as laptop sees it");
    tell("The first packet to a node makes the tunnel to it.");
    let (laptop_ip, nas_ip) = (laptop.mesh_ipv4()?, nas.mesh_ipv4()?);
    for name in ["nas", "pi", "sensor"] {
        wait::until(&format!("laptop to know {name}"), LIMIT, || laptop.peer(name).is_ok_and(|peer| peer.is_some()))?;
    }
    weft(laptop, &["status"])?;
    weft(laptop, &["ping", "-c", "3", "nas"])?;
    weft(laptop, &["ping", "-c", "3", "sensor"])?;
    show_sensor(laptop, sensor_ip, &readings)?;

    heading("A file across the mesh");
    tell(
        "On nas a web server offers a text file. Laptop fetches it at nas's mesh address. Meanwhile packets are captured",
    );
    tell("on laptop itself, where they leave the tunnel in the clear, and on the router in between.");
    let folder = mesh.folder();
    let (offered, fetched) = (folder.join("photographs.txt"), folder.join("fetched.txt"));
    let content = file_content();
    std::fs::write(&offered, &content).with_context(|| format!("cannot write {}", offered.display()))?;
    file_server::serve(&nas.host, (nas_ip, HTTP_PORT).into(), content)?;
    let inside = Capture::start(&laptop.host, folder.join("laptop.pcap"))?;
    let on_the_way = Capture::start(mesh.lab.router(), folder.join("router.pcap"))?;
    let url = format!("http://{nas_ip}:{HTTP_PORT}/photographs.txt");
    typed("laptop", &format!("curl -o fetched.txt {url}"));
    let mut curl = laptop.host.command("curl");
    output(curl.args(["--silent", "--show-error", "--fail", "--max-time", "60", "-o"]).arg(&fetched).arg(&url))?;
    let (inside, on_the_way) = (inside.stop()?, on_the_way.stop()?);
    let sums = [("nas", &offered), ("laptop", &fetched)].map(|(host, file)| -> Result<String> {
        let sum = sha256(file)?;
        typed(host, &format!("sha256sum {}", file.file_name().unwrap_or_default().to_string_lossy()));
        println!("{}", indent(&sum));
        Ok(sum)
    });
    let [sent, received] = sums;
    ensure!(sent? == received?, "the file that arrived is not the file that was sent");
    tell("Both are the same.");

    heading("What the router saw");
    typed("router", "tshark -r router.pcap, packets between laptop and nas, by protocol");
    let between = format!("ip.addr == {} && ip.addr == {}", laptop.host.ipv4(), nas.host.ipv4());
    let protocols = on_the_way.protocols(&between)?;
    for (protocol, packets) in &protocols {
        println!("{}", indent(&format!("{protocol:<10} {packets:>7} packets")));
    }
    let wireguard = protocols.get("WireGuard").copied().unwrap_or(0);
    ensure!(wireguard > 0, "tshark names no packet between laptop and nas WireGuard");
    ensure!(protocols.len() == 1, "laptop and nas exchanged packets other than WireGuard");
    tell(&format!("Now the file's text, {SECRET:?}, is searched for in both captures:"));
    let (clear, leaked) = (inside.occurrences(SECRET)?, on_the_way.occurrences(SECRET)?);
    println!("{}", indent(&format!("on laptop      {clear:>7} times")));
    println!("{}", indent(&format!("on the router  {leaked:>7} times")));
    ensure!(clear > 0, "the text is not even in the capture on laptop, so the search proves nothing");
    ensure!(leaked == 0, "the router can read the file");

    if options.shell {
        heading("A shell on laptop");
        tell(&format!(
            "You are on laptop ({laptop_ip}). Try:  weft status   weft ping sensor   curl http://{sensor_ip}/   curl {url} | head -3"
        ));
        tell("`exit` takes everything down.");
        shell(laptop)?;
    }
    heading("Cleaning up");
    drop(sensor);
    drop(bench);
    drop(machines);
    drop(mesh);
    tell("Daemons, interfaces and namespaces are gone, and this computer's own network was never touched.");
    Ok(())
}

/// Gives a board a join key, starts it, and shows what it logs until it has joined.
fn join_sensor(mesh: &Mesh, bench: &mut Bench) -> Result<Board<Mps2>> {
    heading("A sensor joins");
    tell(
        "The sensor is firmware without an operating system and without a heap, built for the instructions and the 264 KB",
    );
    tell(
        "of RAM of an RP2040. What a person writes into its flash: a join key, a random seed, a name, and who gets its",
    );
    tell(&format!(
        "readings: laptop, at UDP port {READINGS_PORT}. Then it is switched on. Its log, with the time on its own clock:"
    ));
    let mut sensor = bench.provisioned::<Mps2>("sensor", &mesh.join_key(&[])?)?;
    sensor.start()?;
    sensor.wait_for("pushing readings", LIMIT)?;
    println!();
    for line in sensor.lines("")? {
        println!("{}", indent(&line.text));
    }
    Ok(sensor)
}

/// Fetches the sensor's page from laptop, and waits there for a reading.
fn show_sensor(laptop: &Node, sensor: Ipv4Addr, readings: &UdpSocket) -> Result<()> {
    heading("The sensor's page, and its readings");
    let url = format!("http://{sensor}/");
    typed("laptop", &format!("curl {url}"));
    let mut curl = laptop.host.command("curl");
    let page = output(curl.args(["--silent", "--show-error", "--fail", "--max-time", "20", &url]))?;
    println!("{}", indent(&page));
    ensure!(page.contains("&deg;C"), "the sensor's page has no reading");
    readings.set_read_timeout(Some(LIMIT))?;
    let mut datagram = [0; 256];
    let (len, from) = readings.recv_from(&mut datagram).context("no reading came to laptop")?;
    ensure!(from.ip() == sensor, "a reading came from {from}");
    tell(&format!("And laptop got, at UDP port {READINGS_PORT}, from {from}:"));
    println!("{}", indent(&String::from_utf8_lossy(datagram.get(..len).unwrap_or_default())));
    Ok(())
}

/// Shows a call of `weft` and what it prints.
fn weft(node: &Node, arguments: &[&str]) -> Result<()> {
    typed(node.name(), &format!("weft {}", arguments.join(" ")));
    println!("{}", indent(&node.weft(arguments)?));
    Ok(())
}

fn shell(node: &Node) -> Result<()> {
    let program = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let path = std::env::join_paths(
        std::iter::once(binaries::directory()?)
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    // How the last command of the shell went is no matter of the demo.
    // The prompts of most shells show the host's name, so it has one of its own.
    let mut shell = node.host.command("unshare");
    shell.args(["--uts", "sh", "-c", "hostname \"$0\"; exec \"$@\"", node.name()]).arg(program);
    shell.env("PATH", path).env("WEFT_SOCKET", node.socket());
    shell.status().context("cannot start a shell")?;
    Ok(())
}

fn file_content() -> Vec<u8> {
    let mut text = String::with_capacity(FILE_LEN + 100);
    let mut number = 0;
    while text.len() < FILE_LEN {
        let _ = writeln!(text, "{number:>6}  {SECRET}");
        number += 1;
    }
    text.into_bytes()
}

fn sha256(file: &Path) -> Result<String> {
    let printed = output(Command::new("sha256sum").arg(file))?;
    printed.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}

fn tell(text: &str) {
    println!("{text}");
}

/// A command as it would be typed on a machine.
fn typed(machine: &str, command: &str) {
    if std::io::stdout().is_terminal() {
        println!("\x1b[1m{machine}$ {command}\x1b[0m");
    } else {
        println!("{machine}$ {command}");
    }
    let _ = std::io::stdout().flush();
}

fn indent(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
