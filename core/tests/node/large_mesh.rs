//! Sixteen slots in a mesh of 2,000 nodes: who gets a place, who makes room, and who never can make anybody.

use std::{net::IpAddr, time::Duration};

use weft_core::{
    control::NodeId,
    node::{NodeEvent, Resolution, RoomCounters},
    wireguard::DropReason,
};

use crate::{
    crowd::{self, Crowd},
    world::{Size, World},
};

const MESH: u32 = 2_000;
const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(100);

/// A mesh of 2,000 nodes, and `sensor` with sixteen slots.
fn world() -> World {
    let mut world = World::new();
    Crowd::register(MESH, &mut world.server);
    world.add_sized("sensor", Size::Chip);
    world.join("sensor");
    world.run(3 * SECOND);
    let own = world.node("sensor").netmap().own().unwrap();
    let (key, mesh) = (*own.key(), own.v4().unwrap());
    world.crowd.meet(key, mesh);
    assert!(world.node("sensor").netmap().is_empty(), "peers come on demand");
    world
}

fn mesh_of(world: &World, number: u32) -> IpAddr {
    world.server.address_of(&crowd::name(number))
}

fn id_of(world: &World, number: u32) -> NodeId {
    world.server.id_of(&crowd::name(number))
}

fn holds(world: &World, number: u32) -> bool {
    world.node("sensor").netmap().by_id(id_of(world, number)).is_some()
}

fn room(world: &World) -> RoomCounters {
    *world.node("sensor").room()
}

/// One of the crowd pings the sensor, which answers; true where the answer came within `time`.
fn is_answered(world: &mut World, number: u32, time: Duration) -> bool {
    let (ping, pong) = (format!("hello {number} {}", world.now.as_micros()), format!("yes {}", world.now.as_micros()));
    let end = world.now + time;
    world.knock(number, "sensor", &ping);
    while world.now < end {
        world.run(MOMENT);
        if world.host("sensor").inbox.contains(&ping) {
            let to = mesh_of(world, number);
            world.send("sensor", to, &pong);
            world.run(MOMENT);
            return world.crowd.heard(number, &pong);
        }
    }
    false
}

/// The sensor pings one of the crowd, again and again until the answer comes; true where it came within `time`.
fn answers(world: &mut World, number: u32, time: Duration) -> bool {
    let (ping, pong) = (format!("ping {}", world.now.as_micros()), format!("pong {}", world.now.as_micros()));
    let (to, end) = (mesh_of(world, number), world.now + time);
    while world.now < end {
        world.send("sensor", to, &ping);
        world.run(MOMENT);
        if world.host("sensor").inbox.contains(&pong) {
            return true;
        }
    }
    false
}

/// Fills the places that are not for newcomers: the numbers of who is held.
fn filled(world: &mut World) -> Vec<u32> {
    (0..14).inspect(|number| assert!(is_answered(world, *number, SECOND), "{number}")).collect()
}

#[test]
fn two_hundred_are_answered_and_two_hundred_answer_through_sixteen_slots() {
    let mut world = world();
    for number in 0..200 {
        assert!(is_answered(&mut world, number, SECOND), "{number}: the first initiation is answered");
        assert!(answers(&mut world, 1_000 + number, SECOND), "{number} does not answer");
        assert!(world.node("sensor").netmap().len() <= 16);
    }
    let counters = room(&world);
    // Once for each; and once more for one whose last packet was not answered, since it made room: it knocks 15 s later.
    assert!((400..=700).contains(&counters.lookups), "{counters:?}");
    assert!(counters.evicted > 300 && counters.lookups_limited == 0, "{counters:?}");
    let disk = &world.host("sensor").disk;
    assert!(disk.netmap_writes + disk.recent_writes <= 6, "{} and {} writes", disk.netmap_writes, disk.recent_writes);
}

