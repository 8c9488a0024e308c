//! The session of one connected node: from its registration to its end.
//!
//! One task a session. It sends what the node's [`Mailbox`] says has changed, from what is true at that moment, and
//! only as fast as the node takes it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant as Monotonic},
};

use weft_core::{
    control::{
        ClientRecord, Delivery, InstanceId, JoinSecret, NodeId, Revision, ServerRecord,
        record::{
            self, Capacity, Endpoint, Health, List, LookupResult, PeerRemove, PeerStatus, Ping, Registered, ServerNext,
            SnapshotBegin, SnapshotEnd, Text, UpTo,
        },
    },
    crypto::{Crypto, RustCrypto},
    keys::{NodeKey, ServerSecret},
};

use crate::{
    asked::{Asked, Sought},
    connection::{Connection, End, sleep_until},
    directory::Directory,
    mailbox::{Inbox, Mailbox},
    network::{Question, Step},
    node::{Node, unix_time},
    refusal::Refusal,
    store::{
        nodes::LogOut,
        registration::{RegisterNode, RenewKey},
    },
};

/// How many steps of a netmap are taken from the network at once.
const STEPS_AT_ONCE: usize = 16;
/// How many endpoints a node may have of its own.
const MAX_ENDPOINTS: usize = 16;
/// How many peers a node may watch.
const MAX_WATCHED: usize = 1_024;
/// How many peers a node may hold with on-demand delivery.
const MAX_HELD: usize = 4_096;
/// How long a challenged session has to show that it is still there.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(5);
/// The token of the ping that challenges.
const CHALLENGE: u32 = 0x7765_6674;

const CLONED: &str = "another machine runs with the identity of this one (a copied disk or SD card?): delete the weft \
                      state on one of the two and join it again";

/// What a node says when it registers.
struct Registration {
    register: RegisterNode,
    instance: InstanceId,
    capacity: Option<Capacity>,
    resume: Option<Revision>,
}

/// Serves a connection that was just upgraded, to its end. `registered` is called once the node is registered.
pub(crate) async fn serve(
    directory: Arc<Directory>,
    mut connection: Connection,
    secret: ServerSecret,
    registered: impl FnOnce(),
) {
    let end = match register(&directory, &mut connection, &secret).await {
        Ok((node, registration)) => {
            registered();
            let mut session = Session::begin(directory, connection, secret, node, &registration);
            let end = session.run().await;
            session.detach();
            connection = session.connection;
            end
        }
        Err(end) => end,
    };
    if let End::Broken(error) = &end {
        tracing::debug!(from = %connection.seen_from, "connection ended: {error}");
    }
    connection.finish(&end).await;
}

async fn register(
    directory: &Directory,
    connection: &mut Connection,
    secret: &ServerSecret,
) -> Result<(Arc<Node>, Registration), End> {
    let (mut registration, proof) = connection
        .open(secret, |record| match record {
            ClientRecord::Register(register) => {
                let proof = register.proof;
                Some((Registration::from(register), proof))
            }
            _ => None,
        })
        .await?
        .ok_or(End::Closed)?;
    let register = &mut registration.register;
    register.machine_key = *connection.protocol().machine_key().ok_or(End::Closed)?;
    type Dh = <RustCrypto as Crypto>::Dh;
    if !connection.protocol().verify_node_key::<Dh>(&proof, &register.node_key, secret) {
        return Err(Refusal::NodeKeyProof.into());
    }
    let known = directory.network().node_of_machine(&register.machine_key).cloned();
    if let Some(node) = known.filter(|node| register.is_already(node, directory.now())) {
        return Ok((node, registration));
    }
    let node = directory.change(registration.register.clone()).await?;
    Ok((Arc::new(node), registration))
}

impl From<record::Register<'_>> for Registration {
    fn from(record: record::Register<'_>) -> Self {
        Self {
            register: RegisterNode {
                // The connection knows it; nothing that a record says could.
                machine_key: weft_core::keys::MachineKey::from_bytes([0; 32]),
                node_key: record.node_key,
                join_secret: record.join_secret,
                hostname: record.hostname.as_str().to_owned(),
                os: record.os.as_str().to_owned(),
                agent: record.agent.as_str().to_owned(),
            },
            instance: record.instance,
            capacity: record.capacity,
            resume: record.resume.filter(|_| record.network == Some(crate::store::NETWORK)),
        }
    }
}

