//! A control server in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use weft_core::{
    control::{
        ClientRecord, Delivery, ErrorCode, JoinKey, JoinSecret, MAX_FRAME, NetworkId, NodeId, Revision,
        ServerConnection, ServerRecord,
        record::{
            Address, Endpoint, Error, Health, LookupResult, Peer, PeerRemove, PeerStatus, Registered, SelfInfo,
            ServerNext, SnapshotBegin, SnapshotEnd, Text, UpTo,
        },
        upgrade::negotiate,
    },
    crypto::{RustCrypto, dh::X25519},
    keys::{MachineKey, NodeKey, ServerKey, ServerSecret},
    time::{Instant, UnixTime},
};

use crate::rng::TestRng;

pub(crate) const NETWORK: NetworkId = NetworkId(7);

/// A node as the server has it.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) id: NodeId,
    machine: MachineKey,
    pub(crate) key: NodeKey,
    pub(crate) name: String,
    pub(crate) expiry: Option<UnixTime>,
    endpoints: Vec<SocketAddr>,
    changed: u64,
    delivery: Delivery,
}

impl Entry {
    pub(crate) fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + self.id.0)
    }

    fn addresses(&self) -> [Address; 2] {
        let v6 = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, self.id.0 as u16);
        [Address(self.v4().into()), Address(v6.into())]
    }
}

struct Connection {
    /// `None` before the upgrade.
    channel: Option<ServerConnection>,
    out: Vec<u8>,
    node: Option<NodeId>,
    watched: BTreeSet<NodeId>,
    held: BTreeSet<NodeId>,
    closed: bool,
}

pub(crate) struct Server {
    secrets: Vec<ServerSecret>,
    secret: JoinSecret,
    pub(crate) up: bool,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    /// Changes up to here are compacted.
    pub(crate) compacted: u64,
    pub(crate) nodes: BTreeMap<NodeId, Entry>,
    removed: Vec<(u64, NodeId)>,
    connections: BTreeMap<usize, Connection>,
    next_connection: usize,
    next_id: u32,
    /// Keys that node registrations brought a join secret with.
    pub(crate) join_secrets_seen: usize,
    pub(crate) registrations: Vec<Option<Revision>>,
    /// Which key each connection expected, in hexadecimal digits.
    pub(crate) keys_expected: Vec<String>,
    pub(crate) snapshots: usize,
    /// New nodes are registered with keys that expire so many seconds later.
    pub(crate) key_lifetime: Option<u64>,
    pub(crate) watch_records: usize,
    pub(crate) lookups: usize,
    /// The next registration is answered with this.
    pub(crate) refuse: Option<(ErrorCode, Option<u32>)>,
    /// Snapshots stop in the middle and the connection breaks.
    pub(crate) cut_snapshots: bool,
    pub(crate) wall: UnixTime,
    now: Instant,
}

fn text(text: &str) -> Text<'_> {
    Text::new(text).unwrap()
}

impl Server {
    pub(crate) fn new(wall: UnixTime) -> Self {
        Self {
            secrets: vec![ServerSecret::from_bytes([0x51; 32])],
            secret: JoinSecret::from_bytes([9; 16]),
            up: true,
            epoch: 1,
            number: 0,
            compacted: 0,
            nodes: BTreeMap::new(),
            removed: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            next_id: 1,
            join_secrets_seen: 0,
            registrations: Vec::new(),
            keys_expected: Vec::new(),
            snapshots: 0,
            key_lifetime: None,
            watch_records: 0,
            lookups: 0,
            refuse: None,
            cut_snapshots: false,
            wall,
            now: Instant::ZERO,
        }
    }

    pub(crate) fn join_key(&self) -> JoinKey {
        let addresses = ["http://192.0.2.250:8080".parse().unwrap()];
        JoinKey::new(self.secrets[0].public::<X25519>(), self.secret.clone(), &addresses).unwrap()
    }

    pub(crate) fn key(&self) -> ServerKey {
        self.secrets[0].public::<X25519>()
    }

    pub(crate) fn set_time(&mut self, now: Instant, wall: UnixTime) {
        (self.now, self.wall) = (now, wall);
    }

    /// Every connection breaks; what was stored stays.
    pub(crate) fn stop(&mut self) {
        self.up = false;
        self.connections.clear();
    }

