//! Handshakes and the rotation of sessions.

use std::time::Duration;

use weft_core::crypto::RustCrypto;
use weft_core::keys::PresharedKey;
use weft_core::wireguard::{DropReason, Event, MessageKind, PeerState, Received, SendOutcome};

use crate::harness::World;

#[test]
fn the_first_packet_waits_for_the_handshake_and_arrives() {
    let mut world = World::pair(1);
    let peer = world.peer(0, 1);
    assert_eq!(world.send(0, 1, b"first"), SendOutcome::Staged(peer));
    world.run(Duration::from_millis(100));
    assert_eq!(world.nodes[1].payloads(), [b"first"]);
    assert_eq!(world.sent(0, MessageKind::Initiation).len(), 1);
    assert_eq!(world.sent(1, MessageKind::Response).len(), 1);
    assert_eq!(world.captured.len(), 3, "the staged packet is the confirmation: no empty one besides it");
    assert!(matches!(world.send(1, 0, b"answer"), SendOutcome::Transmit(_)));
    world.run(Duration::from_millis(100));
    assert_eq!(world.nodes[0].payloads(), [b"answer"]);
}

#[test]
fn a_handshake_without_data_is_confirmed_by_an_empty_packet() {
    let mut world = World::pair(2);
    let peer = world.peer(0, 1);
    world.nodes[0].device.initiate(peer, world.now).unwrap();
    world.run(Duration::from_millis(100));
    assert_eq!(world.keepalives(0).len(), 1);
    assert_eq!((world.state(0, 1), world.state(1, 0)), (PeerState::Established, PeerState::Established));
    assert!(world.nodes[1].events.iter().any(|(_, event)| matches!(event, Event::Established(_))));
}

#[test]
fn the_responder_sends_nothing_in_an_unconfirmed_session() {
    let mut world = World::pair(3);
    let peer = world.peer(0, 1);
    world.nodes[0].device.initiate(peer, world.now).unwrap();
    world.poll(0);
    world.run(Duration::from_millis(15));
    assert_eq!(world.sent(1, MessageKind::Response).len(), 1);
    let other = world.peer(1, 0);
    assert_eq!(world.send(1, 0, b"too early"), SendOutcome::Staged(other));
    assert_eq!(world.sent(1, MessageKind::Data).len(), 0);
    world.run(Duration::from_millis(100));
    assert_eq!(world.nodes[0].payloads(), [b"too early"], "sent once the initiator has confirmed");
}

#[test]
fn a_preshared_key_must_be_the_same_on_both_sides() {
    let mut world = World::pair(4);
    let (there, back) = (world.peer(0, 1), world.peer(1, 0));
    world.nodes[0].device.set_preshared_key(there, PresharedKey::from_bytes([7; 32]));
    world.send(0, 1, b"no");
    world.run_secs(1);
    assert_eq!(world.state(0, 1), PeerState::Handshaking);
    assert_eq!(world.nodes[0].dropped(DropReason::NotAuthentic), 1);
    world.nodes[1].device.set_preshared_key(back, PresharedKey::from_bytes([7; 32]));
    world.run_secs(6);
    assert_eq!(world.nodes[1].payloads(), [b"no"], "the next try agrees");
}

#[test]
fn packets_under_way_arrive_while_sessions_rotate() {
    let mut world = World::pair(5);
    world.establish(0, 1);
    world.forget();
    // Late packets of the old session meet the new one on both sides.
    world.wire.jitter = Duration::from_millis(400);
    for round in 0..600u32 {
        world.send(0, 1, &round.to_be_bytes());
        world.send(1, 0, &round.to_be_bytes());
        world.run_secs(1);
    }
    world.wire.jitter = Duration::ZERO;
    world.run_secs(1);
    assert_eq!(world.nodes[0].inbox.len(), 600);
    assert_eq!(world.nodes[1].inbox.len(), 600);
    let initiations = world.sent(0, MessageKind::Initiation).len();
    assert!((4..=5).contains(&initiations), "one session in 120 s, not {initiations} in 600 s");
    assert_eq!(world.sent(1, MessageKind::Initiation).len(), 0, "the responder does not ask for new sessions");
}

