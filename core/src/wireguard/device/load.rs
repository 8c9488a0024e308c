//! Whether handshake messages come faster than the device can or should work on them (paper section 5.3).

use core::time::Duration;

use crate::time::Instant;
use crate::wireguard::constants::UNDER_LOAD_TIME;

/// Counts handshake messages with a right first mac in a bucket of tokens. An empty bucket means load, for a second
/// on from the last message that found it empty.
#[derive(Clone, Debug)]
pub(super) struct LoadDetector {
    cost: Duration,
    bucket: Duration,
    full_at: Instant,
    loaded_from: Option<Instant>,
}

impl LoadDetector {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let cost = Duration::from_secs(1) / per_second.max(1);
        Self { cost, bucket: cost.saturating_mul(burst.max(1)), full_at: Instant::ZERO, loaded_from: None }
    }

    /// Counts a message.
    pub(super) fn note_message(&mut self, now: Instant) {
        // A bucket never lacks more than it holds, unless the clock went back.
        let began = if self.full_at.saturating_since(now) > self.bucket { now } else { self.full_at.max(now) };
        let full_at = began + self.cost;
        if full_at.saturating_since(now) > self.bucket {
            self.note_load(now);
        } else {
            self.full_at = full_at;
        }
    }

    /// The embedder's own sign of load, such as a full queue.
    pub(super) fn note_load(&mut self, now: Instant) {
        self.loaded_from = Some(now);
    }

    pub(super) fn is_loaded(&self, now: Instant) -> bool {
        self.loaded_from.is_some_and(|from| from <= now && now.saturating_since(from) < UNDER_LOAD_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_begins_when_the_bucket_is_empty_and_ends_a_second_later() {
        let mut load = LoadDetector::new(10, 3);
        let start = Instant::from_secs(100);
        for _ in 0..3 {
            load.note_message(start);
            assert!(!load.is_loaded(start));
        }
        load.note_message(start);
        assert!(load.is_loaded(start) && load.is_loaded(Instant::from_millis(100_999)));
        assert!(!load.is_loaded(Instant::from_secs(101)));
        load.note_message(Instant::from_secs(101));
        assert!(!load.is_loaded(Instant::from_secs(101)), "the bucket has filled up again");
        load.note_message(Instant::from_secs(1));
        assert!(!load.is_loaded(Instant::from_secs(1)), "a clock that went back is no load");
    }
}
