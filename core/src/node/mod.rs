//! A mesh node: control client, WireGuard device and netmap composed, as both agents drive it.
//!
//! A [`Node`] decides; its agent carries. The agent
//!
//! - gives the tables, the time and randomness, and, at the start, what was kept of the last run: first
//!   [`restore_identity`](Node::restore_identity), then every record to
//!   [`restore_netmap_record`](Node::restore_netmap_record), then
//!   [`restore_recent_peers`](Node::restore_recent_peers), then [`start`](Node::start). The first time instead:
//!   [`join`](Node::join);
//! - carries the bytes of one TCP connection to the server: when [`next_connect`](Node::next_connect) is due it connects,
//!   and says [`control_connected`](Node::control_connected) or [`control_closed`](Node::control_closed); then
//!   [`control_receive`](Node::control_receive) and [`control_transmit`](Node::control_transmit);
//! - where it must not compute for long at a stretch, calls [`step`](Node::step) while [`needs_step`](Node::needs_step)
//!   says so, before each of the other calls, and drives handshakes of the device by tickets;
//! - carries datagrams and inner packets through the [`device`](Node::device_mut), to which it passes
//!   [`time`](Node::time) as the wall clock. To where an initiation goes, [`targets`](Node::targets) says. After each
//!   batch it calls [`device_changed`](Node::device_changed);
//! - calls [`handle_timeout`](Node::handle_timeout) when [`poll_timeout`](Node::poll_timeout) has come;
//! - after any of these collects [`poll_event`](Node::poll_event) and sends what
//!   [`control_transmit`](Node::control_transmit) has.
//!
//! Nothing here stops when the server does: the netmap of the last run serves until the server is back, key expiry is
//! judged by this node itself, and after a restart handshakes with lately used peers begin without the server.
//!
//! This module knows nothing of sockets, files and interfaces. `netmap` knows nothing of connections, `contact` and
//! `reconnect` nothing of records; `peers` keeps netmap and device in step and is the only place that does.

mod contact;
mod control_link;
mod departed;
mod endpoint_list;
mod event;
mod id_index;
mod identity;
mod keep;
mod lookup;
mod membership;
mod netmap;
mod outbox;
mod peer_record;
mod peers;
mod reach;
mod reconnect;
mod room;
mod sought;
mod steps;
mod strangers;
mod texts;
mod wall_clock;

#[cfg(test)]
#[path = "../../tests/harness/rng.rs"]
mod test_rng;

use core::{marker::PhantomData, net::SocketAddr};

use rand_core::CryptoRng;

pub use contact::{Contact, ContactSlot};
pub use control_link::ControlState;
pub use endpoint_list::{EndpointList, MAX_CANDIDATES};
pub use event::{MAX_SENTENCE, NodeEvent, Persist, Sentence};
pub use id_index::IdEntry;
pub use identity::{DamagedIdentity, Identity, MAX_IDENTITY, MAX_SERVER_ADDRESSES};
pub use keep::{DamagedRecord, MAX_RECENT_LEN, MAX_RECENT_PEERS};
pub use netmap::{Netmap, PeerSlot, SelfRecord};
pub use peer_record::PeerRecord;
pub use room::RoomCounters;
pub use sought::Resolution;
pub use wall_clock::{KeptTime, Skew};

use contact::Contacts;
use control_link::Link;
use departed::Departed;
use event::{Events, Health};
use lookup::{Lookups, Name};
use membership::Renewal;
use outbox::Outbox;
use room::Newcomers;
use steps::PublicKeys;
use strangers::Strangers;
use wall_clock::WallClock;

use crate::{
    control::{ErrorCode, InstanceId, record::Capacity},
    crypto::{Crypto, RustCrypto},
    limits,
    time::{Instant, UnixTime},
    wireguard::{
        Device,
        storage::{Slots, Storage, Tables},
    },
};

/// The kinds of table that a node works on.
pub trait NodeStorage {
    /// The tables of the WireGuard device.
    type Device: Storage;
    /// Records of peers, as many as the device knows peers.
    type Peers: Slots<PeerSlot>;
    /// The index of peers by id, half as many places again.
    type Ids: Slots<IdEntry>;
    /// Peers in contact, as many as the device has active peers.
    type Contacts: Slots<ContactSlot>;
}

