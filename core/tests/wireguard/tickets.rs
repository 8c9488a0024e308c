//! Tickets that come back late, or never, or from another thread.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weft_core::crypto::{Crypto, RustCrypto};
use weft_core::keys::NodeSecret;
use weft_core::wireguard::{
    DropReason, HandshakeBegin, HandshakeTicket, Incoming, MessageKind, OpenTicket, Outgoing, SealOutcome, SealTicket,
    TicketProgress, Verdict, Work,
};

use crate::harness::{World, ipv4};

type Aead = <RustCrypto as Crypto>::Aead;

#[test]
fn tickets_are_owned_and_may_go_to_another_thread() {
    fn owned_and_send<T: Send + 'static>() {}
    owned_and_send::<SealTicket>();
    owned_and_send::<OpenTicket>();
    owned_and_send::<HandshakeTicket>();
}

#[test]
fn nothing_is_delivered_for_a_peer_removed_while_its_packets_were_opened() {
    let mut world = World::pair(1);
    world.establish(0, 1);
    world.send(0, 1, b"under way");
    let mut datagram = world.last_sent(0, MessageKind::Data).bytes;
    let (now, unix, source, peer) = (world.now, world.unix, world.nodes[0].address, world.peer(1, 0));
    let key = world.nodes[0].public;
    let index = u32::from_le_bytes(datagram[4..8].try_into().unwrap());
    let device = &mut world.nodes[1].device;
    let ticket = device.begin_open(index, now).unwrap();
    let mut batch = [Incoming::new(&mut datagram, source)];
    ticket.open::<Aead>(&mut batch);
    device.remove_peer(peer);
    // Even where the same key has come back into the same slot.
    device.add_peer(&key).unwrap();
    device.commit_open(ticket, &mut batch, now, unix);
    assert_eq!(*batch[0].verdict(), Verdict::Drop(DropReason::TicketStale));
    assert!(batch[0].packet().is_none());
}

#[test]
fn a_packet_opened_with_one_ticket_cannot_be_committed_with_anothers() {
    let mut world = World::new(10);
    world.add_nodes(3);
    for other in [1, 2] {
        world.introduce(0, other);
        world.establish(other, 0);
    }
    world.send(1, 0, b"from the first");
    let mut datagram = world.last_sent(1, MessageKind::Data).bytes;
    let index = |datagram: &[u8]| u32::from_le_bytes(datagram[4..8].try_into().unwrap());
    let others = index(&world.last_sent(2, MessageKind::Data).bytes);
    let (now, unix, source) = (world.now, world.unix, world.nodes[1].address);
    let device = &mut world.nodes[0].device;
    let ticket = device.begin_open(index(&datagram), now).unwrap();
    let wrong = device.begin_open(others, now).unwrap();
    let mut batch = [Incoming::new(&mut datagram, source)];
    ticket.open::<Aead>(&mut batch);
    device.commit_open(wrong, &mut batch, now, unix);
    assert_eq!(*batch[0].verdict(), Verdict::Drop(DropReason::TicketStale));
}

#[test]
fn a_seal_ticket_of_a_removed_peer_changes_nothing() {
    let mut world = World::pair(2);
    world.establish(0, 1);
    let (now, peer) = (world.now, world.peer(0, 1));
    let device = &mut world.nodes[0].device;
    let ticket = device.begin_seal(peer, 1, now).unwrap();
    device.remove_peer(peer);
    device.commit_seal(ticket, SealOutcome { data: 1, keepalives: 0, bytes: 100 }, now);
    assert_eq!(device.counters().get(DropReason::TicketStale), 1);
    assert_eq!(device.poll_timeout(), None);
}

#[test]
fn packets_opened_before_two_rotations_are_dropped() {
    let mut world = World::pair(3);
    world.establish(0, 1);
    world.send(0, 1, b"slow");
    let mut datagram = world.last_sent(0, MessageKind::Data).bytes;
    let source = world.nodes[0].address;
    world.clear_wire();
    let index = u32::from_le_bytes(datagram[4..8].try_into().unwrap());
    let ticket = world.nodes[1].device.begin_open(index, world.now).unwrap();
    let mut batch = [Incoming::new(&mut datagram, source)];
    ticket.open::<Aead>(&mut batch);
    let peer = world.peer(0, 1);
    for _ in 0..2 {
        world.run_secs(6);
        world.nodes[0].device.initiate(peer, world.now).unwrap();
        world.run_secs(1);
    }
    world.nodes[1].device.commit_open(ticket, &mut batch, world.now, world.unix);
    assert_eq!(*batch[0].verdict(), Verdict::Drop(DropReason::TicketStale));
}

