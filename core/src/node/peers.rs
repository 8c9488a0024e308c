//! Peers come, change and go: the only place that keeps the netmap and the device's peers in step.
//!
//! A record lives at the slot of its peer in the device. What the server says of a peer is applied to both at once, and a
//! peer that is gone is gone from both before the call returns, with its sessions.

use super::{Contact, Member, NodeEvent, NodeStorage, PeerRecord, event::Subject, outbox};
use crate::{
    control::{
        NodeId, Revision,
        record::{Peer, PeerStatus},
    },
    crypto::Crypto,
    ip::IpPrefix,
    time::Instant,
    wireguard::{Device, PeerId, PeerState},
};

impl<S: NodeStorage, C: Crypto> Member<S, C> {
    /// A peer as it is now.
    #[inline(never)]
    pub(super) fn upsert_peer(&mut self, peer: &Peer<'_>, now: Instant) {
        if self.netmap.own().is_some_and(|own| own.id() == peer.id) {
            return;
        }
        let mut record = PeerRecord::new(peer);
        record.marked = true;
        let former = self.netmap.slot_of(record.id());
        if let Some(former) = former.and_then(|slot| self.netmap.at(slot)) {
            record.keep_status_of(former);
        }
        // Whoever else had this key has it no more: one node's key is never another's.
        let holder = self.device.peer_by_key(record.key()).map(|holder| holder.slot() as usize);
        if let Some(other) = holder.filter(|slot| Some(*slot) != former).and_then(|slot| self.netmap.at(slot)) {
            self.remove_peer(other.id());
        }
        let rekeyed = former.filter(|slot| self.netmap.at(*slot).is_some_and(|former| former.key() != record.key()));
        let mut was_live = false;
        if let Some(slot) = rekeyed {
            was_live = self.is_live(record.id(), now);
            self.drop_slot(slot);
        }
        if former.is_none() && !self.admit(&record, now) {
            return self.unhold(record.id());
        }
        let Ok(device_peer) = self.device.add_peer(record.key()) else {
            self.newcomers.forget(record.id());
            match self.is_on_demand() {
                true => self.unhold(record.id()),
                false => self.note_full(),
            }
            return;
        };
        self.device.set_greatest_timestamp(device_peer, self.departed.timestamp(record.key()));
        let awaited = self.newcomers.is_awaited(record.id());
        self.configure(device_peer, &record, former.is_some() && rekeyed.is_none());
        let id = record.id();
        if self.netmap.put(device_peer.slot() as usize, record).is_err() {
            self.device.remove_peer(device_peer);
            self.newcomers.forget(id);
            self.note_full();
            return;
        }
        self.events.peer(NodeEvent::PeerUpserted(id));
        self.keep_netmap_soon(now);
        if former.is_none() && awaited {
            // It has to prove itself, and the packet that it was asked for is sent again soon.
            let _ = self.device.initiate(device_peer, now);
        }
        if was_live {
            self.contacts.resume_at(id, now + super::reach::REKEYED_DELAY);
        }
    }

    fn note_full(&mut self) {
        let sentence = "This node knows as many peers as it has room for; others are not reachable from here.";
        self.events.health |= self.health.set(Subject::NetmapFull, sentence);
    }

    /// Gives the device what the record says of a peer.
    fn configure(&mut self, device_peer: PeerId, record: &PeerRecord, known: bool) {
        let same_addresses = known
            && self
                .netmap
                .at(device_peer.slot() as usize)
                .is_some_and(|former| former.addresses().eq(record.addresses()));
        if !same_addresses {
            self.device.clear_allowed_ips(device_peer);
            for address in record.addresses() {
                if self.device.add_allowed_ip(device_peer, IpPrefix::host(address)).is_err() {
                    self.note_full();
                }
            }
        }
        self.device.set_not_after(device_peer, record.key_expiry());
    }

    /// A peer is gone. Its sessions are wiped before this returns.
    #[inline(never)]
    pub(super) fn remove_peer(&mut self, id: NodeId) {
        self.newcomers.forget(id);
        if let Some(slot) = self.netmap.slot_of(id) {
            self.drop_slot(slot);
            self.end_contact(id);
            self.events.peer(NodeEvent::PeerRemoved(id));
            // At once: a restart must not bring it back.
            self.events.persist_netmap = true;
        }
    }

    pub(super) fn drop_slot(&mut self, slot: usize) {
        if let Some(record) = self.netmap.take(slot)
            && let Some(device_peer) = self.device.peer_by_key(record.key())
        {
            self.departed.note(record.key(), self.device.greatest_timestamp(device_peer));
            // One by one, since the device would look at the prefixes of all peers.
            for address in record.addresses() {
                self.device.remove_allowed_ip(device_peer, IpPrefix::host(address));
            }
            self.device.remove_peer(device_peer);
        }
    }

    /// The snapshot is whole: whoever it did not name is gone.
    #[inline(never)]
    pub(super) fn end_snapshot(&mut self, revision: Revision) {
        let mut from = 0;
        while let Some(slot) = self.netmap.unmarked(from) {
            if let Some(id) = self.netmap.at(slot).map(PeerRecord::id) {
                self.remove_peer(id);
            }
            from = slot + 1;
        }
        self.netmap.set_revision(Some(revision));
        self.events.snapshot_done = true;
        self.events.persist_netmap = true;
        self.deadlines.keep_netmap = None;
    }

    /// Empties the device of the netmap's peers.
    pub(super) fn clear_peers(&mut self) {
        self.newcomers.clear();
        for slot in 0..self.netmap.capacity() {
            self.drop_slot(slot);
        }
    }

    /// How a peer is now.
    #[inline(never)]
    pub(super) fn peer_status(&mut self, status: &PeerStatus<'_>, now: Instant) {
        let Some(slot) = self.netmap.slot_of(status.id) else { return };
        let Some(record) = self.netmap.at_mut(slot) else { return };
        record.set_status(status);
        if core::mem::take(&mut record.status_asked) {
            self.status_waiting = self.status_waiting.saturating_sub(1);
            self.events.status_done |= self.status_waiting == 0 && self.outbox.status == outbox::StatusWalk::Idle;
        }
        // Of a peer that is not in contact it may come unasked, since that peer watches this node.
        self.candidates_changed(status, now);
    }

    /// The handle of a peer in the device.
    pub(super) fn device_peer(&self, id: NodeId) -> Option<PeerId> {
        self.device.peer_by_key(self.netmap.by_id(id)?.key())
    }

    /// The id of a peer of the device.
    pub(super) fn id_of(&self, device_peer: PeerId) -> Option<NodeId> {
        self.netmap.at(device_peer.slot() as usize).map(PeerRecord::id)
    }

    /// Whether there is a session with a peer that can send.
    pub(super) fn is_live(&self, id: NodeId, now: Instant) -> bool {
        self.device_peer(id).is_some_and(|peer| is_established(&self.device, peer, now))
    }

    /// As [`Self::is_live`], for use while the contacts are borrowed.
    pub(super) fn live_in<'a>(
        device: &'a Device<S::Device>,
        netmap: &'a super::Netmap<S::Peers, S::Ids>,
        now: Instant,
    ) -> impl Fn(&Contact) -> bool + 'a {
        move |contact| {
            let record = netmap.by_id(contact.id);
            let peer = record.and_then(|record| device.peer_by_key(record.key()));
            peer.is_some_and(|peer| is_established(device, peer, now))
        }
    }
}

fn is_established<D: crate::wireguard::storage::Storage>(device: &Device<D>, peer: PeerId, now: Instant) -> bool {
    device.peer(peer, now).is_some_and(|view| view.state == PeerState::Established)
}
