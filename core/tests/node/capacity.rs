//! A node with fewer slots than the mesh has nodes.

use std::time::Duration;

use crate::world::World;

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
