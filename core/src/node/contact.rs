//! The peers that this node is in contact with: those it has, wants or lately had a session with. Only they are watched at
//! the server, and only for them candidate endpoints are kept.
//!
//! Contacts live in slots that the caller gives. When all are taken, the one that was used the longest time ago and
//! has no session makes room.

use core::{net::SocketAddr, time::Duration};

use super::{
    endpoint_list::{Compact, EndpointList},
    outbox::Ids,
};
use crate::{control::NodeId, time::Instant, wireguard::storage::Slots};

/// A contact without a session ends when it was not used for so long.
pub(super) const IDLE_AFTER: Duration = Duration::from_secs(600);

/// One peer in contact.
#[derive(Clone, Debug)]
pub struct Contact {
    pub(super) id: NodeId,
    /// Where the peer may be reached, as the server said last.
    pub(super) candidates: EndpointList,
    /// Where the peer last proved to be.
    answered: Option<Compact>,
    /// When the contact was last of use: a session began, or was wanted.
    pub(super) used: Instant,
    /// A handshake with the peer is to begin at this time, since this node restarted.
    pub(super) resume_at: Option<Instant>,
    /// Initiations since a session last began.
    pub(super) unanswered: u8,
    /// A session with the peer exists or existed lately, so that a restart of this node begins with a handshake.
    pub(super) had_session: bool,
    /// The server has been told to send the peer's status.
    pub(super) watched: bool,
    /// The peer was seen to leave the server, over the present connection.
    pub(super) went_away: bool,
    /// The peer was seen at the server, over the present connection.
    pub(super) was_there: bool,
}

impl Contact {
    fn new(id: NodeId, now: Instant) -> Self {
        Self {
            id,
            candidates: EndpointList::new(),
            answered: None,
            used: now,
            resume_at: None,
            unanswered: 0,
            had_session: false,
            watched: false,
            went_away: false,
            was_there: false,
        }
    }

    /// Where the peer last proved to be.
    pub(super) fn answered(&self) -> Option<SocketAddr> {
        self.answered.map(Compact::endpoint)
    }

    /// Whether the peer last proved to be there.
    pub(super) fn answered_at(&self, endpoint: SocketAddr) -> bool {
        self.answered.is_some() && self.answered == Compact::new(endpoint)
    }

    pub(super) fn set_answered(&mut self, endpoint: Option<SocketAddr>) {
        self.answered = endpoint.and_then(Compact::new);
    }

    /// Where to send an initiation while nobody answers: where the peer last was, then what the server said.
    pub(super) fn targets(&self, current: Option<SocketAddr>) -> EndpointList {
        current.into_iter().chain(self.answered()).chain(self.candidates.iter()).collect()
    }

    /// Takes note of whether the peer is at the server. True where it was there, left, and is there again: it may have
    /// restarted. That it was not there yet when this node connected says nothing of it.
    pub(super) fn came_back(&mut self, online: bool) -> bool {
        let back = online && self.went_away;
        self.went_away = !online && (self.was_there || self.went_away);
        self.was_there = online;
        back
    }

    /// When there is something to do for this contact by itself.
    fn deadline(&self) -> Instant {
        let idle = self.used + IDLE_AFTER;
        self.resume_at.map_or(idle, |resume| resume.min(idle))
    }
}

/// One slot of the table.
pub type ContactSlot = Option<Contact>;

/// The table.
#[derive(Debug)]
pub(super) struct Contacts<T> {
    slots: T,
    /// Not later than the earliest deadline of any contact.
    earliest: Option<Instant>,
    /// A contact has to be told to the server.
    pub(super) unwatched: bool,
}

