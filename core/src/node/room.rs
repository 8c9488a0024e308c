//! Who has a place in a node that has fewer than its mesh has nodes.
//!
//! A few places are for *newcomers*: peers that were asked for, since this node sends to them or they knocked. A newcomer
//! becomes one of the held peers when a session with it is confirmed, so when it has proven that it is there now: as
//! initiator by its authentic response, as responder by the first packet in the session. Only then somebody makes room,
//! the one whose last packet is the longest ago. So whoever claims to be others, or sends again what it recorded, takes a
//! newcomer's place for a moment and nobody else's.

use core::time::Duration;

use super::{
    Member, NodeEvent, NodeStorage, PeerRecord,
    lookup::{Answer, Name, Subject},
    outbox,
};
use crate::{
    control::{Delivery, NodeId},
    crypto::Crypto,
    limits,
    time::Instant,
    wireguard::PeerId,
};

/// A peer whose last packet is so long ago makes room where there is none.
const RESTS_AFTER: Duration = Duration::from_secs(2);
/// The same for one whose session is so old and carried no packet.
const UNUSED_AFTER: Duration = Duration::from_millis(500);
/// A newcomer keeps its place for so long against other newcomers.
const LEAST_TIME: Duration = Duration::from_secs(3);
/// A newcomer has to prove itself within this time.
const MOST_TIME: Duration = Duration::from_secs(15);

/// A peer that has not proven itself yet.
#[derive(Clone, Copy, Debug)]
struct Newcomer {
    id: NodeId,
    since: Instant,
    /// It was asked for since it knocked, or somebody who claims to be it.
    knocked: bool,
}

/// The newcomers.
#[derive(Debug)]
pub(super) struct Newcomers(heapless::Vec<Newcomer, { limits::NEWCOMERS }>);

impl Newcomers {
    pub(super) const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    fn position(&self, id: NodeId) -> Option<usize> {
        self.0.iter().position(|newcomer| newcomer.id == id)
    }

    /// Whether this peer is one.
    pub(super) fn contains(&self, id: NodeId) -> bool {
        self.position(id).is_some()
    }

    /// Whether this peer is one that this node sends to.
    pub(super) fn is_awaited(&self, id: NodeId) -> bool {
        self.0.iter().any(|newcomer| newcomer.id == id && !newcomer.knocked)
    }

    /// Forgets a peer, whether it stays or goes.
    pub(super) fn forget(&mut self, id: NodeId) {
        if let Some(place) = self.position(id) {
            self.0.swap_remove(place);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn oldest(&self) -> Option<Newcomer> {
        self.0.iter().copied().min_by_key(|newcomer| newcomer.since)
    }

    /// When the first of them has used up its time.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.oldest().map(|oldest| oldest.since + MOST_TIME)
    }
}

/// What a node with too few places for its mesh did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RoomCounters {
    /// Questions for single peers that were asked.
    pub lookups: u32,
    /// Questions that were not asked, since too many were asked lately.
    pub lookups_limited: u32,
    /// Answers that there is no such peer.
    pub absent: u32,
    /// Initiations of strangers that found no place to wait.
    pub strangers_dropped: u32,
    /// Peers that made room for others.
    pub evicted: u32,
    /// Newcomers that did not prove themselves.
    pub unproven: u32,
    /// Peers that were refused, since all others are in use or other newcomers had all their places.
    pub refused: u32,
}

impl<S: NodeStorage, C: Crypto> Member<S, C> {
    pub(super) fn is_on_demand(&self) -> bool {
        self.netmap.own().is_some_and(|own| own.delivery() == Delivery::OnDemand)
    }

    /// How many peers may be held where they come on demand, and how many newcomers beside them.
    fn places(&self) -> (usize, usize) {
        let declared = self.config.capacity.and_then(|capacity| capacity.peers).unwrap_or(u32::MAX) as usize;
        let slots = self.device.max_peers();
        let newcomers = (slots.min(declared) / 8).clamp(1, limits::NEWCOMERS);
        (slots.saturating_sub(newcomers).min(declared), newcomers)
    }

    /// How many peers have proven themselves.
    fn held(&self) -> usize {
        self.netmap.len().saturating_sub(self.newcomers.0.len())
    }

    /// Whether a peer that is not held yet has a chance of a place.
    pub(super) fn has_chance(&self, now: Instant) -> bool {
        self.held() < self.places().0 || self.idlest(now).is_some()
    }

