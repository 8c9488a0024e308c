//! A whole WireGuard handshake through core's device, both roles: the first one with a peer, which computes the
//! static-static secret, and a later one, which has it.

use core::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use weft_core::{
    crypto::Crypto,
    keys::NodeSecret,
    time::{Instant, UnixTime},
    wireguard::{
        Device, PeerId, Received, Transmit, TransmitKind,
        storage::{Borrowed, FixedTables},
    },
};

use crate::{random::Repeatable, report::Meter};

/// Room for two peers.
type Tables = FixedTables<2, 2, 4, 8, 1, 1280, 4, 8>;

struct Side<'a> {
    device: Device<Borrowed<'a, 8, 1280>>,
    address: SocketAddr,
    peer: Option<PeerId>,
    meter: Meter,
}

/// Measures with the primitives `C`, which the report calls `name`.
pub fn run<C: Crypto>(name: &str) {
    let mut tables = [const { Tables::EMPTY }; 2];
    let [a, b] = &mut tables;
    let mut random = Repeatable(1);
    let (mut a, mut b) = (side::<C>(a, 1, &mut random), side::<C>(b, 2, &mut random));
    introduce(&mut a, &b);
    introduce(&mut b, &a);

    handshake::<C>(&mut a, &mut b, 10, &mut random);
    a.meter.print("WireGuard handshake, initiator, first with a peer", name);
    b.meter.print("WireGuard handshake, responder, first with a peer", name);
    (a.meter, b.meter) = (Meter::default(), Meter::default());
    handshake::<C>(&mut a, &mut b, 200, &mut random);
    a.meter.print("WireGuard handshake, initiator", name);
    b.meter.print("WireGuard handshake, responder", name);
}

fn side<'a, C: Crypto>(tables: &'a mut Tables, number: u8, random: &mut Repeatable) -> Side<'a> {
    let mut device = Device::new(tables.tables(), random);
    device.set_private_key::<C>(Some(NodeSecret::from_bytes([number; 32])), Instant::from_secs(1));
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)), 51_820);
    Side { device, address, peer: None, meter: Meter::default() }
}

fn introduce(side: &mut Side<'_>, other: &Side<'_>) {
    let key = other.device.public_key().expect("has a key");
    let peer = side.device.add_peer(key).expect("has room");
    side.device.set_endpoint(peer, Some(other.address), Instant::from_secs(1));
    side.peer = Some(peer);
}

/// A handshake from `a` to `b`, at a second of both clocks.
fn handshake<C: Crypto>(a: &mut Side<'_>, b: &mut Side<'_>, secs: u64, random: &mut Repeatable) {
    let now = Instant::from_secs(secs);
    let unix = UnixTime::new(1_700_000_000, 0) + Duration::from_secs(secs);
    let mut buffer = [0; 1_500];
    a.device.initiate_anew(a.peer.expect("introduced"), now).expect("a slot is free");
    let initiation = a.meter.run(|| a.device.poll_transmit::<C>(now, unix, random, &mut buffer));
    let Some(Transmit { kind: TransmitKind::Initiation, len, .. }) = initiation else {
        panic!("no initiation: {initiation:?}")
    };
    let answer = b.meter.run(|| b.device.receive::<C>(&mut buffer[..len], a.address, now, unix, random));
    let Received::Transmit(Transmit { kind: TransmitKind::Response, len, .. }) = answer else {
        panic!("no response: {answer:?}")
    };
    let taken = a.meter.run(|| a.device.receive::<C>(&mut buffer[..len], b.address, now, unix, random));
    assert!(matches!(taken, Received::Taken(_)), "the response was not taken: {taken:?}");

    // The first packet, here a keepalive, confirms the session to the responder.
    let keepalive = a.device.poll_transmit::<C>(now, unix, random, &mut buffer).expect("confirms the session");
    let taken = b.device.receive::<C>(&mut buffer[..keepalive.len], a.address, now, unix, random);
    assert!(matches!(taken, Received::Taken(_)), "the session was not confirmed: {taken:?}");
}
