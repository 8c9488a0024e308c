//! `weft tunnel` as a program: it comes, goes and obeys as the tools made for WireGuard expect.

use std::{fmt::Write as _, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use weft_hil::{
    binaries,
    lab::{Family, Lab},
    netns::{Netns, unique_device_name},
    process::output,
    requirement::{PING, Requirement, WG},
    suite::Suite,
    wait,
    wireguard::{Device, Implementation::Weft, PATIENCE, connect, wg},
};

const NEEDS: &[Requirement] = &[Requirement::Netns, Requirement::Tun, Requirement::WeftBinaries, WG, PING];

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("in_the_background_it_is_ready_when_the_command_ends", NEEDS, in_the_background)
        .test("a_name_in_use_is_refused_in_plain_words", NEEDS, a_name_in_use_is_refused)
        .test("deleting_the_device_ends_it_and_removes_its_socket", NEEDS, deleting_the_device_ends_it)
        .test("removing_the_socket_ends_it", NEEDS, removing_the_socket_ends_it)
        .test("a_signal_ends_it", NEEDS, a_signal_ends_it)
        .test("a_configuration_reads_back_as_it_was_written", NEEDS, a_configuration_reads_back)
        .test("a_port_in_use_is_refused_and_changes_nothing", NEEDS, a_port_in_use_is_refused)
        .test("the_port_and_the_mark_change_while_it_runs", NEEDS, the_port_and_the_mark_change)
        .test("down_wipes_sessions_and_up_begins_anew", NEEDS, down_and_up)
        .test("padding_does_not_exceed_the_mtu", NEEDS, padding_does_not_exceed_the_mtu)
        .test("a_removed_peer_is_unreachable_at_once", NEEDS, a_removed_peer_is_unreachable)
        .test("no_peer_and_no_endpoint_are_answered_with_icmp", NEEDS, nowhere_is_answered_with_icmp)
        .test("a_routing_loop_ends", NEEDS, a_routing_loop_ends)
        .test("ten_thousand_allowed_addresses_are_set_and_shown", NEEDS, ten_thousand_allowed_addresses)
        .test("a_device_moved_to_another_namespace_keeps_its_sockets", NEEDS, a_moved_device_keeps_its_sockets)
        .run()
}

fn socket(device: &str) -> PathBuf {
    PathBuf::from(format!("/var/run/wireguard/{device}.sock"))
}

fn in_the_background() -> Result<()> {
    let netns = Netns::new("background")?;
    let device = unique_device_name("wg");
    let weft = binaries::weft()?;
    output(netns.command(&weft).args(["tunnel", &device]))?;
    // No waiting: all of this is there.
    wg(&["show", &device], None)?;
    ensure!(socket(&device).metadata()?.permissions().mode() & 0o077 == 0, "only its owner may use the socket");
    ensure!(netns.ip(&format!("link show {device}"))?.contains("mtu 1420"));
    netns.ip(&format!("link del {device}"))?;
    wait::until("the socket to be removed", PATIENCE, || !socket(&device).exists())
}

fn a_name_in_use_is_refused() -> Result<()> {
    let mut lab = Lab::new()?;
    let host = lab.host("a")?;
    let mut device = Device::start(&host, Weft, 51_820, 1)?;
    for arguments in [["tunnel", "--foreground"].as_slice(), &["tunnel"]] {
        let error = output(host.command(binaries::weft()?).args(arguments).arg(device.name()))
            .err()
            .context("a second one is refused")?
            .to_string();
        ensure!(error.contains(&format!("cannot create the network device {}", device.name())), "{error}");
    }
    ensure!(device.daemon().exit_status()?.is_none(), "the first one is not disturbed");
    wg(&["show", device.name()], None).map(drop)
}

fn deleting_the_device_ends_it() -> Result<()> {
    let mut lab = Lab::new()?;
    let host = lab.host("a")?;
    let mut device = Device::start(&host, Weft, 51_820, 1)?;
    host.ip(&format!("link del {}", device.name()))?;
    ensure!(device.daemon().wait(PATIENCE)?.success());
    ensure!(!socket(device.name()).exists());
    Ok(())
}

