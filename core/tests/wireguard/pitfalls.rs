//! Bugs that implementations of WireGuard have shipped, each by name, beyond those that the other modules of these
//! tests show: see [`cookies`](crate::cookies) for roaming on a cookie reply, cookies without the port, a global
//! limiter and repeated nonces; [`sessions`](crate::sessions) for state wiped by a bad response, a responder that
//! initiates and two initiations at once; [`timers`](crate::timers) for keepalive ping-pong, deadlines in the past,
//! coarse ticks and a keepalive that never revives; [`data_path`](crate::data_path) for counter 0, padding, a window
//! or an endpoint that moves before the AEAD has agreed, overlapping allowed IPs and oversize datagrams.

use std::cell::Cell;
use std::time::Duration;

use weft_core::crypto::dh::X25519;
use weft_core::crypto::{Crypto, DiffieHellman, LowOrderPoint, SharedSecret, aead::ChaCha20Poly1305};
use weft_core::keys::NodeKey;
use weft_core::time::UnixTime;
use weft_core::wireguard::constants::{REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES};
use weft_core::wireguard::{
    DropReason, Event, HandshakeBegin, MessageKind, PeerState, Received, SealRefusal, SendOutcome, TicketProgress, Work,
};

use crate::harness::{Limits, START_UNIX, World};

/// Uses up counters of the session that sends, as a ticket does that never comes back.
fn skip_counters(world: &mut World, to: u64) {
    let (peer, now) = (world.peer(0, 1), world.now);
    world.send(0, 1, b"where are we?");
    let sent = world.last_sent(0, MessageKind::Data);
    let next = u64::from_le_bytes(sent.bytes[8..16].try_into().unwrap()) + 1;
    drop(world.nodes[0].device.begin_seal(peer, (to - next) as usize, now).unwrap());
}

#[test]
fn counters_do_not_end_at_32_bits() {
    let mut world = World::pair(1);
    world.establish(0, 1);
    for counter in [u64::from(u32::MAX), u64::from(u32::MAX) + 2, 1 << 40] {
        skip_counters(&mut world, counter);
        world.send(0, 1, b"far");
        let sent = world.last_sent(0, MessageKind::Data);
        assert_eq!(sent.bytes[8..16], counter.to_le_bytes());
        world.run_secs(1);
        assert_eq!(*world.nodes[1].payloads().last().unwrap(), b"far");
    }
}

#[test]
fn after_2_to_the_60_messages_either_side_asks_for_a_new_session() {
    for (asks, other) in [(0, 1), (1, 0)] {
        let mut world = World::pair(2);
        world.establish(other, asks);
        let (peer, now) = (world.peer(asks, other), world.now);
        world.forget();
        drop(world.nodes[asks].device.begin_seal(peer, REKEY_AFTER_MESSAGES as usize - 10, now).unwrap());
        world.send(asks, other, b"not yet");
        assert_eq!(world.sent(asks, MessageKind::Initiation).len(), 0);
        drop(world.nodes[asks].device.begin_seal(peer, 10, now).unwrap());
        world.run_secs(6);
        assert_eq!(world.sent(asks, MessageKind::Initiation).len(), 1);
    }
}

#[test]
fn no_message_is_sent_from_reject_after_messages_on() {
    let mut world = World::pair(3);
    world.establish(0, 1);
    skip_counters(&mut world, REJECT_AFTER_MESSAGES - 1);
    let (peer, now) = (world.peer(0, 1), world.now);
    assert_eq!(world.nodes[0].device.begin_seal(peer, 2, now).unwrap_err(), SealRefusal::NoSession);
    assert!(matches!(world.send(0, 1, b"the last one"), SendOutcome::Transmit(_)));
    assert!(matches!(world.send(0, 1, b"one too many"), SendOutcome::Staged(_)));
    world.run_secs(6);
    assert_eq!(*world.nodes[1].payloads().last().unwrap(), b"one too many", "in a new session");
}

