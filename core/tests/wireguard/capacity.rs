//! Known and active peers: what happens when the slots are taken.

use std::time::Duration;

use rand::RngExt;
use weft_core::ip::IpPrefix;
use weft_core::keys::NodeKey;
use weft_core::wireguard::{AddPeerError, DropReason, MessageKind, PeerState, Received, SendOutcome};

use crate::harness::storage::LOOKS;
use crate::harness::{Limits, World};
use crate::sessions::restamp;

/// A node with so many active slots, and others that know it and that it knows.
fn hub(seed: u64, active: usize, others: usize) -> World {
    let mut world = World::new(seed);
    world.add_node_with(Limits { active, ..Limits::default() });
    world.add_nodes(others);
    for other in 1..=others {
        world.introduce(0, other);
    }
    world
}

#[test]
fn while_all_slots_are_busy_nobody_is_thrown_out() {
    let mut world = hub(1, 2, 3);
    world.establish(0, 1);
    world.establish(0, 2);
    assert_eq!(world.send(0, 3, b"no room"), SendOutcome::Drop(DropReason::NoActiveSlot));
    world.send(3, 0, b"no room either");
    world.run_secs(1);
    assert_eq!(world.nodes[0].dropped(DropReason::NoActiveSlot), 2);
    assert_eq!(world.sent(0, MessageKind::Response).len(), 0);
    for other in [1, 2] {
        assert_eq!(world.state(0, other), PeerState::Established);
    }
}

#[test]
fn the_peer_that_is_idle_for_longest_makes_room_for_a_packet_of_our_own() {
    let mut world = hub(2, 2, 3);
    world.establish(0, 1);
    world.run_secs(1);
    world.establish(0, 2);
    // After the acknowledgements nothing is under way any more.
    world.run_secs(30);
    world.establish(0, 3);
    assert_eq!([1, 2, 3].map(|other| world.state(0, other) == PeerState::Established), [false, true, true]);
    // The one that was thrown out is not lost: whoever has something to say shakes hands again.
    world.run_secs(30);
    world.forget();
    world.send(1, 0, b"back");
    world.run_secs(20);
    world.send(1, 0, b"again");
    world.run_secs(10);
    assert!(!world.nodes[0].inbox.is_empty());
    assert_eq!([1, 2, 3].map(|other| world.state(0, other) == PeerState::Established), [true, false, true]);
}

#[test]
fn all_peers_can_be_deactivated_and_their_slots_are_given_back_once() {
    let mut world = hub(9, 3, 4);
    world.establish(0, 1);
    world.establish(0, 2);
    let (first, second) = (world.peer(0, 1), world.peer(0, 2));
    world.nodes[0].device.remove_peer(first);
    for _ in 0..2 {
        world.nodes[0].device.deactivate_all();
        assert_eq!(world.nodes[0].device.peer_counts(), (3, 0));
        assert_eq!(world.nodes[0].device.poll_timeout(), None);
    }
    assert_eq!(world.nodes[0].device.peer(second, world.now).unwrap().state, PeerState::Idle);
    world.forget();
    world.run_secs(6);
    for other in [2, 3, 4] {
        world.send(0, other, b"a slot for each");
    }
    world.run_secs(1);
    for other in [2, 3, 4] {
        assert_eq!(world.nodes[other].payloads(), [b"a slot for each"]);
    }
}

#[test]
fn nobody_makes_room_for_a_stranger_or_a_forgery() {
    let mut world = hub(3, 1, 2);
    world.establish(0, 1);
    world.run_secs(30);
    // An initiation that names a known peer but was not made by it: its timestamp does not open.
    world.send(2, 0, b"x");
    let genuine = world.last_sent(2, MessageKind::Initiation);
    world.clear_wire();
    let mut forged = genuine.bytes.clone();
    forged[100] ^= 1;
    restamp(&mut forged, &world.nodes[0].public);
    assert_eq!(world.receive(0, genuine.from, &forged), Received::Drop(DropReason::NotAuthentic));
    assert_eq!(world.state(0, 1), PeerState::Established);
    // A stranger with a perfect initiation.
    let stranger = world.add_node();
    world.add_peer(stranger, 0, true);
    world.send(stranger, 0, b"x");
    world.run(Duration::from_millis(50));
    assert_eq!(world.nodes[0].dropped(DropReason::UnknownPeer), 1);
    assert_eq!(world.state(0, 1), PeerState::Established);
    // The genuine one is a reason.
    assert!(matches!(world.receive(0, genuine.from, &genuine.bytes), Received::Transmit(_)));
    assert_eq!(world.state(0, 1), PeerState::Idle);
}

