//! ICMP errors to the senders of inner packets that cannot be carried, at a limited rate.

use weft_core::{
    ip::icmp::{self, Undeliverable},
    time::Instant,
};

use crate::{clock, tun_device::TunDevice};

/// Answers a second, as many as the kernel gives by default to one host, and at once.
const PER_SECOND: u32 = 100;
const BURST: u32 = 50;

/// Answers what cannot be carried.
#[derive(Debug)]
pub(super) struct Unreachable {
    buffer: [u8; icmp::MAX_LEN],
    bucket: Bucket,
}

impl Unreachable {
    pub(super) fn new() -> Self {
        Self { buffer: [0; icmp::MAX_LEN], bucket: Bucket::new() }
    }

    /// Answers `packet`, unless it may not be answered or too many were lately.
    pub(super) fn answer(&mut self, tun: &TunDevice, packet: &[u8], reason: Undeliverable) {
        if let Some(len) = icmp::answer(packet, reason, &mut self.buffer)
            && self.bucket.take(clock::now())
        {
            // Where the device is down, the sender has learned so already.
            let _ = tun.write(&self.buffer[..len]);
        }
    }
}

/// A bucket of tokens.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    /// Up to when tokens were put in.
    filled: Instant,
}

impl Bucket {
    const fn new() -> Self {
        Self { tokens: BURST, filled: Instant::ZERO }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_since(self.filled).as_micros() * u128::from(PER_SECOND) / 1_000_000;
        if passed > 0 {
            self.tokens = u32::try_from(passed).unwrap_or(BURST).saturating_add(self.tokens).min(BURST);
            self.filled = now;
        }
        let Some(left) = self.tokens.checked_sub(1) else { return false };
        self.tokens = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_at_once_and_then_at_the_rate() {
        let mut bucket = Bucket::new();
        let start = Instant::from_secs(7);
        assert_eq!((0..200).filter(|_| bucket.take(start)).count(), BURST as usize);
        let later = |millis| start + std::time::Duration::from_millis(millis);
        assert!(!bucket.take(later(9)));
        assert_eq!((0..200).filter(|_| bucket.take(later(100))).count(), 10);
        assert_eq!((0..200).filter(|_| bucket.take(later(100_000))).count(), BURST as usize);
    }
}