/// The tables of a node, all of them empty at first.
#[expect(missing_debug_implementations, reason = "tables hold keys and inner packets")]
pub struct NodeTables<S: NodeStorage> {
    /// See [`NodeStorage::Device`].
    pub device: Tables<S::Device>,
    /// See [`NodeStorage::Peers`].
    pub peers: S::Peers,
    /// See [`NodeStorage::Ids`].
    pub ids: S::Ids,
    /// See [`NodeStorage::Contacts`].
    pub contacts: S::Contacts,
}

/// What a node tells the server of itself.
#[derive(Clone, Debug, Default)]
pub struct NodeConfig {
    /// The name that it would like.
    pub hostname: heapless::String<63>,
    /// The operating system, for instance `linux`.
    pub os: &'static str,
    /// The version of the agent.
    pub agent: &'static str,
    /// What it can hold; `None` where that does not matter.
    pub capacity: Option<Capacity>,
}

/// A mesh node. See the [module](self) for how to drive it.
pub struct Node<S: NodeStorage, C: Crypto = RustCrypto> {
    link: Link,
    member: Member<S, C>,
}

/// Everything of a node but its connection, so that a record that the connection still holds can be applied.
struct Member<S: NodeStorage, C: Crypto> {
    config: NodeConfig,
    instance: InstanceId,
    device: Device<S::Device>,
    netmap: Netmap<S::Peers, S::Ids>,
    contacts: Contacts<S::Contacts>,
    identity: Option<Identity>,
    keys: PublicKeys,
    unkept: Unkept,
    clock: WallClock,
    local_endpoints: EndpointList,
    outbox: Outbox,
    lookups: Lookups,
    strangers: Strangers,
    newcomers: Newcomers,
    departed: Departed,
    pinned: heapless::Vec<Name, { limits::PINNED }>,
    room: RoomCounters,
    events: Events,
    health: Health,
    last_error: Option<(Option<ErrorCode>, Sentence)>,
    deadlines: Deadlines,
    /// Statuses that were asked for and did not come yet.
    status_waiting: u32,
    renewal: Option<Renewal>,
    running: bool,
    /// This node's own key has not expired.
    key_usable: bool,
    crypto: PhantomData<fn() -> C>,
}

/// Secrets that are not kept yet, and that the server must not hear of before.
#[derive(Clone, Copy, Debug, Default)]
struct Unkept {
    /// Those of the machine and the node.
    identity: bool,
    /// That of the node's next key.
    next_node: bool,
}

/// What becomes due by itself, besides connection, contacts and device.
#[derive(Clone, Copy, Debug, Default)]
struct Deadlines {
    /// This node's own key expires or wants to be renewed.
    own_key: Option<Instant>,
    keep_netmap: Option<Instant>,
    keep_recent: Option<Instant>,
    /// Recent peers are not kept again before.
    recent_not_before: Instant,
}

impl<S: NodeStorage, C: Crypto> Node<S, C> {
    /// A node that is member of no mesh yet.
    pub fn new(config: NodeConfig, tables: NodeTables<S>, rng: &mut dyn CryptoRng) -> Self {
        Self {
            link: Link::new(),
            member: Member {
                config,
                instance: InstanceId(rng.next_u64()),
                device: Device::new(tables.device, rng),
                netmap: Netmap::new(tables.peers, tables.ids),
                contacts: Contacts::new(tables.contacts),
                identity: None,
                keys: PublicKeys::default(),
                unkept: Unkept::default(),
                clock: WallClock::new(KeptTime::default()),
                local_endpoints: EndpointList::new(),
                outbox: Outbox::new(),
                lookups: Lookups::new(rng),
                strangers: Strangers::new(),
                newcomers: Newcomers::new(),
                departed: Departed::new(rng),
                pinned: heapless::Vec::new(),
                room: RoomCounters::default(),
                events: Events::default(),
                health: Health::default(),
                last_error: None,
                deadlines: Deadlines::default(),
                status_waiting: 0,
                renewal: None,
                running: false,
                key_usable: true,
                crypto: PhantomData,
            },
        }
    }

    /// The WireGuard device.
    pub const fn device(&self) -> &Device<S::Device> {
        &self.member.device
    }

    /// The WireGuard device, for the data path. Keys and peers are this node's to set.
    pub const fn device_mut(&mut self) -> &mut Device<S::Device> {
        &mut self.member.device
    }

