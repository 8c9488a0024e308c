//! Peers come, change and go; revisions and snapshots.

use std::time::Duration;

use weft_core::{node::NodeEvent, time::UnixTime};

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_renamed_node_shows_its_new_name_at_its_peers_and_itself() {
    let mut world = World::joined(&["laptop", "nas"]);
    let id = world.server.id_of("nas");
    world.server.rename(id, "store");
    world.run(SECOND);
    assert_eq!(world.node("laptop").netmap().by_id(id).unwrap().name(), "store");
    assert!(world.node("laptop").netmap().by_name("nas").is_none());
    assert_eq!(world.node("nas").netmap().own().unwrap().name(), "store");
    assert!(world.host("laptop").saw(NodeEvent::PeerUpserted(id)));
}

#[test]
fn a_rename_leaves_the_session_alone() {
    let mut world = World::joined(&["laptop", "nas"]);
    assert!(world.reaches("laptop", "nas", SECOND));
    let initiations = world.host("laptop").initiations.len();
    let id = world.server.id_of("nas");
    world.server.rename(id, "store");
    world.run(SECOND);
    assert!(world.reaches("laptop", "nas", SECOND));
    assert_eq!(world.host("laptop").initiations.len(), initiations);
}

#[test]
fn a_removed_peer_is_unreachable_at_once_and_after_a_restart() {
    let mut world = World::joined(&["laptop", "nas", "pi"]);
    assert!(world.reaches("laptop", "nas", SECOND) && world.reaches("nas", "laptop", SECOND));
    let (id, address) = (world.server.id_of("nas"), world.server.address_of("nas"));
    world.server.remove(id);
    world.run(Duration::from_millis(1));
    assert!(world.node("laptop").netmap().by_id(id).is_none());
    assert!(world.node("laptop").peer_by_address(address).is_none());
    let inbox = world.host("nas").inbox.len();
    world.send("laptop", address, "after the removal");
    world.run(20 * SECOND);
    assert_eq!(world.host("nas").inbox.len(), inbox);
    world.server.stop();
    world.restart("laptop");
    world.run(SECOND);
    assert!(world.node("laptop").netmap().by_id(id).is_none(), "the removal was kept");
    assert!(world.node("laptop").netmap().by_name("pi").is_some());
}

#[test]
fn a_peers_key_expiry_is_enforced_while_the_server_is_away() {
    let mut world = World::joined(&["laptop", "nas"]);
    let id = world.server.id_of("nas");
    // The expired side would obey by itself; here it does not hear of it.
    world.server.expire_untold(id, UnixTime::new(world.wall().secs() + 60, 0));
    world.run(SECOND);
    assert!(world.reaches("laptop", "nas", SECOND));
    world.server.stop();
    world.run(50 * SECOND);
    assert!(world.reaches("laptop", "nas", SECOND));
    world.run(15 * SECOND);
    for restarted in [false, true] {
        if restarted {
            world.restart("laptop");
        }
        assert!(!world.reaches("laptop", "nas", 10 * SECOND), "restarted: {restarted}");
        assert!(!world.reaches("nas", "laptop", 10 * SECOND), "restarted: {restarted}");
    }
    let wall = world.wall();
    assert!(!world.node("nas").netmap().own().unwrap().is_expired(wall), "so the peer alone ended it");
}

#[test]
fn a_node_that_comes_back_resumes_from_its_revision_without_a_snapshot() {
    let mut world = World::joined(&["laptop", "nas"]);
    let revision = world.node("laptop").netmap().revision();
    let snapshots = world.server.snapshots;
    world.server.stop();
    world.run(SECOND);
    world.server.up = true;
    let (nas, pi) = (world.server.id_of("nas"), "pi");
    world.server.rename(nas, "store");
    world.add(pi, false);
    world.join(pi);
    world.run(60 * SECOND);
    assert_eq!(world.server.snapshots, snapshots + 1, "for the new node alone");
    assert!(world.server.registrations.contains(&revision));
    assert_eq!(world.node("laptop").netmap().revision(), Some(world.server.revision()));
    assert_eq!(world.node("laptop").netmap().by_id(nas).unwrap().name(), "store");
    assert!(world.node("laptop").netmap().by_name(pi).is_some());
}

#[test]
fn another_epoch_or_a_compacted_revision_brings_a_snapshot_that_sweeps_what_is_gone() {
    for compacted in [false, true] {
        let mut world = World::joined(&["laptop", "nas", "pi"]);
        assert!(world.reaches("laptop", "pi", SECOND));
        let gone = world.server.id_of("nas");
        world.server.stop();
        world.run(SECOND);
        world.server.up = true;
        world.server.remove(gone);
        if compacted {
            world.server.compacted = world.server.number;
        } else {
            world.server.restore_backup();
        }
        world.kill("nas");
        let initiations = world.host("laptop").initiations.len();
        world.host("laptop").events.clear();
        world.run(60 * SECOND);
        assert!(world.host("laptop").saw(NodeEvent::SnapshotDone));
        assert!(world.node("laptop").netmap().by_id(gone).is_none());
        assert_eq!(world.node("laptop").netmap().len(), 1);
        assert_eq!(world.node("laptop").netmap().revision(), Some(world.server.revision()));
        assert!(world.reaches("laptop", "pi", SECOND));
        assert_eq!(world.host("laptop").initiations.len(), initiations, "sessions outlive a snapshot");
    }
}

#[test]
fn a_snapshot_that_breaks_off_removes_nobody() {
    let mut world = World::joined(&["laptop", "nas", "pi"]);
    world.server.restore_backup();
    world.server.cut_snapshots = true;
    world.server.stop();
    world.run(SECOND);
    world.server.up = true;
    let revision = world.node("laptop").netmap().revision();
    world.run(40 * SECOND);
    assert_eq!(world.node("laptop").netmap().len(), 2);
    assert_eq!(world.node("laptop").netmap().revision(), revision);
    world.server.cut_snapshots = false;
    world.run(60 * SECOND);
    assert_eq!(world.node("laptop").netmap().revision(), Some(world.server.revision()));
    assert_eq!(world.node("laptop").netmap().len(), 2);
}

#[test]
fn many_changes_are_kept_together() {
    let mut world = World::joined(&["laptop", "nas"]);
    world.run(10 * SECOND);
    let writes = world.host("laptop").disk.netmap_writes;
    let id = world.server.id_of("nas");
    for number in 0..50 {
        world.server.rename(id, &format!("nas-{number}"));
        world.run(Duration::from_millis(10));
    }
    world.run(10 * SECOND);
    let more = world.host("laptop").disk.netmap_writes - writes;
    assert!(more <= 2, "{more} writes");
}
