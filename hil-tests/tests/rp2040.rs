//! The images of `boards/pico-w5500` and `boards/pico-w`, as they would be flashed, in an emulated RP2040: on a network with
//! DHCP, in a mesh with a Linux node.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use weft_embassy::provision::Field;
use weft_hil::{
    board::{Bench, random_seed},
    dhcp::DhcpServer,
    mesh::{Mesh, Node},
    pico::{Kind, NEEDS, NETWORK, Pico, WIRELESS_NEEDS},
    suite::Suite,
};

/// How long a thing may take: the emulator is five times slower than the chip, more on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// The same for the emulator of the Pico W, which is some forty times slower than the chip.
const SLOW_LIMIT: Duration = Duration::from_secs(600);
/// The changes of flash after which the power is cut: while the page is taken, and while the identity is kept.
const CUTS: [&str; 3] = ["3", "9", "15"];

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("the_image_that_is_flashed_joins_is_pinged_and_serves_its_page", NEEDS, joins_and_serves)
        .test("a_pico_whose_power_is_cut_in_a_flash_write_joins_with_the_same_key", NEEDS, survives_power_cuts)
        .test("a_pico_with_no_seed_and_a_broken_oscillator_makes_no_keys", NEEDS, makes_no_keys_of_nothing)
        .slow("a_pico_w_starts_its_radio_joins_wifi_and_finds_the_control_server", WIRELESS_NEEDS, a_pico_w_comes_up)
        .run()
}

/// One emulator at a time: each takes a processor, and the daemons that it talks to live in real time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mesh with a Linux node, and a subnet with DHCP for the Pico.
fn mesh() -> Result<(Mesh, Bench, DhcpServer, Node)> {
    let mut mesh = Mesh::start()?;
    let folder = mesh.folder().to_path_buf();
    let bench = Bench::new(&mut mesh.lab, &folder)?;
    let dhcp = bench.serve_dhcp(mesh.lab.router())?;
    let laptop = mesh.node("laptop")?;
    Ok((mesh, bench, dhcp, laptop))
}

fn joined(pico: &mut Pico) -> Result<Ipv4Addr> {
    pico.wait_for("joined as", LIMIT)?.address()
}

fn joins_and_serves() -> Result<()> {
    let _turn = alone();
    let (mesh, bench, _dhcp, laptop) = mesh()?;
    let (key, seed) = (mesh.join_key(&[])?, random_seed()?);
    let fields = [Field::JoinKey(&key), Field::Seed(&seed), Field::Hostname("sensor")];
    let mut pico = Pico::new(Kind::W5500, &bench.switch, mesh.folder(), "sensor", &fields)?;
    pico.start(&[])?;
    let address = joined(&mut pico)?;
    laptop.reaches(address, LIMIT)?;
    let page = laptop.host.run("curl", &["--silent", "--fail", "--max-time", "60", &format!("http://{address}/")])?;
    ensure!(page.contains("Weft sensor") && page.contains(&address.to_string()), "not the sensor's page:\n{page}");

    // The same node after a reset.
    pico.cut_power()?;
    pico.start(&[])?;
    ensure!(joined(&mut pico)? == address, "another address after a reset");
    laptop.reaches(address, LIMIT)
}

fn survives_power_cuts() -> Result<()> {
    let _turn = alone();
    let (mesh, bench, _dhcp, laptop) = mesh()?;
    let (key, seed) = (mesh.join_key(&[])?, random_seed()?);
    let fields = [Field::JoinKey(&key), Field::Seed(&seed), Field::Hostname("sensor")];
    let mut pico = Pico::new(Kind::W5500, &bench.switch, mesh.folder(), "sensor", &fields)?;
    for cut in CUTS {
        pico.start(&["--cut-after", cut])?;
        pico.wait_for_cut(LIMIT)?;
    }
    pico.start(&[])?;
    let address = joined(&mut pico)?;
    laptop.reaches(address, LIMIT)
}

fn makes_no_keys_of_nothing() -> Result<()> {
    let _turn = alone();
    let (mesh, bench, _dhcp, _laptop) = mesh()?;
    let key = mesh.join_key(&[])?;
    let fields = [Field::JoinKey(&key), Field::Hostname("sensor")];
    let mut pico = Pico::new(Kind::W5500, &bench.switch, mesh.folder(), "sensor", &fields)?;
    pico.start(&["--stuck-rosc"])?;
    pico.wait_for("no seed in flash", LIMIT)?;
    pico.cut_power()?;
    // With an oscillator that works it makes its own.
    pico.start(&[])?;
    joined(&mut pico).map(drop)
}

/// No further: the emulator is some forty times slower than the chip, and the control server rightly gives up on a node that takes
/// so long for its handshake.
fn a_pico_w_comes_up() -> Result<()> {
    let _turn = alone();
    let (mesh, bench, _dhcp, _laptop) = mesh()?;
    let (key, seed) = (mesh.join_key(&[])?, random_seed()?);
    let fields = [
        Field::JoinKey(&key),
        Field::Seed(&seed),
        Field::Hostname("sensor"),
        Field::Ssid(NETWORK),
        Field::Password("any password"),
    ];
    let mut pico = Pico::new(Kind::Wireless, &bench.switch, mesh.folder(), "sensor", &fields)?;
    pico.start(&[])?;
    pico.wait_for("joined the Wi-Fi network", SLOW_LIMIT)?;
    pico.wait_for("network up", SLOW_LIMIT)?;
    pico.wait_for("connected to the control server", SLOW_LIMIT).map(drop)
}
