//! The sliding window that refuses a counter which was accepted before (paper section 5.4.6, RFC 6479).
//!
//! Checking is apart from marking, since a packet may change the window only after it proved authentic.

use super::constants::REJECT_AFTER_MESSAGES;

/// Bits of a word of the window.
const WORD_BITS: u64 = u64::BITS as u64;

/// A replay window of `WORDS` words of 64 bits. All but one word's bits can be relied on: 8,128 counters back of
/// 128 words, 448 of 8.
#[derive(Clone, Debug)]
pub struct ReplayWindow<const WORDS: usize> {
    /// One more than the greatest counter accepted; zero before the first.
    next: u64,
    /// Bit `c % 64` of word `c / 64 % WORDS` says that counter `c` was accepted.
    words: [u64; WORDS],
}

impl<const WORDS: usize> Default for ReplayWindow<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    /// How far behind the greatest accepted counter another is still accepted.
    pub const SIZE: u64 = {
        assert!(WORDS.is_power_of_two() && WORDS >= 2, "a window has a power of two of words, and at least two");
        (WORDS as u64 - 1) * WORD_BITS
    };

    /// A window that has accepted nothing.
    pub const fn new() -> Self {
        Self { next: 0, words: [0; WORDS] }
    }

    /// Whether [`mark`](Self::mark) would accept this counter now.
    pub fn check(&self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES {
            return false;
        }
        if counter >= self.next {
            return true;
        }
        // Below `next`, so nothing underflows: `next - 1` is the greatest accepted.
        self.next - 1 - counter <= Self::SIZE && self.word(counter).is_some_and(|word| word & bit(counter) == 0)
    }

    /// Accepts a counter: `true` once for each counter that is neither too old nor over the limit of messages.
    #[must_use]
    pub fn mark(&mut self, counter: u64) -> bool {
        if !self.check(counter) {
            return false;
        }
        if counter >= self.next {
            // Words between the old and the new head hold bits of counters that have fallen out.
            let head = match self.next.checked_sub(1) {
                Some(greatest) => greatest / WORD_BITS,
                None => 0,
            };
            let skipped = (counter / WORD_BITS - head).min(WORDS as u64);
            for step in 1..=skipped {
                if let Some(word) = self.words.get_mut(position::<WORDS>(head + step)) {
                    *word = 0;
                }
            }
            self.next = counter + 1;
        }
        if let Some(word) = self.words.get_mut(position::<WORDS>(counter / WORD_BITS)) {
            *word |= bit(counter);
        }
        true
    }

    fn word(&self, counter: u64) -> Option<u64> {
        self.words.get(position::<WORDS>(counter / WORD_BITS)).copied()
    }
}

/// Where the `word`-th word since counter zero lies in the ring.
const fn position<const WORDS: usize>(word: u64) -> usize {
    (word % WORDS as u64) as usize
}

const fn bit(counter: u64) -> u64 {
    1 << (counter % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbered cases of the Linux kernel's self-test of its counter.
    fn kernel_cases<const WORDS: usize>() {
        let window = ReplayWindow::<WORDS>::SIZE;
        let limit = window + 1;
        let reject = REJECT_AFTER_MESSAGES;
        let mut replay = ReplayWindow::<WORDS>::new();
        let cases = [
            (0, true),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (limit, true),
            (limit - 1, true),
            (limit - 1, false),
            (limit - 2, true),
            (2, true),
            (2, false),
            (limit + 16, true),
            (3, false),
            (limit + 16, false),
            (limit * 4, true),
            (limit * 4 - (limit - 1), true),
            (10, false),
            (limit * 4 - limit, false),
            (limit * 4 - (limit + 1), false),
            (limit * 4 - (limit - 2), true),
            (limit * 4 + 1 - limit, false),
            (0, false),
            (reject, false),
            (reject - 1, true),
            (reject, false),
            (reject - 1, false),
            (reject - 2, true),
            (reject + 1, false),
            (reject + 2, false),
            (reject - 2, false),
            (reject - 3, true),
            (0, false),
        ];
        for (number, (counter, accepted)) in (1..).zip(cases) {
            assert_eq!(replay.check(counter), accepted, "check, case {number}");
            assert_eq!(replay.mark(counter), accepted, "mark, case {number}");
        }

        let run = |mut counters: &mut dyn Iterator<Item = u64>, tail: &[(u64, bool)]| {
            let mut replay = ReplayWindow::<WORDS>::new();
            assert!((&mut counters).all(|counter| replay.mark(counter)));
            for &(counter, accepted) in tail {
                assert_eq!(replay.mark(counter), accepted, "{counter}");
            }
        };
        run(&mut (1..=window), &[(0, true), (0, false)]);
        run(&mut (2..=window + 1), &[(1, true), (0, false)]);
        run(&mut (0..=window).rev(), &[]);
        run(&mut (1..=window + 1).rev(), &[(0, false)]);
        run(&mut (1..=window).rev(), &[(window + 1, true), (0, false)]);
        run(&mut (1..=window).rev(), &[(0, true), (window + 1, true)]);
    }

    #[test]
    fn the_kernels_numbered_cases_hold_for_every_window_size() {
        kernel_cases::<2>();
        kernel_cases::<8>();
        kernel_cases::<128>();
    }

    #[test]
    fn checking_changes_nothing() {
        let mut replay = ReplayWindow::<2>::new();
        assert!(replay.check(1_000_000));
        assert!(replay.mark(0));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_set_of_all_counters_ever_accepted(
            steps in proptest::collection::vec((0u64..3, 0u64..200), 1..400),
        ) {
            let mut replay = ReplayWindow::<2>::new();
            let mut accepted = std::collections::BTreeSet::new();
            for (kind, distance) in steps {
                let greatest: u64 = accepted.last().copied().unwrap_or(0);
                let counter = match kind {
                    0 => greatest.saturating_add(distance),
                    1 => greatest.saturating_sub(distance),
                    _ => REJECT_AFTER_MESSAGES - 100 + distance,
                };
                let expected = counter < REJECT_AFTER_MESSAGES
                    && !accepted.contains(&counter)
                    && (accepted.is_empty() || counter + ReplayWindow::<2>::SIZE >= greatest);
                proptest::prop_assert_eq!(replay.check(counter), expected);
                proptest::prop_assert_eq!(replay.mark(counter), expected);
                if expected {
                    accepted.insert(counter);
                }
            }
        }
    }
}
