//! Inner packets: padding, cryptokey routing, roaming, replay, staging.

use std::net::SocketAddr;
use std::time::Duration;

use weft_core::crypto::{Crypto, RustCrypto};
use weft_core::ip::IpPrefix;
use weft_core::wireguard::{
    DropReason, Event, Incoming, MessageKind, Outgoing, Received, SealOutcome, SealRefusal, SendOutcome, Verdict,
};

use crate::harness::{World, ipv4};

type Aead = <RustCrypto as Crypto>::Aead;

#[test]
fn a_packet_from_an_address_that_is_not_the_peers_is_dropped_but_counts_as_heard() {
    let mut world = World::pair(1);
    world.establish(0, 1);
    let heard = world.nodes[1].device.peer(world.peer(1, 0), world.now).unwrap().received_bytes;
    let forged = ipv4("10.9.9.9".parse().unwrap(), world.nodes[1].inner, b"forged");
    world.nodes[0].address = "198.51.100.1:9".parse().unwrap();
    world.send_packet(0, &forged);
    world.run_secs(1);
    assert_eq!(world.nodes[1].dropped(DropReason::ForbiddenSource), 1);
    assert_eq!(world.nodes[1].payloads(), [b"hello"]);
    let view = world.nodes[1].device.peer(world.peer(1, 0), world.now).unwrap();
    assert!(view.received_bytes > heard);
    assert_eq!(view.endpoint, Some("198.51.100.1:9".parse().unwrap()), "authentic, so it also roams");
}

#[test]
fn the_most_specific_prefix_decides_whose_a_source_is() {
    // Both peers have a prefix that contains the address; only the longest match may speak for it.
    let mut world = World::new(2);
    world.add_nodes(3);
    for other in [1, 2] {
        world.introduce(0, other);
    }
    world.introduce(1, 2);
    let (wide, narrow) = (world.peer(0, 1), world.peer(0, 2));
    let device = &mut world.nodes[0].device;
    device.add_allowed_ip(wide, "10.7.0.0/16".parse().unwrap()).unwrap();
    device.add_allowed_ip(narrow, "10.7.7.0/24".parse().unwrap()).unwrap();
    let inner = world.nodes[0].inner;
    world.establish(1, 0);
    world.establish(2, 0);
    world.forget();
    for (node, source, delivered) in [(1, "10.7.1.1", true), (1, "10.7.7.1", false), (2, "10.7.7.1", true)] {
        world.send_packet(node, &ipv4(source.parse().unwrap(), inner, b"x"));
        world.run_secs(1);
        assert_eq!(!world.nodes[0].inbox.is_empty(), delivered, "{source} from node {node}");
        world.forget();
    }
    assert_eq!(world.nodes[0].dropped(DropReason::ForbiddenSource), 1);
}

#[test]
fn inner_packets_are_padded_to_16_bytes_within_the_mtu_and_trimmed_again() {
    let mut world = World::pair(3);
    world.establish(0, 1);
    world.nodes[0].device.set_mtu(1_000);
    for (payload, datagram) in [
        (0, 32 + 32),
        (12, 32 + 32),
        (13, 48 + 32),
        (972, 992 + 32),
        (973, 1_000 + 32),
        (980, 1_000 + 32),
        (981, 1_008 + 32),
    ] {
        world.forget();
        let payload = vec![0xab; payload];
        world.send(0, 1, &payload);
        world.run(Duration::from_millis(50));
        // A packet over the MTU is padded by its last segment: 1,001 bytes have one of 1.
        let expected = if payload.len() == 981 { 1_016 + 32 } else { datagram };
        assert_eq!(world.last_sent(0, MessageKind::Data).bytes.len(), expected, "{} bytes", payload.len());
        assert_eq!(world.nodes[1].payloads(), [payload]);
    }
}

#[test]
fn a_keepalive_is_not_padded() {
    let mut world = World::pair(4);
    let peer = world.peer(0, 1);
    world.nodes[0].device.initiate(peer, world.now).unwrap();
    world.run_secs(1);
    assert_eq!(world.last_sent(0, MessageKind::Data).bytes.len(), 32);
}

