//! The netmap: this node as the server knows it, the peers that it may reach, and how far the two are up to date.
//!
//! Records live in slots that the caller gives, each at the number of its peer's slot in the WireGuard device, so
//! that a key or an inner address leads here through the tables which the device has anyway; an index leads here from
//! an id. Knows nothing of sessions and connections; the composition keeps device and netmap in step.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    id_index::{self, IdEntry},
    peer_record::PeerRecord,
    texts::{MeshAddresses, Texts},
};
use crate::{
    control::{
        Delivery, NetworkId, NodeId, Revision,
        record::{SelfInfo, Text},
    },
    keys::NodeKey,
    limits,
    time::UnixTime,
    wireguard::storage::Slots,
};

/// This node as the server knows it.
#[derive(Clone, Debug)]
pub struct SelfRecord {
    network: NetworkId,
    id: NodeId,
    key: NodeKey,
    addresses: MeshAddresses,
    key_expiry: Option<UnixTime>,
    delivery: Delivery,
    /// Name, domain, user, then the tags.
    texts: Texts<{ limits::SELF_TEXT }>,
}

impl SelfRecord {
    /// The form that is kept. Texts that do not fit are left out.
    pub(super) fn new(network: NetworkId, info: &SelfInfo<'_>) -> Self {
        Self {
            network,
            id: info.id,
            key: info.node_key,
            addresses: MeshAddresses::new(info.addresses.iter()),
            key_expiry: info.key_expiry,
            delivery: info.delivery,
            texts: Texts::new(info.name, info.domain, info.user, info.tags.iter()),
        }
    }

    /// The network that this node is a member of.
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    pub(super) fn set_network(&mut self, network: NetworkId) {
        self.network = network;
    }

    /// This node's id.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The node key that the server has.
    pub const fn key(&self) -> &NodeKey {
        &self.key
    }

    /// This node's name, without the domain.
    pub fn name(&self) -> &str {
        self.texts.name()
    }

    /// The domain that names of this network stand under.
    pub fn domain(&self) -> &str {
        self.texts.second()
    }

    /// The user that this node belongs to; `None` where it is tagged.
    pub fn user(&self) -> Option<&str> {
        self.texts.user()
    }

    /// Its tags, each with its `tag:`.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.texts.tags()
    }

    /// This node's mesh addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.addresses.iter()
    }

    /// This node's mesh address of IPv4.
    pub const fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.v4()
    }

    /// This node's mesh address of IPv6.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.addresses.v6()
    }

    /// When this node's key expires; `None` where it does not.
    pub const fn key_expiry(&self) -> Option<UnixTime> {
        self.key_expiry
    }

    /// Whether this node's key has expired at `unix`.
    pub fn is_expired(&self, unix: UnixTime) -> bool {
        self.key_expiry.is_some_and(|expiry| expiry <= unix)
    }

    /// Whether the server sends the whole netmap or peers on demand.
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Gives the record as the server would send it.
    pub(super) fn with_info<R>(&self, give: impl FnOnce(SelfInfo<'_>) -> R) -> R {
        let addresses = self.addresses.list();
        let mut tags = heapless::Vec::<Text<'_>, 64>::new();
        tags.extend(self.tags().map(Text::cut).take(tags.capacity()));
        give(SelfInfo {
            id: self.id,
            node_key: self.key,
            name: Text::cut(self.name()),
            addresses: addresses.as_slice().into(),
            domain: Text::cut(self.domain()),
            delivery: self.delivery,
            key_expiry: self.key_expiry,
            user: self.user().map(Text::cut),
            tags: tags.as_slice().into(),
        })
    }
}

/// One slot of the netmap.
pub type PeerSlot = Option<PeerRecord>;

/// No slot is left for one more peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NetmapFull;

/// The netmap over tables that the caller gives.
#[derive(Debug)]
pub struct Netmap<P, I> {
    peers: P,
    ids: I,
    count: usize,
    revision: Option<Revision>,
    own: Option<SelfRecord>,
}

impl<P: Slots<PeerSlot>, I: Slots<IdEntry>> Netmap<P, I> {
    /// An empty netmap over empty tables. `ids` wants half as many places again as `peers` has.
    pub(super) const fn new(peers: P, ids: I) -> Self {
        Self { peers, ids, count: 0, revision: None, own: None }
    }

    /// This node as the server knows it; `None` before it registered for the first time.
    pub const fn own(&self) -> Option<&SelfRecord> {
        self.own.as_ref()
    }

    /// How far the netmap is up to date; `None` where it never was.
    pub const fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// The number of peers.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no peer.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every peer, in no order that means anything.
    pub fn peers(&self) -> impl Iterator<Item = &PeerRecord> {
        (0..self.peers.capacity()).filter_map(|slot| self.at(slot))
    }

