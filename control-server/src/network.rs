//! The network as it is now, in memory: every node, ordered by revision, and who is connected, watched and held.
//!
//! It follows the store: effects of committed changes come in, and the mailboxes of those that they concern are
//! filled. A node that gets the whole netmap is concerned by every change, a node with on-demand delivery by changes
//! to the peers that it holds; a status concerns those who watch it. Nothing here reads the database or a socket.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_core::{
    control::{Delivery, MAX_RECORD, NetworkId, NodeId, Revision},
    keys::{MachineKey, NodeKey},
};

use crate::{address::Host, mailbox::Mailbox, node::Node, store::Effect};

/// How many live sessions one machine key may have: a machine and one clone of it, so that both can be told.
const MAX_SESSIONS: usize = 2;

/// The state of one network.
#[derive(Debug)]
pub struct Network {
    id: NetworkId,
    domain: String,
    epoch: u64,
    revision: u64,
    compacted: u64,
    nodes: HashMap<NodeId, Entry>,
    removed: HashMap<NodeId, u64>,
    /// The last change of each node that is there or remembered.
    changes: BTreeMap<u64, Change>,
    by_machine: HashMap<MachineKey, NodeId>,
    by_node_key: HashMap<NodeKey, NodeId>,
    by_name: HashMap<String, NodeId>,
    by_host: HashMap<Host, NodeId>,
    /// The sessions that get the whole netmap.
    whole: HashMap<u64, Arc<Mailbox>>,
    /// When ephemeral nodes without a session went offline, in seconds since 1970.
    ephemeral_offline: HashMap<NodeId, u64>,
    /// Nodes that went offline since that was last stored.
    unsaved_last_seen: HashMap<NodeId, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Upsert(NodeId),
    Remove(NodeId),
}

#[derive(Debug)]
struct Entry {
    node: Arc<Node>,
    /// The node's peer record, encoded once for everybody.
    record: Arc<[u8]>,
    sessions: Vec<Arc<Mailbox>>,
    last_seen: u64,
    endpoints: Arc<[SocketAddr]>,
    watchers: HashMap<u64, Arc<Mailbox>>,
    holders: HashMap<u64, Arc<Mailbox>>,
}

/// One step of a netmap.
#[derive(Clone, Debug)]
pub enum Step {
    /// A peer is as this encoded record says.
    Upsert(Arc<[u8]>),
    /// A peer is gone since this revision.
    Remove(NodeId, u64),
}

/// Steps of a netmap, and how far they lead.
#[derive(Debug)]
pub struct Steps {
    /// In the order of their revisions.
    pub steps: Vec<Step>,
    /// Whoever took them has everything up to here.
    pub up_to: u64,
}

/// How a peer is right now.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether it is connected.
    pub online: bool,
    /// When it was last connected, in seconds since 1970.
    pub last_seen: u64,
    /// Where it may be reached over UDP.
    pub endpoints: Arc<[SocketAddr]>,
}

/// What one asks for a peer by.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// A mesh address.
    Address(IpAddr),
    /// A node key.
    NodeKey(NodeKey),
    /// A name without the domain.
    Name(&'a str),
}

/// What a network begins with.
#[derive(Debug)]
pub struct Initial {
    /// Its id.
    pub id: NetworkId,
    /// Its row in the store.
    pub row: crate::store::networks::NetworkRow,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// The removals that are remembered.
    pub tombstones: Vec<(u64, NodeId)>,
    /// Now, in seconds since 1970.
    pub now: u64,
}

impl Network {
    /// A network of what the store holds, nobody connected.
    pub fn new(initial: Initial) -> Self {
        let Initial { id, row, nodes, tombstones, now } = initial;
        let mut network = Self {
            id,
            domain: row.domain,
            epoch: row.epoch,
            revision: row.revision,
            compacted: row.compacted,
            nodes: HashMap::with_capacity(nodes.len()),
            removed: HashMap::new(),
            changes: BTreeMap::new(),
            by_machine: HashMap::with_capacity(nodes.len()),
            by_node_key: HashMap::with_capacity(nodes.len()),
            by_name: HashMap::with_capacity(nodes.len()),
            by_host: HashMap::with_capacity(nodes.len()),
            whole: HashMap::new(),
            ephemeral_offline: HashMap::new(),
            unsaved_last_seen: HashMap::new(),
        };
        for (revision, node) in tombstones {
            network.changes.insert(revision, Change::Remove(node));
            network.removed.insert(node, revision);
        }
        for node in nodes {
            if node.ephemeral {
                network.ephemeral_offline.insert(node.id, now);
            }
            network.put(node);
        }
        network
    }