#[test]
fn the_first_counter_is_0_and_accepted_and_each_is_used_once() {
    let mut world = World::pair(5);
    world.establish(0, 1);
    for _ in 0..20 {
        world.send(0, 1, b"x");
    }
    world.run_secs(1);
    let counters: Vec<u64> = world
        .sent(0, MessageKind::Data)
        .iter()
        .map(|sent| u64::from_le_bytes(sent.bytes[8..16].try_into().unwrap()))
        .collect();
    assert_eq!(counters, (0..21).collect::<Vec<u64>>());
    assert_eq!(world.nodes[1].inbox.len(), 21);
}

#[test]
fn a_replayed_packet_is_dropped_and_moves_neither_window_nor_endpoint() {
    let mut world = World::pair(6);
    world.establish(0, 1);
    let data = world.last_sent(0, MessageKind::Data);
    let elsewhere: SocketAddr = "198.51.100.9:1".parse().unwrap();
    assert_eq!(world.receive(1, elsewhere, &data.bytes), Received::Drop(DropReason::Replayed));
    let view = world.nodes[1].device.peer(world.peer(1, 0), world.now).unwrap();
    assert_eq!(view.endpoint, Some(world.nodes[0].address));
}

#[test]
fn a_forged_packet_moves_neither_window_nor_endpoint() {
    let mut world = World::pair(7);
    world.establish(0, 1);
    let mut forged = world.last_sent(0, MessageKind::Data).bytes;
    forged[8..16].copy_from_slice(&1_000_000u64.to_le_bytes());
    let elsewhere: SocketAddr = "198.51.100.9:1".parse().unwrap();
    assert_eq!(world.receive(1, elsewhere, &forged), Received::Drop(DropReason::NotAuthentic));
    let view = world.nodes[1].device.peer(world.peer(1, 0), world.now).unwrap();
    assert_eq!(view.endpoint, Some(world.nodes[0].address));
    world.forget();
    world.send(0, 1, b"counter 1 is not too old");
    world.run_secs(1);
    assert_eq!(world.nodes[1].inbox.len(), 1);
}

#[test]
fn every_altered_bit_of_a_data_message_is_noticed() {
    let mut world = World::pair(8);
    world.establish(0, 1);
    world.send(0, 1, b"x");
    let data = world.last_sent(0, MessageKind::Data);
    world.clear_wire();
    world.forget();
    for byte in 0..data.bytes.len() {
        let mut altered = data.bytes.clone();
        altered[byte] ^= 0x80;
        assert!(matches!(world.receive(1, data.from, &altered), Received::Drop(_)), "byte {byte}");
    }
    assert!(matches!(world.receive(1, data.from, &data.bytes), Received::Packet { .. }));
}

#[test]
fn a_peer_that_roams_is_answered_where_it_is() {
    let mut world = World::pair(9);
    world.establish(0, 1);
    world.nodes[0].address = "203.0.113.7:999".parse().unwrap();
    world.send(0, 1, b"from elsewhere");
    world.run_secs(1);
    assert_eq!(world.nodes[1].events_of(|event| matches!(event, Event::Roamed(_))).len(), 1);
    world.forget();
    world.send(1, 0, b"found you");
    world.run_secs(1);
    assert_eq!(world.nodes[0].payloads(), [b"found you"]);
}

#[test]
fn the_latest_authentic_packet_of_a_batch_says_where_the_peer_is() {
    let mut world = World::pair(10);
    world.establish(0, 1);
    world.run_secs(1);
    world.forget();
    for _ in 0..3 {
        world.send(0, 1, b"x");
    }
    let mut datagrams: Vec<Vec<u8>> = world.captured.iter().map(|sent| sent.bytes.clone()).collect();
    world.clear_wire();
    let (now, unix, peer) = (world.now, world.unix, world.peer(1, 0));
    *datagrams[2].last_mut().unwrap() ^= 1;
    let index = u32::from_le_bytes(datagrams[0][4..8].try_into().unwrap());
    let device = &mut world.nodes[1].device;
    let ticket = device.begin_open(index, now).unwrap();
    let mut batch: Vec<Incoming<'_>> = datagrams
        .iter_mut()
        .zip(1..)
        .map(|(datagram, port)| Incoming::new(datagram, SocketAddr::new([203, 0, 113, 1].into(), port)))
        .collect();
    ticket.open::<Aead>(&mut batch);
    device.commit_open(ticket, &mut batch, now, unix);
    assert!(matches!(batch[0].verdict(), Verdict::Deliver(_)) && matches!(batch[1].verdict(), Verdict::Deliver(_)));
    assert_eq!(*batch[2].verdict(), Verdict::Drop(DropReason::NotAuthentic));
    assert_eq!(device.peer(peer, now).unwrap().endpoint.unwrap().port(), 2);
}

