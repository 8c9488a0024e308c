//! The table of active peers: those with sessions, timers and waiting packets. A peer takes a slot at its first
//! handshake and gives it back when its keys are wiped.

use core::marker::PhantomData;

use super::cookie::CookieMaker;
use super::handshake::SentInitiation;
use super::session::{Sessions, Window};
use super::staging::StagedQueue;
use super::storage::Slots;
use super::timers::{DeadlineQueue, HasDeadline, Scheduled, Timer, Timers};
use crate::crypto::SharedSecret;
use crate::time::Instant;

/// No slot.
const NONE: u32 = u32::MAX;

/// What an active peer has beyond its [`KnownPeer`](super::KnownPeer).
#[derive(Debug)]
pub struct ActivePeer<W> {
    pub(crate) sessions: Sessions<W>,
    /// The last initiation, until its response comes or it is given up.
    pub(crate) sent_initiation: Option<SentInitiation>,
    pub(crate) cookie: CookieMaker,
    pub(crate) timers: Timers,
    pub(crate) staged: StagedQueue,
    /// With the device's present private key.
    pub(crate) static_static: Option<SharedSecret>,
    pub(crate) last_consumed_initiation: Option<Instant>,
    /// When an inner packet last went either way, or the slot was taken.
    pub(crate) last_used: Instant,
    /// Number of the last try to initiate; a ticket of an earlier one is stale.
    pub(crate) attempt: u64,
    /// The session that this side asked for has not been confirmed by a packet of ours yet.
    pub(crate) owes_confirmation: bool,
    /// An inner packet went either way since the slot was taken.
    pub(crate) carried: bool,
    /// The known peer's slot; [`NONE`] for a free slot.
    owner: u32,
    next_free: u32,
    scheduled: Scheduled,
}

impl<W: Window> ActivePeer<W> {
    /// An empty slot.
    pub const EMPTY: Self = Self {
        sessions: Sessions::EMPTY,
        sent_initiation: None,
        cookie: CookieMaker::new(),
        timers: Timers::EMPTY,
        staged: StagedQueue::EMPTY,
        static_static: None,
        last_consumed_initiation: None,
        last_used: Instant::ZERO,
        attempt: 0,
        owes_confirmation: false,
        carried: false,
        owner: NONE,
        next_free: NONE,
        scheduled: Scheduled::EMPTY,
    };

    /// The known peer's slot.
    pub(crate) const fn owner(&self) -> u32 {
        self.owner
    }

    /// An inner packet goes either way.
    pub(crate) fn note_use(&mut self, now: Instant) {
        self.last_used = now;
        self.carried = true;
    }

    /// Whether nothing is under way with this peer, so that its slot may go to another one.
    pub(crate) fn is_idle(&self) -> bool {
        const BUSY: [Timer; 6] = [
            Timer::Initiate,
            Timer::Retransmit,
            Timer::Flush,
            Timer::Keepalive,
            Timer::NewHandshake,
            Timer::PersistentKeepalive,
        ];
        self.staged.is_empty() && !BUSY.into_iter().any(|timer| self.timers.is_armed(timer))
    }
}

impl<W: Window> Default for ActivePeer<W> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<W> HasDeadline for ActivePeer<W> {
    fn scheduled(&self) -> &Scheduled {
        &self.scheduled
    }

    fn scheduled_mut(&mut self) -> &mut Scheduled {
        &mut self.scheduled
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct ActivePeers<A, W> {
    slots: A,
    len: u32,
    free: u32,
    untouched: u32,
    queue: DeadlineQueue,
    window: PhantomData<W>,
}

impl<W: Window, A: Slots<ActivePeer<W>>> ActivePeers<A, W> {
    pub(crate) const fn new(slots: A) -> Self {
        Self { slots, len: 0, free: NONE, untouched: 0, queue: DeadlineQueue::new(), window: PhantomData }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    /// How many peers may be active at most.
    pub(crate) fn limit(&self) -> usize {
        self.slots.limit()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&ActivePeer<W>> {
        self.slots.get(slot as usize).filter(|peer| peer.owner != NONE)
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut ActivePeer<W>> {
        self.slots.get_mut(slot as usize).filter(|peer| peer.owner != NONE)
    }

    /// Takes a free slot for a known peer. `None` where all are taken.
    pub(crate) fn claim(&mut self, owner: u32, now: Instant) -> Option<u32> {
        let slot = match self.slots.get(self.free as usize) {
            Some(peer) => core::mem::replace(&mut self.free, peer.next_free),
            None => {
                if self.untouched as usize >= self.slots.capacity() && !self.slots.grow() {
                    return None;
                }
                let slot = self.untouched;
                self.untouched = slot.saturating_add(1);
                slot
            }
        };
        let peer = self.slots.get_mut(slot as usize)?;
        peer.owner = owner;
        peer.last_used = now;
        self.len = self.len.saturating_add(1);
        Some(slot)
    }

    /// Gives a slot back that is taken. Its sessions must have been ended and its staged packets dropped.
    pub(crate) fn release(&mut self, slot: u32) {
        self.queue.set(&mut self.slots, slot, None);
        let Some(peer) = self.slots.get_mut(slot as usize).filter(|peer| peer.owner != NONE) else { return };
        // Field by field, since the sessions are large and already wiped.
        peer.sent_initiation = None;
        peer.cookie = CookieMaker::new();
        peer.timers = Timers::EMPTY;
        peer.staged = StagedQueue::EMPTY;
        peer.static_static = None;
        peer.last_consumed_initiation = None;
        peer.attempt = peer.attempt.wrapping_add(1);
        peer.owes_confirmation = false;
        peer.carried = false;
        peer.owner = NONE;
        peer.next_free = core::mem::replace(&mut self.free, slot);
        self.len = self.len.saturating_sub(1);
    }

    /// The idle peer whose last inner packet is the longest ago.
    pub(crate) fn least_recently_used(&self) -> Option<u32> {
        let idle = (0..self.untouched)
            .filter_map(|slot| self.get(slot).filter(|peer| peer.is_idle()).map(|peer| (peer.last_used, slot)));
        idle.min().map(|(_, slot)| slot)
    }

    pub(crate) fn slots(&self) -> core::ops::Range<u32> {
        0..self.untouched
    }

    /// To be called after a change to a peer's timers.
    pub(crate) fn reschedule(&mut self, slot: u32) {
        let deadline = self.get(slot).and_then(|peer| peer.timers.next_deadline());
        self.queue.set(&mut self.slots, slot, deadline);
    }

    /// The peer whose timer is due first.
    pub(crate) fn earliest(&self) -> Option<(u32, Instant)> {
        self.queue.earliest(&self.slots)
    }
}
