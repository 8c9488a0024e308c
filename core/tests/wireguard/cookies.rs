//! Load: cookies in both roles, and the limit for each source.

use std::net::SocketAddr;

use weft_core::crypto::RustCrypto;
use weft_core::wireguard::{DropReason, MessageKind, PeerState, Received, TransmitKind};

use crate::harness::World;
use crate::sessions::restamp;

/// Hands over the datagrams that a node sent last of a kind, while the receiver is loaded.
fn deliver_loaded(world: &mut World, from: usize, to: usize, kind: MessageKind) -> Received {
    let message = world.last_sent(from, kind);
    world.clear_wire();
    let now = world.now;
    world.nodes[to].device.note_load(now);
    world.receive(to, message.from, &message.bytes)
}

#[test]
fn a_loaded_responder_demands_a_cookie_and_the_next_try_carries_it() {
    let mut world = World::pair(1);
    world.send(0, 1, b"hello");
    let reply = deliver_loaded(&mut world, 0, 1, MessageKind::Initiation);
    let Received::Transmit(reply) = reply else { panic!("{reply:?}") };
    assert_eq!((reply.kind, reply.len, reply.peer), (TransmitKind::CookieReply, 64, None));
    assert_eq!(world.nodes[1].device.peer_counts(), (1, 0), "nothing was computed or kept");
    world.run_until(6, |world| world.sent(0, MessageKind::Initiation).len() == 2);
    assert_ne!(world.last_sent(0, MessageKind::Initiation).bytes[132..], [0; 16], "mac2");
    let answer = deliver_loaded(&mut world, 0, 1, MessageKind::Initiation);
    assert!(matches!(answer, Received::Transmit(transmit) if transmit.kind == TransmitKind::Response));
    world.run_secs(1);
    assert_eq!(world.nodes[1].payloads(), [b"hello"]);
}

#[test]
fn a_loaded_initiator_demands_a_cookie_for_the_response() {
    let mut world = World::pair(2);
    world.send(0, 1, b"hello");
    world.run(std::time::Duration::from_millis(15));
    let reply = deliver_loaded(&mut world, 1, 0, MessageKind::Response);
    assert!(matches!(reply, Received::Transmit(transmit) if transmit.kind == TransmitKind::CookieReply));
    assert_eq!(world.state(0, 1), PeerState::Handshaking);
    // The responder keeps the cookie, and its next response carries it.
    world.run_until(6, |world| world.sent(1, MessageKind::Response).len() == 2);
    assert_ne!(world.last_sent(1, MessageKind::Response).bytes[76..], [0; 16], "mac2");
    let taken = deliver_loaded(&mut world, 1, 0, MessageKind::Response);
    assert!(matches!(taken, Received::Taken(_)));
    assert_eq!(world.state(0, 1), PeerState::Established);
}

#[test]
fn a_cookie_reply_neither_roams_nor_sends_nor_touches_timers() {
    let mut world = World::pair(3);
    world.send(0, 1, b"hello");
    let _ = deliver_loaded(&mut world, 0, 1, MessageKind::Initiation);
    let reply = world.last_sent(1, MessageKind::CookieReply);
    world.clear_wire();
    world.forget();
    let (peer, due) = (world.peer(0, 1), world.nodes[0].device.poll_timeout());
    let before = world.nodes[0].device.peer(peer, world.now).unwrap();
    let elsewhere: SocketAddr = "198.51.100.66:6".parse().unwrap();
    assert_eq!(world.receive(0, elsewhere, &reply.bytes), Received::Taken(peer));
    let after = world.nodes[0].device.peer(peer, world.now).unwrap();
    assert_eq!(before.endpoint, after.endpoint);
    assert_eq!(before.received_bytes, after.received_bytes);
    assert_eq!(world.nodes[0].device.poll_timeout(), due);
    assert!(world.captured.is_empty());
    // The same reply again answers nothing.
    assert_eq!(world.receive(0, elsewhere, &reply.bytes), Received::Drop(DropReason::InvalidCookie));
}

#[test]
fn a_forged_cookie_reply_is_refused_and_the_right_one_still_taken() {
    let mut world = World::pair(4);
    world.send(0, 1, b"hello");
    let _ = deliver_loaded(&mut world, 0, 1, MessageKind::Initiation);
    let reply = world.last_sent(1, MessageKind::CookieReply);
    world.clear_wire();
    for byte in 4..64 {
        let mut forged = reply.bytes.clone();
        forged[byte] ^= 1;
        assert!(matches!(world.receive(0, reply.from, &forged), Received::Drop(_)), "byte {byte}");
    }
    assert!(matches!(world.receive(0, reply.from, &reply.bytes), Received::Taken(_)));
}

#[test]
fn a_cookie_serves_one_address_and_port() {
    let mut world = World::pair(5);
    world.send(0, 1, b"hello");
    let _ = deliver_loaded(&mut world, 0, 1, MessageKind::Initiation);
    world.run_until(6, |world| world.sent(0, MessageKind::Initiation).len() == 2);
    let stamped = world.last_sent(0, MessageKind::Initiation);
    world.clear_wire();
    let now = world.now;
    world.nodes[1].device.note_load(now);
    let mut other_port = stamped.from;
    other_port.set_port(1);
    for source in [other_port, "192.0.0.99:51820".parse().unwrap()] {
        let answer = world.receive(1, source, &stamped.bytes);
        assert!(matches!(answer, Received::Transmit(transmit) if transmit.kind == TransmitKind::CookieReply));
    }
    let answer = world.receive(1, stamped.from, &stamped.bytes);
    assert!(matches!(answer, Received::Transmit(transmit) if transmit.kind == TransmitKind::Response));
}

