//! Health tests of a noise source that gives single bits, after NIST SP 800-90B section 4.4. A board uses them; the node does not.
//!
//! A board that collects noise (a ring oscillator, a floating converter) passes every raw bit through [`NoiseHealth`] and
//! vouches for entropy only while [`NoiseHealth::is_good`]. The tests find a source that is stuck, nearly stuck, or that only
//! alternates. They cannot find noise that is predictable in a cleverer way, so what a board vouches for must stay far below
//! what it believes.

/// The raw bits that count for one bit of entropy.
const RAW_BITS_PER_BIT: u32 = 8;

/// The raw bits that pass the tests before any counts; section 4.3, item 10.
const START_UP: u32 = 1_024;

/// So many equal bits in a row are an alarm: `1 + 20 / H` for H = 1/8; section 4.4.1.
const REPETITION_CUTOFF: u32 = 1 + 20 * RAW_BITS_PER_BIT;

/// The window of the proportion test for a source of bits; section 4.4.2.
const PROPORTION_WINDOW: u32 = 1_024;

/// So many bits equal to the first of the window are an alarm: one more than the critical value of the binomial distribution
/// (1,024 draws of probability 2^(-1/8)) at 1 - 2^-20; section 4.4.2.
const PROPORTION_CUTOFF: u32 = 979;

/// The tests over the raw bits of one source, from boot on.
///
/// They take the source to have an eighth of a bit of entropy a raw bit, and raise one false alarm in about 2^20 windows.
/// An alarm is for good: a broken source does not mend by being asked again.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoiseHealth {
    bits: Stream,
    /// Whether a bit differs from the one before: without it a source that only alternates would pass.
    changes: Stream,
    last: bool,
    seen: u32,
    broken: bool,
}

impl NoiseHealth {
    /// Tests over a source that gave nothing so far.
    #[must_use]
    pub const fn new() -> Self {
        Self { bits: Stream::new(), changes: Stream::new(), last: false, seen: 0, broken: false }
    }

    /// Takes the next raw bit of the source.
    pub fn take(&mut self, bit: bool) {
        let changed = bit != self.last;
        self.last = bit;
        let good = self.bits.take(bit) & self.changes.take(changed);
        self.broken |= !good;
        self.seen = self.seen.saturating_add(1);
    }

    /// How many raw bits are still to be taken, and thrown away, before any may count.
    #[must_use]
    pub const fn start_up_left(&self) -> u32 {
        START_UP.saturating_sub(self.seen)
    }

    /// Whether the source passed every test so far and the start-up is over.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        !self.broken && self.start_up_left() == 0
    }

    /// The bits of entropy that a board may vouch for in `raw` raw bits: none where a test failed.
    #[must_use]
    pub const fn vouched(&self, raw: u32) -> u32 {
        if self.is_good() { raw / RAW_BITS_PER_BIT } else { 0 }
    }
}

/// The repetition count test and the adaptive proportion test over one stream of bits.
#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    last: bool,
    run: u32,
    first: bool,
    in_window: u32,
    equal: u32,
}

impl Stream {
    const fn new() -> Self {
        Self { last: false, run: 0, first: false, in_window: 0, equal: 0 }
    }

    /// Takes the next bit; whether both tests hold.
    fn take(&mut self, bit: bool) -> bool {
        self.run = if bit == self.last { self.run.saturating_add(1) } else { 1 };
        self.last = bit;
        if self.in_window == 0 {
            self.first = bit;
            self.equal = 0;
        }
        self.equal += u32::from(bit == self.first);
        self.in_window = (self.in_window + 1) % PROPORTION_WINDOW;
        self.run < REPETITION_CUTOFF && self.equal < PROPORTION_CUTOFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests after `count` bits of a source.
    fn after(count: u32, mut bit: impl FnMut(u32) -> bool) -> NoiseHealth {
        let mut health = NoiseHealth::new();
        (0..count).for_each(|index| health.take(bit(index)));
        health
    }

    /// Knuth's generator, upper bits.
    fn random(state: &mut u64) -> u32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as u32
    }

    #[test]
    fn fair_bits_are_vouched_for_after_the_start_up_at_an_eighth() {
        let mut state = 1;
        let health = after(START_UP, |_| random(&mut state) & 1 == 1);
        assert!(health.is_good());
        assert_eq!(health.vouched(256), 32);
    }

    #[test]
    fn nothing_is_vouched_for_during_the_start_up() {
        let mut state = 2;
        let health = after(START_UP - 1, |_| random(&mut state) & 1 == 1);
        assert_eq!((health.start_up_left(), health.vouched(256)), (1, 0));
    }

    #[test]
    fn a_stuck_source_is_found_in_either_state() {
        for stuck in [false, true] {
            assert!(!after(START_UP, |_| stuck).is_good());
        }
    }

    #[test]
    fn a_source_that_only_alternates_is_found() {
        assert!(!after(START_UP, |index| index % 2 == 0).is_good());
    }

    #[test]
    fn a_source_that_is_nearly_stuck_is_found_by_the_proportion() {
        // A change every 100 bits keeps each run far below the cutoff of repetition.
        let health = after(2 * START_UP, |index| index % 100 == 0);
        assert!(!health.is_good());
    }

    #[test]
    fn a_source_with_much_bias_but_more_than_an_eighth_of_a_bit_is_good() {
        let mut state = 3;
        // 85 of 100 bits are set: 0.23 bits of entropy each.
        assert!(after(64 * START_UP, |_| random(&mut state) % 100 < 85).is_good());
    }

    #[test]
    fn an_alarm_is_for_good() {
        let mut state = 4;
        let mut health = after(START_UP, |_| true);
        (0..8 * START_UP).for_each(|_| health.take(random(&mut state) & 1 == 1));
        assert!(!health.is_good());
        assert_eq!(health.vouched(256), 0);
    }
}