#[test]
fn a_late_response_leaves_the_session_untouched() {
    let mut world = World::pair(6);
    world.establish(0, 1);
    let response = world.last_sent(1, MessageKind::Response);
    let before = world.nodes[0].device.peer(world.peer(0, 1), world.now).unwrap();
    assert_eq!(world.receive(0, response.from, &response.bytes), Received::Drop(DropReason::UnknownIndex));
    let after = world.nodes[0].device.peer(world.peer(0, 1), world.now).unwrap();
    assert_eq!(before.last_handshake, after.last_handshake);
    assert_eq!(before.received_bytes, after.received_bytes);
    world.send(0, 1, b"still");
    world.send(1, 0, b"there");
    world.run_secs(1);
    assert_eq!(world.nodes[0].payloads(), [b"there"]);
    assert_eq!(*world.nodes[1].payloads().last().unwrap(), b"still");
}

#[test]
fn an_altered_response_leaves_the_handshake_waiting_for_the_right_one() {
    let mut world = World::pair(7);
    world.send(0, 1, b"hello");
    world.run(Duration::from_millis(15));
    let response = world.last_sent(1, MessageKind::Response);
    world.clear_wire();
    // Whoever knows the initiator's public key can make a right mac1; here the index of mac1's key does it.
    for byte in 12..60 {
        let mut altered = response.bytes.clone();
        altered[byte] ^= 1;
        restamp(&mut altered, &world.nodes[0].public);
        assert_eq!(world.receive(0, response.from, &altered), Received::Drop(DropReason::NotAuthentic), "byte {byte}");
    }
    world.receive(0, response.from, &response.bytes);
    world.run_secs(1);
    assert_eq!(world.nodes[1].payloads(), [b"hello"]);
}

/// Writes a right mac1 over an altered handshake message, as anyone can who knows the receiver's public key.
pub(crate) fn restamp(message: &mut [u8], receiver: &weft_core::keys::NodeKey) {
    let body = message.len() - 32;
    let key = weft_core::crypto::hash::hash(&[b"mac1----", receiver.as_bytes()]);
    let mac1 = weft_core::crypto::hash::mac(&key, &[&message[..body]]);
    message[body..body + 16].copy_from_slice(&mac1);
}

#[test]
fn an_altered_initiation_leaves_no_trace() {
    let mut world = World::pair(8);
    world.nodes[1].device.set_load_limit(1_000, 1_000);
    world.send(0, 1, b"hello");
    let initiation = world.last_sent(0, MessageKind::Initiation);
    world.clear_wire();
    // The sender index (bytes 4 to 7) is not part of the transcript; a mac protects it only from accidents.
    for byte in 8..116 {
        let mut altered = initiation.bytes.clone();
        altered[byte] ^= 1;
        assert_eq!(world.receive(1, initiation.from, &altered), Received::Drop(DropReason::WrongMac1), "byte {byte}");
        restamp(&mut altered, &world.nodes[1].public);
        assert_eq!(
            world.receive(1, initiation.from, &altered),
            Received::Drop(DropReason::NotAuthentic),
            "byte {byte}"
        );
    }
    assert_eq!(world.nodes[1].device.peer_counts(), (1, 0), "no slot was taken");
    world.receive(1, initiation.from, &initiation.bytes);
    world.run_secs(1);
    assert_eq!(world.nodes[1].payloads(), [b"hello"]);
}

#[test]
fn a_replayed_initiation_is_refused_also_much_later() {
    let mut world = World::pair(9);
    world.establish(0, 1);
    let initiation = world.last_sent(0, MessageKind::Initiation);
    for secs in [1, 100, 10_000] {
        world.run_secs(secs);
        let refused = world.receive(1, initiation.from, &initiation.bytes);
        assert_eq!(refused, Received::Drop(DropReason::StaleTimestamp));
    }
    assert_eq!(world.nodes[1].device.peer_counts(), (1, 0), "the greatest timestamp outlives the active slot");
}