#[test]
fn a_handshake_does_not_live_for_ever() {
    let mut world = World::pair(4);
    world.send(0, 1, b"x");
    world.run(Duration::from_millis(15));
    let response = world.last_sent(1, MessageKind::Response);
    world.clear_wire();
    world.unplugged = vec![world.nodes[1].address];
    world.run_secs(100);
    assert_eq!(world.receive(0, response.from, &response.bytes), Received::Drop(DropReason::UnknownIndex));
    assert_eq!(world.state(0, 1), PeerState::Idle);
}

#[test]
fn a_retry_does_not_leak_its_predecessors_index() {
    let mut world = World::new(5);
    world.add_node_with(Limits { active: 1, ..Limits::default() });
    world.add_node();
    world.introduce(0, 1);
    world.unplugged = vec![world.nodes[1].address];
    let (peer, now) = (world.peer(0, 1), world.now);
    world.nodes[0].device.set_persistent_keepalive(peer, Some(Duration::from_secs(5)), now);
    world.run_secs(1_000);
    assert!(world.sent(0, MessageKind::Initiation).len() > 100);
    assert_eq!(world.nodes[0].dropped(DropReason::NoIndex), 0);
    world.unplugged.clear();
    world.run_secs(100);
    assert_eq!(world.state(0, 1), PeerState::Established);
}

#[test]
fn keys_are_not_printed_by_debug() {
    let mut world = World::pair(6);
    world.establish(0, 1);
    let (peer, now) = (world.peer(0, 1), world.now);
    let secret = world.nodes[0].device.private_key().unwrap().clone();
    world.nodes[0].device.initiate(peer, now).unwrap();
    world.advance_to(now + Duration::from_secs(6));
    let device = &mut world.nodes[0].device;
    let seal = device.begin_seal(peer, 1, now).unwrap();
    let work = device.poll(world.now, world.unix, &mut world.rng);
    assert!(matches!(work, Some(Work::Handshake(_))), "{work:?}");
    let index = u32::from_le_bytes(world.last_sent(1, MessageKind::Response).bytes[4..8].try_into().unwrap());
    let open = world.nodes[1].device.begin_open(index, now).unwrap();
    let text = format!("{:?} {work:?} {seal:?} {open:?} {secret:?}", world.nodes[0].device);
    let bytes = secret.as_bytes();
    for form in [
        format!("{}, {}, {}", bytes[1], bytes[2], bytes[3]),
        format!("{:02x}{:02x}{:02x}", bytes[1], bytes[2], bytes[3]),
    ] {
        assert!(!text.contains(&form), "{text}");
    }
    // A table of four numbers in a row would be somebody's key; an endpoint is none.
    assert!(text.len() < 4_000, "{text}");
}

#[test]
fn a_wall_clock_that_stands_still_does_not_stall_handshakes() {
    let mut world = World::pair(7);
    let peer = world.peer(0, 1);
    for _ in 0..20 {
        world.unix = UnixTime::new(START_UNIX, 0);
        world.nodes[0].device.initiate(peer, world.now).unwrap();
        world.run_secs(6);
        world.unix = UnixTime::new(START_UNIX, 0);
    }
    assert_eq!(world.nodes[1].dropped(DropReason::StaleTimestamp), 0);
    assert_eq!(world.nodes[1].events_of(|event| matches!(event, Event::Established(_))).len(), 20);
}

#[test]
fn sessions_that_are_never_confirmed_do_not_keep_an_old_one_alive() {
    let mut world = World::pair(8);
    world.establish(0, 1);
    let old = world.last_sent(1, MessageKind::Response);
    let index = u32::from_le_bytes(old.bytes[4..8].try_into().unwrap());
    let peer = world.peer(0, 1);
    // The initiator comes back again and again, and its confirmations are lost.
    for _ in 0..4 {
        world.run_secs(100);
        world.nodes[0].device.initiate(peer, world.now).unwrap();
        world.poll(0);
        world.run(Duration::from_millis(25));
        let confirmed = world.keepalives(0).last().map(|sent| world.now.saturating_since(sent.at));
        assert_eq!(confirmed, Some(Duration::from_millis(5)));
        world.clear_wire();
    }
    assert_eq!(world.nodes[1].device.begin_open(index, world.now).unwrap_err(), DropReason::UnknownIndex);
}