#[test]
fn an_initiation_that_found_no_room_cannot_be_replayed_later() {
    let mut world = hub(4, 1, 2);
    world.establish(0, 1);
    world.send(2, 0, b"x");
    let initiation = world.last_sent(2, MessageKind::Initiation);
    world.clear_wire();
    assert_eq!(world.receive(0, initiation.from, &initiation.bytes), Received::Drop(DropReason::NoActiveSlot));
    world.run_secs(60);
    assert_eq!(world.receive(0, initiation.from, &initiation.bytes), Received::Drop(DropReason::StaleTimestamp));
}

#[test]
fn a_full_table_of_known_peers_refuses_in_so_many_words() {
    let mut world = World::new(5);
    world.add_node_with(Limits { known: 2, ..Limits::default() });
    let device = &mut world.nodes[0].device;
    let first = device.add_peer(&NodeKey::from_bytes([1; 32])).unwrap();
    device.add_peer(&NodeKey::from_bytes([2; 32])).unwrap();
    assert_eq!(device.add_peer(&NodeKey::from_bytes([3; 32])), Err(AddPeerError::Full));
    assert_eq!(device.add_peer(&NodeKey::from_bytes([1; 32])), Ok(first), "one that is there needs no room");
    device.remove_peer(first);
    assert!(device.add_peer(&NodeKey::from_bytes([3; 32])).is_ok());
}

#[test]
fn a_full_pool_of_waiting_packets_drops_the_oldest_of_all() {
    let mut world = World::new(6);
    world.add_node_with(Limits { staged: 3, ..Limits::default() });
    world.add_nodes(2);
    world.introduce(0, 1);
    world.introduce(0, 2);
    for number in 0..3u8 {
        world.send(0, 1, &[number]);
    }
    // The second peer has none of its own to drop.
    world.send(0, 2, b"x");
    world.run_secs(1);
    assert_eq!(world.nodes[1].payloads(), [[1], [2]]);
    assert_eq!(world.nodes[2].payloads(), [b"x"]);
}

#[test]
fn ten_thousand_known_peers_share_64_active_slots() {
    let mut world = World::new(7);
    world.add_node_with(Limits { known: 10_000, active: 64, staged: 64 });
    let others = 100;
    world.add_nodes(others);
    for other in 1..=others {
        world.introduce(0, other);
    }
    let device = &mut world.nodes[0].device;
    for number in 0..10_000 - others as u32 {
        let mut key = [0; 32];
        world.rng.fill(&mut key);
        let peer = device.add_peer(&NodeKey::from_bytes(key)).unwrap();
        let address = std::net::Ipv4Addr::from(0x6440_0000 + number);
        device.add_allowed_ip(peer, IpPrefix::host(address.into())).unwrap();
    }
    assert_eq!(device.peer_counts(), (10_000, 0));
    let mut greatest = 0;
    for round in 0..3 {
        for other in 1..=others {
            world.send(0, other, b"hello");
            world.run_secs(1);
            greatest = greatest.max(world.nodes[0].device.peer_counts().1);
        }
        for other in 1..=others {
            assert_eq!(world.nodes[other].inbox.len(), round + 1);
        }
    }
    assert_eq!(greatest, 64);
    assert_eq!(world.nodes[0].dropped(DropReason::NoActiveSlot), 0);
    world.run_secs(700);
    assert_eq!(world.nodes[0].device.peer_counts(), (10_000, 0));
}

/// How many slots are looked at for one packet through both devices, with so many known and active peers besides.
fn looks_for_a_packet(known: usize, active: usize) -> u64 {
    let mut world = World::new(8);
    world.add_node_with(Limits { known, active, ..Limits::default() });
    world.add_node();
    world.introduce(0, 1);
    for number in 0..known as u32 - 1 {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let peer = world.nodes[0].device.add_peer(&NodeKey::from_bytes(key)).unwrap();
        if (number as usize) < active - 1 {
            // Active, and with a timer that runs.
            let now = world.now;
            world.nodes[0].device.initiate(peer, now).unwrap();
        }
    }
    world.establish(0, 1);
    world.send(0, 1, b"there");
    world.send(1, 0, b"and back");
    world.run(Duration::from_millis(50));
    let before = LOOKS.get();
    world.send(0, 1, b"there");
    LOOKS.get() - before
}

#[test]
fn the_cost_of_a_packet_does_not_grow_with_the_peers() {
    let (few, many) = (looks_for_a_packet(2, 2), looks_for_a_packet(5_000, 1_000));
    // The queue of deadlines may take a few more steps, a search would take thousands.
    assert!(many < few + 30, "{few} slots looked at with 2 peers, {many} with 5,000");
}
