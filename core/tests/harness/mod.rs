//! Nodes on a virtual clock: devices joined by a wire with delay, loss, duplication, reordering and an MTU, all from
//! one seed. Everything that goes over the wire is captured.

#![allow(dead_code, unreachable_pub, reason = "each test target uses a part of the harness")]

pub mod pcap;
pub mod storage;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use weft_core::{
    crypto::{Crypto, RustCrypto},
    ip::IpPrefix,
    keys::{NodeKey, NodeSecret},
    time::{Instant, UnixTime},
    wireguard::{Device, DropReason, Event, MessageKind, Outgoing, PeerId, PeerState, Received, SendOutcome, Transmit},
};

pub use storage::{Limits, TestStorage};

/// When every world begins, on both clocks.
pub const START: Instant = Instant::from_secs(1_000);
pub const START_UNIX: u64 = 1_700_000_000;
/// More steps than this at one instant are a spin.
const MAX_STEPS_AT_ONCE: usize = 20_000;

/// What the wire does to datagrams.
#[derive(Clone, Debug)]
pub struct Wire {
    pub delay: Duration,
    /// Each datagram is late by up to so much more, so that they overtake each other.
    pub jitter: Duration,
    /// Out of a hundred.
    pub loss: u32,
    pub duplication: u32,
    /// Larger datagrams vanish.
    pub mtu: usize,
}

impl Default for Wire {
    fn default() -> Self {
        Self { delay: Duration::from_millis(10), jitter: Duration::ZERO, loss: 0, duplication: 0, mtu: 65_535 }
    }
}

/// A datagram that a node sent, whatever became of it.
#[derive(Clone, Debug)]
pub struct Captured {
    pub at: Instant,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Captured {
    pub fn kind(&self) -> MessageKind {
        MessageKind::of(&self.bytes).expect("a device sends only WireGuard messages")
    }

    pub fn is_keepalive(&self) -> bool {
        self.kind() == MessageKind::Data && self.bytes.len() == 32
    }

    /// Seconds since the world began.
    pub fn secs(&self) -> f64 {
        self.at.saturating_since(START).as_secs_f64()
    }
}

/// A device with what it received.
pub struct Node {
    pub device: Device<TestStorage>,
    pub address: SocketAddr,
    pub public: NodeKey,
    pub inner: IpAddr,
    /// Inner packets, and who sent them.
    pub inbox: Vec<(PeerId, Vec<u8>)>,
    pub events: Vec<(Instant, Event)>,
    pub outcomes: Vec<Received>,
}

impl Node {
    pub fn payloads(&self) -> Vec<&[u8]> {
        self.inbox.iter().map(|(_, packet)| &packet[20..]).collect()
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.device.counters().get(reason)
    }

    pub fn events_of(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Instant> {
        self.events.iter().filter(|(_, event)| wanted(event)).map(|(at, _)| *at).collect()
    }
}

/// The nodes, the wire and the clock.
pub struct World {
    pub now: Instant,
    pub unix: UnixTime,
    pub nodes: Vec<Node>,
    pub wire: Wire,
    pub captured: Vec<Captured>,
    pub rng: StdRng,
    /// Datagrams to and from these addresses vanish.
    pub unplugged: Vec<SocketAddr>,
    flying: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    flights: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: START,
            unix: UnixTime::new(START_UNIX, 0),
            nodes: Vec::new(),
            wire: Wire::default(),
            captured: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            unplugged: Vec::new(),
            flying: BTreeMap::new(),
            flights: 0,
        }
    }

    /// Two nodes that know each other and each other's endpoint.
    pub fn pair(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.add_node();
        world.add_node();
        world.introduce(0, 1);
        world
    }

    pub fn add_node(&mut self) -> usize {
        self.add_node_with(Limits::default())
    }

    pub fn add_nodes(&mut self, count: usize) {
        for _ in 0..count {
            self.add_node();
        }
    }

    pub fn add_node_with(&mut self, limits: Limits) -> usize {
        let number = self.nodes.len();
        let [high, low] = (number as u16 + 1).to_be_bytes();
        let secret = NodeSecret::generate(&mut self.rng);
        let mut device = Device::new(storage::tables(limits), &mut self.rng);
        let public = secret.public::<<RustCrypto as Crypto>::Dh>();
        device.set_private_key::<RustCrypto>(Some(secret), self.now);
        self.nodes.push(Node {
            device,
            address: SocketAddr::new(Ipv4Addr::new(192, 0, high, low).into(), 51_820),
            public,
            inner: Ipv4Addr::new(10, 0, high, low).into(),
            inbox: Vec::new(),
            events: Vec::new(),
            outcomes: Vec::new(),
        });
        number
    }