#[test]
fn cookie_replies_never_share_a_nonce() {
    let mut world = World::pair(6);
    world.send(0, 1, b"hello");
    let initiation = world.last_sent(0, MessageKind::Initiation);
    let now = world.now;
    world.nodes[1].device.note_load(now);
    for _ in 0..50 {
        world.receive(1, initiation.from, &initiation.bytes);
    }
    let replies = world.sent(1, MessageKind::CookieReply);
    let nonces: std::collections::BTreeSet<&[u8]> = replies.iter().map(|reply| &reply.bytes[8..32]).collect();
    assert_eq!(nonces.len(), 50);
}

#[test]
fn without_load_the_second_mac_is_ignored() {
    let mut world = World::pair(7);
    world.send(0, 1, b"hello");
    let mut initiation = world.last_sent(0, MessageKind::Initiation);
    world.clear_wire();
    initiation.bytes[140] ^= 0xff;
    let answer = world.receive(1, initiation.from, &initiation.bytes);
    assert!(matches!(answer, Received::Transmit(transmit) if transmit.kind == TransmitKind::Response));
}

#[test]
fn the_first_mac_of_a_response_is_checked_before_its_index() {
    let mut world = World::pair(8);
    world.establish(0, 1);
    let mut response = world.last_sent(1, MessageKind::Response);
    response.bytes[8] ^= 1;
    assert_eq!(world.receive(0, response.from, &response.bytes), Received::Drop(DropReason::WrongMac1));
    restamp(&mut response.bytes, &world.nodes[0].public);
    assert_eq!(world.receive(0, response.from, &response.bytes), Received::Drop(DropReason::UnknownIndex));
}

#[test]
fn many_handshakes_at_once_are_load_and_a_proven_source_still_gets_through() {
    let mut world = World::new(9);
    world.add_nodes(12);
    world.nodes[0].device.set_load_limit(5, 5);
    for node in 1..12 {
        world.introduce(0, node);
        world.send(node, 0, b"hello");
    }
    world.run(std::time::Duration::from_millis(50));
    assert_eq!(world.sent(0, MessageKind::Response).len(), 5);
    assert_eq!(world.sent(0, MessageKind::CookieReply).len(), 6);
    world.run_secs(12);
    assert_eq!(world.nodes[0].inbox.len(), 11, "everybody got through in the end");
}

#[test]
fn one_source_over_its_limit_does_not_hold_up_another() {
    let mut world = World::pair(10);
    let third = world.add_node();
    world.introduce(third, 1);
    // Two nodes learn their cookies.
    for node in [0, third] {
        world.send(node, 1, b"hello");
        let _ = deliver_loaded(&mut world, node, 1, MessageKind::Initiation);
        world.run(std::time::Duration::from_millis(10));
    }
    world.run_until(6, |world| [0, third].iter().all(|node| world.sent(*node, MessageKind::Initiation).len() == 2));
    world.clear_wire();
    // The first repeats its initiation over and over.
    let noisy = world.last_sent(0, MessageKind::Initiation);
    let now = world.now;
    world.nodes[1].device.note_load(now);
    for _ in 0..20 {
        world.receive(1, noisy.from, &noisy.bytes);
    }
    assert!(world.nodes[1].dropped(DropReason::RateLimited) >= 14);
    let quiet = deliver_loaded(&mut world, third, 1, MessageKind::Initiation);
    assert!(matches!(quiet, Received::Transmit(transmit) if transmit.kind == TransmitKind::Response));
}

#[test]
fn initiations_of_one_peer_within_20_ms_are_a_flood() {
    let mut world = World::pair(11);
    let peer = world.peer(0, 1);
    let mut buffer = [0; 148];
    let mut initiations = Vec::new();
    // Two tickets of one moment; the wall clock moves in between, so that both have a timestamp of their own.
    for secs in 0..2 {
        let (now, unix) = (world.now, world.unix + std::time::Duration::from_secs(secs));
        let secret = world.nodes[0].device.private_key().unwrap().clone();
        let device = &mut world.nodes[0].device;
        device.set_private_key::<RustCrypto>(None, now);
        device.set_private_key::<RustCrypto>(Some(secret), now);
        device.initiate(peer, now).unwrap();
        let sent = device.poll_transmit::<RustCrypto>(now, unix, &mut world.rng, &mut buffer).unwrap();
        assert_eq!(sent.kind, TransmitKind::Initiation);
        initiations.push(buffer.to_vec());
    }
    let source = world.nodes[0].address;
    assert!(matches!(world.receive(1, source, &initiations[0]), Received::Transmit(_)));
    world.advance_to(world.now + std::time::Duration::from_micros(19_999));
    assert_eq!(world.receive(1, source, &initiations[1]), Received::Drop(DropReason::InitiationFlood));
    world.advance_to(world.now + std::time::Duration::from_micros(1));
    assert!(matches!(world.receive(1, source, &initiations[1]), Received::Transmit(_)));
}