#[test]
fn a_batch_larger_than_the_aeads_is_sealed_and_opened_whole() {
    let mut world = World::pair(11);
    world.establish(0, 1);
    let (now, unix, peer) = (world.now, world.unix, world.peer(0, 1));
    let packet = ipv4(world.nodes[0].inner, world.nodes[1].inner, b"one of many");
    let mut buffers = vec![vec![0; packet.len() + Outgoing::OVERHEAD]; 50];
    for buffer in &mut buffers {
        buffer[16..16 + packet.len()].copy_from_slice(&packet);
    }
    let device = &mut world.nodes[0].device;
    let mut ticket = device.begin_seal(peer, 40, now).unwrap();
    let mut batch: Vec<Outgoing<'_>> = buffers.iter_mut().map(|buffer| Outgoing::new(buffer, packet.len())).collect();
    ticket.seal::<Aead>(&mut batch);
    assert!(batch[..40].iter().all(|packet| packet.datagram_len() > 0));
    assert!(batch[40..].iter().all(|packet| packet.datagram_len() == 0), "no counters were reserved for these");
    let mut datagrams: Vec<Vec<u8>> = batch[..40].iter().map(|packet| packet.datagram().to_vec()).collect();
    let outcome = SealOutcome::all_sent(&batch);
    assert_eq!((outcome.data, outcome.keepalives), (40, 0));
    device.commit_seal(ticket, outcome, now);

    let index = u32::from_le_bytes(datagrams[0][4..8].try_into().unwrap());
    let source = world.nodes[0].address;
    let device = &mut world.nodes[1].device;
    let ticket = device.begin_open(index, now).unwrap();
    let mut batch: Vec<Incoming<'_>> = datagrams.iter_mut().map(|datagram| Incoming::new(datagram, source)).collect();
    ticket.open::<Aead>(&mut batch);
    assert!(batch.iter_mut().all(|packet| *packet.verdict() != Verdict::Pending));
    device.commit_open(ticket, &mut batch, now, unix);
    assert!(batch.iter_mut().all(|incoming| incoming.packet().map(|inner| inner.to_vec()) == Some(packet.clone())));
}

#[test]
fn counters_of_a_dropped_ticket_are_lost_not_reused() {
    let mut world = World::pair(12);
    world.establish(0, 1);
    let (now, peer) = (world.now, world.peer(0, 1));
    drop(world.nodes[0].device.begin_seal(peer, 1_000, now).unwrap());
    world.send(0, 1, b"x");
    let sent = world.last_sent(0, MessageKind::Data);
    assert_eq!(u64::from_le_bytes(sent.bytes[8..16].try_into().unwrap()), 1_001);
}

#[test]
fn garbage_and_oversize_datagrams_are_dropped() {
    let mut world = World::pair(13);
    world.establish(0, 1);
    let source = world.nodes[0].address;
    for len in [0, 1, 3, 4, 15, 16, 31, 32, 63, 64, 91, 92, 147, 148, 149, 2_000, 65_535] {
        for kind in 0..=5u8 {
            let mut datagram = vec![0xff; len];
            if let Some(header) = datagram.first_chunk_mut() {
                *header = [kind, 0, 0, 0];
            }
            let mut buffer = datagram.clone();
            let node = &mut world.nodes[1];
            let received =
                node.device.receive::<RustCrypto>(&mut buffer, source, world.now, world.unix, &mut world.rng);
            assert!(matches!(received, Received::Drop(_)), "{len} bytes of type {kind}: {received:?}");
            assert_eq!(buffer, datagram, "nothing is written where nothing is answered");
        }
    }
}

