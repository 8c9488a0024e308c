//! Nodes, a network between them and a control server, on one virtual clock.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use rand_core::Rng as _;
use weft_core::{
    control::{JoinKey, MAX_FRAME, MAX_RECORD, record::Capacity},
    crypto::RustCrypto,
    keys::NodeKey,
    node::{
        ContactSlot, IdEntry, Identity, MAX_IDENTITY, MAX_RECENT_LEN, Node, NodeConfig, NodeEvent, NodeStorage,
        NodeTables, PeerSlot, Persist,
    },
    time::{Instant, UnixTime},
    wireguard::{
        Outgoing, Received, SendOutcome, Transmit, TransmitKind,
        storage::{Borrowed, InPlace, Table},
    },
};

use crate::{
    crowd::{self, Crowd, Datagrams},
    rng::TestRng,
    server::Server,
};

pub(crate) struct TestStorage;

impl NodeStorage for TestStorage {
    type Device = Borrowed<'static, 8, 256>;
    type Peers = Table<'static, PeerSlot>;
    type Ids = Table<'static, IdEntry>;
    type Contacts = Table<'static, ContactSlot>;
}

/// Tables for so many peers, of which so many may have sessions.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    Two,
    Sixteen,
    Chip,
    TenThousand,
}

/// Empty tables.
pub(crate) fn tables(size: Size) -> NodeTables<TestStorage> {
    fn table<T: Default, const N: usize>() -> Table<'static, T> {
        let table: Box<InPlace<T, N>> = Box::new(const { InPlace::EMPTY });
        Box::leak(table).table()
    }
    fn node<const KNOWN: usize, const ACTIVE: usize, const NODES: usize, const IDS: usize, const INDICES: usize>()
    -> NodeTables<TestStorage> {
        NodeTables {
            device: weft_core::wireguard::storage::Tables {
                known: table::<_, KNOWN>(),
                active: table::<_, ACTIVE>(),
                allowed_ips: table::<_, NODES>(),
                indices: table::<_, INDICES>(),
                staged: table::<_, 8>(),
                sources: table::<_, 8>(),
            },
            peers: table::<_, KNOWN>(),
            ids: table::<_, IDS>(),
            contacts: table::<_, ACTIVE>(),
        }
    }
    match size {
        // And one for a newcomer.
        Size::Two => node::<3, 3, 16, 6, 16>(),
        Size::Sixteen => node::<16, 4, 64, 24, 16>(),
        Size::Chip => node::<16, 16, 64, 32, 64>(),
        Size::TenThousand => node::<10_000, 4, 40_000, 15_000, 16>(),
    }
}

/// What an agent would have on disk.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    identity: Option<Vec<u8>>,
    netmap: Vec<Vec<u8>>,
    recent: Option<Vec<u8>>,
    pub(crate) full: bool,
    pub(crate) identity_writes: usize,
    pub(crate) netmap_writes: usize,
    pub(crate) recent_writes: usize,
}

impl Disk {
    pub(crate) fn identity(&self) -> Identity {
        Identity::decode(self.identity.as_ref().unwrap()).unwrap()
    }

    pub(crate) fn set_identity(&mut self, identity: &Identity) {
        let mut out = [0; MAX_IDENTITY];
        let len = identity.encode(&mut out).unwrap();
        self.identity = Some(out[..len].to_vec());
    }
}

/// A node and what its agent is.
pub(crate) struct Host {
    pub(crate) node: Node<TestStorage>,
    config: NodeConfig,
    size: Size,
    pub(crate) address: SocketAddr,
    connection: Option<usize>,
    pub(crate) disk: Disk,
    pub(crate) events: Vec<NodeEvent>,
    /// Texts of the inner packets that came in.
    pub(crate) inbox: Vec<String>,
    /// Where initiations went.
    pub(crate) initiations: Vec<(Instant, SocketAddr)>,
    pub(crate) running: bool,
    /// How far this machine's own clock stands behind the true time, in seconds.
    pub(crate) clock_behind: u64,
    rng: TestRng,
}