struct Session {
    directory: Arc<Directory>,
    connection: Connection,
    secret: ServerSecret,
    mailbox: Arc<Mailbox>,
    node: Arc<Node>,
    room: Option<u32>,
    delivery: Delivery,
    /// The number of the last revision that the node has all of.
    cursor: u64,
    /// The revision of the snapshot that is being sent.
    snapshot: Option<u64>,
    /// Whether the node has to be told how far it is.
    up_to_due: bool,
    /// With on-demand delivery: whether the node has named all the peers that it holds.
    holds_named: bool,
    watched: BTreeSet<NodeId>,
    held: BTreeSet<NodeId>,
    inbox: Inbox,
    /// Whether the node was told last that another machine runs with its identity.
    told_cloned: bool,
    challenge: Option<Monotonic>,
}

/// What a node asks for that takes a change of the store.
enum Wish {
    Renew { node_key: NodeKey, join_secret: Option<JoinSecret> },
    LogOut,
}

impl Session {
    fn begin(
        directory: Arc<Directory>,
        mut connection: Connection,
        secret: ServerSecret,
        node: Arc<Node>,
        registration: &Registration,
    ) -> Self {
        let mailbox = Arc::new(Mailbox::new(directory.next_session_id(), node.id, registration.instance));
        let room = registration.capacity.and_then(|capacity| capacity.peers);
        let (delivery, cursor, snapshot, current, revision) = {
            let mut network = directory.network();
            let delivery = network.delivery(room);
            network.attach(&mailbox, delivery);
            let current = network.node(node.id).cloned().unwrap_or(node);
            let resume = registration.resume.filter(|revision| network.can_resume(*revision));
            let head = network.revision();
            let (cursor, snapshot) = match (delivery, resume) {
                (Delivery::OnDemand, _) => (head.number, None),
                (Delivery::Whole, Some(revision)) => (revision.number, None),
                (Delivery::Whole, None) => (0, Some(head.number)),
            };
            (delivery, cursor, snapshot, current, head)
        };
        let domain = directory.network().domain().to_owned();
        let seen_from = Some(Endpoint(connection.seen_from));
        let time = unix_time(directory.now());
        current.with_self_info(&domain, delivery, |node| {
            let server = Some(Text::cut(env!("CARGO_PKG_VERSION")));
            connection.send(&ServerRecord::Registered(Registered { node, time, seen_from, server }));
        });
        if snapshot.is_some() {
            connection.send(&ServerRecord::SnapshotBegin(SnapshotBegin { revision }));
        }
        let inbox = Inbox { server_keys: true, network_changed: true, ..Inbox::default() };
        Self {
            directory,
            connection,
            secret,
            mailbox,
            node: current,
            room,
            delivery,
            cursor,
            snapshot,
            up_to_due: delivery == Delivery::Whole,
            holds_named: false,
            watched: BTreeSet::new(),
            held: BTreeSet::new(),
            inbox,
            told_cloned: false,
            challenge: None,
        }
    }

    async fn run(&mut self) -> End {
        match self.exchange().await {
            Ok(()) => End::Closed,
            Err(end) => end,
        }
    }

    async fn exchange(&mut self) -> Result<(), End> {
        loop {
            self.take_mail()?;
            self.fill();
            self.connection.write()?;
            if self.connection.has_room() && self.has_work() {
                tokio::task::yield_now().await;
                continue;
            }
            // Who does not take what it asked for is not asked what else it wants.
            let listening = self.connection.has_room();
            if listening && self.receive().await? {
                continue;
            }
            let deadline = self.deadline();
            tokio::select! {
                ready = self.connection.readable(), if listening => { ready?; self.connection.read()?; }
                ready = self.connection.writable(), if self.connection.has_output() => { ready?; self.connection.write()?; }
                () = self.mailbox.filled() => {}
                () = sleep_until(deadline) => self.check_time()?,
            }
        }
    }

