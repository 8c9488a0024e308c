//! One direction of an Ethernet cable, with faults: loss, delay, reordering, duplication, and a link that is down.
//!
//! What happens to the n-th frame follows from the seed alone.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Frames that a wire holds at once; what comes on top is dropped, as by a switch that is short of memory.
const CAPACITY: usize = 512;

/// What a wire does to the frames on it. The default is a perfect wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames lost, of 1,000.
    pub loss: u16,
    /// Frames that arrive twice, of 1,000.
    pub duplication: u16,
    /// Frames that are held back by [`Faults::lateness`], so that later ones overtake them, of 1,000.
    pub reordering: u16,
    /// How much later a frame arrives that is held back.
    pub lateness: Duration,
    /// How long every frame is on its way.
    pub delay: Duration,
}

/// How many frames a wire carried and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that were put on the wire.
    pub sent: u64,
    /// Frames that were lost by chance, by a link that was down, or by a full wire.
    pub lost: u64,
    /// Frames that were sent on twice.
    pub duplicated: u64,
    /// Frames that were held back.
    pub late: u64,
}

/// One direction of a cable.
#[derive(Debug)]
pub(crate) struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    linked: bool,
    closed: bool,
    chance: Chance,
    counts: Counts,
    /// The frames on the wire, the next one to arrive on top.
    frames: BinaryHeap<Reverse<Held>>,
}

/// A frame on the wire. Those that are due at the same time arrive in the order that they were sent in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    number: u64,
    frame: Vec<u8>,
}

impl Wire {
    /// A perfect wire whose faults, once it has some, follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            faults: Faults::default(),
            linked: true,
            closed: false,
            chance: Chance::new(seed),
            counts: Counts::default(),
            frames: BinaryHeap::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Changes what happens to the frames that are sent from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Takes the link down or up. What is on the wire when it goes down is lost.
    pub(crate) fn set_link(&self, up: bool) {
        let mut state = self.state();
        state.linked = up;
        if !up {
            state.counts.lost += state.frames.len() as u64;
            state.frames.clear();
        }
    }

    /// What it carried so far.
    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Puts a frame on the wire.
    pub(crate) fn send(&self, frame: &[u8]) {
        self.state().send(frame, Instant::now());
        self.changed.notify_one();
    }

    /// Waits for the next frame to arrive; `None` once the wire is closed.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let wait = match state.frames.peek() {
                Some(Reverse(next)) if next.due <= now => return state.frames.pop().map(|Reverse(held)| held.frame),
                Some(Reverse(next)) => next.due - now,
                None => Duration::from_secs(3_600),
            };
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the wire and whoever waits for it.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&mut self, frame: &[u8], now: Instant) {
        self.counts.sent += 1;
        let number = self.counts.sent;
        // Every frame draws the same numbers, so that a change of one fault leaves the others where they are.
        let [lost, twice, late] = [self.faults.loss, self.faults.duplication, self.faults.reordering]
            .map(|of_a_thousand| self.chance.happens(of_a_thousand));
        if lost || !self.linked || self.frames.len() >= CAPACITY {
            self.counts.lost += 1;
            return;
        }
        let mut due = now + self.faults.delay;
        if late {
            self.counts.late += 1;
            due += self.faults.lateness;
        }
        self.frames.push(Reverse(Held { due, number, frame: frame.to_vec() }));
        if twice {
            self.counts.duplicated += 1;
            self.frames.push(Reverse(Held { due, number, frame: frame.to_vec() }));
        }
    }
}

/// Chance that follows from a seed: Marsaglia's xorshift64.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn happens(&mut self, of_a_thousand: u16) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) % 1_000 < of_a_thousand.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order that frames 0 to 99 arrive in.
    fn arrivals(seed: u64, faults: Faults) -> (Vec<u8>, Counts) {
        let wire = Wire::new(seed);
        wire.set_faults(faults);
        let mut state = wire.state();
        let start = Instant::now();
        for number in 0..100 {
            state.send(&[number], start + Duration::from_millis(number.into()));
        }
        let order = std::iter::from_fn(|| state.frames.pop()).filter_map(|Reverse(held)| held.frame.first().copied());
        (order.collect(), state.counts)
    }

    #[test]
    fn a_perfect_wire_keeps_order() {
        let (order, counts) = arrivals(1, Faults::default());
        assert_eq!(order, (0..100).collect::<Vec<u8>>());
        assert_eq!(counts, Counts { sent: 100, ..Counts::default() });
    }

    #[test]
    fn faults_are_as_frequent_as_asked_and_follow_from_the_seed() {
        let lateness = Duration::from_millis(10);
        let faults = Faults { loss: 200, duplication: 100, reordering: 300, lateness, delay: Duration::ZERO };
        let (order, counts) = arrivals(7, faults);
        assert!((10..=30).contains(&counts.lost), "{counts:?}");
        assert!((2..=20).contains(&counts.duplicated), "{counts:?}");
        assert!((12..=40).contains(&counts.late), "{counts:?}");
        assert_eq!(order.len() as u64, 100 - counts.lost + counts.duplicated);
        assert!(!order.is_sorted(), "nothing was overtaken: {order:?}");
        assert_eq!(arrivals(7, faults).0, order);
        assert_ne!(arrivals(8, faults).0, order);
    }

    #[test]
    fn a_link_that_is_down_carries_nothing_and_loses_what_was_on_it() {
        let wire = Wire::new(1);
        wire.send(b"on its way");
        wire.set_link(false);
        wire.send(b"down");
        wire.set_link(true);
        wire.send(b"up again");
        assert_eq!(wire.receive().as_deref(), Some(b"up again".as_slice()));
        assert_eq!(wire.counts(), Counts { sent: 3, lost: 2, ..Counts::default() });
    }

    #[test]
    fn a_delayed_frame_arrives_when_it_is_due() {
        let wire = Wire::new(1);
        let delay = Duration::from_millis(30);
        wire.set_faults(Faults { delay, ..Faults::default() });
        let sent = Instant::now();
        wire.send(b"slow");
        assert!(wire.receive().is_some());
        assert!(sent.elapsed() >= delay);
    }

    #[test]
    fn a_closed_wire_ends_its_reader() {
        let wire = Wire::new(1);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| wire.receive());
            wire.close();
            assert_eq!(reader.join().unwrap(), None);
        });
    }
}
