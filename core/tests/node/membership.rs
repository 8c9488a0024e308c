//! Joining, this node's own key, refusals, leaving.

use std::time::Duration;

use weft_core::{
    control::{ErrorCode, JoinKey, JoinSecret},
    crypto::dh::X25519,
    keys::ServerSecret,
    node::{ControlState, NodeEvent},
    time::UnixTime,
};

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_node_joins_and_forgets_the_join_secret() {
    let mut world = World::joined(&["laptop", "nas"]);
    let own = world.node("nas").netmap().own().unwrap().clone();
    assert_eq!((own.name(), own.domain(), own.user()), ("nas", "home.weft", Some("ann")));
    assert_eq!(own.addresses().count(), 2);
    assert_eq!(world.node("laptop").netmap().by_name("NAS").map(|peer| peer.id()), Some(own.id()));
    assert!(world.node("nas").identity().unwrap().join_secret.is_none());
    assert!(world.host("nas").disk.identity().join_secret.is_none(), "not on the disk either");
    assert_eq!(world.server.join_secrets_seen, 2);
    world.restart("nas");
    world.run(3 * SECOND);
    assert_eq!(world.node("nas").control_state(), ControlState::Registered);
    assert_eq!(world.node("nas").netmap().own().unwrap().id(), own.id());
    assert_eq!(world.server.join_secrets_seen, 2);
}

#[test]
fn nothing_is_registered_before_its_secrets_are_kept() {
    let mut world = World::new();
    world.add("nas", false);
    world.host("nas").disk.full = true;
    world.join("nas");
    world.run(10 * SECOND);
    assert!(world.server.nodes.is_empty(), "a machine key that is lost would burn the join key");
    world.host("nas").disk.full = false;
    let key = world.server.join_key();
    world.join_with("nas", &key);
    world.run(3 * SECOND);
    assert_eq!(world.server.nodes.len(), 1);
}

#[test]
fn a_full_disk_does_not_stop_a_node_that_joined() {
    let mut world = World::joined(&["laptop", "nas"]);
    world.host("nas").disk.full = true;
    assert!(world.reaches("nas", "laptop", SECOND));
    world.restart("nas");
    assert!(world.reaches("nas", "laptop", 5 * SECOND));
    assert_eq!(world.node("nas").control_state(), ControlState::Registered);
}

#[test]
fn the_own_key_is_renewed_before_it_expires_and_peers_reach_the_new_one() {
    let mut world = World::new();
    world.server.key_lifetime = Some(3_600);
    for name in ["laptop", "nas"] {
        world.add(name, false);
        world.join(name);
    }
    world.run(3 * SECOND);
    assert!(world.reaches("laptop", "nas", SECOND));
    let before = *world.node("nas").netmap().own().unwrap().key();
    world.run(2_420 * SECOND);
    let own = world.node("nas").netmap().own().unwrap().clone();
    assert_ne!(*own.key(), before, "renewed when a third of its life was left");
    assert_eq!(world.node("nas").device().public_key(), Some(own.key()));
    assert_eq!(world.node("laptop").netmap().by_id(own.id()).map(|peer| *peer.key()), Some(*own.key()));
    assert!(world.node("laptop").peer_by_key(&before).is_none(), "the old key is no peer's any more");
    let disk = world.host("nas").disk.identity();
    assert_eq!((disk.node.public::<X25519>(), disk.next_node), (*own.key(), None));
    assert!(world.reaches("laptop", "nas", SECOND) && world.reaches("nas", "laptop", SECOND));
}

