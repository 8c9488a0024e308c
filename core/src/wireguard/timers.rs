//! The timers of a peer and their events (paper section 6, named as in the kernel's `timers.c`), and the queue that
//! knows the earliest deadline of all active peers.
//!
//! Everything here only keeps time. What a due timer does is the device's part.

use core::time::Duration;

use super::constants::{
    KEEPALIVE_TIMEOUT, NEW_HANDSHAKE_AFTER, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT, ZERO_KEY_MATERIAL_AFTER,
};
use super::storage::Slots;
use crate::time::Instant;

/// A deadline that never comes.
const NEVER: Instant = Instant::from_micros(u64::MAX);

/// What a peer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// An initiation is wanted, and is sent now or when the least time since the last one has passed.
    Initiate,
    /// The last initiation is still unanswered.
    Retransmit,
    /// A session is there: staged packets go out, or an empty one confirms it.
    Flush,
    /// Data came in and nothing went out since: an empty packet says that it arrived.
    Keepalive,
    /// Data went out and nothing came in since.
    NewHandshake,
    /// The configured interval without any authenticated packet.
    PersistentKeepalive,
    /// No new session for a long time: all keys are wiped.
    ZeroKey,
}

impl Timer {
    const ALL: [Self; 7] = [
        Self::Initiate,
        Self::Retransmit,
        Self::Flush,
        Self::Keepalive,
        Self::NewHandshake,
        Self::PersistentKeepalive,
        Self::ZeroKey,
    ];
}

/// The timers of one active peer.
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    deadlines: [Instant; Timer::ALL.len()],
    /// When the running series of initiations began; `None` while none runs.
    series_began: Option<Instant>,
    /// When an initiation or a response last went out; no initiation follows sooner than [`REKEY_TIMEOUT`].
    last_handshake_sent: Option<Instant>,
    /// Data came in while the passive keepalive was already armed.
    needs_another_keepalive: bool,
    /// The passive keepalive is on its way out, and another is armed behind it.
    another_keepalive_follows: bool,
    /// The receive side has asked for a new session once in this one.
    sent_last_minute_handshake: bool,
}

impl Timers {
    pub(crate) const EMPTY: Self = Self {
        deadlines: [NEVER; Timer::ALL.len()],
        series_began: None,
        last_handshake_sent: None,
        needs_another_keepalive: false,
        another_keepalive_follows: false,
        sent_last_minute_handshake: false,
    };