struct Flying {
    at: Instant,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) server: Server,
    pub(crate) hosts: BTreeMap<&'static str, Host>,
    flying: Vec<Flying>,
    pub(crate) crowd: Crowd,
    /// So many of a hundred datagrams are lost.
    pub(crate) loss: u32,
    chance: TestRng,
    /// When each connection to the server was begun.
    pub(crate) connects: Vec<(Instant, &'static str)>,
    seed: u64,
}

const START: UnixTime = UnixTime::new(1_800_000_000, 0);
const LATENCY: Duration = Duration::from_millis(5);

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::from_secs(10),
            server: Server::new(START),
            hosts: BTreeMap::new(),
            flying: Vec::new(),
            crowd: Crowd::new(),
            loss: 0,
            chance: TestRng::new(99),
            connects: Vec::new(),
            seed: 1,
        }
    }

    /// A world with these nodes, joined and at rest.
    pub(crate) fn joined(names: &[&'static str]) -> Self {
        let mut world = Self::new();
        for name in names {
            world.add(name, false);
            world.join(name);
        }
        world.run(Duration::from_secs(3));
        world
    }

    pub(crate) fn wall(&self) -> UnixTime {
        START + self.now.saturating_since(Instant::from_secs(10))
    }

    fn wall_of(&self, host: &Host) -> UnixTime {
        let wall = self.wall();
        UnixTime::new(wall.secs().saturating_sub(host.clock_behind), wall.subsec_nanos())
    }

    pub(crate) fn add(&mut self, name: &'static str, small: bool) {
        self.add_sized(name, if small { Size::Two } else { Size::Sixteen });
    }

    pub(crate) fn add_sized(&mut self, name: &'static str, size: Size) {
        let peers = match size {
            Size::Two => Some(2),
            Size::Chip => Some(16),
            Size::Sixteen | Size::TenThousand => None,
        };
        let config = NodeConfig {
            hostname: name.try_into().unwrap(),
            os: "linux",
            agent: "0.1.0",
            capacity: peers.map(|peers| Capacity { peers: Some(peers), routes: None }),
        };
        self.seed += 1;
        let mut rng = TestRng::new(self.seed * 0x1_0001);
        let address = SocketAddr::new(Ipv4Addr::new(192, 0, 2, self.seed as u8).into(), 41641);
        let mut node = Node::new(config.clone(), tables(size), &mut rng);
        node.set_local_endpoints(&[address], self.now);
        let host = Host {
            node,
            config,
            size,
            address,
            connection: None,
            disk: Disk::default(),
            events: Vec::new(),
            inbox: Vec::new(),
            initiations: Vec::new(),
            running: true,
            clock_behind: 0,
            rng,
        };
        self.hosts.insert(name, host);
    }

    pub(crate) fn join(&mut self, name: &'static str) {
        let key = self.server.join_key();
        self.join_with(name, &key);
    }

    pub(crate) fn join_with(&mut self, name: &'static str, key: &JoinKey) {
        let wall = self.wall_of(&self.hosts[name]);
        let now = self.now;
        let host = self.hosts.get_mut(name).unwrap();
        host.node.join(key, now, &mut host.rng);
        host.node.start(now, wall, &mut host.rng);
    }

    pub(crate) fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(name).unwrap()
    }

    pub(crate) fn node(&self, name: &str) -> &Node<TestStorage> {
        &self.hosts[name].node
    }

    /// The key of a node that joined.
    pub(crate) fn key_of(&self, name: &str) -> NodeKey {
        *self.node(name).netmap().own().unwrap().key()
    }

    /// The process dies: only what is on its disk stays.
    pub(crate) fn kill(&mut self, name: &str) {
        let host = self.hosts.get_mut(name).unwrap();
        host.running = false;
        if let Some(connection) = host.connection.take() {
            self.server.close(connection);
        }
    }

    /// A new process on the same disk.
    pub(crate) fn restart(&mut self, name: &str) {
        self.kill(name);
        self.seed += 1;
        let now = self.now;
        let wall = self.wall_of(&self.hosts[name]);
        let seed = self.seed;
        let host = self.hosts.get_mut(name).unwrap();
        host.rng = TestRng::new(seed * 0x1_0001);
        host.node = Node::new(host.config.clone(), tables(host.size), &mut host.rng);
        host.node.set_local_endpoints(&[host.address], now);
        host.node.restore_identity(host.disk.identity(), now);
        for record in &host.disk.netmap {
            host.node.restore_netmap_record(record, now).unwrap();
        }
        if let Some(recent) = &host.disk.recent {
            host.node.restore_recent_peers(recent, now).unwrap();
        }
        host.node.start(now, wall, &mut host.rng);
        host.running = true;
    }

    /// The host gets another address.
    pub(crate) fn move_to(&mut self, name: &str, address: &str) {
        let now = self.now;
        let host = self.hosts.get_mut(name).unwrap();
        host.address = address.parse().unwrap();
        host.node.set_local_endpoints(&[host.address], now);
    }

    /// Sends a text in an inner packet from one node to another's mesh address.
    pub(crate) fn send(&mut self, from: &str, to: IpAddr, text: &str) {
        let (now, wall) = (self.now, self.wall_of(&self.hosts[from]));
        let host = self.hosts.get_mut(from).unwrap();
        let IpAddr::V4(to) = to else { panic!("the tests speak IPv4") };
        let source = host.node.netmap().own().unwrap().v4().unwrap();
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend_from_slice(&source.octets());
        packet.extend_from_slice(&to.octets());
        packet.extend_from_slice(text.as_bytes());
        packet[3] = packet.len() as u8;
        let mut buffer = vec![0; packet.len() + Outgoing::OVERHEAD];
        buffer[Outgoing::HEAD_ROOM..][..packet.len()].copy_from_slice(&packet);
        let time = host.node.time(now, wall);
        match host.node.device_mut().send::<RustCrypto>(&mut buffer, packet.len(), now, time) {
            SendOutcome::Transmit(transmit) => {
                self.flying.push(Flying {
                    at: now + LATENCY,
                    from: host.address,
                    to: transmit.endpoint,
                    bytes: buffer[..transmit.len].to_vec(),
                });
            }
            SendOutcome::NoEndpoint(peer) => {
                let _ = host.node.device_mut().stage(peer, &packet, now);
            }
            SendOutcome::NoRoute(address) => {
                host.node.need_address(address, now);
            }
            SendOutcome::Staged(_) | SendOutcome::Drop(_) => {}
        }
        self.settle();
    }

    /// Sends from one node to another by name and says whether it came within `time`.
    pub(crate) fn reaches(&mut self, from: &str, to: &str, time: Duration) -> bool {
        let own = self.node(to).netmap().own().unwrap().v4().unwrap();
        self.seed += 1;
        let text = format!("{from} to {to} {}", self.seed);
        let end = self.now + time;
        while self.now < end {
            self.send(from, own.into(), &text);
            self.run(Duration::from_millis(100).min(end.saturating_since(self.now)));
            if self.hosts[to].inbox.contains(&text) {
                return true;
            }
        }
        false
    }

    /// Lets time pass, from one deadline to the next.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut rounds = 0;
        loop {
            self.settle();
            rounds += 1;
            assert!(rounds < 200_000, "deadlines do not move on");
            let next = self.next_deadline().filter(|next| *next < end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            self.server.set_time(self.now, self.wall());
        }
        self.now = end;
        self.server.set_time(self.now, self.wall());
        self.settle();
    }

    /// Something else than the server's bytes comes from the server's connection.
    pub(crate) fn garble(&mut self, name: &str, bytes: &[u8]) {
        let (now, wall) = (self.now, self.wall_of(&self.hosts[name]));
        let host = self.hosts.get_mut(name).unwrap();
        host.node.control_receive(bytes, now, wall, &mut host.rng);
        self.settle();
    }

    fn fly(&mut self, datagrams: Datagrams) {
        let at = self.now + LATENCY;
        self.flying.extend(datagrams.into_iter().map(|(from, to, bytes)| Flying { at, from, to, bytes }));
    }

    /// A datagram is on its way to a host, from wherever it says.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: &str, bytes: Vec<u8>) {
        let to = self.hosts[to].address;
        self.fly(vec![(from, to, bytes)]);
    }

    /// One of the crowd sends a text to a host.
    pub(crate) fn knock(&mut self, number: u32, to: &str, text: &str) {
        let mesh = self.server.nodes[&self.server.id_of(&crowd::name(number))].v4();
        let (node, at) = (self.hosts[to].address, (self.now, self.wall()));
        let sent = self.crowd.knock(number, mesh, node, text, at);
        self.fly(sent);
        self.settle();
    }

    fn next_deadline(&self) -> Option<Instant> {
        let hosts = self.hosts.values().filter(|host| host.running);
        let timers = hosts.flat_map(|host| [host.node.poll_timeout(), host.node.next_connect().map(|(due, _)| due)]);
        let crowd = self.crowd.poll_timeout();
        timers.flatten().chain(self.flying.iter().map(|flying| flying.at)).chain(crowd).min()
    }

    /// Does all that is due now.
    fn settle(&mut self) {
        let names: Vec<&'static str> = self.hosts.keys().copied().collect();
        for round in 0.. {
            assert!(round < 10_000, "something is due again and again");
            let mut busy = self.deliver();
            let sent = self.crowd.poll(self.now, self.wall());
            self.fly(sent);
            for name in &names {
                busy |= self.serve(name);
            }
            if !busy {
                return;
            }
        }
    }

    fn deliver(&mut self) -> bool {
        let now = self.now;
        let (due, flying) = core::mem::take(&mut self.flying).into_iter().partition(|flying| flying.at <= now);
        self.flying = flying;
        let due: Vec<Flying> = due;
        for mut datagram in due {
            if self.chance.next_u32() % 100 < self.loss {
                continue;
            }
            let Some(name) = self.hosts.iter().find(|(_, host)| host.running && host.address == datagram.to) else {
                let server = &self.server;
                let mesh_of = |number| server.nodes[&server.id_of(&crowd::name(number))].v4();
                let (from, to, at) = (datagram.from, datagram.to, (now, self.wall()));
                let sent = self.crowd.receive(from, to, &mut datagram.bytes, mesh_of, at);
                self.fly(sent);
                continue;
            };
            let name = *name.0;
            let wall = self.wall_of(&self.hosts[name]);
            let host = self.hosts.get_mut(name).unwrap();
            let time = host.node.time(now, wall);
            let message = datagram.bytes.as_mut_slice();
            let received =
                host.node.device_mut().receive::<RustCrypto>(message, datagram.from, now, time, &mut host.rng);
            match received {
                Received::Packet { range, .. } => {
                    host.inbox.push(String::from_utf8_lossy(&datagram.bytes[range][20..]).into_owned());
                }
                Received::Transmit(transmit) => {
                    let bytes = datagram.bytes[..transmit.len].to_vec();
                    self.flying.push(Flying { at: now + LATENCY, from: host.address, to: transmit.endpoint, bytes });
                }
                Received::Stranger(key) => {
                    host.node.need_initiator(key, &datagram.bytes, datagram.from, now);
                }
                Received::Taken(_) | Received::Drop(_) => {}
            }
            host.node.device_changed(now);
        }
        false
    }

    /// One round of an agent's loop; true where it did something that others may answer.
    fn serve(&mut self, name: &'static str) -> bool {
        let (now, wall) = (self.now, self.wall_of(&self.hosts[name]));
        let host = self.hosts.get_mut(name).unwrap();
        if !host.running {
            return false;
        }
        let mut busy = false;
        if let Some(connection) = host.connection {
            match self.server.take_output(connection) {
                None => {
                    host.connection = None;
                    self.server.close(connection);
                    host.node.control_closed(now, &mut host.rng);
                }
                Some(bytes) if !bytes.is_empty() => {
                    host.node.control_receive(&bytes, now, wall, &mut host.rng);
                    let mut message = [0; 148];
                    while let Some((len, from)) = host.node.take_stranger(&mut message) {
                        self.flying.push(Flying { at: now, from, to: host.address, bytes: message[..len].to_vec() });
                    }
                    busy = true;
                }
                Some(_) => {}
            }
        }
        if host.node.next_connect().is_some_and(|(due, _)| due <= now) {
            self.connects.push((now, name));
            host.node.control_connecting();
            match self.server.connect() {
                Some(connection) => {
                    host.connection = Some(connection);
                    host.node.control_connected(now, &mut host.rng);
                }
                None => host.node.control_closed(now, &mut host.rng),
            }
            busy = true;
        }
        host.node.handle_timeout(now, wall, &mut host.rng);
        let time = host.node.time(now, wall);
        let mut buffer = [0; 512];
        while let Some(transmit) =
            host.node.device_mut().poll_transmit::<RustCrypto>(now, time, &mut host.rng, &mut buffer)
        {
            busy = true;
            for target in host.node.targets(&transmit, now, wall).iter() {
                host.sent(&transmit, target, now);
                let bytes = buffer[..transmit.len].to_vec();
                self.flying.push(Flying { at: now + LATENCY, from: host.address, to: target, bytes });
            }
        }
        host.node.device_changed(now);
        busy |= host.collect_events(&mut self.server, now);
        if let Some(connection) = host.connection {
            let mut out = [0; 2 * MAX_FRAME];
            loop {
                match host.node.control_transmit(&mut out, now, &mut host.rng) {
                    0 => break,
                    len => self.server.receive(connection, &out[..len]),
                }
                busy = true;
            }
        }
        busy
    }
}