#[test]
fn a_renewal_waits_for_the_disk_and_holds_up_nothing_else() {
    let mut world = World::joined(&["laptop", "nas"]);
    let before = *world.node("nas").netmap().own().unwrap().key();
    let mut rng = crate::rng::TestRng::new(78);
    world.host("nas").disk.full = true;
    world.host("nas").node.renew_node_key(&mut rng);
    world.run(SECOND);
    world.server.stop();
    world.run(SECOND);
    world.server.up = true;
    assert!(world.reaches("nas", "laptop", 40 * SECOND));
    assert_eq!(world.node("nas").control_state(), ControlState::Registered);
    assert_eq!(*world.node("nas").netmap().own().unwrap().key(), before, "the server heard of no key that may be lost");
    world.host("nas").disk.full = false;
    world.host("nas").node.renew_node_key(&mut rng);
    world.host("nas").retry_keeping();
    world.run(SECOND);
    assert_ne!(*world.node("nas").netmap().own().unwrap().key(), before);
}

#[test]
fn a_renewal_that_the_server_confirmed_unheard_is_taken_up_after_a_restart() {
    let mut world = World::joined(&["laptop", "nas"]);
    let mut rng = crate::rng::TestRng::new(77);
    world.host("nas").node.renew_node_key(&mut rng);
    world.run(Duration::ZERO);
    let renewed = *world.node("nas").netmap().own().unwrap().key();
    // A process that died before it heard the answer has the new secret on its disk as the next one.
    world.host("nas").disk = {
        let mut disk = world.host("nas").disk.clone();
        let mut identity = disk.identity();
        identity.next_node =
            Some(core::mem::replace(&mut identity.node, weft_core::keys::NodeSecret::generate(&mut rng)));
        disk.set_identity(&identity);
        disk
    };
    world.restart("nas");
    world.run(5 * SECOND);
    assert_eq!(world.node("nas").device().public_key(), Some(&renewed));
    assert!(world.reaches("laptop", "nas", 6 * SECOND));
}

#[test]
fn the_own_key_is_out_of_use_once_it_expired_even_while_the_server_is_away() {
    let mut world = World::joined(&["laptop", "nas"]);
    let (id, soon) = (world.server.id_of("nas"), UnixTime::new(world.wall().secs() + 60, 0));
    world.server.expire(id, soon);
    world.run(SECOND);
    assert!(world.reaches("nas", "laptop", SECOND));
    world.server.stop();
    world.run(70 * SECOND);
    assert!(world.host("nas").saw(NodeEvent::KeyExpired));
    assert_eq!(world.node("nas").device().public_key(), None);
    assert!(!world.reaches("nas", "laptop", 10 * SECOND));
    world.server.up = true;
    world.server.expire(id, UnixTime::new(world.wall().secs() + 100_000, 0));
    world.run(60 * SECOND);
    assert!(world.reaches("nas", "laptop", 6 * SECOND), "in use again when the owner prolonged it");
}

#[test]
fn a_removed_node_leaves_and_stays_away() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("nas", "laptop", SECOND));
    let id = world.server.id_of("nas");
    world.server.remove(id);
    world.run(SECOND);
    assert!(world.host("nas").saw(NodeEvent::Left));
    assert!(world.node("nas").netmap().is_empty());
    assert_eq!(world.node("nas").control_state(), ControlState::Off);
    let connects = world.connects.len();
    world.run(3_600 * SECOND);
    assert_eq!(world.connects.len(), connects);
    world.join("nas");
    world.run(3 * SECOND);
    assert!(world.reaches("nas", "laptop", 6 * SECOND), "a new join key brings it back");
}

#[test]
fn logging_out_ends_the_membership() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.host("nas").node.logout());
    world.run(SECOND);
    assert!(world.host("nas").saw(NodeEvent::Left));
    assert!(world.node("nas").netmap().own().is_none());
}

#[test]
fn a_refusal_is_not_hammered_and_its_sentence_is_kept() {
    let mut world = World::new();
    world.add("nas", false);
    world.server.refuse = Some((ErrorCode::JoinKeyRevoked, None));
    world.join("nas");
    world.run(SECOND);
    assert!(world.host("nas").saw(NodeEvent::ServerError(ErrorCode::JoinKeyRevoked)));
    assert_eq!(world.node("nas").last_error(), Some((Some(ErrorCode::JoinKeyRevoked), "Refused for a test.")));
    let first = world.connects.len();
    world.run(400 * SECOND);
    assert_eq!(world.connects.len(), first, "a refusal that only a person changes rests for minutes");
    world.join("nas");
    world.run(SECOND);
    assert_eq!(world.node("nas").last_error(), None, "another join key is tried at once");
    assert_eq!(world.node("nas").control_state(), ControlState::Registered);
}

