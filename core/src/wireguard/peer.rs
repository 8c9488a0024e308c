//! Peers as the embedder sees them, and the compact record that is kept of every peer the device knows, whether
//! it is in use or not.

use core::{net::SocketAddr, time::Duration};

use super::storage::Slots;
use super::tai64n::Tai64n;
use crate::crypto::hash;
use crate::keys::{NodeKey, PresharedKey};
use crate::time::{Instant, UnixTime};

/// No slot.
const NONE: u32 = u32::MAX;

/// A handle of a peer. It stays valid until the peer is removed, and never means another peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PeerId {
    slot: u32,
    generation: u32,
}

impl PeerId {
    pub(crate) const fn slot(self) -> u32 {
        self.slot
    }
}

/// When a handshake with a peer was last completed, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LastHandshake {
    /// On the monotonic clock.
    pub at: Instant,
    /// On the wall clock, as it stood then.
    pub wall: UnixTime,
}

/// A known peer: its configuration, and what outlives its sessions.
pub struct KnownPeer {
    /// The peer's own key; it means nothing while `in_use` is false.
    key: NodeKey,
    pub(crate) preshared_key: PresharedKey,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) last_handshake: Option<LastHandshake>,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// The key expires at the start of this second since 1970; `u64::MAX` for never.
    pub(crate) not_after_secs: u64,
    /// Greatest timestamp of an authentic initiation.
    pub(crate) greatest_timestamp: Tai64n,
    /// Timestamp of the last initiation to this peer.
    pub(crate) last_sent_timestamp: Tai64n,
    /// How many prefixes are this peer's.
    pub(crate) allowed_ips: u32,
    generation: u32,
    /// The active slot of this peer.
    active: u32,
    /// First peer of the hash bucket that has this slot's number.
    bucket: u32,
    /// Next peer of the same bucket, or next free slot.
    next: u32,
    /// Seconds; zero for off.
    keepalive_secs: u16,
    in_use: bool,
}

impl KnownPeer {
    /// An empty slot.
    pub const EMPTY: Self = Self {
        key: NodeKey::from_bytes([0; 32]),
        preshared_key: PresharedKey::NONE,
        endpoint: None,
        last_handshake: None,
        received_bytes: 0,
        sent_bytes: 0,
        not_after_secs: u64::MAX,
        greatest_timestamp: Tai64n::ZERO,
        last_sent_timestamp: Tai64n::ZERO,
        allowed_ips: 0,
        generation: 0,
        active: NONE,
        bucket: NONE,
        next: NONE,
        keepalive_secs: 0,
        in_use: false,
    };

    pub(crate) const fn key(&self) -> &NodeKey {
        &self.key
    }

    pub(crate) fn active(&self) -> Option<u32> {
        (self.active != NONE).then_some(self.active)
    }

    pub(crate) fn set_active(&mut self, active: Option<u32>) {
        self.active = active.unwrap_or(NONE);
    }

    pub(crate) fn persistent_keepalive(&self) -> Option<Duration> {
        (self.keepalive_secs > 0).then(|| Duration::from_secs(self.keepalive_secs.into()))
    }

    /// Rounds up to whole seconds, at most 65,535.
    pub(crate) fn set_persistent_keepalive(&mut self, interval: Option<Duration>) {
        let secs = interval.map_or(0, |interval| interval.as_millis().div_ceil(1_000));
        self.keepalive_secs = u16::try_from(secs).unwrap_or(u16::MAX);
    }

    pub(crate) fn is_expired(&self, wall: UnixTime) -> bool {
        wall.secs() >= self.not_after_secs
    }
}

impl Default for KnownPeer {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl core::fmt::Debug for KnownPeer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KnownPeer")
            .field("key", &self.key)
            .field("endpoint", &self.endpoint)
            .field("in_use", &self.in_use)
            .finish_non_exhaustive()
    }
}

/// The table of known peers, found by handle or by key.
///
/// The directory of keys is a hash table chained through the records. Since peers choose their keys, the hash is
/// keyed with a secret.
#[derive(Debug)]
pub(crate) struct KnownPeers<K> {
    slots: K,
    len: u32,
    /// First slot of the list of those that were freed.
    free: u32,
    /// Slots from here on were never used.
    untouched: u32,
    /// Buckets in use; records beyond it wait for the directory to be built again.
    buckets: u32,
    hash_key: [u8; 32],
}