#[test]
fn what_is_not_ip_goes_nowhere() {
    let mut world = World::pair(14);
    world.establish(0, 1);
    assert_eq!(world.send_packet(0, b"not a packet at all, sorry"), SendOutcome::Drop(DropReason::NotIp));
    let (now, peer) = (world.now, world.peer(0, 1));
    let mut buffer = vec![0x77; 100];
    let device = &mut world.nodes[0].device;
    let mut ticket = device.begin_seal(peer, 1, now).unwrap();
    let mut batch = [Outgoing::new(&mut buffer, 40)];
    ticket.seal::<Aead>(&mut batch);
    let datagram = batch[0].datagram().to_vec();
    let source = world.nodes[0].address;
    assert_eq!(world.receive(1, source, &datagram), Received::Drop(DropReason::NotIp));
}

#[test]
fn a_destination_without_a_peer_or_an_endpoint_is_said_so() {
    let mut world = World::pair(15);
    let nowhere = "10.99.0.1".parse().unwrap();
    let packet = ipv4(world.nodes[0].inner, nowhere, b"x");
    assert_eq!(world.send_packet(0, &packet), SendOutcome::NoRoute(nowhere));
    let (now, peer) = (world.now, world.peer(0, 1));
    world.nodes[0].device.set_endpoint(peer, None, now);
    assert_eq!(world.send(0, 1, b"x"), SendOutcome::NoEndpoint(peer));
}

#[test]
fn packets_staged_without_an_endpoint_go_out_when_there_is_one() {
    let mut world = World::pair(16);
    let (now, peer, endpoint) = (world.now, world.peer(0, 1), world.nodes[1].address);
    world.nodes[0].device.set_endpoint(peer, None, now);
    let packet = ipv4(world.nodes[0].inner, world.nodes[1].inner, b"patient");
    world.nodes[0].device.stage(peer, &packet, now).unwrap();
    world.run_secs(7);
    assert!(world.nodes[0].events_of(|event| *event == Event::NeedsEndpoint(peer)).len() >= 2);
    let now = world.now;
    world.nodes[0].device.set_endpoint(peer, Some(endpoint), now);
    world.run(Duration::from_millis(31));
    assert_eq!(world.nodes[1].payloads(), [b"patient"]);
}

#[test]
fn staged_packets_are_bounded_and_the_oldest_go_first() {
    let mut world = World::pair(17);
    world.nodes[0].device.set_max_staged(3);
    for number in 0..10u8 {
        world.send(0, 1, &[number]);
    }
    assert_eq!(world.nodes[0].device.staged_packets(world.peer(0, 1)), 3);
    assert_eq!(world.nodes[0].dropped(DropReason::StagedOverflow), 7);
    world.run_secs(1);
    assert_eq!(world.nodes[1].payloads(), [[7], [8], [9]]);
}

#[test]
fn a_packet_too_large_to_stage_is_counted_and_the_handshake_goes_on() {
    let mut world = World::pair(18);
    world.send(0, 1, b"small");
    assert_eq!(world.send(0, 1, &[0; 1_600]), SendOutcome::Drop(DropReason::BufferTooSmall));
    world.run_secs(1);
    assert_eq!(world.nodes[1].payloads(), [b"small"]);
}

#[test]
fn an_allowed_ip_that_another_peer_gets_moves() {
    let mut world = World::new(19);
    world.add_nodes(3);
    let (first, second) = (world.add_peer(0, 1, true), world.add_peer(0, 2, true));
    let prefix: IpPrefix = "10.50.0.0/16".parse().unwrap();
    let device = &mut world.nodes[0].device;
    device.add_allowed_ip(first, prefix).unwrap();
    device.add_allowed_ip(second, prefix).unwrap();
    assert_eq!(device.route("10.50.1.1".parse().unwrap()), Some(second));
    assert!(!device.allowed_ips(first).any(|of| of == prefix));
    assert!(!device.remove_allowed_ip(first, prefix), "it is not the first one's any more");
    assert_eq!(device.route("10.50.1.1".parse().unwrap()), Some(second));
    device.remove_peer(second);
    assert_eq!(device.route("10.50.1.1".parse().unwrap()), None);
}