#[test]
fn the_server_says_when_to_come_back() {
    let mut world = World::new();
    world.add("nas", false);
    world.server.refuse = Some((ErrorCode::ShuttingDown, Some(200)));
    world.join("nas");
    world.run(199 * SECOND);
    assert_eq!(world.connects.len(), 1);
    world.run(10 * SECOND);
    assert_eq!(world.node("nas").control_state(), ControlState::Registered);
}

#[test]
fn a_server_with_another_key_than_the_join_key_names_is_refused() {
    let mut world = World::new();
    world.add("nas", false);
    let other = ServerSecret::from_bytes([0x77; 32]).public::<X25519>();
    let address = ["http://192.0.2.250:8080".parse().unwrap()];
    world.join_with("nas", &JoinKey::new(other, JoinSecret::from_bytes([9; 16]), &address).unwrap());
    world.run(SECOND);
    assert!(world.host("nas").saw(NodeEvent::ConnectionFailed));
    let (_, sentence) = world.node("nas").last_error().unwrap();
    assert!(sentence.contains("another key"), "{sentence}");
    assert!(world.server.nodes.is_empty());
}

#[test]
fn the_servers_next_key_and_addresses_are_kept_and_used_when_it_changes() {
    let mut world = World::joined(&["nas"]);
    world.server.announce_key();
    world.run(SECOND);
    let kept = world.host("nas").disk.identity();
    assert_eq!(kept.addresses.len(), 2);
    assert_eq!(kept.server, world.server.key());
    world.server.stop();
    world.server.rotate_key();
    world.server.up = true;
    world.run(300 * SECOND);
    assert_eq!(world.node("nas").control_state(), ControlState::Registered);
    let kept = world.host("nas").disk.identity();
    assert_eq!((kept.server, kept.next_server), (world.server.key(), None));
}

#[test]
fn an_announced_key_is_expected_first_also_after_a_refused_connection_and_then_the_other() {
    let mut world = World::joined(&["nas"]);
    let digits = |key: &weft_core::keys::ServerKey| hex::encode(key.as_bytes());
    world.server.announce_key();
    world.run(SECOND);
    let identity = world.node("nas").identity().unwrap().clone();
    let (before, announced) = (digits(&identity.server), digits(&identity.next_server.unwrap()));
    world.server.keys_expected.clear();

    // Nobody listens: that says nothing of keys.
    world.server.stop();
    world.run(20 * SECOND);
    assert!(world.connects.len() > 2);
    assert_eq!(world.server.keys_expected, [""; 0]);
    // Somebody listens who does not have the announced key, and says so with 421.
    world.server.forget_announced_key();
    world.server.up = true;
    let back = world.connects.len();
    world.run(100 * SECOND);
    assert_eq!(world.server.keys_expected, [announced.clone(), before.clone()]);
    assert_eq!(world.connects.len(), back + 2, "the other key is tried with the next connection");
    assert_eq!(world.node("nas").control_state(), ControlState::Registered);
    let kept = world.host("nas").disk.identity();
    assert_eq!(
        (digits(&kept.server), kept.next_server.map(|key| digits(&key))),
        (before.clone(), Some(announced.clone()))
    );

    // The next connection begins with the announced key again: it may be there by then.
    world.server.keys_expected.clear();
    world.server.stop();
    world.run(SECOND);
    world.server.up = true;
    world.run(100 * SECOND);
    assert_eq!(world.server.keys_expected, [announced, before]);
}