    /// Every peer from a cursor on, each with the cursor behind it, for whoever takes the peers piece by piece while the
    /// netmap may change. The first cursor is zero. A peer that does not change meanwhile comes exactly once.
    pub fn peers_from(&self, cursor: usize) -> impl Iterator<Item = (usize, &PeerRecord)> {
        (cursor..self.peers.capacity()).filter_map(|slot| Some((slot + 1, self.at(slot)?)))
    }

    /// The peer with this id.
    pub fn by_id(&self, id: NodeId) -> Option<&PeerRecord> {
        self.at(self.slot_of(id)?)
    }

    /// The peer with this name (without the domain), whatever the case of its letters. Looks at every peer.
    pub fn by_name(&self, name: &str) -> Option<&PeerRecord> {
        self.peers().find(|peer| peer.name().eq_ignore_ascii_case(name))
    }

    /// The slot of the peer with this id.
    pub(super) fn slot_of(&self, id: NodeId) -> Option<usize> {
        id_index::find(&self.ids, id)
    }

    /// The peer in a slot.
    pub(super) fn at(&self, slot: usize) -> Option<&PeerRecord> {
        self.peers.get(slot)?.as_ref()
    }

    /// The peer in a slot, to change. Its id stays.
    pub(super) fn at_mut(&mut self, slot: usize) -> Option<&mut PeerRecord> {
        self.peers.get_mut(slot)?.as_mut()
    }

    /// How many slots there are now, full or empty.
    pub(super) fn capacity(&self) -> usize {
        self.peers.capacity()
    }

    /// Puts a record into a slot, in place of the one there with the same id, or into an empty one.
    pub(super) fn put(&mut self, slot: usize, record: PeerRecord) -> Result<(), NetmapFull> {
        while self.peers.capacity() <= slot {
            if !self.peers.grow() {
                return Err(NetmapFull);
            }
        }
        if self.at(slot).is_some_and(|former| former.id() != record.id()) {
            self.take(slot);
        }
        self.index(record.id(), slot)?;
        let place = self.peers.get_mut(slot).ok_or(NetmapFull)?;
        self.count += usize::from(place.is_none());
        *place = Some(record);
        Ok(())
    }

    fn index(&mut self, id: NodeId, slot: usize) -> Result<(), NetmapFull> {
        // Probing slows down as the table fills, so it grows while a quarter is free.
        let crowded = (self.count + 1) * 4 > self.ids.capacity() * 3;
        if crowded && self.ids.grow() {
            // Twice as large, so that filling it anew stays linear on the whole.
            let wanted = self.ids.capacity() * 2;
            while self.ids.capacity() < wanted && self.ids.grow() {}
            id_index::clear(&mut self.ids);
            for slot in 0..self.peers.capacity() {
                if let Some(peer) = self.peers.get(slot).and_then(Option::as_ref) {
                    id_index::insert(&mut self.ids, peer.id(), slot).map_err(|_| NetmapFull)?;
                }
            }
        }
        id_index::insert(&mut self.ids, id, slot).map_err(|_| NetmapFull)
    }

    /// Empties a slot.
    pub(super) fn take(&mut self, slot: usize) -> Option<PeerRecord> {
        let record = self.peers.get_mut(slot)?.take()?;
        id_index::remove(&mut self.ids, record.id());
        self.count -= 1;
        Some(record)
    }

    pub(super) fn set_own(&mut self, own: SelfRecord) {
        self.own = Some(own);
    }

    pub(super) fn own_mut(&mut self) -> Option<&mut SelfRecord> {
        self.own.as_mut()
    }

    /// What statuses are waited for does not count any more.
    pub(super) fn forget_asked(&mut self) {
        for slot in 0..self.peers.capacity() {
            if let Some(peer) = self.at_mut(slot) {
                peer.status_asked = false;
            }
        }
    }

    /// Who is connected to the server is not known any more.
    pub(super) fn forget_status(&mut self) {
        for slot in 0..self.peers.capacity() {
            if let Some(peer) = self.at_mut(slot) {
                peer.forget_status();
            }
        }
    }

    pub(super) fn set_revision(&mut self, revision: Option<Revision>) {
        self.revision = revision;
    }

    /// A snapshot begins: what it does not name is swept at its end.
    pub(super) fn begin_snapshot(&mut self) {
        for slot in 0..self.peers.capacity() {
            if let Some(peer) = self.at_mut(slot) {
                peer.marked = false;
            }
        }
    }

    /// A peer at or behind slot `from` that the running snapshot did not name.
    pub(super) fn unmarked(&self, from: usize) -> Option<usize> {
        (from..self.peers.capacity()).find(|&slot| self.at(slot).is_some_and(|peer| !peer.marked))
    }

    /// Forgets this node, all peers and the revision.
    pub(super) fn clear(&mut self) {
        for slot in 0..self.peers.capacity() {
            if let Some(place) = self.peers.get_mut(slot) {
                *place = None;
            }
        }
        id_index::clear(&mut self.ids);
        self.count = 0;
        self.revision = None;
        self.own = None;
    }
}