    /// This node as the server knows it, and its peers.
    pub const fn netmap(&self) -> &Netmap<S::Peers, S::Ids> {
        &self.member.netmap
    }

    /// Which time it is, for the device and for people: the server's, carried on; before it was heard, this machine's,
    /// but never before the last time that the server was known to have.
    pub fn time(&self, now: Instant, wall: UnixTime) -> UnixTime {
        self.member.clock.time(now, wall)
    }

    /// How this machine's clock stands to the server's.
    pub const fn clock_skew(&self) -> Skew {
        self.member.clock.skew()
    }

    /// Sentences that a status shows a person.
    pub fn health(&self) -> impl Iterator<Item = &str> {
        self.member.health.sentences()
    }

    /// Why the server refused this node or the last connection ended: the server's code, where it said one, and a
    /// sentence. Gone once the server registered this node.
    pub fn last_error(&self) -> Option<(Option<ErrorCode>, &str)> {
        self.member.last_error.as_ref().map(|(code, sentence)| (*code, sentence.as_str()))
    }

    /// The UDP endpoints at which this node may be reached on its own interfaces, the likeliest first. Called at the
    /// start and when they change. What no peer can use is left out.
    pub fn set_local_endpoints(&mut self, endpoints: &[SocketAddr], now: Instant) {
        let endpoints: EndpointList = endpoints.iter().copied().collect();
        if endpoints == self.member.local_endpoints {
            return;
        }
        let former = core::mem::replace(&mut self.member.local_endpoints, endpoints);
        self.member.outbox.endpoints = true;
        if former.iter().any(|endpoint| !self.member.local_endpoints.contains(endpoint)) {
            self.member.resume_moved(now);
        }
        // A new network may have the server where the old one had not.
        self.link.hurry(now);
    }

    /// The endpoints of the last [`set_local_endpoints`](Self::set_local_endpoints).
    pub const fn local_endpoints(&self) -> &EndpointList {
        &self.member.local_endpoints
    }

    /// Asks for another name from now on; a server that has registered this node under the former one is told at once,
    /// over a new connection. What is longer than a DNS label is cut.
    pub fn set_hostname(&mut self, name: &str, now: Instant, rng: &mut dyn CryptoRng) {
        let hostname = &mut self.member.config.hostname;
        hostname.clear();
        let _ = name.chars().try_for_each(|c| hostname.push(c));
        self.end_attempt(now, rng);
        self.link.hurry(now);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.member.events.poll()
    }

    /// When [`handle_timeout`](Self::handle_timeout) or the device's `poll` has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let member = &self.member;
        [
            self.needs_step().then_some(Instant::ZERO),
            self.link.poll_timeout(),
            member.device.poll_timeout(),
            member.contacts.poll_timeout().filter(|_| member.running),
            member.deadlines.own_key,
            member.deadlines.keep_netmap,
            member.deadlines.keep_recent,
            member.newcomers.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due, the device's packets excepted, and takes note of what happened in the device.
    pub fn handle_timeout(&mut self, now: Instant, wall: UnixTime, rng: &mut dyn CryptoRng) {
        self.finish_steps(now, rng);
        self.device_changed(now);
        self.link_timeout(now, rng);
        let member = &mut self.member;
        let due = |deadline: &mut Option<Instant>| deadline.take_if(|due| *due <= now).is_some();
        member.events.persist_netmap |= due(&mut member.deadlines.keep_netmap);
        if due(&mut member.deadlines.keep_recent) {
            member.events.persist_recent = true;
            // Recent peers mean nothing without their records.
            member.events.persist_netmap |= member.deadlines.keep_netmap.take().is_some();
            member.deadlines.recent_not_before = now + member.recent_interval();
        }
        if due(&mut member.deadlines.own_key) {
            member.check_own_key(now, wall, rng);
        }
        member.newcomers_due(now);
        member.contacts_due(now);
    }

    /// Takes note of what happened in the device. Called after each batch that went through it.
    pub fn device_changed(&mut self, now: Instant) {
        while let Some(event) = self.member.device.poll_event() {
            self.member.device_event(event, now);
        }
    }
}

impl<S: NodeStorage, C: Crypto> core::fmt::Debug for Node<S, C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node")
            .field("own", &self.member.netmap.own())
            .field("peers", &self.member.netmap.len())
            .field("revision", &self.member.netmap.revision())
            .finish_non_exhaustive()
    }
}