/// The handshake ticket that is due at a node.
fn due(world: &mut World, node: usize) -> HandshakeTicket {
    match world.nodes[node].device.poll(world.now, world.unix, &mut world.rng) {
        Some(Work::Handshake(ticket)) => ticket,
        other => panic!("{other:?}"),
    }
}

fn finish(world: &mut World, node: usize, ticket: &mut HandshakeTicket) -> usize {
    for steps in 0.. {
        match ticket.step::<RustCrypto>() {
            TicketProgress::Again => {}
            TicketProgress::Identify(_) => {
                world.nodes[node].device.identify_initiator(ticket, world.now).unwrap();
            }
            TicketProgress::Done => return steps,
        }
    }
    unreachable!()
}

#[test]
fn a_handshake_ticket_that_never_comes_back_costs_one_try() {
    let mut world = World::pair(4);
    let peer = world.peer(0, 1);
    let packet = ipv4(world.nodes[0].inner, world.nodes[1].inner, b"hello");
    world.nodes[0].device.stage(peer, &packet, world.now).unwrap();
    drop(due(&mut world, 0));
    assert!(world.nodes[0].device.poll_timeout().unwrap() >= world.now + Duration::from_secs(5));
    world.run_secs(6);
    assert_eq!(world.nodes[1].payloads(), [b"hello"]);
}

#[test]
fn a_handshake_ticket_of_an_earlier_try_or_key_or_peer_is_refused() {
    let mut world = World::pair(5);
    let peer = world.peer(0, 1);
    let (now, unix) = (world.now, world.unix);
    world.nodes[0].device.initiate(peer, now).unwrap();
    let mut first = due(&mut world, 0);
    finish(&mut world, 0, &mut first);
    world.advance_to(now + Duration::from_secs(6));
    let mut second = due(&mut world, 0);
    finish(&mut world, 0, &mut second);
    let mut out = [0; 148];
    let device = &mut world.nodes[0].device;
    assert_eq!(device.commit_handshake(first, now, unix, &mut world.rng, &mut out), Err(DropReason::TicketStale));
    assert_eq!(out, [0; 148], "nothing was written");
    let mut small = [0; 147];
    let sent = device.commit_handshake(second, now, unix, &mut world.rng, &mut small);
    assert_eq!(sent, Err(DropReason::BufferTooSmall));

    world.advance_to(now + Duration::from_secs(12));
    let mut third = due(&mut world, 0);
    finish(&mut world, 0, &mut third);
    let device = &mut world.nodes[0].device;
    device.set_private_key::<RustCrypto>(Some(weft_core::keys::NodeSecret::from_bytes([3; 32])), now);
    assert_eq!(device.commit_handshake(third, now, unix, &mut world.rng, &mut out), Err(DropReason::TicketStale));

    world.nodes[0].device.initiate(peer, world.now).unwrap();
    let mut fourth = due(&mut world, 0);
    finish(&mut world, 0, &mut fourth);
    let device = &mut world.nodes[0].device;
    device.remove_peer(peer);
    assert_eq!(device.commit_handshake(fourth, now, unix, &mut world.rng, &mut out), Err(DropReason::TicketStale));
}

#[test]
fn a_response_read_twice_at_once_begins_one_session() {
    let mut world = World::pair(6);
    world.send(0, 1, b"hello");
    world.run(Duration::from_millis(15));
    let response = world.last_sent(1, MessageKind::Response);
    world.clear_wire();
    let (now, unix) = (world.now, world.unix);
    let mut tickets = Vec::new();
    for _ in 0..2 {
        let mut datagram = response.bytes.clone();
        let device = &mut world.nodes[0].device;
        let begun =
            device.begin_handshake_receive::<RustCrypto>(&mut datagram, response.from, now, unix, &mut world.rng);
        let HandshakeBegin::Ticket(mut ticket) = begun else { panic!("{begun:?}") };
        finish(&mut world, 0, &mut ticket);
        tickets.push(ticket);
    }
    let results = tickets
        .into_iter()
        .map(|ticket| world.nodes[0].device.commit_handshake(ticket, now, unix, &mut world.rng, &mut []))
        .collect::<Vec<_>>();
    assert_eq!(results, [Ok(None), Err(DropReason::TicketStale)]);
    world.poll(0);
    world.run_secs(1);
    assert_eq!(world.nodes[1].payloads(), [b"hello"]);
}

