//! `weft tunnel` against wireguard-go, both configured by `wg(8)`, on two hosts with a router between them.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use weft_hil::{
    lab::{Family, Lab},
    requirement::{PING, Requirement, WG, WIREGUARD_GO},
    suite::Suite,
    transfer, wait,
    wireguard::{
        Device,
        Implementation::{self, Weft, WireguardGo},
        PATIENCE, connect, wg,
    },
};

const NEEDS: &[Requirement] =
    &[Requirement::Netns, Requirement::Tun, Requirement::WeftBinaries, WG, WIREGUARD_GO, PING];
/// What a large transfer is, each way.
const LARGE: usize = 64 << 20;

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("weft_initiates_over_ipv4", NEEDS, || initiates(Weft, WireguardGo, Family::V4))
        .test("weft_initiates_over_ipv6", NEEDS, || initiates(Weft, WireguardGo, Family::V6))
        .test("wireguard_go_initiates_over_ipv4", NEEDS, || initiates(WireguardGo, Weft, Family::V4))
        .test("wireguard_go_initiates_over_ipv6", NEEDS, || initiates(WireguardGo, Weft, Family::V6))
        .test("weft_talks_to_weft", NEEDS, || initiates(Weft, Weft, Family::V4))
        .test("a_shared_preshared_key_connects", NEEDS, a_shared_preshared_key_connects)
        .test("differing_preshared_keys_do_not_connect", NEEDS, differing_preshared_keys_do_not_connect)
        .test("wireguard_go_roams_over_ipv4", NEEDS, || roams(WireguardGo, Family::V4))
        .test("wireguard_go_roams_over_ipv6", NEEDS, || roams(WireguardGo, Family::V6))
        .test("weft_roams_over_ipv4", NEEDS, || roams(Weft, Family::V4))
        .test("weft_roams_over_ipv6", NEEDS, || roams(Weft, Family::V6))
        .test("a_persistent_keepalive_connects_without_traffic", NEEDS, a_persistent_keepalive_connects)
        .test("a_new_private_key_connects_at_once", NEEDS, a_new_private_key_connects_at_once)
        .test("byte_counters_agree", NEEDS, byte_counters_agree)
        .test("a_large_transfer_both_ways_over_ipv4", NEEDS, || large_transfer(WireguardGo, Family::V4))
        .test("a_large_transfer_both_ways_over_ipv6", NEEDS, || large_transfer(WireguardGo, Family::V6))
        .test("a_large_transfer_between_two_wefts", NEEDS, || large_transfer(Weft, Family::V4))
        .test("full_packets_pass_a_narrow_path_over_ipv4", NEEDS, || full_packets_pass_a_narrow_path(Family::V4))
        .test("full_packets_pass_a_narrow_path_over_ipv6", NEEDS, || full_packets_pass_a_narrow_path(Family::V6))
        .slow("a_session_is_renewed_without_loss", NEEDS, a_session_is_renewed_without_loss)
        .run()
}

fn initiates(initiator: Implementation, responder: Implementation, outer: Family) -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, initiator, 51_820, 1)?, Device::start(&b, responder, 51_821, 2)?);
    connect(&left, &right, b.address(outer))?;
    for inner in right.inner() {
        left.ping_until_answered(inner)?;
    }
    for inner in left.inner() {
        right.ping_until_answered(inner)?;
    }
    ensure!(left.latest_handshake(&right)?.is_some() && right.latest_handshake(&left)?.is_some());
    let endpoint = SocketAddr::new(a.address(outer), 51_820).to_string();
    ensure!(right.show("endpoints", &left)? == endpoint, "the responder learned where the initiator is");
    Ok(())
}

/// A key as `wg` writes it.
fn preshared_key() -> Result<String> {
    wg(&["genpsk"], None)
}

fn a_shared_preshared_key_connects() -> Result<()> {
    for (initiator, responder) in [(Weft, WireguardGo), (WireguardGo, Weft)] {
        let mut lab = Lab::new()?;
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let (left, right) = (Device::start(&a, initiator, 51_820, 1)?, Device::start(&b, responder, 51_821, 2)?);
        let key = preshared_key()?;
        for (device, peer) in [(&left, &right), (&right, &left)] {
            let set = format!("peer {} preshared-key /dev/stdin", peer.public_key());
            device.set_with_input(&set, Some(&key))?;
        }
        connect(&left, &right, b.ipv4().into())?;
        left.ping_until_answered(right.inner()[0])?;
        ensure!(left.show("preshared-keys", &right)? == key.trim(), "{initiator} reports the key");
        ensure!(right.show("preshared-keys", &left)? == key.trim(), "{responder} reports the key");
    }
    Ok(())
}