fn removing_the_socket_ends_it() -> Result<()> {
    let mut lab = Lab::new()?;
    let host = lab.host("a")?;
    let mut device = Device::start(&host, Weft, 51_820, 1)?;
    std::fs::remove_file(socket(device.name()))?;
    ensure!(device.daemon().wait(PATIENCE)?.success());
    ensure!(host.ip(&format!("link show {}", device.name())).is_err(), "the device went with it");
    Ok(())
}

fn a_signal_ends_it() -> Result<()> {
    let mut lab = Lab::new()?;
    let host = lab.host("a")?;
    let mut device = Device::start(&host, Weft, 51_820, 1)?;
    ensure!(device.daemon().terminate(PATIENCE)?.success());
    ensure!(!socket(device.name()).exists());
    ensure!(host.ip(&format!("link show {}", device.name())).is_err(), "the device went with it");
    Ok(())
}

fn a_configuration_reads_back() -> Result<()> {
    let mut lab = Lab::new()?;
    let host = lab.host("a")?;
    let device = Device::start(&host, Weft, 51_820, 1)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("wg.conf");
    let path = file.to_str().context("a path in UTF-8")?;
    let keys = (0..3).map(|_| wg(&["genkey"], None)).collect::<Result<Vec<_>>>()?;
    let [own, a, b] = keys.as_slice() else { unreachable!("three keys") };
    let (a, b) = (wg(&["pubkey"], Some(a))?, wg(&["pubkey"], Some(b))?);
    let written = format!(
        "[Interface]\nListenPort = 51999\nFwMark = 0x1234\nPrivateKey = {own}\n\
         [Peer]\nPublicKey = {a}PresharedKey = {own}AllowedIPs = 10.1.0.0/16, fd01::/64\n\
         Endpoint = [2001:db8::1]:1234\nPersistentKeepalive = 25\n\n\
         [Peer]\nPublicKey = {b}AllowedIPs = 0.0.0.0/0\n"
    );
    std::fs::write(&file, &written)?;
    wg(&["setconf", device.name(), path], None)?;
    let lines = |text: &str| {
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| {
                let Some(prefixes) = line.strip_prefix("AllowedIPs = ") else { return line.to_owned() };
                let mut prefixes: Vec<&str> = prefixes.split(", ").collect();
                prefixes.sort_unstable();
                prefixes.join(", ")
            })
            .filter(|line| !line.is_empty())
            .collect();
        lines.sort_unstable();
        lines
    };
    let read = wg(&["showconf", device.name()], None)?;
    ensure!(lines(&read) == lines(&written), "written:\n{written}\nread:\n{read}");

    // `syncconf` sends the differences only, `addconf` adds to what is there.
    std::fs::write(&file, format!("[Peer]\nPublicKey = {b}AllowedIPs = 10.1.0.0/16\n"))?;
    wg(&["addconf", device.name(), path], None)?;
    let allowed = wg(&["show", device.name(), "allowed-ips"], None)?;
    ensure!(allowed.contains(&format!("{}\tfd01::/64", a.trim())), "the prefix moved to the other peer:\n{allowed}");
    std::fs::write(&file, format!("[Interface]\nPrivateKey = {own}[Peer]\nPublicKey = {a}"))?;
    wg(&["syncconf", device.name(), path], None)?;
    ensure!(wg(&["show", device.name(), "peers"], None)? == a, "one peer is left");
    Ok(())
}

fn a_port_in_use_is_refused() -> Result<()> {
    let mut lab = Lab::new()?;
    let host = lab.host("a")?;
    let device = Device::start(&host, Weft, 51_820, 1)?;
    let taken = host.enter(|| std::net::UdpSocket::bind("0.0.0.0:7000"))??;
    let error = device.set("listen-port 7000").err().context("it is refused")?.to_string();
    ensure!(error.contains("Address already in use"), "{error}");
    ensure!(wg(&["show", device.name(), "listen-port"], None)?.trim() == "51820");
    drop(taken);
    // A process that another test starts at this very moment has a copy of the socket until it begins its program.
    wait::until("the port to be free", PATIENCE, || device.set("listen-port 7000").is_ok())?;
    ensure!(wg(&["show", device.name(), "listen-port"], None)?.trim() == "7000");
    Ok(())
}