#[test]
fn every_address_of_the_server_gets_its_turn() {
    let mut world = World::joined(&["nas"]);
    world.server.announce_key();
    world.run(SECOND);
    world.server.stop();
    let mut tried = std::collections::BTreeSet::new();
    for _ in 0..100 {
        world.run(SECOND);
        tried.extend(world.node("nas").next_connect().map(|(_, address)| address.as_str().to_owned()));
    }
    assert_eq!(tried.len(), 2);
}

#[test]
fn a_node_at_rest_neither_sends_nor_connects_and_goes_on_when_it_is_started() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("laptop", "nas", SECOND));
    let (now, connects) = (world.now, world.connects.len());
    world.host("nas").stop(now);
    world.run(SECOND);
    assert_eq!(world.node("nas").control_state(), ControlState::Off);
    assert!(!world.reaches("laptop", "nas", 100 * SECOND));
    assert_eq!((world.connects.len(), world.node("nas").netmap().len()), (connects, 1));
    world.host("nas").events.clear();
    let (now, wall) = (world.now, world.wall());
    world.host("nas").start(now, wall);
    assert!(world.reaches("laptop", "nas", SECOND));
}

#[test]
fn what_the_server_says_of_the_nodes_health_lasts_as_long_as_the_connection() {
    let mut world = World::joined(&["nas"]);
    world.server.say_health("Another machine runs with this machine's identity.");
    world.run(SECOND);
    assert!(world.host("nas").saw(NodeEvent::Health));
    assert_eq!(world.node("nas").health().collect::<Vec<_>>(), ["Another machine runs with this machine's identity."]);
    world.server.stop();
    world.run(SECOND);
    assert_eq!(world.node("nas").health().count(), 0);
}

#[test]
fn a_server_that_is_away_is_tried_again_in_growing_steps_and_found_when_it_is_back() {
    let mut world = World::joined(&["nas"]);
    world.server.stop();
    let before = world.connects.len();
    world.run(600 * SECOND);
    let tries = world.connects.len() - before;
    assert!((15..45).contains(&tries), "{tries} attempts in ten minutes");
    world.server.up = true;
    world.run(50 * SECOND);
    assert_eq!(world.node("nas").control_state(), ControlState::Registered);
}

#[test]
fn a_machine_that_the_server_forgot_goes_on_with_its_netmap_and_joins_again_as_a_new_node() {
    let mut world = World::joined(&["laptop", "nas", "pi"]);
    assert!(world.reaches("nas", "laptop", SECOND));
    let former = world.server.id_of("nas");
    world.server.nodes.remove(&former);
    world.server.stop();
    world.server.up = true;
    world.run(10 * SECOND);
    assert!(world.host("nas").saw(NodeEvent::ServerError(ErrorCode::UnknownMachine)));
    assert!(world.reaches("nas", "laptop", SECOND), "it has done no wrong");
    world.join("nas");
    world.run(3 * SECOND);
    let own = world.node("nas").netmap().own().unwrap().id();
    assert_ne!(own, former);
    assert_eq!(world.node("nas").netmap().len(), 2, "the whole netmap");
    let laptop = world.node("laptop").netmap();
    assert!(laptop.by_id(former).is_none() && laptop.by_id(own).is_some(), "one key is one peer's");
    assert!(world.reaches("nas", "laptop", 6 * SECOND));
}

#[test]
fn garbage_from_the_server_ends_the_connection_and_nothing_else() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("nas", "laptop", SECOND));
    for garbage in [&[0; 64][..], &[0xff; 2_000], b"HTTP/1.1 500 Internal Server Error\r\n\r\n"] {
        world.garble("nas", garbage);
        assert!(world.host("nas").saw(NodeEvent::ConnectionFailed));
        assert!(world.node("nas").last_error().is_some());
        assert_eq!(world.node("nas").control_state(), ControlState::Waiting);
        assert!(world.reaches("nas", "laptop", SECOND));
        world.run(40 * SECOND);
        assert_eq!(world.node("nas").control_state(), ControlState::Registered);
    }
}