    pub(crate) fn arm(&mut self, timer: Timer, deadline: Instant) {
        if let Some(slot) = self.deadlines.get_mut(timer as usize) {
            *slot = deadline;
        }
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.arm(timer, NEVER);
    }

    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.deadlines.get(timer as usize).is_some_and(|deadline| *deadline != NEVER)
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.iter().copied().min().filter(|deadline| *deadline != NEVER)
    }

    /// Disarms one timer that is due and gives it.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let due = Timer::ALL
            .into_iter()
            .zip(self.deadlines)
            .filter(|(_, deadline)| *deadline <= now && *deadline != NEVER)
            .min_by_key(|(_, deadline)| *deadline);
        due.map(|(timer, _)| {
            self.disarm(timer);
            timer
        })
    }

    /// An inner packet that was not empty went out.
    pub(crate) fn data_sent(&mut self, now: Instant, jitter: impl FnOnce() -> Duration) {
        if !self.is_armed(Timer::NewHandshake) {
            self.arm(Timer::NewHandshake, now + NEW_HANDSHAKE_AFTER + jitter());
        }
    }

    /// An inner packet that was not empty came in.
    pub(crate) fn data_received(&mut self, now: Instant) {
        if self.is_armed(Timer::Keepalive) {
            self.needs_another_keepalive = true;
        } else {
            self.arm(Timer::Keepalive, now + KEEPALIVE_TIMEOUT);
        }
    }

    /// Anything authenticated went out: data, keepalive or handshake message.
    pub(crate) fn any_authenticated_packet_sent(&mut self, now: Instant) {
        match core::mem::take(&mut self.another_keepalive_follows) {
            true => self.arm(Timer::Keepalive, now + KEEPALIVE_TIMEOUT),
            false => self.disarm(Timer::Keepalive),
        }
    }

    /// Anything authenticated came in.
    pub(crate) fn any_authenticated_packet_received(&mut self) {
        self.disarm(Timer::NewHandshake);
    }

    /// Anything authenticated went either way. `interval` is the persistent keepalive's, where one is set.
    pub(crate) fn any_authenticated_packet_traversal(&mut self, now: Instant, interval: Option<Duration>) {
        match interval {
            Some(interval) => self.arm(Timer::PersistentKeepalive, now + interval),
            None => self.disarm(Timer::PersistentKeepalive),
        }
    }

    /// The passive keepalive is due and goes out; data that came in meanwhile deserves another.
    pub(crate) fn keepalive_due(&mut self) {
        self.another_keepalive_follows = core::mem::take(&mut self.needs_another_keepalive);
    }

    /// An initiation is tried: the next try follows unless an answer comes first. The series ends exactly
    /// [`REKEY_ATTEMPT_TIME`] after it began.
    pub(crate) fn handshake_initiated(&mut self, now: Instant, jitter: Duration) {
        let began = *self.series_began.get_or_insert(now);
        let retry = now + REKEY_TIMEOUT + jitter;
        self.arm(Timer::Retransmit, retry.min(began + REKEY_ATTEMPT_TIME));
    }

    /// An initiation or a response goes out.
    pub(crate) fn handshake_message_sent(&mut self, now: Instant) {
        self.last_handshake_sent = Some(now);
    }

    /// A session is confirmed: both sides have it.
    pub(crate) fn handshake_complete(&mut self) {
        self.disarm(Timer::Retransmit);
        self.disarm(Timer::Initiate);
        self.series_began = None;
        self.sent_last_minute_handshake = false;
    }

    /// New keys were derived.
    pub(crate) fn session_derived(&mut self, now: Instant) {
        self.arm(Timer::ZeroKey, now + ZERO_KEY_MATERIAL_AFTER);
    }

    /// The series of initiations has found no answer.
    pub(crate) fn gave_up(&mut self, now: Instant) {
        self.disarm(Timer::Keepalive);
        self.disarm(Timer::Initiate);
        self.disarm(Timer::Retransmit);
        self.needs_another_keepalive = false;
        self.another_keepalive_follows = false;
        self.series_began = None;
        if !self.is_armed(Timer::ZeroKey) {
            self.session_derived(now);
        }
    }

    /// An initiation is wanted: as soon as the last handshake message is [`REKEY_TIMEOUT`] ago. While one waits for
    /// its response, its retransmission is that initiation. `anew` gives a running series its whole time again.
    pub(crate) fn want_initiation(&mut self, now: Instant, anew: bool) {
        if anew && self.series_began.is_some() {
            self.series_began = Some(now);
        }
        let earliest = self.earliest_initiation(now);
        if self.is_armed(Timer::Initiate) || (self.is_armed(Timer::Retransmit) && earliest > now) {
            return;
        }
        self.arm(Timer::Initiate, earliest);
    }

    /// The last initiation was not answered in time. False where the series has used up its time.
    pub(crate) fn retry_initiation(&mut self, now: Instant) -> bool {
        if self.series_began.is_some_and(|began| now.saturating_since(began) >= REKEY_ATTEMPT_TIME) {
            return false;
        }
        self.arm(Timer::Initiate, self.earliest_initiation(now));
        true
    }

    /// When the next initiation may go out at the earliest.
    fn earliest_initiation(&self, now: Instant) -> Instant {
        match self.last_handshake_sent {
            // A clock that went back would otherwise hold initiations off until it caught up.
            Some(sent) if sent <= now => now.max(sent + REKEY_TIMEOUT),
            _ => now,
        }
    }

    /// Forgets when the last handshake message went out, so that the next may follow at once (after a key change).
    pub(crate) fn allow_initiation(&mut self) {
        self.last_handshake_sent = None;
    }

    /// True once in the life of a session.
    pub(crate) fn take_last_minute_handshake(&mut self) -> bool {
        !core::mem::replace(&mut self.sent_last_minute_handshake, true)
    }
}

/// Where an entry stands in a [`DeadlineQueue`].
#[derive(Clone, Debug)]
pub(crate) struct Scheduled {
    deadline: Instant,
    /// The place in the heap of this entry; [`Scheduled::NOWHERE`] while it has no deadline.
    place: u32,
    /// The entry at the place in the heap that has this entry's number.
    at_place: u32,
}

impl Scheduled {
    const NOWHERE: u32 = u32::MAX;

    pub(crate) const EMPTY: Self = Self { deadline: NEVER, place: Self::NOWHERE, at_place: 0 };
}

/// An entry of a table that a [`DeadlineQueue`] orders.
pub(crate) trait HasDeadline {
    fn scheduled(&self) -> &Scheduled;
    fn scheduled_mut(&mut self) -> &mut Scheduled;
}

/// A binary heap of the deadlines of a table's entries, kept inside these entries: the earliest is known at once,
/// and a change costs the logarithm of the number of entries.
#[derive(Clone, Debug)]
pub(crate) struct DeadlineQueue {
    len: u32,
}

impl DeadlineQueue {
    pub(crate) const fn new() -> Self {
        Self { len: 0 }
    }

    /// The entry with the earliest deadline.
    pub(crate) fn earliest<T: HasDeadline>(&self, table: &impl Slots<T>) -> Option<(u32, Instant)> {
        if self.len == 0 {
            return None;
        }
        let entry = table.get(0)?.scheduled().at_place;
        Some((entry, deadline_of(table, entry)))
    }

