//! Inner packets on their way out, in three phases; and those that wait for a handshake.

use core::fmt;

use super::Device;
use crate::time::Instant;
use crate::wireguard::counters::DropReason;
use crate::wireguard::peer::PeerId;
use crate::wireguard::session::Role;
use crate::wireguard::staging::NotStaged;
use crate::wireguard::storage::Storage;
use crate::wireguard::ticket::{SealOutcome, SealTicket, SessionRef};
use crate::wireguard::timers::Timer;

/// Why packets cannot be sealed for a peer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SealRefusal {
    /// There is no session that can send: hand the packets to [`Device::stage`], which lets a handshake begin.
    NoSession,
    /// The peer has no endpoint. Staged, packets wait until it gets one, 90 s at most.
    NoEndpoint,
    /// The handle is stale.
    UnknownPeer,
    /// The peer's key has expired.
    PeerExpired,
    /// The device has no private key.
    NoPrivateKey,
}

impl fmt::Display for SealRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSession => "no session yet",
            Self::NoEndpoint => "the peer's address is not known",
            Self::UnknownPeer => "the peer was removed",
            Self::PeerExpired => "the peer's key has expired",
            Self::NoPrivateKey => "no private key is set",
        })
    }
}

impl core::error::Error for SealRefusal {}

impl<S: Storage> Device<S> {
    /// Begins to seal up to `packets` inner packets for a peer: picks the session and reserves the counters, which
    /// are never used again, whatever becomes of the ticket. A session that has come of age also lets a handshake
    /// begin.
    ///
    /// # Errors
    /// [`SealRefusal`]; no counter was reserved then.
    pub fn begin_seal(&mut self, peer: PeerId, packets: usize, now: Instant) -> Result<SealTicket, SealRefusal> {
        let known = self.known.get(peer).ok_or(SealRefusal::UnknownPeer)?;
        if self.identity.is_none() {
            return Err(SealRefusal::NoPrivateKey);
        }
        if known.is_expired(self.wall.at(now)) {
            return Err(SealRefusal::PeerExpired);
        }
        let endpoint = known.endpoint.ok_or(SealRefusal::NoEndpoint)?;
        let slot = known.active().ok_or(SealRefusal::NoSession)?;
        let active = self.active.get_mut(slot).ok_or(SealRefusal::NoSession)?;
        let count = packets as u64;
        let session = active.sessions.get_mut(Role::Current).filter(|session| session.may_send(count, now));
        let session = session.ok_or(SealRefusal::NoSession)?;
        let first = session.reserve(count);
        let ticket = SealTicket::new(
            SessionRef { peer, serial: session.serial() },
            endpoint,
            session.remote_index(),
            first..first.saturating_add(count),
            self.mtu,
            session.sending_key(),
        );
        if session.wants_rekey_on_send(now) {
            self.want_initiation(slot, now, true);
        }
        Ok(ticket)
    }

    /// Takes a ticket back, with what the socket accepted of its packets. A ticket of a removed peer changes nothing.
    pub fn commit_seal(&mut self, ticket: SealTicket, outcome: SealOutcome, now: Instant) {
        let peer = ticket.session.peer;
        let Some(known) = self.known.get_mut(peer) else {
            self.counters.count(DropReason::TicketStale);
            return;
        };
        known.sent_bytes = known.sent_bytes.saturating_add(outcome.bytes);
        let interval = known.persistent_keepalive();
        let Some(slot) = known.active() else { return };
        let Some(active) = self.active.get_mut(slot) else { return };
        if outcome.data == 0 && outcome.keepalives == 0 {
            return;
        }
        active.owes_confirmation = false;
        active.timers.any_authenticated_packet_sent(now);
        active.timers.any_authenticated_packet_traversal(now, interval);
        if outcome.data > 0 {
            active.note_use(now);
            active.timers.data_sent(now, || self.jitter.draw());
        }
        self.active.reschedule(slot);
    }

    /// Keeps a copy of an inner packet until there is a session with its peer, and lets a handshake begin.
    /// [`Work::Staged`](super::Work::Staged) says when to collect it. Where too many wait, the oldest is dropped.
    ///
    /// # Errors
    /// The packet was dropped: [`DropReason::UnknownPeer`], [`DropReason::PeerExpired`],
    /// [`DropReason::NoPrivateKey`], [`DropReason::NoActiveSlot`], [`DropReason::BufferTooSmall`] where it is larger
    /// than a place, [`DropReason::StagedOverflow`] where there is no place at all.
    pub fn stage(&mut self, peer: PeerId, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        self.try_stage(peer, packet, now).map_err(|reason| self.counters.count(reason))
    }

    fn try_stage(&mut self, peer: PeerId, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        let known = self.known.get(peer).ok_or(DropReason::UnknownPeer)?;
        if self.identity.is_none() {
            return Err(DropReason::NoPrivateKey);
        }
        if known.is_expired(self.wall.at(now)) {
            return Err(DropReason::PeerExpired);
        }
        let slot = self.activate(peer, now)?;
        self.push_staged(slot, packet)?;
        let Some(active) = self.active.get_mut(slot) else { return Err(DropReason::NoActiveSlot) };
        active.note_use(now);
        if active.sessions.get(Role::Current).is_some_and(|session| session.may_send(1, now)) {
            active.timers.arm(Timer::Flush, now);
            self.active.reschedule(slot);
        } else {
            self.want_initiation(slot, now, true);
        }
        Ok(())
    }

    fn push_staged(&mut self, slot: u32, packet: &[u8]) -> Result<(), DropReason> {
        loop {
            let active = self.active.get_mut(slot).ok_or(DropReason::NoActiveSlot)?;
            let result = match active.staged.len() < self.max_staged {
                true => self.staged.push(&mut active.staged, slot, packet),
                false => Err(NotStaged::Full),
            };
            match result {
                Ok(()) => return Ok(()),
                Err(NotStaged::TooLarge) => return Err(DropReason::BufferTooSmall),
                Err(NotStaged::Full) => {}
            }
            // This peer's oldest packet goes; where it has none, the oldest of all.
            let loser = if active.staged.is_empty() { self.staged.oldest_owner() } else { Some(slot) };
            let dropped = loser
                .and_then(|loser| self.active.get_mut(loser))
                .is_some_and(|active| self.staged.pop(&mut active.staged));
            if !dropped {
                return Err(DropReason::StagedOverflow);
            }
            self.counters.count(DropReason::StagedOverflow);
        }
    }

    /// Copies the oldest packet that waits for this peer to `out` and gives its length; `None` where none waits. A
    /// packet that is larger than `out` is dropped.
    pub fn take_staged(&mut self, peer: PeerId, out: &mut [u8]) -> Option<usize> {
        let slot = self.slot_of(peer)?;
        let active = self.active.get_mut(slot)?;
        loop {
            let packet = self.staged.front(&active.staged)?;
            let len = packet.len();
            let copied = out.get_mut(..len).map(|out| out.copy_from_slice(packet)).is_some();
            self.staged.pop(&mut active.staged);
            if copied {
                return Some(len);
            }
            self.counters.count(DropReason::BufferTooSmall);
        }
    }

    /// How many packets wait for this peer's handshake.
    pub fn staged_packets(&self, peer: PeerId) -> usize {
        self.slot_of(peer).and_then(|slot| self.active.get(slot)).map_or(0, |active| active.staged.len())
    }
}
