//! Sessions: a pair of transport keys with its send counter and replay window, and the three that a peer may have
//! at once (paper section 6.3).

use zeroize::Zeroize;

use super::constants::{
    REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME, REKEY_AFTER_TIME_RECEIVING,
};
use super::replay::ReplayWindow;
use crate::time::Instant;

/// A replay window of some size; the storage chooses it. See [`ReplayWindow`].
pub trait Window: Send + 'static {
    /// A window that has accepted nothing.
    const EMPTY: Self;

    /// Accepts a counter: true once for each that is neither too old nor over the limit.
    fn mark(&mut self, counter: u64) -> bool;
}

impl<const WORDS: usize> Window for ReplayWindow<WORDS> {
    const EMPTY: Self = Self::new();

    fn mark(&mut self, counter: u64) -> bool {
        ReplayWindow::mark(self, counter)
    }
}

/// What a handshake ends in: everything a session begins with.
#[derive(Debug)]
pub(crate) struct Beginning<'a> {
    /// Never the same twice in the life of a device; not zero.
    pub(crate) serial: u64,
    pub(crate) sending_key: &'a [u8; 32],
    pub(crate) receiving_key: &'a [u8; 32],
    pub(crate) local_index: u32,
    pub(crate) remote_index: u32,
    pub(crate) initiator: bool,
    pub(crate) now: Instant,
}

/// One session. An empty one has serial zero.
pub(crate) struct Session<W> {
    serial: u64,
    born: Instant,
    next_counter: u64,
    sending_key: [u8; 32],
    receiving_key: [u8; 32],
    local_index: u32,
    remote_index: u32,
    initiator: bool,
    /// False once the private key has changed that this session was made with.
    sends: bool,
    window: W,
}

impl<W: Window> Session<W> {
    const EMPTY: Self = Self {
        serial: 0,
        born: Instant::ZERO,
        next_counter: 0,
        sending_key: [0; 32],
        receiving_key: [0; 32],
        local_index: 0,
        remote_index: 0,
        initiator: false,
        sends: false,
        window: W::EMPTY,
    };

    fn begin(&mut self, beginning: &Beginning<'_>) {
        self.serial = beginning.serial;
        self.born = beginning.now;
        self.next_counter = 0;
        self.sending_key = *beginning.sending_key;
        self.receiving_key = *beginning.receiving_key;
        self.local_index = beginning.local_index;
        self.remote_index = beginning.remote_index;
        self.initiator = beginning.initiator;
        self.sends = true;
        self.window = W::EMPTY;
    }

    /// Wipes the keys; the index that is free now.
    fn end(&mut self) -> Option<u32> {
        let index = (self.serial != 0).then_some(self.local_index);
        self.serial = 0;
        self.sending_key.zeroize();
        self.receiving_key.zeroize();
        index
    }

    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }

    pub(crate) const fn remote_index(&self) -> u32 {
        self.remote_index
    }

    pub(crate) const fn sending_key(&self) -> &[u8; 32] {
        &self.sending_key
    }

    pub(crate) const fn receiving_key(&self) -> &[u8; 32] {
        &self.receiving_key
    }

    /// Whether anything may still be sent or accepted, by age.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_since(self.born) < REJECT_AFTER_TIME
    }

    /// Whether `count` more packets may be sent.
    pub(crate) fn may_send(&self, count: u64, now: Instant) -> bool {
        let has_counters = self.next_counter.checked_add(count).is_some_and(|end| end <= REJECT_AFTER_MESSAGES);
        self.sends && has_counters && self.is_fresh(now)
    }

    /// Takes `count` counters out of use and gives the first one.
    pub(crate) fn reserve(&mut self, count: u64) -> u64 {
        let first = self.next_counter;
        self.next_counter = first.saturating_add(count);
        first
    }

    /// Whether sending in this session should ask for a new one.
    pub(crate) fn wants_rekey_on_send(&self, now: Instant) -> bool {
        self.next_counter > REKEY_AFTER_MESSAGES
            || (self.initiator && now.saturating_since(self.born) >= REKEY_AFTER_TIME)
    }

    /// Whether receiving in this session should ask for a new one.
    pub(crate) fn wants_rekey_on_receive(&self, now: Instant) -> bool {
        self.initiator && now.saturating_since(self.born) >= REKEY_AFTER_TIME_RECEIVING
    }

    pub(crate) fn window(&mut self) -> &mut W {
        &mut self.window
    }

    #[cfg(test)]
    pub(crate) fn set_next_counter(&mut self, counter: u64) {
        self.next_counter = counter;
    }
}

