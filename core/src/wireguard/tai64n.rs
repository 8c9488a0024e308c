//! The timestamp of an initiation (paper section 5.1): TAI64N, which a responder compares as bytes and accepts only
//! when it is greater than every one before from that peer.

use crate::time::UnixTime;

/// TAI64's label of 1970-01-01T00:00:00Z: 2^62 and the ten seconds that TAI was ahead by.
const EPOCH: u64 = 0x4000_0000_0000_000a;
/// One tick: nanoseconds are rounded down to multiples of it, so that exact time does not leak. About 16.8 ms.
const TICK_NANOS: u32 = 1 << 24;
const NANOS_PER_SEC: u32 = 1_000_000_000;

/// A TAI64N timestamp: 8 bytes of seconds and 4 of nanoseconds, both big-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tai64n([u8; 12]);

impl Tai64n {
    /// Smaller than every timestamp: what a responder has seen of a new peer.
    pub const ZERO: Self = Self([0; 12]);

    /// A timestamp as it was received. Any bytes are one.
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The bytes as they are sent.
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// The timestamp of a wall-clock time, rounded down to a tick.
    pub fn from_unix(time: UnixTime) -> Self {
        Self::from_parts(EPOCH.saturating_add(time.secs()), time.subsec_nanos() & !(TICK_NANOS - 1))
    }

    /// The timestamp to send at `time` where `last` was the last one sent: of `time`, or one tick after `last` where
    /// the clock stood still or went back, so that the responder never takes an honest initiation for a replay.
    pub fn after(last: Self, time: UnixTime) -> Self {
        let stamp = Self::from_unix(time);
        if stamp > last { stamp } else { last.next_tick() }
    }

    fn next_tick(self) -> Self {
        let (secs, nanos) = self.parts();
        match (nanos & !(TICK_NANOS - 1)).checked_add(TICK_NANOS) {
            Some(nanos) if nanos < NANOS_PER_SEC => Self::from_parts(secs, nanos),
            _ => Self::from_parts(secs.saturating_add(1), 0),
        }
    }

    fn from_parts(secs: u64, nanos: u32) -> Self {
        let [a, b, c, d, e, f, g, h] = secs.to_be_bytes();
        let [i, j, k, l] = nanos.to_be_bytes();
        Self([a, b, c, d, e, f, g, h, i, j, k, l])
    }

    fn parts(self) -> (u64, u32) {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.0;
        (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fine_time_does_not_leak() {
        let stamp = Tai64n::from_unix(UnixTime::new(1_700_000_000, 123_456_789));
        assert_eq!(stamp.as_bytes()[..8], (0x4000_0000_0000_000a + 1_700_000_000u64).to_be_bytes());
        assert_eq!(stamp.as_bytes()[8..], (123_456_789u32 & 0xff00_0000).to_be_bytes());
        assert_eq!(stamp, Tai64n::from_unix(UnixTime::new(1_700_000_000, 117_440_512)));
    }

    #[test]
    fn a_frozen_or_stepped_back_clock_still_gives_greater_stamps() {
        let frozen = UnixTime::new(1_700_000_000, 990_000_000);
        let mut last = Tai64n::from_unix(frozen);
        for _ in 0..200 {
            let next = Tai64n::after(last, frozen);
            assert!(next > last);
            assert!(next.parts().1 < NANOS_PER_SEC);
            last = next;
        }
        assert!(Tai64n::after(last, UnixTime::new(1, 0)) > last);
        assert!(last < Tai64n::from_unix(UnixTime::new(1_700_000_005, 0)), "the clamp moves in ticks, not seconds");
    }

    #[test]
    fn an_advancing_clock_is_followed() {
        let last = Tai64n::from_unix(UnixTime::new(100, 0));
        assert_eq!(Tai64n::after(last, UnixTime::new(200, 0)), Tai64n::from_unix(UnixTime::new(200, 0)));
    }
    proptest::proptest! {
        #[test]
        fn stamps_grow_whatever_the_clock_does(times in proptest::collection::vec((0..1u64 << 40, 0u32..NANOS_PER_SEC), 1..50)) {
            let mut last = Tai64n::ZERO;
            for (secs, nanos) in times {
                let next = Tai64n::after(last, UnixTime::new(secs, nanos));
                proptest::prop_assert!(next > last);
                proptest::prop_assert!(next >= Tai64n::from_unix(UnixTime::new(secs, nanos)));
                proptest::prop_assert_eq!(next.parts().1 % TICK_NANOS, 0);
                last = next;
            }
        }
    }
}