    /// Makes two nodes each other's peers, with endpoints.
    pub fn introduce(&mut self, a: usize, b: usize) {
        self.add_peer(a, b, true);
        self.add_peer(b, a, true);
    }

    /// Makes `other` a peer of `node`.
    pub fn add_peer(&mut self, node: usize, other: usize, endpoint: bool) -> PeerId {
        let (key, inner, address) = (self.nodes[other].public, self.nodes[other].inner, self.nodes[other].address);
        let device = &mut self.nodes[node].device;
        let peer = device.add_peer(&key).unwrap();
        assert!(device.add_allowed_ip(peer, IpPrefix::host(inner)).unwrap());
        if endpoint {
            device.set_endpoint(peer, Some(address), self.now);
        }
        peer
    }

    /// The handle that `node` has of `other`.
    pub fn peer(&self, node: usize, other: usize) -> PeerId {
        self.nodes[node].device.peer_by_key(&self.nodes[other].public).unwrap()
    }

    pub fn state(&self, node: usize, other: usize) -> PeerState {
        self.nodes[node].device.peer(self.peer(node, other), self.now).unwrap().state
    }

    /// `node` sends an inner packet with this payload to `to`.
    pub fn send(&mut self, node: usize, to: usize, payload: &[u8]) -> SendOutcome {
        let packet = ipv4(self.nodes[node].inner, self.nodes[to].inner, payload);
        self.send_packet(node, &packet)
    }

    pub fn send_packet(&mut self, node: usize, packet: &[u8]) -> SendOutcome {
        let mut buffer = vec![0; packet.len() + Outgoing::OVERHEAD];
        buffer[Outgoing::HEAD_ROOM..Outgoing::HEAD_ROOM + packet.len()].copy_from_slice(packet);
        let outcome = self.nodes[node].device.send::<RustCrypto>(&mut buffer, packet.len(), self.now, self.unix);
        if let SendOutcome::Transmit(transmit) = outcome {
            self.transmit(node, transmit, &buffer);
        }
        self.poll(node);
        outcome
    }

    /// Hands a datagram to a node, as if it came from `source`.
    pub fn receive(&mut self, node: usize, source: SocketAddr, datagram: &[u8]) -> Received {
        let mut buffer = datagram.to_vec();
        let receiver = &mut self.nodes[node];
        let received = receiver.device.receive::<RustCrypto>(&mut buffer, source, self.now, self.unix, &mut self.rng);
        receiver.outcomes.push(received.clone());
        match &received {
            Received::Packet { peer, range } => receiver.inbox.push((*peer, buffer[range.clone()].to_vec())),
            Received::Transmit(transmit) => self.transmit(node, *transmit, &buffer),
            Received::Taken(_) | Received::Stranger(_) | Received::Drop(_) => {}
        }
        if matches!(received, Received::Stranger(_) | Received::Drop(_)) {
            assert_eq!(buffer[..16], datagram[..16], "a datagram that is dropped is not answered in its place");
        }
        self.poll(node);
        received
    }

    /// Carries out all that is due at a node.
    pub fn poll(&mut self, node: usize) {
        let mut buffer = vec![0; 2_000];
        for step in 0.. {
            assert!(step < MAX_STEPS_AT_ONCE, "the device spins");
            let device = &mut self.nodes[node].device;
            match device.poll_transmit::<RustCrypto>(self.now, self.unix, &mut self.rng, &mut buffer) {
                Some(transmit) => self.transmit(node, transmit, &buffer),
                None => break,
            }
        }
        let node = &mut self.nodes[node];
        assert!(
            node.device.poll_timeout().is_none_or(|due| due > self.now),
            "handled at {:?} and due again at {:?}",
            self.now,
            node.device.poll_timeout()
        );
        while let Some(event) = node.device.poll_event() {
            node.events.push((self.now, event));
        }
    }

    fn transmit(&mut self, node: usize, transmit: Transmit, buffer: &[u8]) {
        let from = self.nodes[node].address;
        self.put_on_wire(from, transmit.endpoint, buffer[..transmit.len].to_vec());
    }