    /// Leaves the network.
    fn detach(&self) {
        let mut network = self.directory.network();
        for peer in &self.watched {
            network.unwatch(&self.mailbox, *peer);
        }
        for peer in &self.held {
            network.let_go(&self.mailbox, *peer);
        }
        network.detach(&self.mailbox, self.directory.now());
    }

    fn take_mail(&mut self) -> Result<(), End> {
        let mail = self.mailbox.take();
        if let Some(refusal) = mail.end {
            return Err(refusal.into());
        }
        self.inbox.network_changed |= mail.network_changed;
        self.inbox.self_changed |= mail.self_changed;
        self.inbox.server_keys |= mail.server_keys;
        self.inbox.cloned = mail.cloned.or(self.inbox.cloned);
        self.inbox.held.extend(mail.held);
        self.inbox.statuses.extend(mail.statuses);
        if mail.challenged {
            self.connection.send(&ServerRecord::Ping(Ping { token: CHALLENGE }));
            self.challenge = Some(Monotonic::now() + CHALLENGE_TIMEOUT);
        }
        Ok(())
    }

    fn deadline(&self) -> Monotonic {
        let mut deadline = self.connection.deadline();
        if let Some(challenge) = self.challenge {
            deadline = deadline.min(challenge);
        }
        if let Some(expiry) = self.node.key_expires_at {
            // In steps, since the wall clock may be set meanwhile.
            let left = expiry.saturating_sub(self.directory.now()).clamp(1, 3_600);
            deadline = deadline.min(Monotonic::now() + Duration::from_secs(left));
        }
        deadline
    }

    fn check_time(&mut self) -> Result<(), End> {
        self.connection.check_time()?;
        if self.challenge.is_some_and(|deadline| deadline <= Monotonic::now()) {
            return Err(Refusal::Replaced.into());
        }
        if self.node.is_expired(self.directory.now()) {
            return Err(Refusal::NodeKeyExpired.into());
        }
        Ok(())
    }

    // Sending.

    fn has_work(&self) -> bool {
        self.inbox.network_changed || !self.inbox.held.is_empty() || !self.inbox.statuses.is_empty()
    }

    /// Queues what the node has to be told, as much as there is room for.
    fn fill(&mut self) {
        if std::mem::take(&mut self.inbox.self_changed) {
            self.tell_self();
        }
        if std::mem::take(&mut self.inbox.server_keys) {
            self.tell_server_keys();
        }
        if let Some(cloned) = self.inbox.cloned.take()
            && cloned != std::mem::replace(&mut self.told_cloned, cloned)
        {
            let sentence = Text::cut(if cloned { CLONED } else { "" });
            self.connection.send(&ServerRecord::Health(Health { subject: Health::CLONE, sentence }));
        }
        while self.connection.has_room() && self.inbox.network_changed && self.delivery == Delivery::Whole {
            self.tell_changes();
        }
        while self.connection.has_room()
            && let Some(peer) = self.inbox.held.pop_first()
        {
            self.tell_held(peer);
        }
        if self.delivery == Delivery::OnDemand {
            self.inbox.network_changed = false;
        }
        let answered = self.delivery == Delivery::Whole || self.holds_named;
        if self.up_to_due && answered && self.inbox.held.is_empty() && !self.inbox.network_changed {
            self.tell_up_to();
        }
        while self.connection.has_room()
            && let Some(peer) = self.inbox.statuses.pop_first()
        {
            self.tell_status(peer);
        }
    }

    fn tell_changes(&mut self) {
        let own = self.node.id;
        let directory = self.directory.clone();
        let steps = {
            let mut network = directory.network();
            if self.snapshot.is_none() && network.delivery(self.room) == Delivery::OnDemand {
                network.set_delivery(&self.mailbox, Delivery::OnDemand);
                drop(network);
                self.begin_on_demand();
                return;
            }
            match self.snapshot {
                Some(begun) => network.snapshot(self.cursor, begun, own, STEPS_AT_ONCE),
                None => network.changes(self.cursor, own, STEPS_AT_ONCE),
            }
        };
        self.up_to_due |= steps.up_to != self.cursor;
        self.cursor = steps.up_to;
        for step in &steps.steps {
            self.tell_step(step);
        }
        let revision = directory.network().revision();
        self.inbox.network_changed = self.cursor < revision.number;
        if !self.inbox.network_changed && self.snapshot.take().is_some() {
            self.connection.send(&ServerRecord::SnapshotEnd(SnapshotEnd { revision }));
            self.up_to_due = false;
        }
    }

