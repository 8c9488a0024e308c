//! What a node keeps of one peer: the record that the server sent, in a compact form that borrows nothing.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::texts::{MeshAddresses, Texts};
use crate::{
    control::{
        NodeId,
        record::{Peer, PeerStatus, Text},
    },
    keys::NodeKey,
    limits,
    time::UnixTime,
};

/// Room for a peer's texts (name, system, user, tags) with a separator between each, in bytes.
const TEXT_LEN: usize = limits::PEER_TEXT;
/// The expiry of a key that does not expire.
const NEVER: u64 = u64::MAX;

/// A peer as the server described it last.
#[derive(Clone)]
pub struct PeerRecord {
    id: NodeId,
    key: NodeKey,
    addresses: MeshAddresses,
    /// Seconds since 1970; [`NEVER`] where it does not expire.
    expires_at: u64,
    revision: u64,
    /// Seconds since 1970; zero where it is not known.
    seen_at: u64,
    online: Option<bool>,
    /// Its status was asked for and did not come yet.
    pub(super) status_asked: bool,
    /// Sent or changed since the running snapshot began.
    pub(super) marked: bool,
    /// Name, system, user, then the tags.
    texts: Texts<TEXT_LEN>,
}

impl PeerRecord {
    /// The compact form of `peer`. Of the texts the name always fits; user and tags that do not are left out, since
    /// they are there for people to read. Addresses beyond one of each family are left out.
    pub(super) fn new(peer: &Peer<'_>) -> Self {
        Self {
            id: peer.id,
            key: peer.node_key,
            addresses: MeshAddresses::new(peer.addresses.iter()),
            expires_at: peer.key_expiry.map_or(NEVER, UnixTime::secs),
            revision: peer.revision,
            seen_at: 0,
            online: None,
            status_asked: false,
            marked: false,
            texts: Texts::new(peer.name, peer.os.unwrap_or_default(), peer.user, peer.tags.iter()),
        }
    }

    /// The peer's id in its network.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Its node key.
    pub const fn key(&self) -> &NodeKey {
        &self.key
    }

    /// Its name, without the domain.
    pub fn name(&self) -> &str {
        self.texts.name()
    }

    /// Its operating system; empty where it did not say.
    pub fn os(&self) -> &str {
        self.texts.second()
    }

    /// The user that it belongs to; `None` where it is tagged.
    pub fn user(&self) -> Option<&str> {
        self.texts.user()
    }

    /// Its tags, each with its `tag:`.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.texts.tags()
    }

    /// Its mesh addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.addresses.iter()
    }

    /// Its mesh address of IPv4.
    pub const fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.v4()
    }

    /// Its mesh address of IPv6.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.addresses.v6()
    }

    /// When its node key expires, in whole seconds; `None` where it does not.
    pub fn key_expiry(&self) -> Option<UnixTime> {
        (self.expires_at != NEVER).then(|| UnixTime::new(self.expires_at, 0))
    }

    /// Whether its node key has expired at `unix`.
    pub fn is_expired(&self, unix: UnixTime) -> bool {
        self.expires_at <= unix.secs()
    }

    /// The number of the revision that changed it last.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether it is connected to the server, as far as this node was told lately.
    pub const fn online(&self) -> Option<bool> {
        self.online
    }

    /// When it was last connected to the server, as far as this node was told.
    pub fn last_seen(&self) -> Option<UnixTime> {
        (self.seen_at > 0).then(|| UnixTime::new(self.seen_at, 0))
    }

    pub(super) fn set_status(&mut self, status: &PeerStatus<'_>) {
        self.online = Some(status.online);
        self.seen_at = status.last_seen.map_or(self.seen_at, UnixTime::secs);
    }

    /// What was known by status stays when the record is replaced.
    pub(super) fn keep_status_of(&mut self, former: &Self) {
        self.online = former.online;
        self.seen_at = former.seen_at;
        self.status_asked = former.status_asked;
    }

    pub(super) fn forget_status(&mut self) {
        self.online = None;
        self.status_asked = false;
    }

    /// Gives the record as the server would send it.
    pub(super) fn with_peer<R>(&self, give: impl FnOnce(Peer<'_>) -> R) -> R {
        let addresses = self.addresses.list();
        let mut tags = heapless::Vec::<Text<'_>, { TEXT_LEN / 5 }>::new();
        tags.extend(self.tags().map(Text::cut).take(tags.capacity()));
        give(Peer {
            id: self.id,
            node_key: self.key,
            name: Text::cut(self.name()),
            addresses: addresses.as_slice().into(),
            os: Some(Text::cut(self.os())).filter(|os| !os.as_str().is_empty()),
            user: self.user().map(Text::cut),
            tags: tags.as_slice().into(),
            key_expiry: self.key_expiry(),
            revision: self.revision,
        })
    }
}

impl fmt::Debug for PeerRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerRecord({} {} {:?} {:?})", self.id.0, self.name(), self.v4(), self.v6())
    }
}
