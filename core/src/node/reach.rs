//! How peers are reached: candidate endpoints, who is in contact, handshakes that follow a restart.
//!
//! Where a peer is, only its answer proves. Until it answered, an initiation goes to every place where it may be; from then
//! on to where it answered, and to every place again once an initiation stays unanswered.

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    Contact, EndpointList, Member, Node, NodeEvent, NodeStorage,
    contact::IDLE_AFTER,
    outbox::{self, StatusWalk},
};
use crate::{
    control::{NodeId, record::PeerStatus},
    crypto::Crypto,
    keys::NodeKey,
    time::{Instant, UnixTime},
    wireguard::{Event, PeerId, Transmit, TransmitKind},
};

/// Between two handshakes that follow a restart, where few are due.
const STAGGER: Duration = Duration::from_millis(50);
/// All handshakes that follow a restart begin within this time.
const ALL_RESUMED_WITHIN: Duration = Duration::from_secs(2);
/// After a peer's key was replaced, until this node initiates: the peer hears from the server at about the same time.
pub(super) const REKEYED_DELAY: Duration = Duration::from_millis(500);

impl<S: NodeStorage, C: Crypto> Node<S, C> {
    /// Where the agent sends a datagram of the device: an initiation to every candidate endpoint of a peer that did not
    /// answer yet or any more, all else to the datagram's own endpoint. Called once for each datagram that is no data;
    /// data goes to [`Transmit::endpoint`].
    pub fn targets(&mut self, transmit: &Transmit, now: Instant, wall: UnixTime) -> EndpointList {
        let alone = || EndpointList::only(transmit.endpoint);
        match (transmit.kind, transmit.peer) {
            (TransmitKind::Initiation, Some(peer)) => {
                let floor = self.member.clock.stamped(now, wall);
                self.member.device.set_timestamp_floor(floor);
                self.member.reserve_stamps(now, wall);
                self.member.initiation_targets(peer, transmit.endpoint, now).unwrap_or_else(alone)
            }
            _ => alone(),
        }
    }

    /// Asks the server for the status of every peer, for a person who wants to see it.
    /// [`NodeEvent::StatusDone`] follows. False where the server is not there to be asked.
    pub fn ask_status(&mut self) -> bool {
        if !self.link.is_registered() {
            return false;
        }
        if self.member.outbox.status == StatusWalk::Idle {
            self.member.netmap.forget_asked();
            self.member.status_waiting = 0;
            self.member.outbox.status = StatusWalk::Add { from: 0 };
        }
        true
    }

    /// The candidate endpoints of a peer in contact, the likeliest first.
    pub fn candidates(&self, id: NodeId) -> EndpointList {
        self.member.contacts.get(id).map(|contact| contact.targets(None)).unwrap_or_default()
    }

    /// The handle by which the device knows a peer.
    pub fn device_peer(&self, id: NodeId) -> Option<PeerId> {
        self.member.device_peer(id)
    }

    /// The peer of the netmap that the device knows by this handle.
    pub fn peer_of(&self, device_peer: PeerId) -> Option<&super::PeerRecord> {
        self.member.netmap.by_id(self.member.id_of(device_peer)?)
    }

    /// The peer with this mesh address.
    pub fn peer_by_address(&self, address: IpAddr) -> Option<&super::PeerRecord> {
        let peer = self.peer_of(self.member.device.route(address)?)?;
        peer.addresses().any(|own| own == address).then_some(peer)
    }

    /// The peer with this node key.
    pub fn peer_by_key(&self, key: &NodeKey) -> Option<&super::PeerRecord> {
        self.peer_of(self.member.device.peer_by_key(key)?)
    }
}

impl<S: NodeStorage, C: Crypto> Member<S, C> {
    /// The contact with a peer, made where there is none and room for one.
    pub(super) fn touch(&mut self, id: NodeId, now: Instant) -> Option<&mut Contact> {
        let is_live = Self::live_in(&self.device, &self.netmap, now);
        let (contact, displaced) = self.contacts.touch(id, now, is_live);
        if let Some(displaced) = displaced.filter(|displaced| displaced.watched) {
            outbox::add(&mut self.outbox.unwatch, displaced.id);
        }
        contact
    }

    pub(super) fn end_contact(&mut self, id: NodeId) {
        let Some(contact) = self.contacts.take(id) else { return };
        if contact.watched {
            outbox::add(&mut self.outbox.unwatch, id);
        }
        if contact.had_session {
            self.deadlines.keep_recent.get_or_insert(self.deadlines.recent_not_before);
        }
    }

    fn initiation_targets(&mut self, peer: PeerId, endpoint: SocketAddr, now: Instant) -> Option<EndpointList> {
        let id = self.id_of(peer)?;
        let contact = self.touch(id, now)?;
        let confirmed = contact.answered_at(endpoint) && contact.unanswered == 0;
        contact.unanswered = contact.unanswered.saturating_add(1);
        (!confirmed).then(|| contact.targets(Some(endpoint)))
    }