#[test]
fn an_expired_peer_neither_sends_nor_is_sent_to() {
    let mut world = World::pair(20);
    world.establish(0, 1);
    let (peer, expiry) = (world.peer(1, 0), world.unix + Duration::from_secs(10));
    world.nodes[1].device.set_not_after(peer, Some(expiry));
    world.send(0, 1, b"in time");
    world.run_secs(9);
    assert_eq!(*world.nodes[1].payloads().last().unwrap(), b"in time");
    world.run_secs(2);
    world.forget();
    world.send(0, 1, b"too late");
    assert_eq!(world.send(1, 0, b"too late"), SendOutcome::Drop(DropReason::PeerExpired));
    assert_eq!(world.nodes[1].device.begin_seal(peer, 1, world.now).unwrap_err(), SealRefusal::PeerExpired);
    world.run_secs(100);
    assert!(world.nodes[1].inbox.is_empty());
    assert!(world.captured.iter().all(|sent| sent.from == world.nodes[0].address), "nothing is answered either");
    // Renewed, it works again.
    let renewed = world.unix + Duration::from_secs(1_000);
    world.nodes[1].device.set_not_after(peer, Some(renewed));
    world.send(0, 1, b"renewed");
    world.run_secs(6);
    assert_eq!(world.nodes[1].payloads(), [b"renewed"]);
}

#[test]
fn a_stale_handle_is_refused_everywhere() {
    let mut world = World::pair(21);
    world.establish(0, 1);
    let (peer, now) = (world.peer(0, 1), world.now);
    let key = world.nodes[1].public;
    let device = &mut world.nodes[0].device;
    assert!(device.remove_peer(peer) && !device.remove_peer(peer));
    let again = device.add_peer(&key).unwrap();
    assert_ne!(again, peer, "the slot is the same, the handle is not");
    assert!(device.peer(peer, now).is_none() && device.peer(again, now).is_some());
    assert_eq!(device.begin_seal(peer, 1, now).unwrap_err(), SealRefusal::UnknownPeer);
    assert_eq!(device.begin_seal(again, 1, now).unwrap_err(), SealRefusal::NoEndpoint);
    assert!(!device.set_endpoint(peer, None, now));
    assert!(!device.set_persistent_keepalive(peer, None, now));
    assert_eq!(device.add_allowed_ip(peer, "10.0.0.0/8".parse().unwrap()), Ok(false));
    assert_eq!(device.stage(peer, b"x", now), Err(DropReason::UnknownPeer));
    assert_eq!(device.initiate(peer, now), Err(DropReason::UnknownPeer));
}

#[test]
fn removing_a_peer_ends_its_sessions_and_drops_what_waits() {
    let mut world = World::pair(22);
    world.establish(0, 1);
    world.send(0, 1, b"under way");
    let under_way = world.last_sent(0, MessageKind::Data);
    world.clear_wire();
    let peer = world.peer(1, 0);
    world.nodes[1].device.remove_peer(peer);
    assert_eq!(world.receive(1, under_way.from, &under_way.bytes), Received::Drop(DropReason::UnknownIndex));
    assert_eq!(world.nodes[1].device.poll_timeout(), None, "no timer is left behind");
    assert_eq!(world.nodes[1].device.peer_counts(), (0, 0));
}

#[test]
fn counters_of_bytes_are_exact() {
    let mut world = World::pair(23);
    world.establish(0, 1);
    world.send(1, 0, &[0; 100]);
    world.run_secs(60);
    for (node, other) in [(0, 1), (1, 0)] {
        let sent: usize = world
            .captured
            .iter()
            .filter(|datagram| datagram.from == world.nodes[node].address)
            .map(|datagram| datagram.bytes.len())
            .sum();
        let sender = world.nodes[node].device.peer(world.peer(node, other), world.now).unwrap();
        let receiver = world.nodes[other].device.peer(world.peer(other, node), world.now).unwrap();
        assert_eq!((sender.sent_bytes, receiver.received_bytes), (sent as u64, sent as u64));
    }
}