impl Host {
    fn sent(&mut self, transmit: &Transmit, target: SocketAddr, now: Instant) {
        if transmit.kind == TransmitKind::Initiation {
            self.initiations.push((now, target));
        }
    }

    fn collect_events(&mut self, server: &mut Server, now: Instant) -> bool {
        let mut any = false;
        while let Some(event) = self.node.poll_event() {
            any = true;
            match event {
                NodeEvent::Persist(_) if self.disk.full => {}
                NodeEvent::Persist(Persist::Identity) => {
                    let mut out = [0; MAX_IDENTITY];
                    let len = self.node.identity().unwrap().encode(&mut out).unwrap();
                    self.disk.identity = Some(out[..len].to_vec());
                    self.disk.identity_writes += 1;
                    self.node.identity_kept();
                }
                NodeEvent::Persist(Persist::Netmap) => {
                    self.disk.netmap.clear();
                    self.disk.netmap_writes += 1;
                    let (mut cursor, mut out) = (0, [0; MAX_RECORD]);
                    while let Some(len) = self.node.netmap_record(&mut cursor, &mut out) {
                        self.disk.netmap.push(out[..len].to_vec());
                    }
                }
                NodeEvent::Persist(Persist::RecentPeers) => {
                    let mut out = [0; MAX_RECENT_LEN];
                    let len = self.node.recent_peers(&mut out);
                    self.disk.recent = Some(out[..len].to_vec());
                    self.disk.recent_writes += 1;
                }
                NodeEvent::CloseControl => {
                    if let Some(connection) = self.connection.take() {
                        server.close(connection);
                        self.node.control_closed(now, &mut self.rng);
                    }
                }
                _ => {}
            }
            self.events.push(event);
        }
        any
    }

    /// The agent writes again what it could not write before.
    pub(crate) fn retry_keeping(&mut self) {
        let mut out = [0; MAX_IDENTITY];
        let len = self.node.identity().unwrap().encode(&mut out).unwrap();
        self.disk.identity = Some(out[..len].to_vec());
        self.node.identity_kept();
    }

    pub(crate) fn stop(&mut self, now: Instant) {
        self.node.stop(now, &mut self.rng);
    }

    pub(crate) fn start(&mut self, now: Instant, wall: UnixTime) {
        self.node.start(now, wall, &mut self.rng);
    }

    /// Whether this event came, and forgets what came so far.
    pub(crate) fn saw(&mut self, event: NodeEvent) -> bool {
        core::mem::take(&mut self.events).contains(&event)
    }
}
