//! Peers that this node does not hold and wants: by address or name since it sends, by key since they knock.

use core::net::{IpAddr, SocketAddr};

use super::{
    Member, Node, NodeStorage, RoomCounters,
    lookup::{Answer, Name, Subject},
};
use crate::{
    control::{NodeId, record::LookupResult},
    crypto::Crypto,
    keys::NodeKey,
    time::Instant,
};

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Resolution {
    /// A peer has it, and is in the [`netmap`](Node::netmap).
    Peer(NodeId),
    /// The server was asked: [`NodeEvent::LookupDone`](super::NodeEvent::LookupDone) follows, or nothing for 5 s where the
    /// answer is lost.
    Awaited,
    /// No peer has it that this node may reach.
    Absent,
    /// It cannot be asked for now: the server is not there, too many questions were asked lately, or every place is taken
    /// by a peer in use.
    NotNow,
}

impl<S: NodeStorage, C: Crypto> Node<S, C> {
    /// An inner packet has no peer: where peers come on demand, the one with this address is asked for. True where it
    /// may come; where not, the packet is answered with "host unreachable".
    pub fn need_address(&mut self, address: IpAddr, now: Instant) -> bool {
        matches!(self.seek(Subject::Address(address), now), Some(Answer::Asked(_) | Answer::Awaited(_) | Answer::Found))
    }

    /// An initiation came from a key that is no peer's: where peers come on demand, its owner is asked for, and the
    /// initiation, as it was received, waits for the answer. Then [`take_stranger`](Self::take_stranger) gives it back.
    /// False where it is dropped.
    pub fn need_initiator(&mut self, key: NodeKey, message: &[u8], source: SocketAddr, now: Instant) -> bool {
        let Some(Answer::Asked(request) | Answer::Awaited(request)) = self.seek(Subject::Key(key), now) else {
            return false;
        };
        let waits = self.member.strangers.wait(request, message, source, now);
        if !waits {
            self.member.room.strangers_dropped = self.member.room.strangers_dropped.saturating_add(1);
        }
        waits
    }

    /// An initiation that waited and whose sender is a peer now, written to `out` (148 bytes are enough): its length and
    /// source. It goes through the device like one that was just received. To be called after each
    /// [`control_receive`](Self::control_receive) until it gives `None`.
    pub fn take_stranger(&mut self, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        self.member.strangers.take_known(out)
    }

    /// The peer with this name, with or without this network's domain, whatever the case of its letters. Where peers come
    /// on demand the server is asked.
    pub fn resolve(&mut self, name: &str, now: Instant) -> Resolution {
        let label = self.member.without_domain(name);
        if let Some(peer) = self.member.netmap.by_name(label) {
            return Resolution::Peer(peer.id());
        }
        let Ok(mut label) = Name::try_from(label) else { return Resolution::Absent };
        label.make_ascii_lowercase();
        if self.member.netmap.own().is_some() && !self.member.is_on_demand() {
            return Resolution::Absent;
        }
        match self.seek(Subject::Name(label), now) {
            Some(Answer::Asked(_) | Answer::Awaited(_)) => Resolution::Awaited,
            Some(Answer::Absent) => Resolution::Absent,
            // It was found and has no place.
            Some(Answer::Found | Answer::Limited) | None => Resolution::NotNow,
        }
    }

    /// Names a peer that never makes room for another, whether it is held now or not. False where there is no place for
    /// one more name, or it is no name.
    pub fn pin(&mut self, name: &str) -> bool {
        let label = self.member.without_domain(name);
        let pinned = &self.member.pinned;
        if pinned.iter().any(|known| known.eq_ignore_ascii_case(label)) {
            return true;
        }
        Name::try_from(label).is_ok_and(|label| self.member.pinned.push(label).is_ok())
    }

    /// Lets a peer make room again.
    pub fn unpin(&mut self, name: &str) {
        let member = &mut self.member;
        let Ok(label) = Name::try_from(member.without_domain(name)) else { return };
        member.pinned.retain(|known| !known.eq_ignore_ascii_case(&label));
    }

    /// What a node with too few places for its mesh did so far.
    pub const fn room(&self) -> &RoomCounters {
        &self.member.room
    }

    /// Asks for a peer that may be asked for; `None` where it may not.
    fn seek(&mut self, subject: Subject, now: Instant) -> Option<Answer> {
        let member = &mut self.member;
        if !member.is_on_demand() || !self.link.is_registered() {
            return None;
        }
        if member.lookups.known(&subject, now).is_none() && !member.has_chance(now) {
            member.room.refused = member.room.refused.saturating_add(1);
            return None;
        }
        let answer = member.lookups.ask(subject, now);
        let counter = match answer {
            Answer::Asked(_) => &mut member.room.lookups,
            Answer::Limited => &mut member.room.lookups_limited,
            Answer::Awaited(_) | Answer::Found | Answer::Absent => return Some(answer),
        };
        *counter = counter.saturating_add(1);
        Some(answer)
    }
}

impl<S: NodeStorage, C: Crypto> Member<S, C> {
    fn without_domain<'a>(&self, name: &'a str) -> &'a str {
        let name = name.strip_suffix('.').unwrap_or(name);
        let domain = self.netmap.own().map(|own| own.domain()).unwrap_or_default();
        match name.split_once('.') {
            Some((label, rest)) if rest.eq_ignore_ascii_case(domain) => label,
            _ => name,
        }
    }

    /// The server answered a question.
    #[inline(never)]
    pub(super) fn lookup_answered(&mut self, result: &LookupResult, now: Instant) {
        if !self.lookups.answered(result.request, result.id.is_some(), now) {
            return;
        }
        if result.id.is_none() {
            self.room.absent = self.room.absent.saturating_add(1);
        }
        // Found, it may have found no place.
        let known = result.id.is_some_and(|id| self.netmap.by_id(id).is_some());
        self.strangers.answered(result.request, known);
        self.events.lookup_done = true;
    }
}
