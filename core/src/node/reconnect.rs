//! When to try the control server again: exponential back-off with jitter, and a longer rest after an answer that
//! a quick repeat cannot change.
//!
//! Knows nothing of sockets or records. The composition asks it before each connection and tells it how the last
//! one went.

use core::time::Duration;

use rand_core::CryptoRng;

use crate::time::Instant;

/// The mean delay after the first failure.
pub(super) const FIRST_DELAY: Duration = Duration::from_secs(1);
/// No mean delay is longer than this while the server merely does not answer.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(32);
/// The mean delay after an answer that asks to come back later.
pub(super) const BUSY_DELAY: Duration = Duration::from_secs(60);
/// The mean delay after a refusal that only a person can change (a revoked key, a version too old).
pub(super) const REFUSED_DELAY: Duration = Duration::from_secs(15 * 60);
/// A connection that lasted this long wipes the memory of earlier failures.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// How a connection, or the attempt at one, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) enum Ending {
    /// It could not be made, broke, or was closed without a reason.
    Broken,
    /// The server asked to come back later.
    Busy,
    /// The server refused for a reason that time alone does not change.
    Refused,
}

/// The state of the back-off.
#[derive(Clone, Debug)]
pub(super) struct Reconnect {
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No connection is wanted.
    Off,
    /// The next attempt is due at this time.
    Waiting { due: Instant },
    /// The agent is connecting, or the connection is up but the server has not accepted this node yet.
    Connecting,
    /// Registered since this time.
    Up { since: Instant },
}

impl Reconnect {
    /// Nothing wanted yet; see [`Reconnect::start`].
    pub(super) const fn new() -> Self {
        Self { state: State::Off, failures: 0 }
    }

    /// A connection is wanted, at once. Also cuts a wait short, for instance when a network came up.
    pub(super) fn start(&mut self, now: Instant) {
        if matches!(self.state, State::Off | State::Waiting { .. }) {
            self.state = State::Waiting { due: now };
            self.failures = 0;
        }
    }

    /// No connection is wanted any more.
    pub(super) fn stop(&mut self) {
        *self = Self::new();
    }

    /// When the next attempt is due; `None` while one runs, a connection is up or none is wanted.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { due } => Some(due),
            State::Off | State::Connecting | State::Up { .. } => None,
        }
    }

    /// An attempt begins.
    pub(super) fn connecting(&mut self) {
        if self.state != State::Off {
            self.state = State::Connecting;
        }
    }

    /// The server accepted this node.
    pub(super) fn established(&mut self, now: Instant) {
        if self.state != State::Off {
            self.state = State::Up { since: now };
        }
    }

    /// The attempt failed or the connection ended: plans the next one.
    pub(super) fn ended(&mut self, ending: Ending, now: Instant, rng: &mut dyn CryptoRng) {
        match self.state {
            State::Off | State::Waiting { .. } => return,
            State::Up { since } if now.saturating_since(since) >= STABLE_AFTER => self.failures = 0,
            State::Up { .. } | State::Connecting => {}
        }
        let mean = match ending {
            Ending::Broken => doubled(FIRST_DELAY, self.failures).min(LONGEST_DELAY),
            Ending::Busy => BUSY_DELAY,
            Ending::Refused => REFUSED_DELAY,
        };
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting { due: now + jittered(mean, rng) };
    }

    /// Whether no connection is wanted.
    pub(super) fn is_off(&self) -> bool {
        self.state == State::Off
    }

    /// Whether an attempt runs that the server has not accepted yet.
    pub(super) fn is_connecting(&self) -> bool {
        self.state == State::Connecting
    }

    /// Puts a planned attempt off.
    pub(super) fn not_before(&mut self, earliest: Instant) {
        if let State::Waiting { due } = &mut self.state {
            *due = earliest.max(*due);
        }
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1u32.checked_shl(times.min(16)).unwrap_or(u32::MAX))
}

/// A delay spread evenly over half to one and a half times `mean`, so that ten thousand nodes that lost one server
/// do not come back in one second.
pub(super) fn jittered(mean: Duration, rng: &mut dyn CryptoRng) -> Duration {
    mean / 2 + scaled(mean, rng)
}

/// An evenly spread share of `span`: at least zero, less than `span`.
pub(super) fn scaled(span: Duration, rng: &mut dyn CryptoRng) -> Duration {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let share = (u128::from(micros) * u128::from(rng.next_u32())) >> 32;
    Duration::from_micros(u64::try_from(share).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::test_rng::TestRng;

    fn delay(reconnect: &Reconnect, now: Instant) -> Duration {
        reconnect.due().unwrap().saturating_since(now)
    }

    #[test]
    fn delays_double_up_to_a_bound_and_are_spread() {
        let mut rng = TestRng::new(1);
        let mut reconnect = Reconnect::new();
        let now = Instant::from_secs(100);
        reconnect.start(now);
        assert_eq!(reconnect.due(), Some(now), "the first attempt is due at once");
        for mean in [1, 2, 4, 8, 16, 32, 32, 32].map(Duration::from_secs) {
            reconnect.connecting();
            assert_eq!(reconnect.due(), None);
            reconnect.ended(Ending::Broken, now, &mut rng);
            let delay = delay(&reconnect, now);
            assert!(delay >= mean / 2 && delay < mean * 3 / 2, "{delay:?} around {mean:?}");
        }
    }

    #[test]
    fn a_lasting_connection_forgets_the_failures_and_a_flapping_one_does_not() {
        let mut rng = TestRng::new(2);
        let mut reconnect = Reconnect::new();
        let mut now = Instant::from_secs(100);
        reconnect.start(now);
        for _ in 0..5 {
            reconnect.connecting();
            reconnect.established(now);
            now = now + Duration::from_secs(1);
            reconnect.ended(Ending::Broken, now, &mut rng);
        }
        assert!(delay(&reconnect, now) >= Duration::from_secs(8), "connections of one second are failures");
        reconnect.connecting();
        reconnect.established(now);
        now = now + Duration::from_secs(61);
        reconnect.ended(Ending::Broken, now, &mut rng);
        assert!(delay(&reconnect, now) < Duration::from_secs(2));
    }

    #[test]
    fn a_refusal_rests_long_but_a_new_start_cuts_the_rest_short() {
        let mut rng = TestRng::new(3);
        let mut reconnect = Reconnect::new();
        let now = Instant::from_secs(100);
        reconnect.start(now);
        reconnect.connecting();
        reconnect.ended(Ending::Refused, now, &mut rng);
        assert!(delay(&reconnect, now) >= REFUSED_DELAY / 2);
        reconnect.start(now);
        assert_eq!(reconnect.due(), Some(now));
    }

    #[test]
    fn nothing_is_due_when_no_connection_is_wanted() {
        let mut rng = TestRng::new(4);
        let mut reconnect = Reconnect::new();
        reconnect.start(Instant::ZERO);
        reconnect.connecting();
        reconnect.stop();
        reconnect.ended(Ending::Broken, Instant::ZERO, &mut rng);
        assert_eq!(reconnect.due(), None);
    }
}
