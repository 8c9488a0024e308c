//! This node's membership: joining, what the server says of this node, its own key's renewal and expiry, leaving.

use core::time::Duration;

use rand_core::CryptoRng;

use super::{
    Identity, Member, Node, NodeStorage, Unkept,
    control_link::Applied,
    event::{Subject, sentence},
    netmap::SelfRecord,
    outbox::StatusWalk,
    reconnect::Ending,
    steps::PublicKeys,
    wall_clock::since,
};
use crate::{
    control::{
        Delivery, ErrorCode, JoinKey, NetworkId, Retry, ServerRecord,
        record::{Error, Registered, SelfInfo, ServerNext},
    },
    crypto::Crypto,
    keys::{NodeKey, NodeSecret},
    time::{Instant, UnixTime},
};

/// A key is renewed so long before it expires, or when a third of its life is left where that is shorter.
const RENEW_BEFORE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A wait that is cut into pieces, since the wall clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// When this node's key is renewed: once for each expiry that the server sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    expiry: UnixTime,
    at: UnixTime,
    begun: bool,
}

/// A deadline moves on even where two clocks round differently.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

impl<S: NodeStorage, C: Crypto> Node<S, C> {
    /// Joins the mesh that `key` is for, or joins the same mesh again. A machine that was member of another server's
    /// mesh becomes a new one. Begins once the agent has kept the identity, and only where the node is
    /// [started](Self::start).
    pub fn join(&mut self, key: &JoinKey, now: Instant, rng: &mut dyn CryptoRng) {
        self.member.join(key, now, rng);
        let started = self.member.running;
        self.end_attempt(now, rng);
        if started {
            self.link.reconnect.start(now);
        }
    }

    /// The node works from now on: connects to the server, and begins handshakes with the peers that it lately had a
    /// session with, without waiting for the server.
    pub fn start(&mut self, now: Instant, wall: UnixTime, rng: &mut dyn CryptoRng) {
        self.member.start(now, wall, rng);
        if self.member.identity.is_some() {
            self.link.reconnect.start(now);
        }
    }

    /// The node rests: its sessions are wiped and no connection to the server is wanted. What it knows stays.
    pub fn stop(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        self.member.running = false;
        self.member.deadlines.own_key = None;
        self.member.device.set_private_key::<C>(None, now);
        self.end_attempt(now, rng);
        self.link.reconnect.stop();
    }

    pub(super) fn end_attempt(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        if self.link.is_connected() {
            self.member.events.close_control = true;
            self.control_closed(now, rng);
        }
    }

    /// Ends the membership at the server; [`NodeEvent::Left`](super::NodeEvent::Left) follows its answer. False where
    /// the server cannot be told now.
    pub fn logout(&mut self) -> bool {
        self.member.outbox.logout = self.link.is_registered();
        self.member.outbox.logout
    }

    /// Begins to replace this node's own key: the new secret is kept, proven to the server, and used once the server
    /// confirmed it. Done by itself before the key expires.
    pub fn renew_node_key(&mut self, rng: &mut dyn CryptoRng) {
        self.member.begin_renewal(rng);
    }

    /// The server has to hear what this node wants anew, at once, where the wait for the next attempt is long.
    pub fn reconnect_now(&mut self, now: Instant) {
        self.link.hurry(now);
    }
}

impl<S: NodeStorage, C: Crypto> Member<S, C> {
    fn join(&mut self, key: &JoinKey, now: Instant, rng: &mut dyn CryptoRng) {
        match &mut self.identity {
            Some(identity) if identity.server == *key.server_key() => {
                identity.join_secret = Some(key.secret().clone());
                identity.addresses = key.addresses().take(identity.addresses.capacity()).collect();
                // The server may take this machine for a new node, whose netmap it has to send whole.
                self.netmap.set_revision(None);
            }
            _ => {
                self.forget_mesh(now);
                self.clock.server_changed();
                self.identity = Some(Identity::new(key, rng));
                self.keys = PublicKeys::default();
                self.unkept = Unkept { identity: true, next_node: false };
            }
        }
        self.last_error = None;
        self.events.persist_identity = true;
        self.key_usable = true;
        self.put_key(now);
    }

    fn start(&mut self, now: Instant, wall: UnixTime, rng: &mut dyn CryptoRng) {
        self.running = true;
        self.key_usable = true;
        self.put_key(now);
        self.check_own_key(now, wall, rng);
        self.reserve_stamps(now, wall);
        self.resume_recent(now);
    }

