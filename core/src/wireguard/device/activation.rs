//! Known peers become active and fall back; a removed peer leaves nothing behind.

use core::time::Duration;

use super::Device;
use crate::time::Instant;
use crate::wireguard::counters::DropReason;
use crate::wireguard::peer::PeerId;
use crate::wireguard::session::{FreedIndices, Role};
use crate::wireguard::storage::Storage;
use crate::wireguard::timers::Timer;

/// How long after a fruitless search among the active peers no other is made, so that packets that find no room do
/// not each cost a search.
const CROWDED: Duration = Duration::from_millis(500);

impl<S: Storage> Device<S> {
    /// The active slot of a peer, taken now where it has none: a free one, or that of the peer which is idle for
    /// longest.
    pub(super) fn activate(&mut self, peer: PeerId, now: Instant) -> Result<u32, DropReason> {
        let known = self.known.get(peer).ok_or(DropReason::UnknownPeer)?;
        if let Some(slot) = known.active() {
            return Ok(slot);
        }
        let slot = match self.active.claim(peer.slot(), now) {
            Some(slot) => slot,
            None => {
                self.evict(now)?;
                self.active.claim(peer.slot(), now).ok_or(DropReason::NoActiveSlot)?
            }
        };
        if let Some(known) = self.known.get_mut(peer) {
            known.set_active(Some(slot));
        }
        if let Some(active) = self.active.get_mut(slot) {
            // Nothing may come of it: the slot is given back then.
            active.timers.session_derived(now);
        }
        self.active.reschedule(slot);
        Ok(slot)
    }

    fn evict(&mut self, now: Instant) -> Result<(), DropReason> {
        let crowded = now < self.crowded_until && self.crowded_until.saturating_since(now) <= CROWDED;
        let idle = if crowded { None } else { self.active.least_recently_used() };
        match idle {
            Some(slot) => {
                self.deactivate(slot);
                Ok(())
            }
            None => {
                if !crowded {
                    self.crowded_until = now + CROWDED;
                }
                Err(DropReason::NoActiveSlot)
            }
        }
    }

    /// Wipes everything that a peer has beyond its known record, and frees its slot.
    pub(super) fn deactivate(&mut self, slot: u32) {
        self.wipe_keys(slot);
        self.purge_staged(slot);
        if let Some((_, known, _)) = self.active_at(slot) {
            known.set_active(None);
        }
        self.active.release(slot);
        self.crowded_until = Instant::ZERO;
    }

    /// Wipes all sessions, timers and waiting packets, as when the interface goes down. Peers and their configuration
    /// stay; a persistent keepalive begins again when it is next set.
    pub fn deactivate_all(&mut self) {
        for slot in self.active.slots() {
            self.deactivate(slot);
        }
    }

    /// Deactivates a peer that waits for nothing.
    pub(super) fn deactivate_if_unused(&mut self, slot: u32) {
        let unused = self.active.get(slot).is_some_and(|active| {
            active.is_idle() && [Role::Current, Role::Next].iter().all(|role| active.sessions.get(*role).is_none())
        });
        if unused {
            self.deactivate(slot);
        }
    }

    /// Wipes sessions and a handshake that waits for its response.
    pub(super) fn wipe_keys(&mut self, slot: u32) {
        self.forget_initiation(slot);
        let freed = self.active.get_mut(slot).map(|active| active.sessions.end_all());
        self.free_indices(freed.unwrap_or_default());
    }

    /// Wipes a handshake that waits for its response.
    pub(super) fn forget_initiation(&mut self, slot: u32) {
        if let Some(sent) = self.active.get_mut(slot).and_then(|active| active.sent_initiation.take()) {
            self.indices.remove(sent.sender());
        }
    }

    pub(super) fn free_indices(&mut self, freed: FreedIndices) {
        for index in freed.into_iter().flatten() {
            self.indices.remove(index);
        }
    }

    /// Drops the packets that wait for a peer's handshake.
    pub(super) fn purge_staged(&mut self, slot: u32) {
        let Some(active) = self.active.get_mut(slot) else { return };
        let mut purged = 0;
        while self.staged.pop(&mut active.staged) {
            purged += 1;
        }
        active.timers.disarm(Timer::Flush);
        self.counters.add(DropReason::StagedPurged, purged);
        self.active.reschedule(slot);
    }
}
