//! Random sequences of all that can happen to a device. The harness fails where a device spins: where a deadline has
//! passed after everything due was handled.

use std::time::Duration;

use proptest::prelude::*;
use weft_core::crypto::RustCrypto;
use weft_core::keys::{NodeSecret, PresharedKey};
use weft_core::time::Instant;
use weft_core::wireguard::PeerState;

use crate::harness::{Limits, World};

#[derive(Clone, Debug)]
enum Step {
    Send(usize, usize),
    Run(u64),
    /// The clock jumps without anybody polling in between.
    Sleep(u64),
    ClockBack(u64),
    Wire {
        loss: u32,
        duplication: u32,
        jitter_ms: u64,
    },
    /// Something captured before arrives again, from somewhere, perhaps altered.
    Replay {
        which: usize,
        node: usize,
        flip: Option<usize>,
    },
    Keepalive(usize, usize, Option<u64>),
    Endpoint(usize, usize, bool),
    Initiate(usize, usize),
    Load(usize),
    Remove(usize, usize),
    Add(usize, usize),
    Key(usize, bool),
    Psk(usize, usize, u8),
    Expire(usize, usize, Option<u64>),
    /// Work is taken and never done.
    DropWork(usize),
}

const NODES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        8 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Send(a, b)),
        6 => (0u64..200_000).prop_map(Step::Run),
        2 => (0u64..700_000).prop_map(Step::Sleep),
        1 => (0u64..1_000_000).prop_map(Step::ClockBack),
        1 => (0u32..80, 0u32..50, 0u64..2_000)
            .prop_map(|(loss, duplication, jitter_ms)| Step::Wire { loss, duplication, jitter_ms }),
        3 => (any::<usize>(), node.clone(), prop::option::of(any::<usize>()))
            .prop_map(|(which, node, flip)| Step::Replay { which, node, flip }),
        1 => (node.clone(), node.clone(), prop::option::of(0u64..30)).prop_map(|(a, b, s)| Step::Keepalive(a, b, s)),
        1 => (node.clone(), node.clone(), any::<bool>()).prop_map(|(a, b, known)| Step::Endpoint(a, b, known)),
        1 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Initiate(a, b)),
        1 => node.clone().prop_map(Step::Load),
        1 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Remove(a, b)),
        2 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Add(a, b)),
        1 => (node.clone(), any::<bool>()).prop_map(|(a, set)| Step::Key(a, set)),
        1 => (node.clone(), node.clone(), 0u8..2).prop_map(|(a, b, psk)| Step::Psk(a, b, psk)),
        1 => (node.clone(), node.clone(), prop::option::of(0u64..1_000)).prop_map(|(a, b, s)| Step::Expire(a, b, s)),
        1 => node.prop_map(Step::DropWork),
    ]
}