impl<W> Drop for Session<W> {
    fn drop(&mut self) {
        self.sending_key.zeroize();
        self.receiving_key.zeroize();
    }
}

impl<W> core::fmt::Debug for Session<W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session")
            .field("serial", &self.serial)
            .field("born", &self.born)
            .field("next_counter", &self.next_counter)
            .field("initiator", &self.initiator)
            .finish_non_exhaustive()
    }
}

/// What a session is to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Replaced; still receives what is under way.
    Previous,
    /// Sends and receives.
    Current,
    /// Derived as responder, and not confirmed by a packet of the initiator yet: receives only.
    Next,
}

/// The sessions of a peer. They stay where they are in memory; what rotates is who has which role.
pub(crate) struct Sessions<W> {
    slots: [Session<W>; 3],
    /// The slot of previous, current and next; always a permutation.
    roles: [u8; 3],
}

/// Indices that a rotation set free.
pub(crate) type FreedIndices = [Option<u32>; 3];

impl<W: Window> Sessions<W> {
    pub(crate) const EMPTY: Self = Self { slots: [Session::EMPTY, Session::EMPTY, Session::EMPTY], roles: [0, 1, 2] };

    /// The session in a role.
    pub(crate) fn get(&self, role: Role) -> Option<&Session<W>> {
        let slot = self.roles.get(role as usize)?;
        self.slots.get(usize::from(*slot)).filter(|session| session.serial != 0)
    }

    /// The session in a role, to change.
    pub(crate) fn get_mut(&mut self, role: Role) -> Option<&mut Session<W>> {
        let slot = self.roles.get(role as usize)?;
        self.slots.get_mut(usize::from(*slot)).filter(|session| session.serial != 0)
    }

    /// The role of the session that receives at `local_index`.
    pub(crate) fn by_index(&self, local_index: u32) -> Option<Role> {
        self.find(|session| session.local_index == local_index)
    }

    /// The role of the session with this serial.
    pub(crate) fn by_serial(&self, serial: u64) -> Option<Role> {
        self.find(|session| session.serial == serial)
    }

    fn find(&self, matches: impl Fn(&Session<W>) -> bool) -> Option<Role> {
        [Role::Current, Role::Next, Role::Previous].into_iter().find(|role| self.get(*role).is_some_and(&matches))
    }

    /// A session that this side asked for: current at once. Previous becomes the unconfirmed next where there is
    /// one, since the other side may already send in it; otherwise the old current.
    pub(crate) fn begin_as_initiator(&mut self, beginning: &Beginning<'_>) -> FreedIndices {
        let [previous, current, next] = self.roles;
        let has_next = self.get(Role::Next).is_some();
        // The slot behind `freed` takes the new session.
        let freed = if has_next {
            let freed = [self.end(Role::Previous), self.end(Role::Current), None];
            self.roles = [next, current, previous];
            freed
        } else {
            let freed = [self.end(Role::Previous), None, None];
            self.roles = [current, previous, next];
            freed
        };
        self.begin(Role::Current, beginning);
        freed
    }

    /// A session that the other side asked for: next, until its first packet confirms it.
    pub(crate) fn begin_as_responder(&mut self, beginning: &Beginning<'_>) -> FreedIndices {
        let freed = [self.end(Role::Previous), self.end(Role::Next), None];
        self.begin(Role::Next, beginning);
        freed
    }

    /// The first authentic packet in next: previous <- current <- next.
    pub(crate) fn confirm_next(&mut self) -> FreedIndices {
        let freed = [self.end(Role::Previous), None, None];
        let [previous, current, next] = self.roles;
        self.roles = [current, next, previous];
        freed
    }

    /// Nothing more is sent in any session, though packets that are under way are still received.
    pub(crate) fn stop_sending(&mut self) {
        self.slots.iter_mut().for_each(|session| session.sends = false);
    }

    /// Wipes those that are too old to send or receive. Otherwise one that nobody replaces would stay for as long as
    /// the other side keeps beginning sessions that it never confirms.
    pub(crate) fn end_stale(&mut self, now: Instant) -> FreedIndices {
        [Role::Previous, Role::Current, Role::Next].map(|role| match self.get(role) {
            Some(session) if !session.is_fresh(now) => self.end(role),
            _ => None,
        })
    }