    /// Its id.
    pub fn id(&self) -> NetworkId {
        self.id
    }

    /// The domain that names stand under.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The last revision.
    pub fn revision(&self) -> Revision {
        self.revision_of(self.revision)
    }

    /// The revision with this number in the network's epoch.
    pub fn revision_of(&self, number: u64) -> Revision {
        Revision { epoch: self.epoch, number }
    }

    /// Whether one who has `revision` can go on with the changes since.
    pub fn can_resume(&self, revision: Revision) -> bool {
        revision.epoch == self.epoch && (self.compacted..=self.revision).contains(&revision.number)
    }

    /// How a node with room for so many peers gets them.
    pub fn delivery(&self, peers: Option<u32>) -> Delivery {
        let others = self.nodes.len().saturating_sub(1);
        match peers {
            Some(peers) if (peers as usize) < others => Delivery::OnDemand,
            _ => Delivery::Whole,
        }
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id).map(|entry| &entry.node)
    }

    /// The node of a machine.
    pub fn node_of_machine(&self, machine: &MachineKey) -> Option<&Arc<Node>> {
        self.node(*self.by_machine.get(machine)?)
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// How many of them are connected.
    pub fn online_count(&self) -> usize {
        self.nodes.values().filter(|entry| !entry.sessions.is_empty()).count()
    }

    /// The peer that `question` means, for the node `asker`.
    pub fn find(&self, question: Question<'_>, asker: NodeId) -> Option<NodeId> {
        let found = match question {
            Question::Address(address) => self.by_host.get(&Host::of(address)?),
            Question::NodeKey(key) => self.by_node_key.get(&key),
            Question::Name(name) => self.by_name.get(name),
        };
        found.copied().filter(|found| *found != asker)
    }

    /// The next changes after `after`, at most `limit` of them, without those of the node `own`.
    pub fn changes(&self, after: u64, own: NodeId, limit: usize) -> Steps {
        let last = self.revision;
        if after >= last {
            return Steps { steps: Vec::new(), up_to: after };
        }
        let mut steps = Vec::new();
        for (&revision, &change) in self.changes.range(after + 1..) {
            if steps.len() == limit {
                return Steps { steps, up_to: revision - 1 };
            }
            match change {
                Change::Upsert(id) | Change::Remove(id) if id == own => {}
                Change::Upsert(id) => steps.extend(self.upsert_step(id)),
                Change::Remove(id) => steps.push(Step::Remove(id, revision)),
            }
        }
        Steps { steps, up_to: last }
    }

    /// The next steps of a snapshot that was begun at revision `begun`: what has not changed since then, and then what
    /// has. Removals from before are not part of it.
    pub fn snapshot(&self, after: u64, begun: u64, own: NodeId, limit: usize) -> Steps {
        let mut steps = self.changes(after, own, limit);
        steps.steps.retain(|step| !matches!(step, Step::Remove(_, revision) if *revision <= begun));
        steps
    }

    /// How a held peer is now, for one who knows it as of `since`; `None` where it did not change.
    pub fn held_step(&self, id: NodeId, since: Option<u64>) -> Option<Step> {
        match self.nodes.get(&id) {
            Some(entry) if since.is_some_and(|since| entry.node.revision <= since) => None,
            Some(_) => self.upsert_step(id),
            None => Some(Step::Remove(id, self.removed.get(&id).copied().unwrap_or(self.revision))),
        }
    }

    fn upsert_step(&self, id: NodeId) -> Option<Step> {
        self.nodes.get(&id).map(|entry| Step::Upsert(entry.record.clone()))
    }

    /// How a peer is right now.
    pub fn status(&self, id: NodeId) -> Option<Status> {
        let entry = self.nodes.get(&id)?;
        Some(Status {
            online: !entry.sessions.is_empty(),
            last_seen: entry.last_seen,
            endpoints: entry.endpoints.clone(),
        })
    }

    // Following the store.

    /// Takes over what a commit did and fills the mailboxes of those that it concerns.
    pub fn apply(&mut self, effects: Vec<Effect>) {
        let before = self.revision;
        for effect in effects {
            match effect {
                Effect::NodeChanged(node) => self.change(*node),
                Effect::NodeRemoved { id, revision, because } => {
                    for session in self.remove(id, revision) {
                        session.put(|inbox| inbox.end = Some(because.clone()));
                    }
                }
                Effect::KeyEnded { id, because } => {
                    for session in self.nodes.get(&id).map(|entry| &entry.sessions[..]).unwrap_or_default() {
                        session.put(|inbox| inbox.end = Some(because.clone()));
                    }
                }
                Effect::Compacted(up_to) => self.compact(up_to),
                Effect::ServerKeys(_) => {
                    for session in self.nodes.values().flat_map(|entry| &entry.sessions) {
                        session.put(|inbox| inbox.server_keys = true);
                    }
                }
            }
        }
        if self.revision != before {
            for session in self.whole.values() {
                session.put(|inbox| inbox.network_changed = true);
            }
        }
    }

    fn change(&mut self, node: Node) {
        let id = node.id;
        let told = self.nodes.get(&id).is_none_or(|entry| entry.node.revision != node.revision);
        if !self.nodes.contains_key(&id) {
            tracing::info!("{} joined", node.name);
        }
        self.put(node);
        if !told {
            return;
        }
        if let Some(entry) = self.nodes.get(&id) {
            entry.sessions.iter().for_each(|session| session.put(|inbox| inbox.self_changed = true));
            entry.holders.values().for_each(|holder| {
                holder.put(|inbox| {
                    inbox.held.insert(id);
                });
            });
        }
    }

    /// Adds or replaces a node.
    fn put(&mut self, node: Node) {
        let id = node.id;
        let mut buffer = [0; MAX_RECORD];
        let record = node.with_peer_record(|record| {
            // Every text in a node is bounded well below the size of a record, except for a long list of tags; a node
            // whose record does not fit is not told of.
            let len = record.encode(self.id, &mut buffer).unwrap_or_default();
            Arc::from(buffer.get(..len).unwrap_or_default())
        });
        let node = Arc::new(node);
        if let Some(old) = self.nodes.get(&id).map(|entry| entry.node.clone()) {
            self.forget(&old);
        }
        self.changes.insert(node.revision, Change::Upsert(id));
        self.revision = self.revision.max(node.revision);
        self.by_machine.insert(node.machine_key, id);
        self.by_node_key.insert(node.node_key, id);
        self.by_name.insert(node.name.clone(), id);
        self.by_host.insert(node.host, id);
        match self.nodes.get_mut(&id) {
            Some(entry) => {
                entry.node = node;
                entry.record = record;
            }
            None => {
                let last_seen = node.last_seen_at;
                let entry = Entry {
                    node,
                    record,
                    sessions: Vec::new(),
                    last_seen,
                    endpoints: Arc::default(),
                    watchers: HashMap::new(),
                    holders: HashMap::new(),
                };
                self.nodes.insert(id, entry);
            }
        }
    }

    fn forget(&mut self, node: &Node) {
        self.changes.remove(&node.revision);
        self.by_machine.remove(&node.machine_key);
        self.by_node_key.remove(&node.node_key);
        self.by_name.remove(&node.name);
        self.by_host.remove(&node.host);
    }

    /// Removes a node and returns its sessions.
    fn remove(&mut self, id: NodeId, revision: u64) -> Vec<Arc<Mailbox>> {
        let Some(entry) = self.nodes.remove(&id) else { return Vec::new() };
        tracing::info!("{} was removed", entry.node.name);
        self.forget(&entry.node);
        self.changes.insert(revision, Change::Remove(id));
        self.removed.insert(id, revision);
        self.revision = self.revision.max(revision);
        self.ephemeral_offline.remove(&id);
        self.unsaved_last_seen.remove(&id);
        for holder in entry.holders.values() {
            holder.put(|inbox| {
                inbox.held.insert(id);
            });
        }
        entry.sessions
    }

    fn compact(&mut self, up_to: u64) {
        self.compacted = self.compacted.max(up_to);
        let old: Vec<_> = self.changes.range(..=up_to).map(|(revision, change)| (*revision, *change)).collect();
        for (revision, change) in old {
            if let Change::Remove(id) = change {
                self.changes.remove(&revision);
                self.removed.remove(&id);
            }
        }
    }

    // Sessions.

    /// A session of a node begins. A former session of the same process of the machine ends; a session of
    /// another process has to show that it is still there.
    pub fn attach(&mut self, session: &Arc<Mailbox>, delivery: Delivery) {
        let Some(entry) = self.nodes.get_mut(&session.node) else {
            session.put(|inbox| inbox.end = Some(crate::refusal::Refusal::NodeRemoved));
            return;
        };
        let came_online = entry.sessions.is_empty();
        for (at, other) in entry.sessions.iter().enumerate() {
            let crowded = at + MAX_SESSIONS <= entry.sessions.len();
            if other.instance == session.instance || crowded {
                other.put(|inbox| inbox.end = Some(crate::refusal::Refusal::Replaced));
            } else {
                other.put(|inbox| inbox.challenged = true);
            }
        }
        entry.sessions.push(session.clone());
        self.ephemeral_offline.remove(&session.node);
        self.unsaved_last_seen.remove(&session.node);
        self.set_delivery(session, delivery);
        if came_online {
            self.tell_watchers(session.node);
        }
    }

    /// A session of a node ended. `now` is in seconds since 1970.
    pub fn detach(&mut self, session: &Arc<Mailbox>, now: u64) {
        self.whole.remove(&session.id);
        let Some(entry) = self.nodes.get_mut(&session.node) else { return };
        entry.sessions.retain(|other| other.id != session.id);
        if let [last] = &entry.sessions[..] {
            last.put(|inbox| inbox.cloned = Some(false));
        }
        if entry.sessions.is_empty() {
            entry.last_seen = now;
            self.unsaved_last_seen.insert(session.node, now);
            if entry.node.ephemeral {
                self.ephemeral_offline.insert(session.node, now);
            }
            self.tell_watchers(session.node);
        }
    }

    /// How a session gets its peers from now on.
    pub fn set_delivery(&mut self, session: &Arc<Mailbox>, delivery: Delivery) {
        match delivery {
            Delivery::Whole => self.whole.insert(session.id, session.clone()),
            Delivery::OnDemand => self.whole.remove(&session.id),
        };
    }

    /// A challenged session answered: two machines live with one identity, and all of them are told.
    pub fn confirm_clone(&mut self, session: &Mailbox) {
        let Some(entry) = self.nodes.get(&session.node) else { return };
        let other_lives = entry.sessions.iter().any(|other| other.id != session.id);
        for session in entry.sessions.iter().filter(|_| other_lives) {
            session.put(|inbox| inbox.cloned = Some(true));
        }
    }

    /// A node may be reached at these endpoints.
    pub fn set_endpoints(&mut self, node: NodeId, endpoints: Vec<SocketAddr>) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        if *entry.endpoints != *endpoints {
            entry.endpoints = endpoints.into();
            self.tell_watchers(node);
        }
    }

    fn tell_watchers(&self, node: NodeId) {
        let Some(entry) = self.nodes.get(&node) else { return };
        for watcher in entry.watchers.values() {
            watcher.put(|inbox| {
                inbox.statuses.insert(node);
            });
        }
    }

    /// A session wants the status of a peer, from now on. Returns whether there is such a peer.
    pub fn watch(&mut self, session: &Arc<Mailbox>, peer: NodeId) -> bool {
        let Some(entry) = self.nodes.get_mut(&peer) else { return false };
        entry.watchers.insert(session.id, session.clone());
        true
    }

    /// A session does not want the status of a peer any more.
    pub fn unwatch(&mut self, session: &Mailbox, peer: NodeId) {
        if let Some(entry) = self.nodes.get_mut(&peer) {
            entry.watchers.remove(&session.id);
        }
    }

    /// A session holds a peer and wants to hear of its changes. Returns whether there is such a peer.
    pub fn hold(&mut self, session: &Arc<Mailbox>, peer: NodeId) -> bool {
        let Some(entry) = self.nodes.get_mut(&peer) else { return false };
        entry.holders.insert(session.id, session.clone());
        true
    }

    /// A session gave a peer up.
    pub fn let_go(&mut self, session: &Mailbox, peer: NodeId) {
        if let Some(entry) = self.nodes.get_mut(&peer) {
            entry.holders.remove(&session.id);
        }
    }

    /// Ends every session.
    pub fn end_all(&self, because: &crate::refusal::Refusal) {
        for session in self.nodes.values().flat_map(|entry| &entry.sessions) {
            session.put(|inbox| inbox.end = Some(because.clone()));
        }
    }

    // Housekeeping.

    /// The ephemeral nodes that went offline at or before `at`.
    pub fn ephemeral_gone_since(&self, at: u64) -> Vec<NodeId> {
        self.ephemeral_offline.iter().filter(|(_, since)| **since <= at).map(|(id, _)| *id).collect()
    }

    /// When nodes were last seen that went offline since this was last asked.
    pub fn take_unsaved_last_seen(&mut self) -> Vec<(NodeId, u64)> {
        self.unsaved_last_seen.drain().collect()
    }
}