#[test]
fn an_initiation_read_twice_at_once_is_answered_once() {
    let mut world = World::pair(7);
    world.send(0, 1, b"hello");
    let initiation = world.last_sent(0, MessageKind::Initiation);
    world.clear_wire();
    let (now, unix) = (world.now, world.unix);
    let mut tickets = Vec::new();
    for _ in 0..2 {
        let mut datagram = initiation.bytes.clone();
        let device = &mut world.nodes[1].device;
        let begun =
            device.begin_handshake_receive::<RustCrypto>(&mut datagram, initiation.from, now, unix, &mut world.rng);
        let HandshakeBegin::Ticket(mut ticket) = begun else { panic!("{begun:?}") };
        let steps = finish(&mut world, 1, &mut ticket);
        assert!(steps <= 8, "{steps} steps of at most one Diffie-Hellman each");
        tickets.push(ticket);
    }
    let mut out = [0; 92];
    let results = tickets
        .into_iter()
        .map(|ticket| world.nodes[1].device.commit_handshake(ticket, now, unix, &mut world.rng, &mut out).is_ok())
        .collect::<Vec<_>>();
    assert_eq!(results, [true, false]);
}

#[test]
fn an_unknown_initiator_can_be_added_while_its_initiation_waits() {
    let mut world = World::new(8);
    world.add_nodes(2);
    world.add_peer(0, 1, true);
    world.send(0, 1, b"let me in");
    let initiation = world.last_sent(0, MessageKind::Initiation);
    world.clear_wire();
    let (now, unix) = (world.now, world.unix);
    let mut datagram = initiation.bytes.clone();
    let begun = world.nodes[1].device.begin_handshake_receive::<RustCrypto>(
        &mut datagram,
        initiation.from,
        now,
        unix,
        &mut world.rng,
    );
    let HandshakeBegin::Ticket(mut ticket) = begun else { panic!("{begun:?}") };
    assert_eq!(ticket.step::<RustCrypto>(), TicketProgress::Identify(world.nodes[0].public));
    assert_eq!(world.nodes[1].device.identify_initiator(&mut ticket, now), Err(DropReason::UnknownPeer));
    let peer = world.add_peer(1, 0, false);
    assert_eq!(world.nodes[1].device.identify_initiator(&mut ticket, now), Ok(peer));
    finish(&mut world, 1, &mut ticket);
    let mut out = [0; 92];
    let sent = world.nodes[1].device.commit_handshake(ticket, now, unix, &mut world.rng, &mut out).unwrap().unwrap();
    assert_eq!(sent.endpoint, world.nodes[0].address);
    world.put_on_wire(world.nodes[1].address, sent.endpoint, out.to_vec());
    world.run_secs(1);
    assert_eq!(world.nodes[1].payloads(), [b"let me in"]);
}

/// What the two threads and the one that owns the devices share.
struct Shared {
    world: World,
    /// Every counter that was sealed with, by the session's receiver index.
    used: BTreeSet<(u32, u64)>,
    sealed: usize,
    delivered: usize,
    dropped: usize,
}