impl<K: Slots<KnownPeer>> KnownPeers<K> {
    pub(crate) fn new(slots: K, hash_key: [u8; 32]) -> Self {
        let buckets = u32::try_from(slots.capacity()).unwrap_or(NONE);
        Self { slots, len: 0, free: NONE, untouched: 0, buckets, hash_key }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    /// How many peers there may be at most.
    pub(crate) fn limit(&self) -> usize {
        self.slots.limit()
    }

    pub(crate) fn get(&self, id: PeerId) -> Option<&KnownPeer> {
        self.at(id.slot).filter(|peer| peer.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut KnownPeer> {
        self.at_mut(id.slot).filter(|peer| peer.generation == id.generation)
    }

    /// The peer in a slot.
    pub(crate) fn at(&self, slot: u32) -> Option<&KnownPeer> {
        self.slots.get(slot as usize).filter(|peer| peer.in_use)
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut KnownPeer> {
        self.slots.get_mut(slot as usize).filter(|peer| peer.in_use)
    }

    /// The handle of the peer in a slot.
    pub(crate) fn id_at(&self, slot: u32) -> Option<PeerId> {
        self.at(slot).map(|peer| PeerId { slot, generation: peer.generation })
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = PeerId> + '_ {
        (0..self.untouched).filter_map(|slot| self.id_at(slot))
    }

    pub(crate) fn find(&self, key: &NodeKey) -> Option<PeerId> {
        let mut slot = self.slots.get(self.bucket_of(key)? as usize)?.bucket;
        loop {
            let peer = self.at(slot)?;
            if peer.key == *key {
                return Some(PeerId { slot, generation: peer.generation });
            }
            slot = peer.next;
        }
    }

    /// Takes a slot for a key that is not in the table yet. `None` where the table is full.
    pub(crate) fn add(&mut self, key: NodeKey) -> Option<PeerId> {
        let slot = self.take_free()?;
        let peer = self.slots.get_mut(slot as usize)?;
        peer.key = key;
        peer.in_use = true;
        let id = PeerId { slot, generation: peer.generation };
        self.len = self.len.saturating_add(1);
        self.link(slot);
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: PeerId) {
        if self.get(id).is_none() {
            return;
        }
        self.unlink(id.slot);
        let free = core::mem::replace(&mut self.free, id.slot);
        if let Some(peer) = self.slots.get_mut(id.slot as usize) {
            let (generation, bucket) = (peer.generation, peer.bucket);
            *peer = KnownPeer { generation: generation.wrapping_add(1), bucket, next: free, ..KnownPeer::EMPTY };
        }
        self.len = self.len.saturating_sub(1);
    }

    fn take_free(&mut self) -> Option<u32> {
        if let Some(peer) = self.slots.get(self.free as usize) {
            let slot = core::mem::replace(&mut self.free, peer.next);
            return Some(slot);
        }
        if self.untouched as usize >= self.slots.capacity() {
            if !self.slots.grow() {
                return None;
            }
            // Only once the directory is twice too small, so that growing by chunks stays linear on the whole.
            if self.slots.capacity() / 2 >= self.buckets as usize {
                self.rebuild_directory();
            }
        }
        let slot = self.untouched;
        if slot == NONE {
            return None;
        }
        self.untouched = slot.saturating_add(1);
        Some(slot)
    }

    fn bucket_of(&self, key: &NodeKey) -> Option<u32> {
        let [a, b, c, d, ..] = hash::mac(&self.hash_key, &[key.as_bytes()]);
        u32::from_le_bytes([a, b, c, d]).checked_rem(self.buckets)
    }

    fn link(&mut self, slot: u32) {
        let Some(bucket) = self.at(slot).and_then(|peer| self.bucket_of(&peer.key)) else { return };
        let Some(head) = self.slots.get_mut(bucket as usize) else { return };
        let next = core::mem::replace(&mut head.bucket, slot);
        if let Some(peer) = self.at_mut(slot) {
            peer.next = next;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(peer) = self.at(slot) else { return };
        let (next, bucket) = (peer.next, self.bucket_of(&peer.key));
        let Some(head) = bucket.and_then(|bucket| self.slots.get_mut(bucket as usize)) else { return };
        let mut before = head.bucket;
        if before == slot {
            head.bucket = next;
            return;
        }
        while let Some(peer) = self.at_mut(before) {
            if peer.next == slot {
                peer.next = next;
                return;
            }
            before = peer.next;
        }
    }

    fn rebuild_directory(&mut self) {
        self.buckets = u32::try_from(self.slots.capacity()).unwrap_or(NONE);
        for slot in 0..self.buckets {
            if let Some(peer) = self.slots.get_mut(slot as usize) {
                peer.bucket = NONE;
            }
        }
        for slot in 0..self.untouched {
            self.link(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    /// Grows by three slots at a time, up to 40.
    struct Growing(Vec<KnownPeer>);

    impl Slots<KnownPeer> for Growing {
        fn capacity(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> Option<&KnownPeer> {
            self.0.get(index)
        }

        fn get_mut(&mut self, index: usize) -> Option<&mut KnownPeer> {
            self.0.get_mut(index)
        }

        fn grow(&mut self) -> bool {
            let room = (40 - self.0.len()).min(3);
            self.0.extend((0..room).map(|_| KnownPeer::EMPTY));
            room > 0
        }
    }

    proptest! {
        #[test]
        fn the_directory_agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0u8..60), 1..300)) {
            let mut peers = KnownPeers::new(Growing(Vec::new()), [7; 32]);
            let mut model: BTreeMap<u8, PeerId> = BTreeMap::new();
            let mut stale = Vec::new();
            for (add, number) in steps {
                let key = NodeKey::from_bytes([number; 32]);
                prop_assert_eq!(peers.find(&key), model.get(&number).copied());
                match (add, model.get(&number).copied()) {
                    (true, None) => match peers.add(key) {
                        Some(id) => { model.insert(number, id); }
                        None => prop_assert_eq!(model.len(), 40),
                    },
                    (false, Some(id)) => {
                        peers.remove(id);
                        model.remove(&number);
                        stale.push(id);
                    }
                    _ => {}
                }
                prop_assert_eq!(peers.len(), model.len());
                prop_assert_eq!(peers.ids().count(), model.len());
                prop_assert!(stale.iter().all(|id| peers.get(*id).is_none()));
                for (number, id) in &model {
                    prop_assert_eq!(peers.find(&NodeKey::from_bytes([*number; 32])), Some(*id));
                }
            }
        }
    }
}