fn differing_preshared_keys_do_not_connect() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, WireguardGo, 51_821, 2)?);
    for (device, peer) in [(&left, &right), (&right, &left)] {
        let set = format!("peer {} preshared-key /dev/stdin", peer.public_key());
        device.set_with_input(&set, Some(&preshared_key()?))?;
    }
    connect(&left, &right, b.ipv4().into())?;
    ensure!(left.ping(right.inner()[0], 1, Duration::from_secs(2)).is_err(), "the ping is not answered");
    // wireguard-go answered the initiation, which does not depend on the preshared key, and weft refused the answer.
    wait::until("an answer on the wire", PATIENCE, || left.transfer(&right).is_ok_and(|(_, sent)| sent >= 148))?;
    wait::until("an answer of wireguard-go", PATIENCE, || right.transfer(&left).is_ok_and(|(_, sent)| sent >= 92))?;
    ensure!(left.latest_handshake(&right)?.is_none(), "no handshake is complete");
    Ok(())
}

fn roams(who: Implementation, outer: Family) -> Result<()> {
    let other = if who == Weft { WireguardGo } else { Weft };
    let mut lab = Lab::new()?;
    let (mut a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, who, 51_820, 1)?, Device::start(&b, other, 51_821, 2)?);
    connect(&left, &right, b.address(outer))?;
    left.ping_until_answered(right.inner()[0])?;
    let before = right.show("endpoints", &left)?;
    lab.move_host(&mut a)?;
    left.ping_until_answered(right.inner()[0])?;
    let after = SocketAddr::new(a.address(outer), 51_820).to_string();
    ensure!(before != after && right.show("endpoints", &left)? == after, "{other} follows {who} to {after}");
    right.ping_until_answered(left.inner()[1])
}

fn a_persistent_keepalive_connects() -> Result<()> {
    for (initiator, responder) in [(Weft, WireguardGo), (WireguardGo, Weft)] {
        let mut lab = Lab::new()?;
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let (left, right) = (Device::start(&a, initiator, 51_820, 1)?, Device::start(&b, responder, 51_821, 2)?);
        connect(&left, &right, b.ipv4().into())?;
        ensure!(right.latest_handshake(&left)?.is_none(), "nothing happens by itself");
        left.set(&format!("peer {} persistent-keepalive 1", right.public_key()))?;
        wait::until(&format!("a handshake that {initiator} began"), PATIENCE, || {
            right.latest_handshake(&left).is_ok_and(|at| at.is_some())
        })?;
        let (received, _) = right.transfer(&left)?;
        wait::until("further keepalives", PATIENCE, || {
            right.transfer(&left).is_ok_and(|(now, _)| now >= received + 64)
        })?;
    }
    Ok(())
}

fn a_new_private_key_connects_at_once() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, WireguardGo, 51_821, 2)?);
    connect(&left, &right, b.ipv4().into())?;
    left.ping_until_answered(right.inner()[0])?;

    let private_key = wg(&["genkey"], None)?;
    let public_key = wg(&["pubkey"], Some(&private_key))?;
    let [v4, v6] = left.inner();
    right.set(&format!("peer {} remove", left.public_key()))?;
    right.set(&format!("peer {} allowed-ips {v4}/32,{v6}/128", public_key.trim()))?;
    left.set_with_input("private-key /dev/stdin", Some(&private_key))?;
    // The old session would be good for another two minutes, and the last handshake is not five seconds old; neither
    // may hold the new one back.
    left.ping(right.inner()[0], 1, Duration::from_secs(4))
}

