//! What is remembered of peers that made room for others: the greatest timestamp of their initiations, so that one that
//! was recorded then is not answered when it is sent again.
//!
//! A ring: the newest departure takes the place of the oldest. Keys are remembered by a keyed hash, so that nobody can
//! choose a key that is taken for another.

use rand_core::CryptoRng;

use crate::{crypto::hash, keys::NodeKey, limits, wireguard::tai64n::Tai64n};

/// One who left.
#[derive(Clone, Copy, Debug)]
struct Departure {
    key: u32,
    timestamp: Tai64n,
}

/// The ring.
#[derive(Debug)]
pub(super) struct Departed {
    hash_key: [u8; 16],
    ring: heapless::Vec<Departure, { limits::DEPARTED }>,
    /// Where the oldest lies, once the ring is full.
    oldest: usize,
}

impl Departed {
    /// `rng` gives the hash its key.
    pub(super) fn new(rng: &mut dyn CryptoRng) -> Self {
        let mut hash_key = [0; 16];
        rng.fill_bytes(&mut hash_key);
        Self { hash_key, ring: heapless::Vec::new(), oldest: 0 }
    }

    fn hash(&self, key: &NodeKey) -> u32 {
        let [a, b, c, d, ..] = hash::mac(&self.hash_key, &[key.as_bytes()]);
        u32::from_le_bytes([a, b, c, d])
    }

    /// A peer leaves whose greatest timestamp was this. One that was never heard of is not remembered.
    pub(super) fn note(&mut self, key: &NodeKey, timestamp: Tai64n) {
        if timestamp == Tai64n::ZERO {
            return;
        }
        let key = self.hash(key);
        if let Some(former) = self.ring.iter_mut().find(|former| former.key == key) {
            former.timestamp = former.timestamp.max(timestamp);
            return;
        }
        let departure = Departure { key, timestamp };
        if self.ring.push(departure).is_err()
            && let Some(oldest) = self.ring.get_mut(self.oldest)
        {
            *oldest = departure;
            self.oldest = (self.oldest + 1) % limits::DEPARTED;
        }
    }

    /// The greatest timestamp of a peer that comes back.
    pub(super) fn timestamp(&self, key: &NodeKey) -> Tai64n {
        let key = self.hash(key);
        self.ring.iter().find(|former| former.key == key).map_or(Tai64n::ZERO, |former| former.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{node::test_rng::TestRng, time::UnixTime};

    fn key(number: usize) -> NodeKey {
        NodeKey::from_bytes([number as u8; 32])
    }

    fn stamp(secs: u64) -> Tai64n {
        Tai64n::from_unix(UnixTime::new(secs, 0))
    }

    #[test]
    fn the_greatest_timestamp_of_the_latest_departures_is_remembered() {
        let mut departed = Departed::new(&mut TestRng::new(1));
        for number in 0..=limits::DEPARTED {
            departed.note(&key(number), stamp(100 + number as u64));
        }
        assert_eq!(departed.timestamp(&key(0)), Tai64n::ZERO, "the oldest made room");
        for number in 1..=limits::DEPARTED {
            assert_eq!(departed.timestamp(&key(number)), stamp(100 + number as u64));
        }
        departed.note(&key(1), stamp(50));
        assert_eq!(departed.timestamp(&key(1)), stamp(101), "it never goes back");
    }

    #[test]
    fn who_was_never_heard_of_takes_no_place() {
        let mut departed = Departed::new(&mut TestRng::new(1));
        departed.note(&key(1), stamp(1));
        for number in 2..=100 {
            departed.note(&key(number), Tai64n::ZERO);
        }
        assert_eq!(departed.timestamp(&key(1)), stamp(1));
    }
}