fn apply(world: &mut World, step: Step) {
    let now = world.now;
    let peer_of = |world: &World, a: usize, b: usize| world.nodes[a].device.peer_by_key(&world.nodes[b].public);
    match step {
        Step::Send(a, b) => drop(world.send(a, b, b"data")),
        Step::Run(millis) => world.run(Duration::from_millis(millis)),
        Step::Sleep(millis) => world.advance_to(now + Duration::from_millis(millis)),
        Step::ClockBack(millis) => {
            world.clear_wire();
            world.now = Instant::from_micros(now.as_micros().saturating_sub(millis * 1_000));
        }
        Step::Wire { loss, duplication, jitter_ms } => {
            let jitter = Duration::from_millis(jitter_ms);
            world.wire.loss = loss;
            world.wire.duplication = duplication;
            world.wire.jitter = jitter;
        }
        Step::Replay { which, node, flip } => {
            if let Some(which) = which.checked_rem(world.captured.len()) {
                let mut datagram = world.captured[which].clone();
                if let Some(bit) = flip.and_then(|flip| flip.checked_rem(datagram.bytes.len() * 8)) {
                    datagram.bytes[bit / 8] ^= 1 << (bit % 8);
                }
                world.receive(node, datagram.from, &datagram.bytes);
            }
        }
        Step::Keepalive(a, b, secs) => {
            if let Some(peer) = peer_of(world, a, b) {
                world.nodes[a].device.set_persistent_keepalive(peer, secs.map(Duration::from_secs), now);
            }
        }
        Step::Endpoint(a, b, known) => {
            if let Some(peer) = peer_of(world, a, b) {
                let address = world.nodes[b].address;
                world.nodes[a].device.set_endpoint(peer, known.then_some(address), now);
            }
        }
        Step::Initiate(a, b) => {
            if let Some(peer) = peer_of(world, a, b) {
                let _ = world.nodes[a].device.initiate(peer, now);
            }
        }
        Step::Load(a) => world.nodes[a].device.note_load(now),
        Step::Remove(a, b) => {
            if let Some(peer) = peer_of(world, a, b) {
                world.nodes[a].device.remove_peer(peer);
            }
        }
        Step::Add(a, b) => {
            if a != b {
                world.add_peer(a, b, true);
            }
        }
        Step::Key(a, set) => {
            let secret = NodeSecret::generate(&mut world.rng);
            if set {
                world.nodes[a].public = secret.public::<weft_core::crypto::dh::X25519>();
            }
            world.nodes[a].device.set_private_key::<RustCrypto>(set.then_some(secret), now);
        }
        Step::Psk(a, b, byte) => {
            if let Some(peer) = peer_of(world, a, b) {
                world.nodes[a].device.set_preshared_key(peer, PresharedKey::from_bytes([byte; 32]));
            }
        }
        Step::Expire(a, b, secs) => {
            if let Some(peer) = peer_of(world, a, b) {
                let at = secs.map(|secs| world.unix + Duration::from_secs(secs));
                world.nodes[a].device.set_not_after(peer, at);
            }
        }
        Step::DropWork(a) => drop(world.nodes[a].device.poll(now, world.unix, &mut world.rng)),
    }
    for node in 0..NODES {
        world.poll(node);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_device_spins_and_in_the_end_it_works_again(
        seed: u64,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(seed);
        for _ in 0..NODES {
            // Two active slots for two peers, and few places for staged packets.
            world.add_node_with(Limits { known: 8, active: 2, staged: 3 });
        }
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            world.introduce(a, b);
        }
        for step in steps {
            apply(&mut world, step);
        }
        // An hour of quiet, fresh configuration, and everybody reaches everybody.
        world.wire = crate::harness::Wire::default();
        for a in 0..NODES {
            let peers: Vec<_> = world.nodes[a].device.peers().collect();
            for peer in peers {
                world.nodes[a].device.remove_peer(peer);
            }
            apply(&mut world, Step::Key(a, true));
        }
        world.run_secs(3_600);
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            world.introduce(a, b);
        }
        for (a, b) in [(0, 1), (1, 2), (2, 0)] {
            world.forget();
            world.send(a, b, b"works");
            world.run_secs(20);
            prop_assert_eq!(world.nodes[b].payloads(), [b"works"]);
            prop_assert_eq!(world.state(a, b), PeerState::Established);
            // Both slots are free again before the third pair.
            world.run_secs(700);
        }
    }

    #[test]
    fn every_packet_arrives_once_at_most_whatever_the_wire_does(
        seed: u64,
        loss in 0u32..60,
        duplication in 0u32..60,
        jitter_ms in 0u64..3_000,
    ) {
        let mut world = World::pair(seed);
        world.wire.loss = loss;
        world.wire.duplication = duplication;
        world.wire.jitter = Duration::from_millis(jitter_ms);
        for number in 0..200u32 {
            world.send(0, 1, &number.to_be_bytes());
            world.run_secs(1);
        }
        world.run_secs(10);
        let mut numbers: Vec<&[u8]> = world.nodes[1].payloads();
        numbers.sort_unstable();
        let received = numbers.len();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), received, "a packet was delivered twice");
        prop_assert!(received > 20, "{} of 200 arrived", received);
    }
}