    /// Writes the floor of stamps ahead where it is near.
    pub(super) fn reserve_stamps(&mut self, now: Instant, wall: UnixTime) {
        if self.clock.wants_floor(now, wall) {
            self.clock.reserve(now, wall);
            if let Some(identity) = &mut self.identity {
                identity.time = self.clock.kept();
                self.events.persist_identity = true;
            }
        }
    }

    /// Applies a record of the server.
    #[inline(never)]
    pub(super) fn apply(
        &mut self,
        record: ServerRecord<'_>,
        now: Instant,
        wall: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Applied {
        // By reference: taken apart, each kind of record would have a place of its own on a chip's stack.
        match &record {
            ServerRecord::Registered(registered) => return self.registered(registered, now, wall, rng),
            ServerRecord::SelfChanged(info) => self.self_changed(info, now, wall, rng),
            ServerRecord::PeerUpsert(peer) => self.upsert_peer(peer, now),
            ServerRecord::PeerRemove(removal) => self.remove_peer(removal.id),
            ServerRecord::PeerStatus(status) => self.peer_status(status, now),
            ServerRecord::SnapshotBegin(_) => {
                self.netmap.begin_snapshot();
                self.events.health |= self.health.set(Subject::NetmapFull, "");
            }
            ServerRecord::SnapshotEnd(end) => self.end_snapshot(end.revision),
            ServerRecord::UpTo(up_to) => {
                self.netmap.set_revision(Some(up_to.revision));
                self.keep_netmap_soon(now);
            }
            ServerRecord::LookupResult(result) => self.lookup_answered(result, now),
            ServerRecord::Ping(_) | ServerRecord::Pong(_) => {}
            ServerRecord::Time(time) => self.clock.hear(time.time, now, wall),
            ServerRecord::Health(health) => {
                self.events.health |= self.health.set(Subject::Server(health.subject), health.sentence);
            }
            ServerRecord::ServerNext(next) => self.server_next(next),
            ServerRecord::Error(error) => return self.refused(error, now),
        }
        Applied::Go
    }

    #[inline(never)]
    fn registered(
        &mut self,
        registered: &Registered<'_>,
        now: Instant,
        wall: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Applied {
        self.clock.hear(registered.time, now, wall);
        if self.netmap.own().is_some_and(|own| own.id() != registered.node.id) {
            // Another node now, for instance since this one was removed and joined again.
            self.forget_mesh(now);
        }
        self.last_error = None;
        if let Some(identity) = &mut self.identity
            && identity.join_secret.take().is_some()
        {
            self.events.persist_identity = true;
        }
        self.self_changed(&registered.node, now, wall, rng);
        self.contacts.forget_watches();
        self.outbox.connected(registered.node.delivery == Delivery::OnDemand);
        self.lookups.connected();
        self.outbox.renew = self.identity.as_ref().is_some_and(|identity| identity.next_node.is_some());
        self.events.registered = true;
        Applied::Registered
    }

    #[inline(never)]
    fn self_changed(&mut self, info: &SelfInfo<'_>, now: Instant, wall: UnixTime, rng: &mut dyn CryptoRng) {
        let network = self.identity.as_ref().map_or(NetworkId::UNKNOWN, |identity| identity.network);
        self.confirm_key(&info.node_key, now);
        let whole_before = self.netmap.own().is_some_and(|own| own.delivery() == Delivery::Whole);
        self.netmap.set_own(SelfRecord::new(network, info));
        if whole_before && info.delivery == Delivery::OnDemand {
            // The network outgrew this node: from here on the server knows of the peers that it names.
            self.outbox.held_from = Some(0);
            self.shrink(now);
        }
        self.events.self_changed = true;
        self.keep_netmap_soon(now);
        self.check_own_key(now, wall, rng);
    }

    /// The network that the connection turned out to belong to.
    pub(super) fn network_known(&mut self, network: NetworkId) {
        if let Some(identity) = &mut self.identity
            && identity.network != network
        {
            identity.network = network;
            self.events.persist_identity = true;
        }
        if let Some(own) = self.netmap.own_mut() {
            own.set_network(network);
        }
    }

    /// The server has this node key now: where that is the next one, it takes the place of the one in use.
    fn confirm_key(&mut self, key: &NodeKey, now: Instant) {
        if self.keys.next_node.as_ref() != Some(key) {
            return;
        }
        if let Some(identity) = &mut self.identity
            && let Some(next) = identity.next_node.take()
        {
            identity.node = next;
            self.keys.node = self.keys.next_node.take();
            self.events.persist_identity = true;
            self.put_key(now);
            // Peers drop their sessions with the old key; whoever only receives would wait for them to notice.
            self.resume_rekeyed(now);
        }
    }

    fn begin_renewal(&mut self, rng: &mut dyn CryptoRng) {
        let Some(identity) = &mut self.identity else { return };
        if identity.next_node.is_none() {
            identity.next_node = Some(NodeSecret::generate(rng));
            self.keys.next_node = None;
            self.unkept.next_node = true;
            self.events.persist_identity = true;
        }
        self.outbox.renew = true;
    }

    /// Puts this node's key out of use where it expired, back into use where that is not so any more, and begins its
    /// renewal in time.
    pub(super) fn check_own_key(&mut self, now: Instant, wall: UnixTime, rng: &mut dyn CryptoRng) {
        self.deadlines.own_key = None;
        let Some(expiry) = self.netmap.own().and_then(SelfRecord::key_expiry) else {
            return self.use_own_key(true, now);
        };
        if !self.running {
            return;
        }
        let time = self.clock.time(now, wall);
        let left = since(expiry, time);
        self.use_own_key(!left.is_zero(), now);
        if left.is_zero() {
            // Not by itself: what else would follow needs the server or a person.
            return;
        }
        let renewal = match self.renewal {
            Some(renewal) if renewal.expiry == expiry => renewal,
            _ => Renewal { expiry, at: time + left.saturating_sub(RENEW_BEFORE.min(left / 3)), begun: false },
        };
        let due = !renewal.begun && renewal.at <= time;
        self.renewal = Some(Renewal { begun: renewal.begun || due, ..renewal });
        if due {
            self.begin_renewal(rng);
        }
        let next = if renewal.begun || due { left } else { since(renewal.at, time) };
        self.deadlines.own_key = Some(now + next.clamp(SHORTEST_WAIT, LONGEST_WAIT));
    }

    fn use_own_key(&mut self, usable: bool, now: Instant) {
        if !self.running {
            return;
        }
        if self.key_usable != usable {
            self.key_usable = usable;
            self.put_key(now);
            self.events.key_expired |= !usable;
        }
    }

    #[inline(never)]
    fn server_next(&mut self, next: &ServerNext<'_>) {
        let Some(identity) = &mut self.identity else { return };
        let before = (identity.next_server, identity.addresses.clone());
        identity.next_server = next.key.filter(|key| *key != identity.server);
        let addresses: heapless::Vec<_, { super::MAX_SERVER_ADDRESSES }> = next
            .addresses
            .iter()
            .filter_map(|text| text.as_str().parse().ok())
            .take(super::MAX_SERVER_ADDRESSES)
            .collect();
        if !addresses.is_empty() {
            identity.addresses = addresses;
        }
        self.events.persist_identity |= before != (identity.next_server, identity.addresses.clone());
    }

    /// The server registered this node under the key that it had announced.
    pub(super) fn server_key_replaced(&mut self) {
        if let Some(identity) = &mut self.identity
            && let Some(next) = identity.next_server.take()
        {
            identity.server = next;
            self.events.persist_identity = true;
        }
    }

    #[inline(never)]
    fn refused(&mut self, error: &Error<'_>, now: Instant) -> Applied {
        self.last_error = Some((Some(error.code), sentence(error.sentence)));
        self.events.server_error = Some(error.code);
        if matches!(error.code, ErrorCode::NodeRemoved | ErrorCode::LoggedOut) {
            self.forget_mesh(now);
            self.events.left = true;
            return Applied::Left;
        }
        let ending = match error.code.retry() {
            Retry::Later if error.code == ErrorCode::Busy => Ending::Busy,
            Retry::Later => Ending::Broken,
            _ => Ending::Refused,
        };
        let retry_after = error.retry_after.map(|secs| Duration::from_secs(secs.into()).min(LONGEST_WAIT));
        Applied::Ended { ending, retry_after }
    }

    /// The connection ended: what the server said of the moment is not known any more.
    pub(super) fn disconnected(&mut self) {
        self.netmap.forget_status();
        self.contacts.forget_watches();
        self.strangers.clear();
        self.outbox.status = StatusWalk::Idle;
        self.status_waiting = 0;
        self.events.health |= self.health.forget_server();
    }

    /// Forgets peers, sessions and what the server said of this node.
    fn forget_mesh(&mut self, now: Instant) {
        self.clear_peers();
        self.netmap.clear();
        self.contacts.clear();
        self.renewal = None;
        self.deadlines.own_key = None;
        self.events.persist_netmap = true;
        self.events.persist_recent = true;
        self.events.peers_changed = true;
        let _ = now;
    }
}
