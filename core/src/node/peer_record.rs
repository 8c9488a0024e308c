//! What a node keeps of one peer: the record that the server sent, in a compact form that borrows nothing.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use heapless::String;

use crate::{
    control::{
        NodeId,
        record::{Address, Peer, PeerStatus, Text},
    },
    keys::NodeKey,
    limits,
    time::UnixTime,
};

/// Room for a peer's texts (name, system, user, tags) with a separator between each, in bytes.
const TEXT_LEN: usize = limits::PEER_TEXT;
/// Addresses of one peer at most: one IPv4 and one IPv6.
const MAX_ADDRESSES: usize = 2;
/// The expiry of a key that does not expire.
const NEVER: u64 = u64::MAX;
/// A text of a record has no control characters, so one of them separates.
const SEPARATOR: char = '\0';

/// A peer as the server described it last.
#[derive(Clone)]
pub struct PeerRecord {
    id: NodeId,
    key: NodeKey,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
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
    texts: String<TEXT_LEN>,
}

impl PeerRecord {
    /// The compact form of `peer`. Of the texts the name always fits; user and tags that do not are left out, since
    /// they are there for people to read. Addresses beyond one of each family are left out.
    pub(super) fn new(peer: &Peer<'_>) -> Self {
        let mut record = Self {
            id: peer.id,
            key: peer.node_key,
            v4: None,
            v6: None,
            expires_at: peer.key_expiry.map_or(NEVER, UnixTime::secs),
            revision: peer.revision,
            seen_at: 0,
            online: None,
            status_asked: false,
            marked: false,
            texts: String::new(),
        };
        (record.v4, record.v6) = one_of_each(peer.addresses.iter());
        record.push_text(peer.name, false);
        record.push_text(peer.os.unwrap_or_default(), true);
        record.push_text(peer.user.unwrap_or_default(), true);
        for tag in peer.tags.iter() {
            record.push_text(tag, true);
        }
        record
    }

    fn push_text(&mut self, text: Text<'_>, separate: bool) {
        let before = self.texts.len();
        if separate && self.texts.push(SEPARATOR).is_err() {
            return;
        }
        if self.texts.push_str(text.as_str()).is_err() {
            self.texts.truncate(before + usize::from(separate));
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
        self.text(0)
    }

    /// Its operating system; empty where it did not say.
    pub fn os(&self) -> &str {
        self.text(1)
    }

    /// The user that it belongs to; `None` where it is tagged.
    pub fn user(&self) -> Option<&str> {
        Some(self.text(2)).filter(|user| !user.is_empty())
    }

    /// Its tags, each with its `tag:`.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.texts.split(SEPARATOR).skip(3).filter(|tag| !tag.is_empty())
    }

    fn text(&self, index: usize) -> &str {
        self.texts.split(SEPARATOR).nth(index).unwrap_or_default()
    }

    /// Its mesh addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// Its mesh address of IPv4.
    pub const fn v4(&self) -> Option<Ipv4Addr> {
        self.v4
    }

    /// Its mesh address of IPv6.
    pub const fn v6(&self) -> Option<Ipv6Addr> {
        self.v6
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
        let mut addresses = heapless::Vec::<Address, MAX_ADDRESSES>::new();
        addresses.extend(self.addresses().map(Address));
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
        write!(f, "PeerRecord({} {} {:?} {:?})", self.id.0, self.name(), self.v4, self.v6)
    }
}

/// The first address of each family.
pub(super) fn one_of_each(addresses: impl Iterator<Item = Address>) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let (mut v4, mut v6) = (None, None);
    for Address(address) in addresses {
        match address {
            IpAddr::V4(address) => _ = v4.get_or_insert(address),
            IpAddr::V6(address) if limits::INNER_V6 => _ = v6.get_or_insert(address),
            IpAddr::V6(_) => {}
        }
    }
    (v4, v6)
}