#[test]
fn forged_initiations_that_claim_all_keys_evict_nobody_and_cost_few_lookups() {
    let mut world = world();
    let held = filled(&mut world);
    world.run(10 * SECOND);
    let (before, began) = (room(&world), world.now);
    let key = world.key_of("sensor");
    for number in 0..MESH {
        let (now, wall) = (world.now, world.wall());
        let message = crowd::forged(&crowd::key(number), &key, now, wall, u64::from(number));
        world.inject(crowd::endpoint(number), "sensor", message);
        world.run(Duration::from_millis(10));
    }
    let after = room(&world);
    assert_eq!(after.evicted, before.evicted);
    assert!(held.iter().all(|number| holds(&world, *number)), "all are still there");
    let secs = world.now.saturating_since(began).as_secs() as u32;
    let lookups = after.lookups - before.lookups;
    assert!(lookups <= 20 + 10 * secs, "{lookups} in {secs} s");
    assert!(after.lookups_limited > 0, "{after:?}");
    for number in held {
        assert!(is_answered(&mut world, number, SECOND), "{number} has its session still");
    }
    assert_eq!(room(&world).lookups, after.lookups);
    assert!(is_answered(&mut world, 1_500, 6 * SECOND), "and who is real gets in");
}

#[test]
fn an_initiation_of_one_who_left_is_refused_when_it_is_sent_again() {
    let mut world = world();
    assert!(is_answered(&mut world, 0, SECOND));
    let (source, recorded) = world.crowd.initiations.last().unwrap().clone();
    for number in 1..=20 {
        assert!(is_answered(&mut world, number, SECOND));
        world.run(SECOND);
    }
    assert!(!holds(&world, 0), "it made room");
    let (before, stale) = (room(&world), dropped(&world, DropReason::StaleTimestamp));
    world.inject(source, "sensor", recorded);
    world.run(SECOND);
    assert_eq!(dropped(&world, DropReason::StaleTimestamp), stale + 1);
    let after = room(&world);
    assert_eq!((after.evicted, after.unproven), (before.evicted, before.unproven + 1));
    assert!(!holds(&world, 0), "its place is free at once");
    world.crowd.forget(0);
    assert!(is_answered(&mut world, 0, SECOND), "the real one comes back with a new one");
}

#[test]
fn who_only_repeats_what_it_recorded_makes_nobody_make_room() {
    let mut world = world();
    // More than whose timestamps are remembered.
    for number in 0..160 {
        assert!(is_answered(&mut world, number, SECOND));
        world.run(SECOND / 4);
    }
    let held: Vec<u32> = (0..160).filter(|number| holds(&world, *number)).collect();
    assert_eq!(held.len(), 14);
    world.run(20 * SECOND);
    let recorded = world.crowd.initiations[..10].to_vec();
    let before = room(&world);
    let responses = world.crowd.initiations.len();
    for (source, message) in recorded {
        world.inject(source, "sensor", message);
        world.run(4 * SECOND);
    }
    world.run(20 * SECOND);
    let after = room(&world);
    assert_eq!(after.evicted, before.evicted);
    assert_eq!(after.unproven, before.unproven + 10, "each was answered, and said nothing more");
    assert_eq!(world.crowd.initiations.len(), responses);
    assert!(held.iter().all(|number| holds(&world, *number)));
}

#[test]
fn a_pinned_peer_never_makes_room() {
    let mut world = world();
    assert!(world.host("sensor").node.pin("PEER-0.home.weft"));
    assert!(is_answered(&mut world, 0, SECOND));
    for number in 1..40 {
        assert!(is_answered(&mut world, number, SECOND));
        world.run(SECOND);
    }
    assert!(holds(&world, 0) && !holds(&world, 1));
    world.host("sensor").node.unpin("peer-0");
    assert!(is_answered(&mut world, 50, SECOND));
    assert!(!holds(&world, 0), "it was idle for longest");
}

#[test]
fn where_all_are_in_use_one_more_is_refused_and_counted() {
    let mut world = world();
    let held = filled(&mut world);
    let before = room(&world);
    for round in 0..10 {
        for number in &held {
            let to = mesh_of(&world, *number);
            world.send("sensor", to, &format!("round {round}"));
        }
        world.knock(100, "sensor", "let me in");
        let address = mesh_of(&world, 101);
        world.send("sensor", address, "are you there?");
        world.run(SECOND);
    }
    let after = room(&world);
    assert!(held.iter().all(|number| holds(&world, *number)));
    assert!(!holds(&world, 100) && !holds(&world, 101));
    assert!(after.refused > before.refused);
    assert_eq!((after.evicted, after.lookups), (before.evicted, before.lookups), "nobody is even asked for");
    world.run(5 * SECOND);
    assert!(is_answered(&mut world, 100, 6 * SECOND), "once somebody rests, there is room");
}

