//! Every timer, to the microsecond where there is no jitter.

use std::time::Duration;

use weft_core::time::Instant;
use weft_core::wireguard::{DropReason, Event, MessageKind, PeerState, SendOutcome};

use crate::harness::{START, World};

const MAX_JITTER: Duration = Duration::from_millis(333);

fn since_start(at: Instant) -> Duration {
    at.saturating_since(START)
}

/// Keeps a session busy from both sides for so many seconds.
fn chat(world: &mut World, secs: u64) {
    for _ in 0..secs {
        world.send(0, 1, b"there");
        world.run(Duration::from_millis(500));
        world.send(1, 0, b"and back");
        world.run(Duration::from_millis(500));
    }
}

#[test]
fn the_initiator_asks_for_a_new_session_at_120_s_when_it_sends() {
    let mut world = World::pair(1);
    world.establish(0, 1);
    // The initiator derives its session when the response comes, after two crossings of the wire.
    let born = START + Duration::from_millis(20);
    world.run(Duration::from_secs(110));
    world.forget();
    world.advance_to(Instant::from_micros(born.as_micros() + 120_000_000 - 1));
    world.send(0, 1, b"just before");
    assert!(world.sent(0, MessageKind::Initiation).is_empty());
    world.advance_to(born + Duration::from_secs(120));
    assert!(matches!(world.send(0, 1, b"now"), SendOutcome::Transmit(_)), "the old session still sends");
    assert_eq!(world.sent(0, MessageKind::Initiation).len(), 1);
}

#[test]
fn the_responder_does_not_ask_for_a_new_session() {
    let mut world = World::pair(2);
    world.establish(0, 1);
    world.run_secs(130);
    world.forget();
    // For 14 s only: silence of 15 s is a reason of its own.
    for _ in 0..14 {
        assert!(matches!(world.send(1, 0, b"data"), SendOutcome::Transmit(_)));
        world.clear_wire();
        world.run_secs(1);
    }
    assert_eq!(world.sent(1, MessageKind::Initiation).len(), 0);
}

#[test]
fn the_initiator_asks_at_165_s_when_it_receives_and_once_only() {
    let mut world = World::pair(3);
    world.establish(0, 1);
    let born = START + Duration::from_millis(20);
    world.run_secs(130);
    world.forget();
    let (delay, receive_at) = (Duration::from_millis(10), born + Duration::from_secs(165));
    world.advance_to(Instant::from_micros(receive_at.as_micros() - 10_000 - 1));
    world.send(1, 0, b"just before");
    world.run(delay);
    assert_eq!(world.nodes[0].inbox.len(), 1);
    assert_eq!(world.sent(0, MessageKind::Initiation).len(), 0);
    world.send(1, 0, b"now");
    world.run(delay);
    assert_eq!(world.sent(0, MessageKind::Initiation).len(), 1);
    // The answers are lost. What comes in later is no reason to ask again, and gives the series no more time.
    world.clear_wire();
    for _ in 0..10 {
        world.unplugged.clear();
        world.send(1, 0, b"more");
        world.run(delay);
        world.unplugged = vec![world.nodes[0].address];
        world.run_secs(1);
    }
    assert!(world.nodes[0].inbox.len() > 10);
    world.run_secs(100);
    let gave_up = world.nodes[0].events_of(|event| matches!(event, Event::GaveUp(_)));
    assert_eq!(gave_up[0], world.sent(0, MessageKind::Initiation)[0].at + Duration::from_secs(90));
}

#[test]
fn the_responder_does_not_ask_when_it_receives_either() {
    let mut world = World::pair(22);
    world.establish(0, 1);
    world.run_secs(166);
    world.forget();
    world.send(0, 1, b"data");
    let data = world.last_sent(0, MessageKind::Data);
    world.clear_wire();
    world.receive(1, data.from, &data.bytes);
    assert_eq!(world.nodes[1].payloads(), [b"data"]);
    assert_eq!(world.sent(1, MessageKind::Initiation).len(), 0);
}