    /// Makes a place for a peer that is not held yet. Where peers come on demand it is a newcomer at first. False, and
    /// counted, where there is none.
    pub(super) fn admit(&mut self, record: &PeerRecord, now: Instant) -> bool {
        if !self.is_on_demand() {
            return true;
        }
        let (places, newcomers) = self.places();
        if !self.running {
            // What was kept of the last run has proven itself then.
            return self.held() < places;
        }
        let displaced = if self.newcomers.0.len() < newcomers { None } else { self.newcomers.oldest() };
        let refused = displaced.is_some_and(|oldest| now.saturating_since(oldest.since) < LEAST_TIME);
        if refused || !self.has_chance(now) {
            self.room.refused = self.room.refused.saturating_add(1);
            return false;
        }
        if let Some(displaced) = displaced {
            self.dismiss(displaced.id, now);
        }
        let question = Subject::Key(*record.key());
        let knocked = matches!(self.lookups.known(&question, now), Some(Answer::Awaited(_)));
        self.newcomers.0.push(Newcomer { id: record.id(), since: now, knocked }).is_ok()
    }

    /// A session with a peer is confirmed. Where it is a newcomer, it is held from now on.
    pub(super) fn proven(&mut self, id: NodeId, now: Instant) {
        if !self.newcomers.contains(id) {
            return;
        }
        if self.held() >= self.places().0 && !self.make_room(now) {
            self.room.refused = self.room.refused.saturating_add(1);
            return self.release(id, now);
        }
        self.newcomers.forget(id);
        self.keep_netmap_soon(now);
    }

    /// An initiation that claims to come from a peer was forged, or was sent before.
    pub(super) fn not_proven(&mut self, peer: PeerId, now: Instant) {
        let Some(id) = self.id_of(peer) else { return };
        let place = self.newcomers.position(id).and_then(|place| self.newcomers.0.get(place));
        // One that has a session was authentic before: somebody else sent this.
        if place.is_some_and(|newcomer| newcomer.knocked) && self.device.last_used(peer).is_none() {
            self.dismiss(id, now);
        }
    }

    /// Newcomers that did not prove themselves in time go.
    pub(super) fn newcomers_due(&mut self, now: Instant) {
        while let Some(oldest) = self.newcomers.oldest().filter(|oldest| oldest.since + MOST_TIME <= now) {
            if self.is_live(oldest.id, now) {
                self.proven(oldest.id, now);
            } else {
                self.dismiss(oldest.id, now);
            }
        }
    }

    fn dismiss(&mut self, id: NodeId, now: Instant) {
        self.room.unproven = self.room.unproven.saturating_add(1);
        self.release(id, now);
    }

    /// The peer whose last packet is the longest ago makes room, where it is not in use.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        let Some(id) = self.idlest(now) else { return false };
        self.room.evicted = self.room.evicted.saturating_add(1);
        self.release(id, now);
        true
    }

    /// The network outgrew this node, so that newcomers need places: those that are not in use make them.
    pub(super) fn shrink(&mut self, now: Instant) {
        while self.held() > self.places().0 && self.make_room(now) {}
    }

    /// The peer that makes room first.
    fn idlest(&self, now: Instant) -> Option<NodeId> {
        let held = self.netmap.peers().filter(|peer| !self.newcomers.contains(peer.id()) && !self.is_pinned(peer));
        let idle = held.map(|peer| (self.makes_room_at(peer), peer.id()));
        idle.filter(|(at, _)| *at <= now).min().map(|(_, id)| id)
    }

    /// From when on a peer is not in use. One whose sessions carried nothing yet had less time: it may only have renewed
    /// them.
    fn makes_room_at(&self, peer: &PeerRecord) -> Instant {
        let Some(peer) = self.device.peer_by_key(peer.key()) else { return Instant::ZERO };
        let Some(used) = self.device.last_used(peer) else { return Instant::ZERO };
        used + if self.device.has_carried(peer) { RESTS_AFTER } else { UNUSED_AFTER }
    }

    fn is_pinned(&self, peer: &PeerRecord) -> bool {
        self.pinned.iter().any(|name: &Name| name.eq_ignore_ascii_case(peer.name()))
    }

    /// A peer goes that is still a member of the mesh.
    fn release(&mut self, id: NodeId, now: Instant) {
        self.newcomers.forget(id);
        if let Some(slot) = self.netmap.slot_of(id) {
            self.drop_slot(slot);
            self.end_contact(id);
            self.events.peer(NodeEvent::PeerRemoved(id));
            self.keep_netmap_soon(now);
        }
        self.unhold(id);
    }

    /// The server need not tell of this peer any more.
    pub(super) fn unhold(&mut self, id: NodeId) {
        outbox::add(&mut self.outbox.unheld, id);
    }
}