    /// Takes note of what happened in the device.
    pub(super) fn device_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Established(peer) => {
                self.answered(peer, true, now);
                if let Some(id) = self.id_of(peer) {
                    self.proven(id, now);
                    self.events.peer(NodeEvent::PeerConnected(id));
                }
            }
            Event::Impersonated(peer) => self.not_proven(peer, now),
            Event::Roamed(peer) => self.answered(peer, false, now),
            Event::NeedsEndpoint(peer) => {
                let Some(id) = self.id_of(peer) else { return };
                // Without a candidate the server is asked: every contact is watched.
                let candidate = self.touch(id, now).and_then(|contact| contact.targets(None).iter().next());
                if candidate.is_some() {
                    self.device.set_endpoint(peer, candidate, now);
                }
            }
            _ => {}
        }
    }

    /// A peer proved where it is.
    fn answered(&mut self, peer: PeerId, established: bool, now: Instant) {
        let Some(id) = self.id_of(peer) else { return };
        let endpoint = self.device.peer(peer, now).and_then(|view| view.endpoint);
        let Some(contact) = self.touch(id, now) else { return };
        let before = (contact.answered(), contact.had_session);
        contact.set_answered(endpoint.or(contact.answered()));
        if established {
            contact.had_session = true;
            contact.unanswered = 0;
            contact.resume_at = None;
        }
        if contact.had_session && before != (contact.answered(), true) {
            let soon = now.max(self.deadlines.recent_not_before);
            self.deadlines.keep_recent.get_or_insert(soon);
        }
    }

    /// The server said where a peer in contact may be, and whether it is there.
    pub(super) fn candidates_changed(&mut self, status: &PeerStatus<'_>, now: Instant) {
        let Some(peer) = self.device_peer(status.id) else { return };
        let current = self.device.peer(peer, now).and_then(|view| view.endpoint);
        let Some(contact) = self.contacts.get_mut(status.id) else { return };
        let former =
            core::mem::replace(&mut contact.candidates, status.endpoints.iter().map(|endpoint| endpoint.0).collect());
        let came_back = contact.came_back(status.online);
        let first = contact.targets(None).iter().next();
        let Some(current) = current else {
            if first.is_some() {
                self.device.set_endpoint(peer, first, now);
            }
            return;
        };
        let moved = former.contains(current) && !contact.candidates.contains(current) && !contact.candidates.is_empty();
        if moved || came_back {
            // It left where it was reached, or may have restarted and know of no session: it is looked for at once.
            contact.unanswered = contact.unanswered.max(1);
            if contact.had_session {
                let _ = self.device.initiate_anew(peer, now);
            }
        }
    }

    /// Plans handshakes with the peers of the last run.
    pub(super) fn resume_recent(&mut self, now: Instant) {
        self.resume(now, |contact| contact.had_session);
    }

    /// Plans handshakes with the peers in contact: they will drop their sessions with the old key.
    pub(super) fn resume_rekeyed(&mut self, now: Instant) {
        self.resume(now + REKEYED_DELAY, |contact| contact.had_session);
    }

    /// Plans handshakes with the peers in contact: this node moved, and they learn by it where to.
    pub(super) fn resume_moved(&mut self, now: Instant) {
        self.resume(now, |contact| contact.had_session);
    }

    fn resume(&mut self, from: Instant, which: impl Fn(&Contact) -> bool) {
        let count = self.contacts.iter().filter(|contact| which(contact)).count();
        let spacing = STAGGER.min(ALL_RESUMED_WITHIN / u32::try_from(count.max(1)).unwrap_or(u32::MAX));
        self.contacts.resume_each(from, spacing, which);
    }

    /// Begins handshakes that are due and ends contacts that are idle.
    pub(super) fn contacts_due(&mut self, now: Instant) {
        if !self.running {
            return;
        }
        while let Some(id) = self.contacts.due(now) {
            let resume = self.contacts.get_mut(id).and_then(|contact| contact.resume_at.take());
            let Some(peer) = self.device_peer(id) else {
                self.end_contact(id);
                continue;
            };
            if resume.is_some() {
                self.begin_handshake(id, peer, now);
                continue;
            }
            let view = self.device.peer(peer, now);
            let last = view.and_then(|view| view.last_handshake).map(|handshake| handshake.at);
            if last.is_some_and(|at| at + IDLE_AFTER > now) {
                self.touch(id, now);
            } else {
                self.end_contact(id);
            }
        }
    }

    fn begin_handshake(&mut self, id: NodeId, peer: PeerId, now: Instant) {
        let known = self.device.peer(peer, now).and_then(|view| view.endpoint);
        if known.is_none() {
            let candidate = self.contacts.get(id).and_then(|contact| contact.targets(None).iter().next());
            if candidate.is_some() {
                self.device.set_endpoint(peer, candidate, now);
            }
        }
        // Refused only where every session slot is in use: then there is enough to do.
        let _ = self.device.initiate(peer, now);
    }
}