    /// The network has grown beyond what the node can hold: it goes on with the peers that it names.
    fn begin_on_demand(&mut self) {
        self.delivery = Delivery::OnDemand;
        self.holds_named = false;
        self.up_to_due = false;
        self.tell_self();
    }

    fn tell_step(&mut self, step: &Step) {
        match step {
            Step::Upsert(record) => self.connection.send_encoded(record),
            Step::Remove(id, revision) => {
                self.connection.send(&ServerRecord::PeerRemove(PeerRemove { id: *id, revision: *revision }));
            }
        }
    }

    fn tell_held(&mut self, peer: NodeId) {
        let step = self.directory.network().held_step(peer, None);
        if let Some(step) = step {
            if matches!(step, Step::Remove(..)) {
                self.held.remove(&peer);
            }
            self.tell_step(&step);
        }
        self.up_to_due = true;
    }

    fn tell_up_to(&mut self) {
        let revision = {
            let network = self.directory.network();
            match self.delivery {
                Delivery::Whole => network.revision_of(self.cursor),
                Delivery::OnDemand => network.revision(),
            }
        };
        self.up_to_due = false;
        self.connection.send(&ServerRecord::UpTo(UpTo { revision }));
    }

    fn tell_self(&mut self) {
        let (node, domain) = {
            let network = self.directory.network();
            (network.node(self.node.id).cloned(), network.domain().to_owned())
        };
        if let Some(node) = node {
            self.node = node.clone();
            node.with_self_info(&domain, self.delivery, |info| self.connection.send(&ServerRecord::SelfChanged(info)));
        }
    }

    /// Tells the node which key to trust from now on, where that is not the one that it connected to, and which
    /// addresses the server has.
    fn tell_server_keys(&mut self) {
        let successor = self.directory.keys().successor();
        let key = Some(successor).filter(|key| key != self.connection.protocol().server_key());
        let urls = self.directory.urls();
        let addresses: Vec<Text<'_>> = urls.iter().map(|url| Text::cut(url.as_str())).collect();
        let addresses = List::from(addresses.as_slice());
        self.connection.send(&ServerRecord::ServerNext(ServerNext { key, addresses }));
    }

    fn tell_status(&mut self, peer: NodeId) {
        let Some(status) = self.directory.network().status(peer) else { return };
        let endpoints: Vec<Endpoint> = status.endpoints.iter().copied().map(Endpoint).collect();
        self.connection.send(&ServerRecord::PeerStatus(PeerStatus {
            id: peer,
            online: status.online,
            last_seen: (!status.online).then(|| unix_time(status.last_seen)),
            endpoints: List::from(endpoints.as_slice()),
        }));
    }

    // Receiving.

    /// Does what the next record asks for; false where none was received completely.
    async fn receive(&mut self) -> Result<bool, End> {
        let mut owned = None;
        let found = self.connection.receive(|record| owned = Some(Asked::from(record)))?;
        let Some(asked) = owned else { return Ok(found) };
        match asked {
            Asked::Nothing => {}
            Asked::Pong(token) => {
                if token == CHALLENGE && self.challenge.take().is_some() {
                    self.directory.network().confirm_clone(&self.mailbox);
                }
            }
            Asked::Endpoints(local) => self.set_endpoints(local),
            Asked::Lookup(request, what) => self.look_up(request, what),
            Asked::Watch { add, remove } => self.watch(&add, &remove),
            Asked::Held { add, remove, since, more } => {
                self.hold(&add, &remove, since);
                self.holds_named |= !more;
            }
            Asked::Renew(renew) => {
                type Dh = <RustCrypto as Crypto>::Dh;
                let proven =
                    self.connection.protocol().verify_node_key::<Dh>(&renew.proof, &renew.node_key, &self.secret);
                if !proven {
                    return Err(Refusal::NodeKeyProof.into());
                }
                self.grant(Wish::Renew { node_key: renew.node_key, join_secret: renew.join_secret }).await?;
            }
            Asked::LogOut => self.grant(Wish::LogOut).await?,
        }
        Ok(true)
    }