    /// Wipes all three.
    pub(crate) fn end_all(&mut self) -> FreedIndices {
        [self.end(Role::Previous), self.end(Role::Current), self.end(Role::Next)]
    }

    fn begin(&mut self, role: Role, beginning: &Beginning<'_>) {
        if let Some(session) = self.roles.get(role as usize).and_then(|slot| self.slots.get_mut(usize::from(*slot))) {
            session.begin(beginning);
        }
    }

    fn end(&mut self, role: Role) -> Option<u32> {
        self.get_mut(role).and_then(Session::end)
    }
}

impl<W> core::fmt::Debug for Sessions<W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sessions").field("slots", &self.slots).field("roles", &self.roles).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning(serial: u64, initiator: bool) -> Beginning<'static> {
        let local_index = serial as u32;
        Beginning {
            serial,
            sending_key: &[1; 32],
            receiving_key: &[2; 32],
            local_index,
            remote_index: 0,
            initiator,
            now: Instant::ZERO,
        }
    }

    fn serials(sessions: &Sessions<ReplayWindow<2>>) -> [u64; 3] {
        [Role::Previous, Role::Current, Role::Next].map(|role| sessions.get(role).map_or(0, Session::serial))
    }

    #[test]
    fn sessions_rotate_as_the_paper_says() {
        let mut sessions = Sessions::EMPTY;
        assert_eq!(sessions.begin_as_initiator(&beginning(1, true)), [None; 3]);
        assert_eq!(serials(&sessions), [0, 1, 0]);
        sessions.begin_as_initiator(&beginning(2, true));
        assert_eq!(serials(&sessions), [1, 2, 0]);
        assert_eq!(sessions.begin_as_initiator(&beginning(3, true)), [Some(1), None, None]);
        assert_eq!(serials(&sessions), [2, 3, 0]);
        assert_eq!(sessions.begin_as_responder(&beginning(4, false)), [Some(2), None, None]);
        assert_eq!(serials(&sessions), [0, 3, 4]);
        assert_eq!(sessions.begin_as_responder(&beginning(5, false)), [None, Some(4), None]);
        assert_eq!(serials(&sessions), [0, 3, 5]);
        sessions.confirm_next();
        assert_eq!(serials(&sessions), [3, 5, 0]);
        sessions.begin_as_responder(&beginning(6, false));
        assert_eq!(serials(&sessions), [0, 5, 6]);
        assert_eq!(sessions.begin_as_initiator(&beginning(7, true)), [None, Some(5), None]);
        assert_eq!(serials(&sessions), [6, 7, 0], "an unconfirmed next stays as previous");
        assert_eq!(sessions.end_all(), [Some(6), Some(7), None]);
        assert_eq!(serials(&sessions), [0, 0, 0]);
        assert!(sessions.slots.iter().all(|slot| slot.sending_key == [0; 32] && slot.receiving_key == [0; 32]));
    }

    #[test]
    fn the_limits_hold_to_the_packet_and_the_microsecond() {
        let mut sessions: Sessions<ReplayWindow<2>> = Sessions::EMPTY;
        sessions.begin_as_initiator(&beginning(1, true));
        let session = sessions.get_mut(Role::Current).unwrap();
        let just_before = |secs: u64| Instant::from_micros(secs * 1_000_000 - 1);
        assert!(!session.wants_rekey_on_send(just_before(120)) && session.wants_rekey_on_send(Instant::from_secs(120)));
        assert!(!session.wants_rekey_on_receive(just_before(165)));
        assert!(session.wants_rekey_on_receive(Instant::from_secs(165)));
        assert!(session.is_fresh(just_before(180)) && !session.is_fresh(Instant::from_secs(180)));

        session.set_next_counter(REKEY_AFTER_MESSAGES);
        assert!(!session.wants_rekey_on_send(Instant::ZERO));
        session.reserve(1);
        assert!(session.wants_rekey_on_send(Instant::ZERO));
        session.set_next_counter(REJECT_AFTER_MESSAGES - 2);
        assert!(session.may_send(2, Instant::ZERO) && !session.may_send(3, Instant::ZERO));
        assert_eq!(session.reserve(2), REJECT_AFTER_MESSAGES - 2);
        assert!(!session.may_send(1, Instant::ZERO));
    }
}
