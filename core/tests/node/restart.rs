//! A process that dies and comes back from what it kept.

use std::time::Duration;

use weft_core::node::Skew;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_restarted_node_is_reached_again_where_only_the_surviving_peer_sends_and_the_server_is_away() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("laptop", "nas", SECOND));
    world.run(3 * SECOND);
    world.server.stop();
    world.restart("nas");
    assert!(world.reaches("laptop", "nas", Duration::from_millis(300)));
}

#[test]
fn a_node_that_is_killed_right_after_its_first_session_comes_back_too() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("laptop", "nas", SECOND));
    world.server.stop();
    world.restart("nas");
    assert!(world.reaches("laptop", "nas", SECOND));
}

#[test]
fn a_node_that_is_killed_right_after_it_met_a_new_peer_comes_back_too() {
    let mut world = World::joined(&["nas"]);
    world.add("laptop", false);
    world.join("laptop");
    world.run(Duration::from_millis(50));
    assert!(world.reaches("laptop", "nas", SECOND));
    world.server.stop();
    world.restart("nas");
    assert!(world.reaches("laptop", "nas", SECOND));
}

#[test]
fn a_restarted_node_that_kept_nothing_of_its_sessions_is_looked_for_by_the_surviving_peer() {
    let mut world = World::joined(&["laptop", "nas"]);
    world.host("nas").disk.full = true;
    assert!(world.reaches("nas", "laptop", SECOND));
    world.kill("nas");
    world.run(Duration::from_millis(10));
    world.restart("nas");
    assert!(world.reaches("laptop", "nas", Duration::from_millis(500)));
}

#[test]
fn a_restarted_node_reaches_a_peer_it_had_no_session_with_once_the_server_told_where_it_is() {
    let mut world = World::joined(&["laptop", "nas"]);
    world.run(5 * SECOND);
    world.restart("nas");
    assert!(world.reaches("nas", "laptop", 2 * SECOND));
}

#[test]
fn handshakes_after_a_restart_are_staggered() {
    let mut world = World::joined(&["a", "b", "c", "d"]);
    for peer in ["b", "c", "d"] {
        assert!(world.reaches("a", peer, SECOND));
        world.run(2 * SECOND);
    }
    world.server.stop();
    world.host("a").initiations.clear();
    world.restart("a");
    world.run(3 * SECOND);
    let mut at: Vec<_> = world.host("a").initiations.iter().map(|(at, _)| *at).collect();
    assert_eq!(at.len(), 3);
    at.dedup();
    assert_eq!(at.len(), 3, "not all at once");
}

#[test]
fn a_restarted_node_whose_clock_is_unset_is_not_locked_out() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("nas", "laptop", SECOND));
    world.run(3 * SECOND);
    world.server.stop();
    for _ in 0..3 {
        world.host("nas").clock_behind = 1_700_000_000;
        world.restart("nas");
        assert!(world.reaches("nas", "laptop", 6 * SECOND));
        world.run(10 * SECOND);
    }
}

#[test]
fn a_machine_without_a_clock_takes_the_servers_time() {
    let mut world = World::new();
    world.add("laptop", false);
    world.join("laptop");
    world.add("pi", false);
    world.host("pi").clock_behind = 1_800_000_000;
    world.join("pi");
    world.run(3 * SECOND);
    assert!(matches!(world.node("pi").clock_skew(), Skew::Behind(_)));
    let time = world.node("pi").time(world.now, weft_core::time::UnixTime::default());
    assert_eq!(time.secs(), world.wall().secs());
    assert!(world.reaches("pi", "laptop", SECOND));
}

#[test]
fn what_is_kept_of_a_session_is_written_seldom() {
    let mut world = World::joined(&["laptop", "nas"]);
    for _ in 0..360 {
        assert!(world.reaches("laptop", "nas", SECOND));
        world.run(9 * SECOND);
    }
    let disk = &world.hosts["laptop"].disk;
    assert!(disk.recent_writes <= 2, "{} writes for one session", disk.recent_writes);
    assert!(disk.identity_writes <= 8, "{} writes in an hour", disk.identity_writes);
    assert!(disk.netmap_writes <= 4, "{} writes", disk.netmap_writes);
}