#[test]
fn nothing_is_sent_or_accepted_from_180_s_on() {
    let mut world = World::pair(4);
    world.establish(0, 1);
    world.forget();
    let born = START + Duration::from_millis(20);
    let expiry = born + Duration::from_secs(180);
    world.advance_to(Instant::from_micros(expiry.as_micros() - 1));
    assert!(matches!(world.send(0, 1, b"last"), SendOutcome::Transmit(_)));
    let last = world.last_sent(0, MessageKind::Data);
    world.clear_wire();
    world.advance_to(expiry);
    assert!(matches!(world.send(0, 1, b"too late"), SendOutcome::Staged(_)));
    // The responder's session is 10 ms older.
    world.clear_wire();
    let received = world.receive(1, last.from, &last.bytes);
    assert_eq!(received, weft_core::wireguard::Received::Drop(DropReason::SessionExpired));
}

#[test]
fn keys_are_wiped_540_s_after_the_last_session_was_derived() {
    let mut world = World::pair(5);
    world.establish(0, 1);
    let derived = START + Duration::from_millis(20);
    world.run(derived.saturating_since(world.now) + Duration::from_secs(530));
    assert_eq!(world.nodes[0].device.peer_counts(), (1, 1));
    world.run_until(20, |world| world.nodes[0].device.peer_counts() == (1, 0));
    assert_eq!(since_start(world.now), Duration::from_millis(540_020));
    world.run_secs(1);
    assert_eq!(world.nodes[1].device.peer_counts(), (1, 0));
    assert_eq!(world.next_event(), None, "two idle nodes wait for nothing");
    // They talk again when somebody has something to say.
    world.forget();
    world.send(1, 0, b"again");
    world.run_secs(1);
    assert_eq!(world.nodes[0].payloads(), [b"again"]);
}

#[test]
fn an_unanswered_initiation_is_sent_again_after_5_s_and_jitter_until_90_s_are_over() {
    let mut world = World::pair(6);
    world.unplugged = vec![world.nodes[1].address];
    world.send(0, 1, b"lost");
    world.run_secs(89);
    assert_eq!(world.state(0, 1), PeerState::Handshaking);
    world.run_secs(111);
    let times: Vec<Instant> = world.sent(0, MessageKind::Initiation).iter().map(|sent| sent.at).collect();
    assert_eq!(times[0], START);
    let mut jitters = Vec::new();
    for pair in times.windows(2) {
        let gap = pair[1].saturating_since(pair[0]);
        assert!(gap >= Duration::from_secs(5) && gap <= Duration::from_secs(5) + MAX_JITTER, "{gap:?}");
        jitters.push(gap - Duration::from_secs(5));
    }
    jitters.sort();
    jitters.dedup();
    assert!(jitters.len() > 5, "jitter varies");
    assert!((17..=18).contains(&times.len()), "{} tries", times.len());
    let gave_up = world.nodes[0].events_of(|event| matches!(event, Event::GaveUp(_)));
    assert_eq!(gave_up.iter().map(|at| since_start(*at)).collect::<Vec<_>>(), [Duration::from_secs(90)]);
    assert_eq!(world.nodes[0].dropped(DropReason::StagedPurged), 1);
    assert_eq!(world.state(0, 1), PeerState::Idle);
}

