//! Time as an argument: the monotonic [`Instant`] of timers and the [`UnixTime`] of timestamps and expiry.
//!
//! Nothing in this crate reads a clock. The caller passes `now` to every call, from a clock that never goes
//! backwards and that counts suspend (`CLOCK_BOOTTIME` on Linux).

use core::{num::NonZero, time::Duration};

/// A point on the caller's monotonic clock, in microseconds since an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant {
    /// The microseconds plus one, so that an `Option` of it takes no more room.
    after: NonZero<u64>,
}

impl Instant {
    /// The start of the clock.
    pub const ZERO: Self = Self::from_micros(0);

    /// An instant `micros` microseconds after the start of the clock.
    pub const fn from_micros(micros: u64) -> Self {
        Self { after: NonZero::<u64>::MIN.saturating_add(micros) }
    }

    /// An instant `millis` milliseconds after the start of the clock.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// An instant `secs` seconds after the start of the clock.
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_micros(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the start of the clock.
    pub const fn as_micros(self) -> u64 {
        self.after.get() - 1
    }

    /// The time that passed since `earlier`; zero where `earlier` is later.
    #[cfg_attr(target_os = "none", inline(never))]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.after.get().saturating_sub(earlier.after.get()))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of the clock, 584,000 years on.
    fn add(self, rhs: Duration) -> Self {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self { after: self.after.saturating_add(micros) }
    }
}

impl Default for Instant {
    fn default() -> Self {
        Self::ZERO
    }
}

impl core::fmt::Debug for Instant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Instant({})", self.as_micros())
    }
}

/// Wall-clock time: seconds and nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnixTime {
    secs: u64,
    nanos: u32,
}

impl UnixTime {
    /// Wall-clock time from seconds and nanoseconds; nanoseconds of a second or more carry over.
    pub const fn new(secs: u64, nanos: u32) -> Self {
        Self { secs: secs.saturating_add((nanos / 1_000_000_000) as u64), nanos: nanos % 1_000_000_000 }
    }

    /// Whole seconds since the epoch.
    pub const fn secs(self) -> u64 {
        self.secs
    }

    /// Nanoseconds within the second, below 1,000,000,000.
    pub const fn subsec_nanos(self) -> u32 {
        self.nanos
    }
}

impl core::ops::Add<Duration> for UnixTime {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        // Both summands are below 10^9, so the sum fits and `new` carries it.
        let nanos = self.nanos.saturating_add(rhs.subsec_nanos());
        Self::new(self.secs.saturating_add(rhs.as_secs()), nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_saturates_and_subtracting_never_underflows() {
        assert_eq!(Instant::from_micros(u64::MAX) + Duration::from_secs(1), Instant::from_micros(u64::MAX));
        assert_eq!(Instant::from_secs(1).saturating_since(Instant::from_secs(2)), Duration::ZERO);
        assert_eq!(Instant::from_millis(1_500).saturating_since(Instant::from_secs(1)), Duration::from_millis(500));
    }

    #[test]
    fn wall_clock_nanoseconds_carry_into_seconds() {
        let t = UnixTime::new(10, 999_999_999) + Duration::from_nanos(2);
        assert_eq!((t.secs(), t.subsec_nanos()), (11, 1));
    }
}
