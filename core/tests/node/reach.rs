//! How nodes find and reach each other.

use std::time::Duration;

use weft_core::node::NodeEvent;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn two_nodes_reach_each_other_both_ways_by_the_endpoints_that_the_server_told() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("laptop", "nas", SECOND));
    assert!(world.reaches("nas", "laptop", SECOND));
}

#[test]
fn only_peers_in_contact_are_watched() {
    let mut world = World::joined(&["laptop", "nas", "pi"]);
    assert!(world.reaches("laptop", "nas", SECOND));
    world.run(SECOND);
    let (nas, pi) = (world.server.id_of("nas"), world.server.id_of("pi"));
    assert_eq!((world.server.watchers_of(nas), world.server.watchers_of(pi)), (1, 0));
    assert_eq!(world.node("laptop").netmap().by_id(nas).unwrap().online(), Some(true));
    assert_eq!(world.node("laptop").netmap().by_id(pi).unwrap().online(), None);
    world.run(1_300 * SECOND);
    assert_eq!(world.server.watchers_of(nas), 0, "idle contacts end");
}

#[test]
fn the_status_of_all_peers_is_there_on_request_and_watches_nobody() {
    let mut world = World::joined(&["laptop", "nas", "pi"]);
    world.host("laptop").events.clear();
    assert!(world.host("laptop").node.ask_status());
    world.run(SECOND);
    assert!(world.host("laptop").saw(NodeEvent::StatusDone));
    assert!(world.node("laptop").netmap().peers().all(|peer| peer.online() == Some(true)));
    let watchers: usize = ["nas", "pi"].map(|name| world.server.watchers_of(world.server.id_of(name))).iter().sum();
    assert_eq!(watchers, 0);
    world.server.stop();
    world.run(SECOND);
    assert!(!world.host("laptop").node.ask_status(), "the server cannot be asked");
    assert!(world.node("laptop").netmap().peers().all(|peer| peer.online().is_none()));
}

#[test]
fn an_initiation_goes_to_every_candidate_and_then_to_where_it_was_answered() {
    let mut world = World::joined(&["laptop", "nas"]);
    let nas = world.hosts["nas"].address;
    let false_one = "198.51.100.7:41641".parse().unwrap();
    let now = world.now;
    world.host("nas").node.set_local_endpoints(&[false_one, nas], now);
    world.run(SECOND);
    assert!(world.reaches("laptop", "nas", SECOND));
    let targets: Vec<_> = world.host("laptop").initiations.drain(..).map(|(_, target)| target).collect();
    assert_eq!(targets, [false_one, nas]);
    // The next handshake of the session knows where the peer is.
    for _ in 0..13 {
        world.run(10 * SECOND);
        assert!(world.reaches("laptop", "nas", SECOND));
    }
    let targets: Vec<_> = world.host("laptop").initiations.drain(..).map(|(_, target)| target).collect();
    assert_eq!(targets, [nas]);
}

#[test]
fn a_peer_that_moved_is_found_at_once_by_the_servers_word() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("laptop", "nas", SECOND));
    world.run(10 * SECOND);
    world.move_to("nas", "192.0.2.99:41641");
    world.run(SECOND);
    assert!(world.reaches("laptop", "nas", SECOND));
}

#[test]
fn a_node_that_moved_tells_its_peers_without_the_server() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("laptop", "nas", SECOND));
    world.server.stop();
    world.run(10 * SECOND);
    world.move_to("nas", "192.0.2.99:41641");
    world.run(SECOND);
    assert!(world.reaches("laptop", "nas", SECOND), "where only the other side sends");
}

#[test]
fn a_peer_without_endpoints_is_reached_as_soon_as_the_server_tells_some() {
    let mut world = World::joined(&["laptop", "nas"]);
    let (now, address) = (world.now, world.hosts["nas"].address);
    world.host("nas").node.set_local_endpoints(&[], now);
    world.run(SECOND);
    assert!(!world.reaches("laptop", "nas", 3 * SECOND));
    let now = world.now;
    world.host("nas").node.set_local_endpoints(&[address], now);
    assert!(world.reaches("laptop", "nas", SECOND));
    assert_eq!(world.server.watch_records, 2, "each side asked the server once");
}

#[test]
fn traffic_goes_on_while_the_server_is_away() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("laptop", "nas", SECOND));
    world.server.stop();
    for _ in 0..60 {
        world.run(10 * SECOND);
        assert!(world.reaches("laptop", "nas", SECOND));
    }
}