#[test]
fn a_low_order_key_sends_nothing_and_is_given_up() {
    let mut world = World::new(9);
    world.add_node();
    let device = &mut world.nodes[0].device;
    let peer = device.add_peer(&NodeKey::from_bytes([0; 32])).unwrap();
    device.set_endpoint(peer, Some("192.0.2.1:1".parse().unwrap()), world.now);
    device.initiate(peer, world.now).unwrap();
    world.run_secs(200);
    assert!(world.captured.is_empty());
    assert!(world.nodes[0].dropped(DropReason::LowOrderPoint) > 10);
    assert_eq!(world.nodes[0].events_of(|event| *event == Event::GaveUp(peer)).len(), 1);
}

thread_local! {
    static AGREED: Cell<u32> = const { Cell::new(0) };
}

/// X25519 that counts.
struct CountingDh;

impl DiffieHellman for CountingDh {
    fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        AGREED.set(AGREED.get() + 1);
        X25519::public_key(secret)
    }

    fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<SharedSecret, LowOrderPoint> {
        AGREED.set(AGREED.get() + 1);
        X25519::agree(secret, public)
    }
}

struct Counting;

impl Crypto for Counting {
    type Aead = ChaCha20Poly1305;
    type Dh = CountingDh;
}

#[test]
fn no_step_of_a_handshake_takes_more_than_one_diffie_hellman() {
    let mut world = World::pair(10);
    let (now, unix, peer) = (world.now, world.unix, world.peer(0, 1));
    let addresses = [world.nodes[0].address, world.nodes[1].address];
    let step_all = |world: &mut World, node: usize, ticket: &mut weft_core::wireguard::HandshakeTicket, now| {
        for _ in 0..10 {
            let before = AGREED.get();
            let progress = ticket.step::<Counting>();
            assert!(AGREED.get() - before <= 1);
            match progress {
                TicketProgress::Again => {}
                TicketProgress::Identify(_) => {
                    world.nodes[node].device.identify_initiator(ticket, now).unwrap();
                }
                TicketProgress::Done => return,
            }
        }
    };
    for round in 0..2 {
        AGREED.set(0);
        let (now, unix) = (now + Duration::from_secs(10 * round), unix + Duration::from_secs(10 * round));
        world.nodes[0].device.initiate(peer, now).unwrap();
        let mut ticket = loop {
            match world.nodes[0].device.poll(now, unix, &mut world.rng) {
                Some(Work::Handshake(ticket)) => break ticket,
                other => assert!(matches!(other, Some(Work::Keepalive(_))), "{other:?}"),
            }
        };
        step_all(&mut world, 0, &mut ticket, now);
        let mut datagram = [0; 148];
        world.nodes[0].device.commit_handshake(ticket, now, unix, &mut world.rng, &mut datagram).unwrap();

        let device = &mut world.nodes[1].device;
        let begun = device.begin_handshake_receive::<Counting>(&mut datagram, addresses[0], now, unix, &mut world.rng);
        let HandshakeBegin::Ticket(mut ticket) = begun else { panic!("{begun:?}") };
        step_all(&mut world, 1, &mut ticket, now);
        let mut datagram = [0; 92];
        world.nodes[1].device.commit_handshake(ticket, now, unix, &mut world.rng, &mut datagram).unwrap();

        let device = &mut world.nodes[0].device;
        let begun = device.begin_handshake_receive::<Counting>(&mut datagram, addresses[1], now, unix, &mut world.rng);
        let HandshakeBegin::Ticket(mut ticket) = begun else { panic!("{begun:?}") };
        step_all(&mut world, 0, &mut ticket, now);
        world.nodes[0].device.commit_handshake(ticket, now, unix, &mut world.rng, &mut []).unwrap();
        // 3 + 5 + 2, of which each side keeps the static-static one for the next time.
        assert_eq!(AGREED.get(), if round == 0 { 10 } else { 8 });
    }
    assert!(world.nodes[0].device.begin_seal(peer, 1, now).is_ok());
}