#[test]
fn simultaneous_initiations_end_in_sessions_that_work_both_ways() {
    for seed in 0..20 {
        let mut world = World::pair(seed);
        world.wire.jitter = Duration::from_millis(20);
        world.send(0, 1, b"a");
        world.send(1, 0, b"b");
        world.run_secs(2);
        assert_eq!((world.nodes[0].payloads(), world.nodes[1].payloads()), (vec![&b"b"[..]], vec![&b"a"[..]]));
        let initiations = world.sent(0, MessageKind::Initiation).len() + world.sent(1, MessageKind::Initiation).len();
        assert_eq!(initiations, 2, "no further tries");
        world.send(0, 1, b"c");
        world.send(1, 0, b"d");
        world.run_secs(1);
        assert_eq!((world.nodes[0].inbox.len(), world.nodes[1].inbox.len()), (2, 2));
    }
}

#[test]
fn a_response_counts_as_a_recent_handshake() {
    let mut world = World::pair(10);
    let peer = world.peer(0, 1);
    world.nodes[0].device.initiate(peer, world.now).unwrap();
    world.poll(0);
    world.run(Duration::from_millis(15));
    // The response is lost, and the responder has something to send.
    world.clear_wire();
    world.unplugged = vec![world.nodes[0].address];
    world.send(1, 0, b"data");
    let sent_at = world.sent(1, MessageKind::Response)[0].at;
    world.run(Duration::from_millis(4_900));
    assert_eq!(world.sent(1, MessageKind::Initiation).len(), 0);
    world.run(Duration::from_millis(200));
    let initiations = world.sent(1, MessageKind::Initiation);
    assert_eq!(initiations.len(), 1);
    assert_eq!(initiations[0].at, sent_at + Duration::from_secs(5));
}

#[test]
fn a_new_private_key_stops_old_sessions_and_handshakes_at_once() {
    let mut world = World::pair(11);
    world.establish(0, 1);
    world.forget();
    let secret = weft_core::keys::NodeSecret::from_bytes([9; 32]);
    let public = secret.public::<weft_core::crypto::dh::X25519>();
    let peer = world.nodes[1].device.add_peer(&public).unwrap();
    let inner = world.nodes[0].inner;
    world.nodes[1].device.add_allowed_ip(peer, weft_core::ip::IpPrefix::host(inner)).unwrap();
    let now = world.now;
    world.nodes[0].device.set_private_key::<RustCrypto>(Some(secret), now);
    assert!(matches!(world.send(0, 1, b"new key"), SendOutcome::Staged(_)));
    assert_eq!(world.sent(0, MessageKind::Initiation).len(), 1, "the 5 s since the last one do not count");
    world.run_secs(1);
    assert_eq!(world.nodes[1].inbox, [(peer, crate::harness::ipv4(inner, world.nodes[1].inner, b"new key"))]);
}

#[test]
fn a_peer_with_the_devices_own_key_is_removed_and_refused() {
    let mut world = World::pair(12);
    let own = world.nodes[1].public;
    let peer = world.peer(0, 1);
    let secret = world.nodes[1].device.private_key().unwrap().clone();
    let now = world.now;
    world.nodes[0].device.set_private_key::<RustCrypto>(Some(secret), now);
    assert_eq!(world.nodes[0].device.peer(peer, now).map(|peer| peer.key), None);
    assert!(world.nodes[0].device.add_peer(&own).is_err());
}

#[test]
fn an_index_is_freed_with_its_session() {
    let mut world = World::pair(13);
    let peer = world.peer(0, 1);
    for _ in 0..300 {
        world.nodes[0].device.initiate(peer, world.now).unwrap();
        world.run_secs(6);
        assert_eq!(world.state(0, 1), PeerState::Established);
    }
    // 64 active slots have 512 index slots; a leak of one a handshake would have filled them twice over.
    for node in &world.nodes {
        assert_eq!(node.dropped(DropReason::NoIndex), 0);
    }
    let (kept, removed) = (world.peer(1, 0), world.peer(0, 1));
    world.nodes[0].device.remove_peer(removed);
    let late = world.last_sent(1, MessageKind::Response);
    assert!(world.nodes[1].device.peer(kept, world.now).is_some());
    assert_eq!(world.receive(0, late.from, &late.bytes), Received::Drop(DropReason::UnknownIndex));
}
