//! The harness itself: what its wire does, and what it captures.

use std::time::Duration;

use weft_core::wireguard::MessageKind;

use crate::harness::World;

#[test]
fn a_capture_is_a_pcap_file_that_holds_every_datagram() {
    let mut world = World::pair(1);
    world.establish(0, 1);
    let pcap = world.pcap();
    assert_eq!(pcap[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    assert_eq!(pcap[20..24], 101_u32.to_le_bytes(), "raw IP");
    let mut rest = &pcap[24..];
    for datagram in &world.captured {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        assert_eq!(len, datagram.bytes.len() + 28);
        assert_eq!(rest[16..len + 16][28..], datagram.bytes[..]);
        rest = &rest[len + 16..];
    }
    assert!(rest.is_empty());
}

#[test]
fn datagrams_over_the_wires_mtu_vanish_and_the_session_stays() {
    let mut world = World::pair(2);
    world.establish(0, 1);
    world.wire.mtu = 500;
    world.send(0, 1, &[0; 600]);
    world.send(0, 1, b"small");
    world.run(Duration::from_secs(1));
    assert_eq!(world.sent(0, MessageKind::Data).len(), 3);
    assert_eq!(world.nodes[1].payloads(), [&b"hello"[..], b"small"]);
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = || {
        let mut world = World::pair(3);
        world.wire.loss = 30;
        world.wire.jitter = Duration::from_millis(50);
        for _ in 0..50 {
            world.send(0, 1, b"x");
            world.run_secs(5);
        }
        world.pcap()
    };
    assert!(run() == run());
}
