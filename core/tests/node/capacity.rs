//! A node with fewer slots than the mesh has nodes.

use std::time::Duration;

use std::net::Ipv4Addr;

use weft_core::{
    control::{
        NetworkId, NodeId, Revision, ServerRecord,
        record::{Address, Peer, Text, UpTo},
    },
    keys::NodeKey,
    node::{Contact, Node, NodeConfig, PeerRecord},
    time::Instant,
};

use crate::{
    rng::TestRng,
    world::{Size, TestStorage, World, tables},
};

const SECOND: Duration = Duration::from_secs(1);

/// Five ordinary nodes, and `sensor` with two slots.
fn world() -> World {
    let mut world = World::joined(&["a", "b", "c", "d", "e"]);
    world.add("sensor", true);
    world.join("sensor");
    world.run(3 * SECOND);
    world
}

#[test]
fn a_small_node_holds_nobody_until_it_sends() {
    let mut world = world();
    assert_eq!(world.node("sensor").netmap().len(), 0);
    assert!(world.reaches("sensor", "a", 2 * SECOND));
    assert_eq!(world.node("sensor").netmap().len(), 1);
}

#[test]
fn a_node_that_the_network_outgrew_keeps_hearing_of_the_peers_it_has() {
    let mut world = World::joined(&["a", "b", "c"]);
    let (a, b) = (world.server.id_of("a"), world.server.id_of("b"));
    world.server.deliver_on_demand(a);
    world.run(SECOND);
    world.server.rename(b, "store");
    world.run(SECOND);
    assert_eq!(world.node("a").netmap().by_id(b).unwrap().name(), "store");
    assert_eq!(world.node("a").netmap().revision(), Some(world.server.revision()));
}

#[test]
fn one_that_is_not_in_use_makes_room_for_the_one_that_is_wanted() {
    let mut world = world();
    for peer in ["a", "b", "c", "d", "e", "a"] {
        assert!(world.reaches("sensor", peer, 3 * SECOND), "{peer}");
        assert!(world.node("sensor").netmap().len() <= 2);
        world.run(15 * SECOND);
    }
}

#[test]
fn a_peer_in_use_does_not_make_room() {
    let mut world = world();
    for peer in ["a", "b"] {
        assert!(world.reaches("sensor", peer, 3 * SECOND));
    }
    let third = world.server.address_of("c");
    for _ in 0..30 {
        world.send("sensor", third, "no room");
        assert!(world.reaches("sensor", "a", SECOND) && world.reaches("sensor", "b", SECOND));
        world.run(SECOND);
    }
    assert_eq!(world.node("sensor").netmap().len(), 2);
    assert!(world.node("sensor").peer_by_address(third).is_none());
    assert_eq!(world.node("sensor").health().count(), 0, "that is how a small node is");
}

#[test]
fn a_peer_that_sends_first_is_asked_for_by_its_key() {
    let mut world = world();
    assert!(world.reaches("a", "sensor", SECOND), "its first initiation is answered");
    assert_eq!(world.node("sensor").room().lookups, 1);
    let (key, from, now) = (world.key_of("sensor"), world.host("sensor").address, world.now);
    let asked = world.host("a").node.need_initiator(key, &[0; 148], from, now);
    assert!(!asked, "where the netmap is whole there is nobody to ask for");
}

#[test]
fn an_address_that_nobody_has_is_not_asked_for_at_every_packet() {
    let mut world = world();
    let before = world.server.lookups;
    for _ in 0..100 {
        world.send("sensor", "100.64.0.200".parse().unwrap(), "anybody there?");
        world.run(Duration::from_millis(10));
    }
    assert_eq!(world.server.lookups, before + 1);
}

#[test]
fn a_small_node_names_what_it_holds_when_it_comes_back() {
    let mut world = world();
    assert!(world.reaches("sensor", "a", 2 * SECOND));
    world.run(5 * SECOND);
    world.restart("sensor");
    world.run(5 * SECOND);
    let id = world.server.id_of("a");
    world.server.rename(id, "renamed");
    world.run(SECOND);
    assert_eq!(world.node("sensor").netmap().by_id(id).unwrap().name(), "renamed");
}

#[test]
fn ten_thousand_peers_are_found_by_id_key_address_and_name() {
    // Tables of this size pass over the stack in a debug build.
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(find_ten_thousand).unwrap();
    thread.join().unwrap();
}

fn find_ten_thousand() {
    const PEERS: u32 = 10_000;
    let now = Instant::from_secs(1);
    let mut node: Node<TestStorage> = Node::new(NodeConfig::default(), tables(Size::TenThousand), &mut TestRng::new(1));
    let key = |id: u32| NodeKey::from_bytes(core::array::from_fn(|i| (id >> (8 * (i % 4))) as u8 ^ i as u8));
    let address = |id: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + id);
    let mut out = [0; 1_024];
    for id in 1..=PEERS {
        let name = format!("node-{id}");
        let addresses = [Address(address(id).into())];
        let peer = Peer {
            id: NodeId(id),
            node_key: key(id),
            name: Text::new(&name).unwrap(),
            addresses: (&addresses).into(),
            os: None,
            user: None,
            tags: Default::default(),
            key_expiry: None,
            revision: id.into(),
        };
        let len = ServerRecord::from(peer).encode(NetworkId(1), &mut out).unwrap();
        node.restore_netmap_record(&out[..len], now).unwrap();
    }
    let revision = Revision { epoch: 1, number: 1 };
    let len = ServerRecord::from(UpTo { revision }).encode(NetworkId(1), &mut out).unwrap();
    node.restore_netmap_record(&out[..len], now).unwrap();
    assert_eq!(node.netmap().len(), PEERS as usize);
    for id in [1, 2, 777, PEERS] {
        let found = [
            node.netmap().by_id(NodeId(id)),
            node.peer_by_key(&key(id)),
            node.peer_by_address(address(id).into()),
            node.netmap().by_name(&format!("NODE-{id}")),
        ];
        assert_eq!(found.map(|peer| peer.map(PeerRecord::id)), [Some(NodeId(id)); 4]);
    }
    assert!(node.netmap().by_id(NodeId(PEERS + 1)).is_none());
}

#[test]
fn records_are_small() {
    assert!(size_of::<PeerRecord>() <= 256, "{}", size_of::<PeerRecord>());
    assert!(size_of::<Contact>() <= 256, "{}", size_of::<Contact>());
    // The tables are elsewhere; a control connection with its frame buffer is inside.
    assert!(size_of::<Node<TestStorage>>() <= 16_384, "{}", size_of::<Node<TestStorage>>());
}