    /// Sets or removes the deadline of an entry.
    pub(crate) fn set<T: HasDeadline>(&mut self, table: &mut impl Slots<T>, entry: u32, deadline: Option<Instant>) {
        let Some(scheduled) = table.get_mut(entry as usize).map(T::scheduled_mut) else { return };
        let new = deadline.unwrap_or(NEVER);
        if scheduled.deadline == new {
            return;
        }
        scheduled.deadline = new;
        let mut place = scheduled.place;
        if deadline.is_none() {
            scheduled.place = Scheduled::NOWHERE;
            self.len = self.len.saturating_sub(1);
            if place == self.len {
                return;
            }
            let last = entry_at(table, self.len);
            put(table, place, last);
            place = self.settle(table, place);
            self.rise(table, place);
            return;
        }
        if place == Scheduled::NOWHERE {
            place = self.len;
            self.len = self.len.saturating_add(1);
            put(table, place, entry);
        }
        let place = self.settle(table, place);
        self.rise(table, place);
    }

    /// Lets the entry at `place` sink below earlier ones; its place afterwards.
    fn settle<T: HasDeadline>(&self, table: &mut impl Slots<T>, mut place: u32) -> u32 {
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            if left >= self.len {
                return place;
            }
            let right = left.saturating_add(1);
            let (left_deadline, here) = (deadline_at(table, left), deadline_at(table, place));
            let (child, child_deadline) = match right < self.len {
                true if deadline_at(table, right) < left_deadline => (right, deadline_at(table, right)),
                _ => (left, left_deadline),
            };
            if here <= child_deadline {
                return place;
            }
            swap(table, place, child);
            place = child;
        }
    }

    /// Lets the entry at `place` rise above later ones.
    fn rise<T: HasDeadline>(&self, table: &mut impl Slots<T>, mut place: u32) {
        while let Some(parent) = place.checked_sub(1).map(|below| below / 2) {
            if deadline_at(table, parent) <= deadline_at(table, place) {
                return;
            }
            swap(table, place, parent);
            place = parent;
        }
    }
}

fn entry_at<T: HasDeadline>(table: &impl Slots<T>, place: u32) -> u32 {
    table.get(place as usize).map_or(0, |slot| slot.scheduled().at_place)
}

fn deadline_of<T: HasDeadline>(table: &impl Slots<T>, entry: u32) -> Instant {
    table.get(entry as usize).map_or(NEVER, |slot| slot.scheduled().deadline)
}

fn deadline_at<T: HasDeadline>(table: &impl Slots<T>, place: u32) -> Instant {
    deadline_of(table, entry_at(table, place))
}

fn put<T: HasDeadline>(table: &mut impl Slots<T>, place: u32, entry: u32) {
    if let Some(slot) = table.get_mut(place as usize) {
        slot.scheduled_mut().at_place = entry;
    }
    if let Some(slot) = table.get_mut(entry as usize) {
        slot.scheduled_mut().place = place;
    }
}

fn swap<T: HasDeadline>(table: &mut impl Slots<T>, a: u32, b: u32) {
    let (at_a, at_b) = (entry_at(table, a), entry_at(table, b));
    put(table, a, at_b);
    put(table, b, at_a);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone)]
    struct Entry(Scheduled);

    impl HasDeadline for Entry {
        fn scheduled(&self) -> &Scheduled {
            &self.0
        }

        fn scheduled_mut(&mut self) -> &mut Scheduled {
            &mut self.0
        }
    }

    proptest! {
        #[test]
        fn the_queue_agrees_with_a_sorted_list(
            changes in prop::collection::vec((0u32..12, prop::option::of(0u64..50)), 1..200),
        ) {
            let mut entries = std::vec![Entry(Scheduled::EMPTY); 12];
            let mut table = entries.as_mut_slice();
            let mut queue = DeadlineQueue::new();
            let mut model = BTreeMap::new();
            for (entry, secs) in changes {
                queue.set(&mut table, entry, secs.map(Instant::from_secs));
                match secs {
                    Some(secs) => { model.insert(entry, secs); }
                    None => { model.remove(&entry); }
                }
                let expected = model.values().min().map(|secs| Instant::from_secs(*secs));
                prop_assert_eq!(queue.earliest(&table).map(|(_, deadline)| deadline), expected);
            }
            let mut drained = Vec::new();
            while let Some((entry, deadline)) = queue.earliest(&table) {
                drained.push(deadline);
                queue.set(&mut table, entry, None);
            }
            prop_assert!(drained.is_sorted());
            prop_assert_eq!(drained.len(), model.len());
        }
    }

    #[test]
    fn a_due_timer_fires_once_and_the_earliest_first() {
        let mut timers = Timers::EMPTY;
        timers.arm(Timer::ZeroKey, Instant::from_secs(1));
        timers.arm(Timer::Initiate, Instant::from_secs(2));
        timers.arm(Timer::Flush, Instant::from_secs(9));
        assert_eq!(timers.next_deadline(), Some(Instant::from_secs(1)));
        assert_eq!(timers.take_due(Instant::from_secs(3)), Some(Timer::ZeroKey));
        assert_eq!(timers.take_due(Instant::from_secs(3)), Some(Timer::Initiate));
        assert_eq!(timers.take_due(Instant::from_secs(3)), None);
        assert_eq!(timers.next_deadline(), Some(Instant::from_secs(9)));
    }
}