impl<T: Slots<ContactSlot>> Contacts<T> {
    pub(super) const fn new(slots: T) -> Self {
        Self { slots, earliest: None, unwatched: false }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Contact> {
        (0..self.slots.capacity()).filter_map(|slot| self.slots.get(slot)?.as_ref())
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Contact> {
        self.iter().find(|contact| contact.id == id)
    }

    fn slot_of(&self, id: NodeId) -> Option<usize> {
        (0..self.slots.capacity())
            .find(|&slot| self.slots.get(slot).and_then(Option::as_ref).is_some_and(|c| c.id == id))
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Contact> {
        let slot = self.slot_of(id)?;
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The contact with a peer, made where there is none. `is_live` says whether a contact has a session. Returns the contact
    /// and the one that made room for it; no contact where all are live.
    pub(super) fn touch(
        &mut self,
        id: NodeId,
        now: Instant,
        is_live: impl Fn(&Contact) -> bool,
    ) -> (Option<&mut Contact>, Option<Contact>) {
        let mut displaced = None;
        let slot = match self.slot_of(id) {
            Some(slot) => slot,
            None => {
                let free = (0..self.slots.capacity()).find(|&slot| self.slots.get(slot).is_some_and(Option::is_none));
                let slot = free.or_else(|| self.grown()).or_else(|| self.idlest(is_live));
                let Some(slot) = slot else { return (None, None) };
                let Some(place) = self.slots.get_mut(slot) else { return (None, None) };
                displaced = place.replace(Contact::new(id, now));
                self.unwatched = true;
                slot
            }
        };
        self.earlier(now + IDLE_AFTER);
        let mut contact = self.slots.get_mut(slot).and_then(Option::as_mut);
        if let Some(contact) = &mut contact {
            contact.used = now;
        }
        (contact, displaced)
    }

    fn grown(&mut self) -> Option<usize> {
        let slot = self.slots.capacity();
        (self.slots.grow() && self.slots.capacity() > slot).then_some(slot)
    }

    fn idlest(&self, is_live: impl Fn(&Contact) -> bool) -> Option<usize> {
        let idle = (0..self.slots.capacity()).filter_map(|slot| Some((self.slots.get(slot)?.as_ref()?, slot)));
        idle.filter(|(contact, _)| !is_live(contact)).min_by_key(|(contact, _)| contact.used).map(|(_, slot)| slot)
    }

    /// Ends the contact with a peer.
    pub(super) fn take(&mut self, id: NodeId) -> Option<Contact> {
        let slot = self.slot_of(id)?;
        self.slots.get_mut(slot)?.take()
    }

    pub(super) fn clear(&mut self) {
        for slot in 0..self.slots.capacity() {
            if let Some(place) = self.slots.get_mut(slot) {
                *place = None;
            }
        }
        self.earliest = None;
    }

    /// The connection to the server is new: it watches nobody.
    pub(super) fn forget_watches(&mut self) {
        for slot in 0..self.slots.capacity() {
            if let Some(contact) = self.slots.get_mut(slot).and_then(Option::as_mut) {
                contact.watched = false;
                (contact.went_away, contact.was_there) = (false, false);
            }
        }
        self.unwatched = true;
    }

    /// Peers that the server has not been told to watch: a batch of them, which now count as told.
    pub(super) fn take_unwatched(&mut self) -> Ids {
        let mut ids = Ids::new();
        self.unwatched = false;
        for slot in 0..self.slots.capacity() {
            let Some(contact) = self.slots.get_mut(slot).and_then(Option::as_mut) else { continue };
            if contact.watched {
                continue;
            }
            if ids.push(contact.id).is_err() {
                self.unwatched = true;
                break;
            }
            contact.watched = true;
        }
        ids
    }

    /// Plans a handshake for each contact that `which` picks, `spacing` apart.
    pub(super) fn resume_each(&mut self, from: Instant, spacing: Duration, which: impl Fn(&Contact) -> bool) {
        let mut at = from;
        for slot in 0..self.slots.capacity() {
            let Some(contact) = self.slots.get_mut(slot).and_then(Option::as_mut).filter(|contact| which(contact))
            else {
                continue;
            };
            contact.resume_at = Some(at);
            at = at + spacing;
        }
        if at > from {
            self.earlier(from);
        }
    }

    fn earlier(&mut self, deadline: Instant) {
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
    }

    /// Plans the handshake that follows a restart.
    pub(super) fn resume_at(&mut self, id: NodeId, at: Instant) {
        if let Some(contact) = self.get_mut(id) {
            contact.resume_at = Some(at);
            self.earlier(at);
        }
    }

    /// When [`Contacts::due`] may have something.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.earliest
    }

    /// A contact with something to do at `now`. Not the same one twice unless its deadline is moved or it is taken.
    pub(super) fn due(&mut self, now: Instant) -> Option<NodeId> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return None;
        }
        let next = self.iter().min_by_key(|contact| contact.deadline()).map(|contact| (contact.deadline(), contact.id));
        self.earliest = next.map(|(deadline, _)| deadline);
        next.filter(|(deadline, _)| *deadline <= now).map(|(_, id)| id)
    }
}