fn the_port_and_the_mark_change() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, Weft, 51_821, 2)?);
    connect(&left, &right, b.ipv4().into())?;
    left.ping_until_answered(right.inner()[0])?;
    left.set("listen-port 0")?;
    let port = wg(&["show", left.name(), "listen-port"], None)?;
    ensure!(port.trim() != "51820" && port.trim() != "0", "a free port was picked: {port}");
    left.ping_until_answered(right.inner()[0])?;
    ensure!(right.show("endpoints", &left)? == format!("{}:{}", a.ipv4(), port.trim()));

    // Marked traffic is sent nowhere by this rule, which shows that the mark is on it.
    a.ip("rule add fwmark 0x77 blackhole")?;
    left.set("fwmark 0x77")?;
    ensure!(left.ping(right.inner()[0], 1, Duration::from_secs(1)).is_err());
    left.set("fwmark 0")?;
    left.ping_until_answered(right.inner()[0])
}

fn down_and_up() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, Weft, 51_821, 2)?);
    connect(&left, &right, b.ipv4().into())?;
    left.set(&format!("peer {} persistent-keepalive 1", right.public_key()))?;
    left.ping_until_answered(right.inner()[0])?;
    let sockets = |host: &Netns| host.run("ss", &["--udp", "--listening", "--numeric"]);
    ensure!(sockets(&a)?.contains(":51820"));
    a.ip(&format!("link set {} down", left.name()))?;
    wait::until("the sockets to be closed", PATIENCE, || sockets(&a).is_ok_and(|list| !list.contains(":51820")))?;
    ensure!(left.show("allowed-ips", &right)?.contains("10.77.0.2/32"), "the configuration stays");
    let (_, before) = left.transfer(&right)?;
    a.ip(&format!("link set {} up", left.name()))?;
    // A handshake by the keepalive alone: no session was left to send one in.
    wait::until("a new handshake", PATIENCE, || left.transfer(&right).is_ok_and(|(_, sent)| sent >= before + 148))?;
    left.ping_until_answered(right.inner()[0])
}

fn padding_does_not_exceed_the_mtu() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, Weft, 51_821, 2)?);
    connect(&left, &right, b.ipv4().into())?;
    let inner = right.inner()[0];
    left.ping_until_answered(inner)?;
    // An inner packet of 1,300 bytes: padded to 1,312 with room, not at all where 1,300 is the MTU. With 32 bytes of
    // header and tag.
    for (mtu, datagram) in [("1420", 1_344), ("1300", 1_332)] {
        a.ip(&format!("link set {} mtu {mtu}", left.name()))?;
        wait::for_ok(&format!("a datagram of {datagram} bytes"), PATIENCE, || {
            let (_, before) = left.transfer(&right)?;
            a.run("ping", &["-c", "1", "-W", "5", "-s", "1272", &inner.to_string()])?;
            let (_, after) = left.transfer(&right)?;
            ensure!(after - before == datagram, "{} bytes", after - before);
            Ok(())
        })?;
    }
    Ok(())
}

fn a_removed_peer_is_unreachable() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, Weft, 51_821, 2)?);
    connect(&left, &right, b.ipv4().into())?;
    left.ping_until_answered(right.inner()[0])?;
    left.set(&format!("peer {} remove", right.public_key()))?;
    ensure!(left.ping(right.inner()[0], 1, Duration::from_secs(1)).is_err());
    ensure!(right.ping(left.inner()[0], 1, Duration::from_secs(1)).is_err(), "nor is anything accepted from it");
    Ok(())
}