#[test]
fn every_retry_has_a_new_timestamp_index_and_ephemeral_key() {
    let mut world = World::pair(7);
    world.unplugged = vec![world.nodes[1].address];
    world.send(0, 1, b"lost");
    world.run_secs(60);
    let initiations = world.sent(0, MessageKind::Initiation);
    let distinct = |range: std::ops::Range<usize>| {
        initiations.iter().map(|sent| sent.bytes[range.clone()].to_vec()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(distinct(4..8).len(), initiations.len());
    assert_eq!(distinct(8..40).len(), initiations.len());
}

#[test]
fn new_data_after_giving_up_begins_a_new_series() {
    let mut world = World::pair(8);
    world.unplugged = vec![world.nodes[1].address];
    world.send(0, 1, b"lost");
    world.run_secs(100);
    world.unplugged.clear();
    world.send(0, 1, b"found");
    world.run_secs(1);
    assert_eq!(world.nodes[1].payloads(), [b"found"]);
}

#[test]
fn new_data_while_trying_gives_the_series_its_whole_time_again_but_no_faster_tries() {
    let mut world = World::pair(9);
    world.unplugged = vec![world.nodes[1].address];
    for _ in 0..120 {
        world.send(0, 1, b"lost");
        world.run_secs(1);
    }
    assert!(world.nodes[0].events_of(|event| matches!(event, Event::GaveUp(_))).is_empty());
    let times: Vec<Instant> = world.sent(0, MessageKind::Initiation).iter().map(|sent| sent.at).collect();
    assert!(times.windows(2).all(|pair| pair[1].saturating_since(pair[0]) >= Duration::from_secs(5)));
    assert!(times.len() >= 22);
}

#[test]
fn received_data_is_acknowledged_by_an_empty_packet_after_10_s() {
    let mut world = World::pair(10);
    world.establish(0, 1);
    world.run_secs(60);
    world.forget();
    let start = world.now;
    world.send(0, 1, b"data");
    world.run_secs(60);
    let keepalives = world.keepalives(1);
    assert_eq!(keepalives.len(), 1);
    assert_eq!(keepalives[0].at, start + Duration::from_millis(10) + Duration::from_secs(10));
    assert_eq!(world.keepalives(0).len(), 0, "an empty packet is not acknowledged");
    assert_eq!(world.sent(0, MessageKind::Initiation).len(), 0);
}

#[test]
fn data_that_comes_while_the_acknowledgement_is_pending_deserves_another() {
    let mut world = World::pair(11);
    world.establish(0, 1);
    world.run_secs(60);
    world.forget();
    let start = world.now + Duration::from_millis(10);
    world.send(0, 1, b"one");
    world.run_secs(5);
    world.send(0, 1, b"two");
    world.run_secs(60);
    let times: Vec<Duration> = world.keepalives(1).iter().map(|sent| sent.at.saturating_since(start)).collect();
    assert_eq!(times, [Duration::from_secs(10), Duration::from_secs(20)]);
}

#[test]
fn data_of_ones_own_is_acknowledgement_enough() {
    let mut world = World::pair(12);
    world.establish(0, 1);
    chat(&mut world, 60);
    // The keepalive that the last message deserves is still to come.
    assert_eq!(world.keepalives(1).len(), 0);
    assert_eq!(world.keepalives(0).len(), 0);
}

#[test]
fn two_idle_nodes_do_not_keep_each_other_awake() {
    let mut world = World::pair(13);
    world.establish(0, 1);
    world.run_secs(30);
    world.forget();
    world.run_secs(400);
    assert_eq!(world.captured.len(), 0, "no keepalive ping-pong and no handshake");
}

#[test]
fn silence_for_15_s_after_the_first_unanswered_data_begins_a_handshake() {
    let mut world = World::pair(14);
    world.establish(0, 1);
    world.run_secs(20);
    world.forget();
    world.unplugged = vec![world.nodes[1].address];
    let first = world.now;
    for _ in 0..14 {
        world.send(0, 1, b"anybody?");
        world.run_secs(1);
    }
    world.run_secs(2);
    let initiations = world.sent(0, MessageKind::Initiation);
    assert_eq!(initiations.len(), 1);
    let silence = initiations[0].at.saturating_since(first);
    assert!(silence >= Duration::from_secs(15) && silence <= Duration::from_secs(15) + MAX_JITTER, "{silence:?}");
}

#[test]
fn anything_authentic_that_comes_in_ends_the_silence() {
    let mut world = World::pair(15);
    world.establish(0, 1);
    world.run_secs(20);
    world.forget();
    for _ in 0..8 {
        world.send(0, 1, b"data");
        world.run_secs(10);
    }
    assert!(world.keepalives(1).len() >= 4);
    assert_eq!(world.sent(0, MessageKind::Initiation).len(), 0);
}

#[test]
fn a_persistent_keepalive_is_sent_at_its_interval_without_any_data() {
    let mut world = World::pair(16);
    let peer = world.peer(0, 1);
    let now = world.now;
    world.nodes[0].device.set_persistent_keepalive(peer, Some(Duration::from_secs(25)), now);
    world.run_secs(1);
    assert_eq!(world.sent(0, MessageKind::Initiation).len(), 1, "it begins at once");
    world.run_secs(600);
    let times: Vec<Instant> = world.sent(0, MessageKind::Data).iter().map(|sent| sent.at).collect();
    assert!(times.len() >= 23);
    assert!(times.windows(2).all(|pair| pair[1].saturating_since(pair[0]) <= Duration::from_secs(26)));
    let now = world.now;
    world.nodes[0].device.set_persistent_keepalive(peer, None, now);
    world.forget();
    world.run_secs(700);
    assert_eq!(world.keepalives(0).len(), 0);
    assert_eq!(world.nodes[0].device.peer_counts(), (1, 0));
}

#[test]
fn a_persistent_keepalive_counts_from_the_last_packet_either_way() {
    let mut world = World::pair(17);
    world.establish(0, 1);
    let peer = world.peer(0, 1);
    let now = world.now;
    world.nodes[0].device.set_persistent_keepalive(peer, Some(Duration::from_secs(25)), now);
    world.run_secs(1);
    world.forget();
    chat(&mut world, 50);
    assert_eq!(world.keepalives(0).len(), 0);
}

#[test]
fn data_that_only_goes_out_puts_a_persistent_keepalive_off_too() {
    let mut world = World::pair(23);
    world.establish(0, 1);
    let (peer, now) = (world.peer(0, 1), world.now);
    world.nodes[0].device.set_persistent_keepalive(peer, Some(Duration::from_secs(5)), now);
    world.run_secs(11);
    world.forget();
    for _ in 0..4 {
        world.send(0, 1, b"data");
        world.clear_wire();
        world.run_secs(3);
    }
    assert_eq!(world.keepalives(0).len(), 0);
    world.run_secs(2);
    assert_eq!(world.keepalives(0).len(), 1);
}

#[test]
fn a_persistent_keepalive_revives_after_the_peer_was_given_up() {
    let mut world = World::pair(18);
    let peer = world.peer(0, 1);
    world.unplugged = vec![world.nodes[1].address];
    let now = world.now;
    world.nodes[0].device.set_persistent_keepalive(peer, Some(Duration::from_secs(25)), now);
    world.run_secs(2_000);
    let gave_up = world.nodes[0].events_of(|event| matches!(event, Event::GaveUp(_))).len();
    assert!((10..=22).contains(&gave_up), "{gave_up} series in 2,000 s");
    world.unplugged.clear();
    world.run_secs(130);
    assert_eq!(world.state(0, 1), PeerState::Established);
    assert_eq!(world.state(1, 0), PeerState::Established);
}

#[test]
fn a_persistent_keepalive_without_endpoint_or_key_does_not_spin() {
    let mut world = World::pair(19);
    let peer = world.peer(0, 1);
    let now = world.now;
    world.nodes[0].device.set_endpoint(peer, None, now);
    world.nodes[0].device.set_persistent_keepalive(peer, Some(Duration::from_secs(1)), now);
    world.run_secs(300);
    assert!(!world.nodes[0].events_of(|event| matches!(event, Event::NeedsEndpoint(_))).is_empty());
    let (now, address) = (world.now, world.nodes[1].address);
    world.nodes[0].device.set_endpoint(peer, Some(address), now);
    world.run_secs(6);
    assert_eq!(world.state(0, 1), PeerState::Established);

    let mut world = World::pair(19);
    let secret = world.nodes[0].device.private_key().unwrap().clone();
    let now = world.now;
    world.nodes[0].device.set_private_key::<weft_core::crypto::RustCrypto>(None, now);
    world.nodes[0].device.set_persistent_keepalive(peer, Some(Duration::from_secs(25)), now);
    world.run_secs(300);
    assert_eq!(world.captured.len(), 0);
    let now = world.now;
    world.nodes[0].device.set_private_key::<weft_core::crypto::RustCrypto>(Some(secret), now);
    world.run_secs(1);
    assert_eq!(world.state(0, 1), PeerState::Established, "a late key is used at once");
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut world = World::pair(20);
    world.establish(0, 1);
    world.now = Instant::from_secs(1);
    world.unix = weft_core::time::UnixTime::new(1_000_000, 0);
    for node in 0..2 {
        world.poll(node);
    }
    world.clear_wire();
    world.send(0, 1, b"data");
    world.run_secs(1);
    assert_eq!(*world.nodes[1].payloads().last().unwrap(), b"data");
    // Also the timestamps of new handshakes go on from where they were.
    let peer = world.peer(0, 1);
    let now = world.now;
    world.nodes[0].device.initiate(peer, now).unwrap();
    world.run_secs(10);
    assert_eq!(world.nodes[1].dropped(DropReason::StaleTimestamp), 0);
    assert_eq!(world.sent(0, MessageKind::Initiation).len(), 2);
}

#[test]
fn a_handshake_after_a_day_of_silence_needs_one_round_trip() {
    let mut world = World::pair(21);
    world.establish(0, 1);
    world.run_secs(86_400);
    world.forget();
    world.send(0, 1, b"morning");
    world.run(Duration::from_millis(31));
    assert_eq!(world.nodes[1].payloads(), [b"morning"]);
}
