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
        Device, HandshakeBegin, HandshakeTicket, PeerId, Received, TicketProgress, Work,
        storage::{Borrowed, FixedTables},
    },
};

use crate::{random::Repeatable, report::Meter};

/// Room for two peers.
type Tables = FixedTables<2, 2, 4, 8, 1, 1280, 4, 8>;

type Tunnels<'a> = Device<Borrowed<'a, 8, 1280>>;

struct Side<'a> {
    device: Tunnels<'a>,
    ticket: Option<HandshakeTicket>,
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
    Side { device, ticket: None, address, peer: None, meter: Meter::default() }
}

fn introduce(side: &mut Side<'_>, other: &Side<'_>) {
    let key = other.device.public_key().expect("has a key");
    let peer = side.device.add_peer(key).expect("has room");
    side.device.set_endpoint(peer, Some(other.address), Instant::from_secs(1));
    side.peer = Some(peer);
}

/// A handshake from `a` to `b`, at a second of both clocks, in the steps that the firmware makes: the executor runs
/// between two of them.
fn handshake<C: Crypto>(a: &mut Side<'_>, b: &mut Side<'_>, secs: u64, random: &mut Repeatable) {
    let now = Instant::from_secs(secs);
    let unix = UnixTime::new(1_700_000_000, 0) + Duration::from_secs(secs);
    let mut buffer = [0; 256];
    a.device.initiate_anew(a.peer.expect("introduced"), now).expect("a slot is free");
    a.meter.run(|| a.ticket = begin_initiation(&mut a.device, now, unix, random));
    let len = a.compute::<C>(now, unix, random, &mut buffer).expect("an initiation");

    b.meter.run(|| b.ticket = begin_reading::<C>(&mut b.device, &mut buffer[..len], a.address, now, unix, random));
    let len = b.compute::<C>(now, unix, random, &mut buffer).expect("a response");

    a.meter.run(|| a.ticket = begin_reading::<C>(&mut a.device, &mut buffer[..len], b.address, now, unix, random));
    assert_eq!(a.compute::<C>(now, unix, random, &mut buffer), None, "a response is not answered");

    // The first packet, here a keepalive, confirms the session to the responder.
    let keepalive = a.device.poll_transmit::<C>(now, unix, random, &mut buffer).expect("confirms the session");
    let taken = b.device.receive::<C>(&mut buffer[..keepalive.len], a.address, now, unix, random);
    assert!(matches!(taken, Received::Taken(_)), "the session was not confirmed: {taken:?}");
}

#[inline(never)]
fn begin_initiation(
    device: &mut Tunnels<'_>,
    now: Instant,
    unix: UnixTime,
    random: &mut Repeatable,
) -> Option<HandshakeTicket> {
    match device.poll(now, unix, random) {
        Some(Work::Handshake(ticket)) => Some(ticket),
        _ => None,
    }
}

#[inline(never)]
fn begin_reading<C: Crypto>(
    device: &mut Tunnels<'_>,
    datagram: &mut [u8],
    source: SocketAddr,
    now: Instant,
    unix: UnixTime,
    random: &mut Repeatable,
) -> Option<HandshakeTicket> {
    match device.begin_handshake_receive::<C>(datagram, source, now, unix, random) {
        HandshakeBegin::Ticket(ticket) => Some(ticket),
        _ => None,
    }
}

impl Side<'_> {
    /// Carries the ticket to its end; the length of the datagram that comes of it.
    fn compute<C: Crypto>(
        &mut self,
        now: Instant,
        unix: UnixTime,
        random: &mut Repeatable,
        out: &mut [u8],
    ) -> Option<usize> {
        let Self { device, ticket, meter, .. } = self;
        loop {
            let open = ticket.as_mut().expect("a ticket was begun");
            match meter.run(|| open.step::<C>()) {
                TicketProgress::Again => {}
                TicketProgress::Identify(_) => {
                    meter.run(|| device.identify_initiator(open, now)).expect("is a peer");
                }
                TicketProgress::Done => break,
            }
        }
        let done = meter.run(|| {
            let ticket = ticket.take().expect("a ticket was begun");
            device.commit_handshake(ticket, now, unix, random, out)
        });
        done.expect("authentic").map(|transmit| transmit.len)
    }
}