#[test]
fn a_peer_that_does_not_answer_makes_nobody_make_room() {
    let mut world = world();
    let held = filled(&mut world);
    world.run(10 * SECOND);
    let before = room(&world);
    // It is in the netmap, and at no place.
    let silent = weft_core::keys::NodeKey::from_bytes([9; 32]);
    world.server.add_entry(silent, "silent", "203.0.113.9:9".parse().unwrap());
    let to = world.server.address_of("silent");
    for _ in 0..60 {
        world.send("sensor", to, "hello?");
        world.run(SECOND);
    }
    let after = room(&world);
    assert_eq!(after.evicted, before.evicted);
    assert!(after.unproven > before.unproven);
    assert!(held.iter().all(|number| holds(&world, *number)));
}

#[test]
fn keys_that_nobody_has_are_asked_for_once_a_while() {
    let mut world = world();
    let key = world.key_of("sensor");
    let unknown = weft_core::keys::NodeKey::from_bytes([11; 32]);
    for step in 0..100 {
        let (now, wall) = (world.now, world.wall());
        let message = crowd::forged(&unknown, &key, now, wall, step);
        world.inject(crowd::endpoint(1), "sensor", message);
        world.run(MOMENT);
    }
    let counters = room(&world);
    assert_eq!((counters.lookups, counters.absent), (1, 1), "{counters:?}");
    assert!(world.node("sensor").netmap().is_empty());
}

#[test]
fn while_the_server_is_away_those_who_are_held_go_on_and_others_wait() {
    let mut world = world();
    let held = filled(&mut world);
    world.server.stop();
    world.run(5 * SECOND);
    for number in &held {
        assert!(is_answered(&mut world, *number, SECOND), "{number}");
    }
    assert!(!is_answered(&mut world, 100, 2 * SECOND));
    assert!(!answers(&mut world, 101, 2 * SECOND));
    let now = world.now;
    assert_eq!(world.host("sensor").node.resolve("peer-102", now), Resolution::NotNow);
    world.crowd.forget(held[0]);
    assert!(is_answered(&mut world, held[0], SECOND), "also with a new handshake");
    world.server.up = true;
    world.run(60 * SECOND);
    assert!(is_answered(&mut world, 100, 6 * SECOND));
    assert!(answers(&mut world, 101, 2 * SECOND));
}

#[test]
fn a_name_is_resolved_by_the_server_once_and_then_from_the_netmap() {
    let mut world = world();
    let resolve = |world: &mut World, name: &str| {
        let now = world.now;
        world.host("sensor").node.resolve(name, now)
    };
    assert_eq!(resolve(&mut world, "peer-7"), Resolution::Awaited);
    assert_eq!(resolve(&mut world, "Peer-7.home.weft"), Resolution::Awaited, "the same question");
    world.host("sensor").events.clear();
    world.run(MOMENT);
    assert!(world.host("sensor").saw(NodeEvent::LookupDone));
    let peer = Resolution::Peer(id_of(&world, 7));
    assert_eq!(resolve(&mut world, "peer-7"), peer);
    assert_eq!(resolve(&mut world, "PEER-7.home.weft."), peer);
    assert!(answers(&mut world, 7, SECOND));

    assert_eq!(resolve(&mut world, "nobody"), Resolution::Awaited);
    world.run(MOMENT);
    assert_eq!(resolve(&mut world, "nobody"), Resolution::Absent);
    assert_eq!(resolve(&mut world, "peer-7.example.org"), Resolution::Awaited, "another domain is no name here");
    world.run(MOMENT);
    assert_eq!(resolve(&mut world, "peer-7.example.org"), Resolution::Absent);
    assert_eq!(resolve(&mut world, &"x".repeat(64)), Resolution::Absent);
    assert_eq!(room(&world).lookups, 3);
}

fn dropped(world: &World, reason: DropReason) -> u64 {
    world.node("sensor").device().counters().get(reason)
}