    async fn grant(&mut self, wish: Wish) -> Result<(), End> {
        let id = self.node.id;
        match wish {
            Wish::Renew { node_key, join_secret } => {
                self.directory.change(RenewKey { id, node_key, join_secret }).await?;
                // Answered also where nothing changed, so that a repeated request gets its answer.
                self.inbox.self_changed = true;
                Ok(())
            }
            Wish::LogOut => {
                self.directory.change(LogOut { id }).await?;
                Err(Refusal::LoggedOut.into())
            }
        }
    }

    fn set_endpoints(&mut self, local: Vec<SocketAddr>) {
        let mut endpoints: Vec<SocketAddr> = Vec::new();
        let port = local.first().map(SocketAddr::port);
        let seen = port.map(|port| SocketAddr::new(self.connection.seen_from.ip().to_canonical(), port));
        for endpoint in local.into_iter().take(MAX_ENDPOINTS).chain(seen) {
            if is_reachable(endpoint) && !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        self.directory.network().set_endpoints(self.node.id, endpoints);
    }

    fn look_up(&mut self, request: u32, what: Option<Sought>) {
        let mut network = self.directory.network();
        let found = what.and_then(|what| {
            let question = match &what {
                Sought::Address(address) => Question::Address(*address),
                Sought::NodeKey(key) => Question::NodeKey(*key),
                Sought::Name(name) => Question::Name(name),
            };
            network.find(question, self.node.id)
        });
        if let Some(peer) = found
            && self.delivery == Delivery::OnDemand
            && self.held.len() < MAX_HELD
            && network.hold(&self.mailbox, peer)
        {
            self.held.insert(peer);
        }
        let step = found.and_then(|peer| network.held_step(peer, None));
        drop(network);
        if let Some(step) = step {
            self.tell_step(&step);
        }
        self.connection.send(&ServerRecord::LookupResult(LookupResult { request, id: found }));
    }

    fn watch(&mut self, add: &[NodeId], remove: &[NodeId]) {
        let mut network = self.directory.network();
        for peer in remove {
            if self.watched.remove(peer) {
                network.unwatch(&self.mailbox, *peer);
            }
        }
        for peer in add {
            if self.watched.len() < MAX_WATCHED && network.watch(&self.mailbox, *peer) {
                self.watched.insert(*peer);
                self.inbox.statuses.insert(*peer);
            }
        }
    }

    fn hold(&mut self, add: &[NodeId], remove: &[NodeId], since: Option<Revision>) {
        for peer in remove {
            if self.held.remove(peer) {
                self.directory.network().let_go(&self.mailbox, *peer);
            }
        }
        let since = since.filter(|since| self.directory.network().can_resume(*since)).map(|since| since.number);
        // With whole delivery every change is told anyhow.
        let (on_demand, own) = (self.delivery == Delivery::OnDemand, self.node.id);
        for peer in add.iter().filter(|peer| on_demand && **peer != own) {
            if self.held.len() < MAX_HELD && self.directory.network().hold(&self.mailbox, *peer) {
                self.held.insert(*peer);
            }
            // Told as fast as the node takes it: one record can name hundreds of peers.
            if self.directory.network().held_step(*peer, since).is_some() {
                self.inbox.held.insert(*peer);
            }
        }
        self.up_to_due = true;
    }
}

/// Whether an endpoint can be one of a node's on a network.
fn is_reachable(endpoint: SocketAddr) -> bool {
    let address = endpoint.ip();
    // Scope ids do not travel, and without one a link-local address names nobody.
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local;
    endpoint.port() != 0 && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, F: Future>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connected_node_costs_a_few_kilobytes() {
        let session = size_of_future(|directory, connection, secret, registered: fn()| {
            serve(directory, connection, secret, registered)
        });
        assert!(session <= 12 * 1_024, "{session} bytes");
    }
}