/// Seals a batch for the other node, and opens it there, taking the devices only for the begins and the commits.
fn seal_and_open(shared: &Mutex<Shared>, round: usize) {
    const PACKETS: usize = 5;
    let (mut ticket, packet, source) = {
        let mut shared = shared.lock().unwrap();
        let world = &mut shared.world;
        let Some(peer) = world.nodes[0].device.peer_by_key(&world.nodes[1].public) else { return };
        let packet = ipv4(world.nodes[0].inner, world.nodes[1].inner, &round.to_be_bytes());
        match world.nodes[0].device.begin_seal(peer, PACKETS, world.now) {
            Ok(ticket) => (ticket, packet, world.nodes[0].address),
            Err(_) => {
                let now = world.now;
                let _ = world.nodes[0].device.stage(peer, &packet, now);
                return;
            }
        }
    };
    let mut buffers = vec![vec![0; packet.len() + Outgoing::OVERHEAD]; PACKETS];
    for buffer in &mut buffers {
        buffer[16..16 + packet.len()].copy_from_slice(&packet);
    }
    let mut outgoing: Vec<Outgoing<'_>> =
        buffers.iter_mut().map(|buffer| Outgoing::new(buffer, packet.len())).collect();
    // Some tickets seal less than they reserved, and some never come back.
    outgoing.truncate(1 + round % PACKETS);
    ticket.seal::<Aead>(&mut outgoing);
    let mut datagrams: Vec<Vec<u8>> = outgoing.iter().map(|packet| packet.datagram().to_vec()).collect();
    let outcome = SealOutcome::all_sent(&outgoing);

    let index = u32::from_le_bytes(datagrams[0][4..8].try_into().unwrap());
    let open = {
        let mut shared = shared.lock().unwrap();
        for datagram in &datagrams {
            let counter = u64::from_le_bytes(datagram[8..16].try_into().unwrap());
            assert!(shared.used.insert((index, counter)), "counter {counter} of session {index} was used twice");
        }
        shared.sealed += datagrams.len();
        let now = shared.world.now;
        if !round.is_multiple_of(7) {
            shared.world.nodes[0].device.commit_seal(ticket, outcome, now);
        }
        shared.world.nodes[1].device.begin_open(index, now)
    };
    let Ok(open) = open else { return };
    let mut incoming: Vec<Incoming<'_>> =
        datagrams.iter_mut().map(|datagram| Incoming::new(datagram, source)).collect();
    open.open::<Aead>(&mut incoming);
    std::thread::yield_now();

    let mut shared = shared.lock().unwrap();
    let (now, unix, peer) = (shared.world.now, shared.world.unix, open.peer());
    let device = &mut shared.world.nodes[1].device;
    let still_there = device.peer(peer, now).is_some();
    device.commit_open(open, &mut incoming, now, unix);
    let delivered = incoming.iter_mut().filter_map(Incoming::packet).count();
    assert!(still_there || delivered == 0, "delivered for a peer that was removed");
    shared.delivered += delivered;
    shared.dropped += incoming.len() - delivered;
}

/// One thing that happens to the devices while tickets are out.
fn change(world: &mut World, step: usize) {
    let now = world.now;
    match step % 10 {
        // The peer goes and comes back, on either side.
        3 => {
            let peer = world.peer(1, 0);
            assert!(world.nodes[1].device.remove_peer(peer));
        }
        4 => {
            world.add_peer(1, 0, true);
        }
        7 => {
            let peer = world.peer(0, 1);
            assert!(world.nodes[0].device.remove_peer(peer));
        }
        8 => {
            world.add_peer(0, 1, true);
        }
        // The sender gets a new key, which the receiver learns.
        9 => {
            let secret = NodeSecret::generate(&mut world.rng);
            world.nodes[0].public = secret.public::<<RustCrypto as Crypto>::Dh>();
            world.nodes[0].device.set_private_key::<RustCrypto>(Some(secret), now);
            world.add_peer(1, 0, true);
        }
        // Sessions rotate, asked for by either side.
        _ => {
            let (node, other) = (step % 2, 1 - step % 2);
            let peer = world.peer(node, other);
            world.nodes[node].device.initiate(peer, now).unwrap();
            world.run_secs(5);
        }
    }
    world.run_secs(1);
}

#[test]
fn two_threads_seal_and_open_while_the_device_rotates_rekeys_and_removes_the_peer() {
    const CHANGES: usize = 300;
    let mut world = World::pair(9);
    world.establish(0, 1);
    let shared = Mutex::new(Shared { world, used: BTreeSet::new(), sealed: 0, delivered: 0, dropped: 0 });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (shared, over) = (&shared, &over);
            scope.spawn(move || {
                for round in thread.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    seal_and_open(shared, round);
                }
            });
        }
        for step in 0..CHANGES {
            let before = shared.lock().unwrap().sealed;
            change(&mut shared.lock().unwrap().world, step);
            // The next change comes when the threads have sealed something, or cannot.
            for _ in 0..50 {
                std::thread::yield_now();
                let mut shared = shared.lock().unwrap();
                if shared.sealed > before {
                    break;
                }
                shared.world.run(Duration::from_millis(100));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let shared = shared.into_inner().unwrap();
    assert!(shared.delivered > CHANGES, "{} delivered of {}", shared.delivered, shared.sealed);
    let sessions: BTreeSet<u32> = shared.used.iter().map(|(index, _)| *index).collect();
    assert!(sessions.len() > CHANGES / 10, "packets went through {} sessions", sessions.len());
}