    pub(crate) fn connect(&mut self) -> Option<usize> {
        if !self.up {
            return None;
        }
        self.next_connection += 1;
        let connection = Connection {
            channel: None,
            out: Vec::new(),
            node: None,
            watched: BTreeSet::new(),
            held: BTreeSet::new(),
            closed: false,
        };
        self.connections.insert(self.next_connection, connection);
        Some(self.next_connection)
    }

    pub(crate) fn close(&mut self, connection: usize) {
        let node = self.connections.remove(&connection).and_then(|connection| connection.node);
        if let Some(node) = node {
            self.tell_status(node);
        }
    }

    /// Whether the connection is still there, and what it has to say.
    pub(crate) fn take_output(&mut self, connection: usize) -> Option<Vec<u8>> {
        let found = self.connections.get_mut(&connection)?;
        let out = core::mem::take(&mut found.out);
        if found.closed && out.is_empty() {
            return None;
        }
        Some(out)
    }

    pub(crate) fn receive(&mut self, id: usize, bytes: &[u8]) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        let before = connection.node;
        self.take_in(&mut connection, bytes);
        let node = connection.node;
        self.connections.insert(id, connection);
        if let (None, Some(node)) = (before, node) {
            self.tell_status(node);
            self.tell_change(node, Some(id));
        }
    }

    fn take_in(&mut self, connection: &mut Connection, mut bytes: &[u8]) {
        if connection.channel.is_none() {
            return self.upgrade(connection, core::str::from_utf8(bytes).unwrap());
        }
        loop {
            let Connection { channel: Some(channel), out, node, watched, held, closed } = connection else { return };
            while channel.needs_step() {
                let key = *channel.server_key();
                let secret = self.secrets.iter().find(|secret| secret.public::<X25519>() == key).unwrap();
                channel.step::<RustCrypto>(secret).unwrap();
            }
            let mut frame = [0; MAX_FRAME];
            loop {
                match channel.transmit::<RustCrypto>(&mut frame) {
                    0 => break,
                    len => out.extend_from_slice(&frame[..len]),
                }
            }
            if bytes.is_empty() {
                return;
            }
            let machine = channel.machine_key().copied();
            match channel.receive::<RustCrypto>(&mut bytes, self.now).expect("the node's records are well formed") {
                None => {}
                Some(ClientRecord::Register(register)) => {
                    let (key, joins, resume) = (register.node_key, register.join_secret.is_some(), register.resume);
                    let hostname = register.hostname.as_str().to_owned();
                    let peers = register.capacity.and_then(|capacity| capacity.peers);
                    let proof = register.proof;
                    let machine = machine.or_else(|| channel.machine_key().copied()).unwrap();
                    let of_key = *channel.server_key();
                    let secret = self.secrets.iter().find(|secret| secret.public::<X25519>() == of_key).unwrap();
                    assert!(channel.verify_node_key::<X25519>(&proof, &key, secret));
                    self.join_secrets_seen += usize::from(joins);
                    if let Some((code, retry_after)) = self.refuse.take() {
                        let error = Error { code, sentence: text("Refused for a test."), retry_after };
                        write(channel, out, &error.into());
                        *closed = true;
                        return;
                    }
                    let known = self.nodes.values().find(|entry| entry.machine == machine).map(|entry| entry.id);
                    if known.is_none() && !joins {
                        let error = Error {
                            code: ErrorCode::UnknownMachine,
                            sentence: text("This machine is not known here; join with a new join key."),
                            retry_after: None,
                        };
                        write(channel, out, &error.into());
                        *closed = true;
                        return;
                    }
                    let id = known.unwrap_or_else(|| self.add_node(machine, key, &hostname, peers));
                    if self.nodes[&id].key != key {
                        self.nodes.get_mut(&id).unwrap().key = key;
                        self.changed(id);
                    }
                    *node = Some(id);
                    self.registrations.push(resume);
                    self.write_registered(channel, out, id);
                    if self.nodes[&id].delivery == Delivery::Whole {
                        self.write_netmap(channel, out, id, resume);
                        *closed = self.cut_snapshots;
                    }
                }
                Some(record) => {
                    let own = node.unwrap();
                    match record {
                        ClientRecord::Endpoints(endpoints) => {
                            let endpoints = endpoints.local.iter().map(|endpoint| endpoint.0).collect();
                            self.nodes.get_mut(&own).unwrap().endpoints = endpoints;
                            self.tell_status(own);
                        }
                        ClientRecord::Watch(watch) => {
                            self.watch_records += 1;
                            let add: Vec<NodeId> = watch.add.iter().collect();
                            watch.remove.iter().for_each(|id| _ = watched.remove(&id));
                            watched.extend(&add);
                            for id in add {
                                self.write_status(channel, out, id, Some(own));
                            }
                        }
                        ClientRecord::Held(changes) => {
                            let add: Vec<NodeId> = changes.add.iter().collect();
                            changes.remove.iter().for_each(|id| _ = held.remove(&id));
                            for id in add {
                                held.insert(id);
                                self.write_peer(channel, out, id);
                            }
                            write(channel, out, &UpTo { revision: self.revision() }.into());
                        }
                        ClientRecord::Lookup(lookup) => {
                            self.lookups += 1;
                            let request = lookup.request;
                            let found = self.nodes.values().find(|entry| {
                                lookup.address.is_some_and(|address| entry.addresses().contains(&address))
                                    || lookup.node_key.is_some_and(|key| entry.key == key)
                                    || lookup.name.is_some_and(|name| name == entry.name.as_str())
                            });
                            let id = found.map(|entry| entry.id).filter(|id| *id != own);
                            if let Some(id) = id {
                                held.insert(id);
                                self.write_peer(channel, out, id);
                            }
                            write(channel, out, &LookupResult { request, id }.into());
                        }
                        ClientRecord::RenewNodeKey(renewal) => {
                            let key = renewal.node_key;
                            let proof = renewal.proof;
                            let of_key = *channel.server_key();
                            let secret = self.secrets.iter().find(|secret| secret.public::<X25519>() == of_key);
                            assert!(channel.verify_node_key::<X25519>(&proof, &key, secret.unwrap()));
                            let expiry = self.key_lifetime.map(|secs| UnixTime::new(self.wall.secs() + secs, 0));
                            let entry = self.nodes.get_mut(&own).unwrap();
                            (entry.key, entry.expiry) = (key, expiry);
                            let entry = entry.clone();
                            with_info(&entry, |info| write(channel, out, &info.into()));
                            self.changed(own);
                            write(channel, out, &UpTo { revision: self.revision() }.into());
                            self.tell_change(own, None);
                        }
                        ClientRecord::Logout(_) => {
                            let error =
                                Error { code: ErrorCode::LoggedOut, sentence: text("Logged out."), retry_after: None };
                            write(channel, out, &error.into());
                            *closed = true;
                            return;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    fn upgrade(&mut self, connection: &mut Connection, request: &str) {
        let header = |name: &str| {
            request
                .lines()
                .find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name))
                .map(|(_, value)| value)
        };
        self.keys_expected.extend(header("Weft-Server-Key").map(str::to_owned));
        let keys: Vec<ServerKey> = self.secrets.iter().map(ServerSecret::public::<X25519>).collect();
        match negotiate(header("Weft-Version"), header("Weft-Server-Key"), &keys) {
            Ok(accepted) => {
                connection.channel =
                    Some(ServerConnection::new(&accepted, self.now, &mut TestRng::new(self.next_connection as u64)));
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: weft-control\r\nWeft-Version: {}\r\n\r\n",
                    accepted.version
                );
                connection.out.extend_from_slice(answer.as_bytes());
            }
            Err(refusal) => {
                let body = refusal.to_string();
                let answer = format!(
                    "HTTP/1.1 {} Refused\r\nWeft-Version: 1-1\r\nContent-Length: {}\r\n\r\n{body}",
                    refusal.status(),
                    body.len()
                );
                connection.out.extend_from_slice(answer.as_bytes());
                connection.closed = true;
            }
        }
    }

    fn add_node(&mut self, machine: MachineKey, key: NodeKey, name: &str, peers: Option<u32>) -> NodeId {
        let id = NodeId(self.next_id);
        self.next_id += 1;
        let expiry = self.key_lifetime.map(|secs| UnixTime::new(self.wall.secs() + secs, 0));
        let many = self.nodes.len();
        let on_demand = peers.is_some_and(|peers| peers < 4 || many > peers as usize);
        let delivery = if on_demand { Delivery::OnDemand } else { Delivery::Whole };
        let entry = Entry { id, machine, key, name: name.into(), expiry, endpoints: Vec::new(), changed: 0, delivery };
        self.nodes.insert(id, entry);
        self.changed(id);
        id
    }

    /// A node that never connects here, at a place that the server knows.
    pub(crate) fn add_entry(&mut self, key: NodeKey, name: &str, endpoint: SocketAddr) {
        let id = self.add_node(MachineKey::from_bytes(*key.as_bytes()), key, name, None);
        self.nodes.get_mut(&id).unwrap().endpoints = vec![endpoint];
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision { epoch: self.epoch, number: self.number }
    }

    fn changed(&mut self, id: NodeId) {
        self.number += 1;
        self.nodes.get_mut(&id).unwrap().changed = self.number;
    }

    fn write_registered(&self, channel: &mut ServerConnection, out: &mut Vec<u8>, id: NodeId) {
        with_info(&self.nodes[&id], |node| {
            let registered = Registered { node, time: self.wall, seen_from: None, server: None };
            write(channel, out, &registered.into());
        });
    }

    fn write_netmap(
        &mut self,
        channel: &mut ServerConnection,
        out: &mut Vec<u8>,
        own: NodeId,
        resume: Option<Revision>,
    ) {
        let revision = self.revision();
        let since = resume.filter(|resume| resume.epoch == self.epoch && resume.number >= self.compacted);
        let peers: Vec<Entry> = self.nodes.values().filter(|entry| entry.id != own).cloned().collect();
        if let Some(since) = since {
            for entry in peers.iter().filter(|entry| entry.changed > since.number) {
                self.write_peer(channel, out, entry.id);
            }
            for (number, id) in self.removed.iter().filter(|(number, _)| *number > since.number) {
                write(channel, out, &PeerRemove { id: *id, revision: *number }.into());
            }
            return write(channel, out, &UpTo { revision }.into());
        }
        self.snapshots += 1;
        write(channel, out, &SnapshotBegin { revision }.into());
        for entry in &peers {
            self.write_peer(channel, out, entry.id);
            if self.cut_snapshots {
                return;
            }
        }
        write(channel, out, &SnapshotEnd { revision }.into());
    }

    fn write_peer(&self, channel: &mut ServerConnection, out: &mut Vec<u8>, id: NodeId) {
        let Some(entry) = self.nodes.get(&id) else {
            return write(channel, out, &PeerRemove { id, revision: self.number }.into());
        };
        let addresses = entry.addresses();
        let peer = Peer {
            id,
            node_key: entry.key,
            name: text(&entry.name),
            addresses: (&addresses).into(),
            os: Some(text("linux")),
            user: Some(text("ann")),
            tags: Default::default(),
            key_expiry: entry.expiry,
            revision: entry.changed,
        };
        write(channel, out, &peer.into());
    }

    fn write_status(&self, channel: &mut ServerConnection, out: &mut Vec<u8>, id: NodeId, myself: Option<NodeId>) {
        let Some(entry) = self.nodes.get(&id) else { return };
        let online = myself == Some(id) || self.connections.values().any(|connection| connection.node == Some(id));
        let endpoints: Vec<Endpoint> = entry.endpoints.iter().copied().map(Endpoint).collect();
        let status = PeerStatus { id, online, last_seen: None, endpoints: endpoints.as_slice().into() };
        write(channel, out, &status.into());
    }

    fn tell_status(&mut self, id: NodeId) {
        let mut connections = core::mem::take(&mut self.connections);
        let online = connections.values().any(|connection| connection.node == Some(id));
        for connection in connections.values_mut().filter(|connection| connection.watched.contains(&id)) {
            if let Some(channel) = &mut connection.channel {
                self.write_status(channel, &mut connection.out, id, online.then_some(id));
            }
        }
        self.connections = connections;
    }

    /// Tells every connection but one of a node's change.
    fn tell_change(&mut self, id: NodeId, but: Option<usize>) {
        let revision = self.revision();
        self.each_registered(|server, connection_id, connection| {
            let Connection { channel: Some(channel), out, node, held, .. } = connection else { return };
            let whole = node.is_some_and(|node| server.nodes.get(&node).is_some_and(|e| e.delivery == Delivery::Whole));
            if Some(connection_id) != but && (whole || held.contains(&id)) {
                if *node != Some(id) {
                    server.write_peer(channel, out, id);
                }
                write(channel, out, &UpTo { revision }.into());
            }
        });
    }

    fn each_registered(&mut self, mut tell: impl FnMut(&Self, usize, &mut Connection)) {
        let mut connections = core::mem::take(&mut self.connections);
        for (id, connection) in connections.iter_mut().filter(|(_, connection)| connection.node.is_some()) {
            tell(self, *id, connection);
        }
        self.connections = connections;
    }

    pub(crate) fn id_of(&self, name: &str) -> NodeId {
        self.nodes.values().find(|entry| entry.name == name).unwrap().id
    }

    pub(crate) fn rename(&mut self, id: NodeId, name: &str) {
        self.nodes.get_mut(&id).unwrap().name = name.into();
        self.changed(id);
        self.tell_self(id);
        self.tell_change(id, None);
    }

    /// The network outgrew a node.
    pub(crate) fn deliver_on_demand(&mut self, id: NodeId) {
        self.nodes.get_mut(&id).unwrap().delivery = Delivery::OnDemand;
        self.tell_self(id);
    }

    pub(crate) fn expire(&mut self, id: NodeId, at: UnixTime) {
        self.nodes.get_mut(&id).unwrap().expiry = Some(at);
        self.changed(id);
        self.tell_self(id);
        self.tell_change(id, None);
    }

    /// The same, told to its peers alone.
    pub(crate) fn expire_untold(&mut self, id: NodeId, at: UnixTime) {
        self.nodes.get_mut(&id).unwrap().expiry = Some(at);
        self.changed(id);
        self.tell_change(id, None);
    }

    fn tell_self(&mut self, id: NodeId) {
        self.each_registered(|server, _, connection| {
            let Connection { channel: Some(channel), out, node, .. } = connection else { return };
            if *node == Some(id) {
                with_info(&server.nodes[&id], |info| write(channel, out, &info.into()));
            }
        });
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        self.nodes.remove(&id);
        self.number += 1;
        self.removed.push((self.number, id));
        let revision = self.revision();
        self.each_registered(|_, _, connection| {
            let Connection { channel: Some(channel), out, node, closed, .. } = connection else { return };
            if *node == Some(id) {
                let code = ErrorCode::NodeRemoved;
                write(channel, out, &Error { code, sentence: text("Removed."), retry_after: None }.into());
                *closed = true;
            } else {
                write(channel, out, &PeerRemove { id, revision: revision.number }.into());
                write(channel, out, &UpTo { revision }.into());
            }
        });
    }

    pub(crate) fn say_health(&mut self, sentence: &str) {
        self.each_registered(|_, _, connection| {
            let Connection { channel: Some(channel), out, .. } = connection else { return };
            write(channel, out, &Health { subject: Health::CLONE, sentence: text(sentence) }.into());
        });
    }

    /// Announces a second key and answers to it already.
    pub(crate) fn announce_key(&mut self) {
        let next = ServerSecret::from_bytes([0x52; 32]);
        let key = next.public::<X25519>();
        self.secrets.push(next);
        let addresses = [text("http://192.0.2.251:8080"), text("http://192.0.2.250:8080")];
        self.each_registered(|_, _, connection| {
            let Connection { channel: Some(channel), out, .. } = connection else { return };
            write(channel, out, &ServerNext { key: Some(key), addresses: (&addresses).into() }.into());
        });
    }

    /// The announced key comes to nothing: a server without it took over.
    pub(crate) fn forget_announced_key(&mut self) {
        self.secrets.truncate(1);
    }

    /// From now on only the announced key counts.
    pub(crate) fn rotate_key(&mut self) {
        self.secrets.remove(0);
    }

    /// Ids in the server's history begin anew under another epoch; the nodes stay.
    pub(crate) fn restore_backup(&mut self) {
        self.epoch += 1;
        self.number = 1;
        self.removed.clear();
        self.nodes.values_mut().for_each(|entry| entry.changed = 1);
    }

    pub(crate) fn watchers_of(&self, id: NodeId) -> usize {
        self.connections.values().filter(|connection| connection.watched.contains(&id)).count()
    }

    pub(crate) fn address_of(&self, name: &str) -> IpAddr {
        self.nodes[&self.id_of(name)].v4().into()
    }
}

fn with_info(entry: &Entry, give: impl FnOnce(SelfInfo<'_>)) {
    let addresses = entry.addresses();
    give(SelfInfo {
        id: entry.id,
        node_key: entry.key,
        name: text(&entry.name),
        addresses: (&addresses).into(),
        domain: text("home.weft"),
        delivery: entry.delivery,
        key_expiry: entry.expiry,
        user: Some(text("ann")),
        tags: Default::default(),
    });
}

fn write(channel: &mut ServerConnection, out: &mut Vec<u8>, record: &ServerRecord<'_>) {
    let mut frame = [0; MAX_FRAME];
    let len = channel.send::<RustCrypto>(NETWORK, record, &mut frame).unwrap();
    out.extend_from_slice(&frame[..len]);
}