fn byte_counters_agree() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, WireguardGo, 51_821, 2)?);
    connect(&left, &right, b.ipv4().into())?;
    left.ping_until_answered(right.inner()[0])?;
    left.ping(right.inner()[1], 10, PATIENCE)?;
    // A keepalive may be on its way.
    wait::until("the counters of both sides to agree", PATIENCE, || {
        let (Ok((received, sent)), Ok(other)) = (left.transfer(&right), right.transfer(&left)) else { return false };
        other == (sent, received)
    })?;
    let (received, sent) = left.transfer(&right)?;
    // Ten echoes of 104 bytes, padded to 112, with 32 of header and tag; the handshake is 148 and 92.
    ensure!(sent >= 148 + 10 * 144, "{sent} bytes sent");
    ensure!(received >= 92 + 10 * 144, "{received} bytes received");
    let (left_at, right_at) = (left.latest_handshake(&right)?, right.latest_handshake(&left)?);
    let (left_at, right_at) = (left_at.context("weft reports it")?, right_at.context("wireguard-go reports it")?);
    ensure!(left_at.abs_diff(right_at) <= 2, "both report the same handshake: {left_at}, {right_at}");
    Ok(())
}

fn large_transfer(other: Implementation, outer: Family) -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, other, 51_821, 2)?);
    connect(&left, &right, b.address(outer))?;
    // The inner family is the other one, so that the two tests have all.
    let inner = right.inner()[if outer == Family::V4 { 1 } else { 0 }];
    left.ping_until_answered(inner)?;
    transfer::both_ways(&a, &b, SocketAddr::new(inner, 7_777), LARGE)?;
    for (device, peer) in [(&left, &right), (&right, &left)] {
        let (received, sent) = device.transfer(peer)?;
        ensure!(received.min(sent) > LARGE as u64, "{received} bytes received and {sent} sent, by the counters");
    }
    Ok(())
}

fn full_packets_pass_a_narrow_path(outer: Family) -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, WireguardGo, 51_821, 2)?);
    connect(&left, &right, b.address(outer))?;
    left.ping_until_answered(right.inner()[0])?;
    // First the far end of the path is narrower than a full datagram, then the near end too.
    for (host, port) in [(&b, b.router_port()), (&a, a.router_port())] {
        host.ip("link set eth0 mtu 1400")?;
        lab.router().ip(&format!("link set {port} mtu 1400"))?;
        // 1,392 bytes with headers of 28 are a full inner packet, which may not be fragmented.
        for (host, address) in [(&a, right.inner()[0]), (&b, left.inner()[0])] {
            wait::for_ok(&format!("the answer of {address} to a full packet"), PATIENCE, || {
                host.run("ping", &["-c", "1", "-W", "2", "-M", "do", "-s", "1392", &address.to_string()])
            })?;
        }
        transfer::both_ways(&a, &b, SocketAddr::new(right.inner()[1], 7_777), 1 << 20)?;
    }
    Ok(())
}

fn a_session_is_renewed_without_loss() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (left, right) = (Device::start(&a, Weft, 51_820, 1)?, Device::start(&b, WireguardGo, 51_821, 2)?);
    // And the other way round, at the same time.
    let (c, d) = (lab.host("c")?, lab.host("d")?);
    let (third, fourth) = (Device::start(&c, WireguardGo, 51_822, 3)?, Device::start(&d, Weft, 51_823, 4)?);
    connect(&left, &right, b.ipv4().into())?;
    connect(&third, &fourth, d.ipv6().into())?;
    let mut first = Vec::new();
    for (initiator, responder) in [(&left, &right), (&third, &fourth)] {
        initiator.ping_until_answered(responder.inner()[0])?;
        first.push(initiator.latest_handshake(responder)?.context("a first handshake")?);
    }
    // 140 s: REKEY_AFTER_TIME is 120 s.
    std::thread::scope(|scope| {
        let other = scope.spawn(|| third.ping(fourth.inner()[1], 700, PATIENCE));
        left.ping(right.inner()[1], 700, PATIENCE)?;
        other.join().map_err(|_| anyhow::anyhow!("the other ping panicked"))?
    })?;
    for ((initiator, responder), first) in [(&left, &right), (&third, &fourth)].into_iter().zip(first) {
        for (device, peer) in [(initiator, responder), (responder, initiator)] {
            let second = device.latest_handshake(peer)?.context("a second handshake")?;
            let age = second.saturating_sub(first);
            ensure!((118..=140).contains(&age), "renewed after {age} s, not after 120");
        }
    }
    Ok(())
}
