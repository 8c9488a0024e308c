//! What is due: deadlines, and the work that they lead to.

use super::{Device, Event};
use crate::time::{Instant, UnixTime};
use crate::wireguard::peer::PeerId;
use crate::wireguard::session::Role;
use crate::wireguard::storage::Storage;
use crate::wireguard::ticket::HandshakeTicket;
use crate::wireguard::timers::Timer;

/// Something to be done now.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is no heap to put the ticket on")]
pub enum Work {
    /// An initiation is due: step the ticket until it is done, commit it, and send what comes of it. Dropped, it
    /// counts as lost on the way.
    Handshake(HandshakeTicket),
    /// Seal an empty packet for this peer and send it.
    Keepalive(PeerId),
    /// There is a session: take the packets that wait for this peer until there is none, seal and send them.
    Staged(PeerId),
}

impl<S: Storage> Device<S> {
    /// When [`poll`](Self::poll) has something to do at the earliest; a time that has passed means now. Exact, and
    /// cheap enough to ask after each packet.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.active.earliest().map(|(_, deadline)| deadline)
    }

    /// The next thing to do. To be called until it gives `None`; [`poll_timeout`](Self::poll_timeout) is then later
    /// than `now`. Every call either gives work or has handled all that is due, and what is handled is not due again.
    pub fn poll(&mut self, now: Instant, unix: UnixTime, rng: &mut dyn rand_core::CryptoRng) -> Option<Work> {
        self.wall.set(now, unix);
        while let Some((slot, _)) = self.active.earliest().filter(|(_, deadline)| *deadline <= now) {
            let due = self.active.get_mut(slot).and_then(|active| active.timers.take_due(now));
            let work = due.and_then(|timer| self.handle(slot, timer, now, unix, rng));
            self.active.reschedule(slot);
            if work.is_some() {
                return work;
            }
        }
        None
    }

    fn handle(
        &mut self,
        slot: u32,
        timer: Timer,
        now: Instant,
        unix: UnixTime,
        rng: &mut dyn rand_core::CryptoRng,
    ) -> Option<Work> {
        let (_, known, active) = self.active_at(slot)?;
        match timer {
            Timer::Initiate => self.initiate_now(slot, now, unix, rng),
            Timer::Retransmit => {
                if !active.timers.retry_initiation(now) {
                    self.give_up(slot, now);
                }
                None
            }
            Timer::Flush => self.flush(slot, now),
            Timer::Keepalive => {
                active.timers.keepalive_due();
                self.keepalive(slot, now, true)
            }
            Timer::PersistentKeepalive => {
                active.timers.any_authenticated_packet_traversal(now, known.persistent_keepalive());
                self.keepalive(slot, now, false)
            }
            Timer::NewHandshake => {
                self.want_initiation(slot, now, true);
                None
            }
            Timer::ZeroKey => {
                let trying = [Timer::Initiate, Timer::Retransmit].iter().any(|timer| active.timers.is_armed(*timer));
                let freed = active.sessions.end_all();
                self.free_indices(freed);
                if !trying {
                    self.forget_initiation(slot);
                    self.purge_staged(slot);
                    self.deactivate_if_unused(slot);
                }
                None
            }
        }
    }

    /// A handshake with the peer in this slot is wanted. `anew` gives a running series of tries its whole time again.
    pub(super) fn want_initiation(&mut self, slot: u32, now: Instant, anew: bool) {
        if let Some(active) = self.active.get_mut(slot) {
            active.timers.want_initiation(now, anew);
            self.active.reschedule(slot);
        }
    }

    fn initiate_now(
        &mut self,
        slot: u32,
        now: Instant,
        unix: UnixTime,
        rng: &mut dyn rand_core::CryptoRng,
    ) -> Option<Work> {
        let jitter = self.jitter.draw();
        let wall = self.wall.at(now);
        let has_key = self.identity.is_some();
        let (peer, known, active) = self.active_at(slot)?;
        if !has_key || known.is_expired(wall) {
            self.give_up(slot, now);
            return None;
        }
        active.timers.handshake_initiated(now, jitter);
        if known.endpoint.is_none() {
            self.raise(Event::NeedsEndpoint(peer));
            return None;
        }
        active.timers.handshake_message_sent(now);
        self.begin_initiation(slot, unix, rng).map(Work::Handshake)
    }

    fn give_up(&mut self, slot: u32, now: Instant) {
        self.forget_initiation(slot);
        self.purge_staged(slot);
        let Some((peer, _, active)) = self.active_at(slot) else { return };
        active.timers.gave_up(now);
        if self.identity.is_some() {
            self.raise(Event::GaveUp(peer));
        }
    }

    fn flush(&mut self, slot: u32, now: Instant) -> Option<Work> {
        let (peer, _, active) = self.active_at(slot)?;
        let sends = active.sessions.get(Role::Current).is_some_and(|session| session.may_send(1, now));
        match (active.staged.is_empty(), sends) {
            (true, _) if !active.owes_confirmation => None,
            (true, true) => Some(Work::Keepalive(peer)),
            (false, true) => Some(Work::Staged(peer)),
            (_, false) => {
                self.want_initiation(slot, now, true);
                None
            }
        }
    }

    /// A sign of life: what waits, or an empty packet, or a handshake where there is no session for it.
    fn keepalive(&mut self, slot: u32, now: Instant, anew: bool) -> Option<Work> {
        let (peer, _, active) = self.active_at(slot)?;
        if !active.sessions.get(Role::Current).is_some_and(|session| session.may_send(1, now)) {
            self.want_initiation(slot, now, anew);
            return None;
        }
        Some(if active.staged.is_empty() { Work::Keepalive(peer) } else { Work::Staged(peer) })
    }
}