    /// Sends a datagram over the wire, with all that can happen to it there.
    pub fn put_on_wire(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.captured.push(Captured { at: self.now, from, to, bytes: bytes.clone() });
        if bytes.len() > self.wire.mtu || self.unplugged.contains(&from) || self.unplugged.contains(&to) {
            return;
        }
        if self.rng.random_range(0..100) < self.wire.loss {
            return;
        }
        let copies = if self.rng.random_range(0..100) < self.wire.duplication { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.rng.random_range(0..=self.wire.jitter.as_micros() as u64);
            let at = self.now + self.wire.delay + Duration::from_micros(jitter);
            self.flights += 1;
            self.flying.insert((at, self.flights), (from, to, bytes.clone()));
        }
    }

    /// Throws away what is on the wire.
    pub fn clear_wire(&mut self) {
        self.flying.clear();
    }

    /// When something happens next.
    pub fn next_event(&self) -> Option<Instant> {
        let timers = self.nodes.iter().filter_map(|node| node.device.poll_timeout());
        timers.chain(self.flying.keys().next().map(|(at, _)| *at)).min()
    }

    /// Runs for a time.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next_event().filter(|next| *next <= end) {
            self.step(next);
        }
        self.advance_to(end);
    }

    pub fn run_secs(&mut self, secs: u64) {
        self.run(Duration::from_secs(secs));
    }

    /// Runs until `done` or for `secs` at most, and fails in the latter case.
    pub fn run_until(&mut self, secs: u64, done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(secs);
        while !done(self) {
            let next = self.next_event().filter(|next| *next <= end);
            self.step(next.unwrap_or_else(|| panic!("it did not happen within {secs} s")));
        }
    }

    fn step(&mut self, at: Instant) {
        self.advance_to(at.max(self.now));
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (from, to, bytes) = entry.remove();
            if let Some(node) = self.nodes.iter().position(|node| node.address == to) {
                self.receive(node, from, &bytes);
            }
        }
        for node in 0..self.nodes.len() {
            self.poll(node);
        }
    }

    /// Moves both clocks without running anything.
    pub fn advance_to(&mut self, at: Instant) {
        let passed = at.saturating_since(self.now);
        self.now = at;
        self.unix = self.unix + passed;
    }

    /// What a node sent, by kind.
    pub fn sent(&self, node: usize, kind: MessageKind) -> Vec<&Captured> {
        let from = self.nodes[node].address;
        self.captured.iter().filter(|datagram| datagram.from == from && datagram.kind() == kind).collect()
    }

    pub fn keepalives(&self, node: usize) -> Vec<&Captured> {
        self.sent(node, MessageKind::Data).into_iter().filter(|datagram| datagram.is_keepalive()).collect()
    }

    pub fn last_sent(&self, node: usize, kind: MessageKind) -> Captured {
        (*self.sent(node, kind).last().expect("such a message was sent")).clone()
    }

    /// A session between two nodes, initiated and confirmed by the first; the wire is empty afterwards.
    pub fn establish(&mut self, a: usize, b: usize) {
        self.send(a, b, b"hello");
        self.run(Duration::from_millis(200));
        assert_eq!(self.nodes[b].inbox.last().map(|(_, packet)| &packet[20..]), Some(&b"hello"[..]));
        assert_eq!(self.state(a, b), PeerState::Established);
        assert_eq!(self.state(b, a), PeerState::Established);
    }

    /// Forgets what was captured, received and noted so far.
    pub fn forget(&mut self) {
        self.captured.clear();
        for node in &mut self.nodes {
            node.inbox.clear();
            node.events.clear();
            node.outcomes.clear();
        }
    }

    /// The capture as a pcap file.
    pub fn pcap(&self) -> Vec<u8> {
        pcap::write(&self.captured)
    }
}

impl Drop for World {
    /// With `WEFT_PCAP` set to a directory, the capture of a test that fails is left there.
    fn drop(&mut self) {
        if let Some(directory) = std::env::var_os("WEFT_PCAP").filter(|_| std::thread::panicking()) {
            let name = std::thread::current().name().unwrap_or("test").replace("::", "-");
            let _ = std::fs::write(std::path::Path::new(&directory).join(name + ".pcap"), self.pcap());
        }
    }
}

/// An IPv4 packet with a payload that nobody looks into.
pub fn ipv4(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { panic!("IPv4 addresses") };
    let mut packet = vec![0x45, 0];
    packet.extend((payload.len() as u16 + 20).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 253, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}