fn nowhere_is_answered_with_icmp() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, Weft, 51_821, 2)?);
    let ping = |address: &str| {
        let error = a.run("ping", &["-c", "1", "-W", "5", address]).err().context("no answer")?;
        anyhow::Ok(error.to_string())
    };
    let nobody = ["10.77.0.99", "fd77::99"];
    left.add_peer(&right, None)?;
    let no_endpoint = right.inner().map(|address| address.to_string());
    for address in nobody.into_iter().chain(no_endpoint.iter().map(String::as_str)) {
        let said = ping(address)?;
        let expected = if address.contains(':') { "Address unreachable" } else { "Destination Host Unreachable" };
        ensure!(said.contains(expected), "{address}: {said}");
    }
    Ok(())
}

fn a_routing_loop_ends() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    for (outer, prefix) in [(b.address(Family::V4), "0.0.0.0/0"), (b.address(Family::V6), "::/0")] {
        let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, Weft, 51_821, 2)?);
        connect(&left, &right, outer)?;
        left.set(&format!("peer {} allowed-ips {prefix}", right.public_key()))?;
        let inner = right.inner()[usize::from(outer.is_ipv6())];
        left.ping_until_answered(inner)?;
        let (_, before) = left.transfer(&right)?;
        // From now on every datagram to the peer goes into the tunnel to the peer.
        a.ip(&format!("route add {outer} dev {}", left.name()))?;
        for size in ["10", "1300", "5000"] {
            ensure!(a.run("ping", &["-c", "1", "-W", "1", "-s", size, &inner.to_string()]).is_err());
        }
        let (_, after) = left.transfer(&right)?;
        ensure!(after > before && after - before < 50_000, "{} bytes sent for three echo requests", after - before);
        let (_, later) = left.transfer(&right)?;
        ensure!(later == after, "it is quiet again");
        a.ip(&format!("route del {outer} dev {}", left.name()))?;
        left.ping_until_answered(inner)?;
    }
    Ok(())
}

fn ten_thousand_allowed_addresses() -> Result<()> {
    let mut lab = Lab::new()?;
    let host = lab.host("a")?;
    let device = Device::start(&host, Weft, 51_820, 1)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("wg.conf");
    let mut text = String::new();
    for peer in 0..1_000_u32 {
        // Any 32 bytes are a public key.
        writeln!(text, "[Peer]\nPublicKey = {}", base64_of(peer))?;
        for address in 0..10 {
            let [_, x, y, z] = (peer * 10 + address).to_be_bytes();
            writeln!(text, "AllowedIPs = 10.{x}.{y}.{z}/32")?;
        }
    }
    std::fs::write(&file, &text)?;
    let path = file.to_str().context("a path in UTF-8")?;
    for _ in 0..2 {
        wg(&["setconf", device.name(), path], None)?;
        let shown = wg(&["show", device.name(), "allowed-ips"], None)?;
        ensure!(shown.lines().count() == 1_000 && shown.split_whitespace().count() == 11_000);
    }
    Ok(())
}

/// A public key, as `wg` writes it, that begins with the digits of `number`.
fn base64_of(number: u32) -> String {
    format!("{number:0>42}A=")
}

fn a_moved_device_keeps_its_sockets() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (mut left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, Weft, 51_821, 2)?);
    connect(&left, &right, b.ipv4().into())?;
    left.ping_until_answered(right.inner()[0])?;
    // A namespace with nothing but the tunnel, as containers are given one.
    let container = Netns::new("container")?;
    a.ip(&format!("link set {} netns {}", left.name(), container.name()))?;
    let [v4, _] = left.inner();
    container.ip(&format!("addr add {v4}/24 dev {}", left.name()))?;
    container.ip(&format!("link set {} up", left.name()))?;
    let address = right.inner()[0].to_string();
    wait::for_ok("an answer to the container", PATIENCE, || container.run("ping", &["-c", "1", "-W", "2", &address]))?;
    container.ip(&format!("link del {}", left.name()))?;
    ensure!(left.daemon().wait(PATIENCE)?.success());
    Ok(())
}
