//! The limit of handshake messages from one source (paper section 5.3): a token bucket for each IPv4 address or IPv6
//! /64, on a table of the caller's.
//!
//! To be asked only while loaded and after a right mac2, so that nobody fills the table with addresses that are not
//! theirs. Everything here is bounded: a lookup looks at [`PROBES`] slots.

use core::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    constants::{RATE_LIMIT_BURST, RATE_LIMIT_PER_SECOND},
    storage::Slots,
};
use crate::{crypto::hash, time::Instant};

/// How many slots a source may be in.
pub const PROBES: usize = 8;
/// What one message costs: the time in which the bucket refills by one token.
const COST: Duration = Duration::from_micros(1_000_000 / RATE_LIMIT_PER_SECOND as u64);
/// How far a bucket can be emptied.
const BUCKET: Duration = COST.saturating_mul(RATE_LIMIT_BURST);

/// One source's bucket.
#[derive(Clone, Copy, Debug)]
pub struct RateLimitEntry {
    source: Source,
    /// When the bucket is full again. From then on the entry says nothing that an empty slot does not.
    full_at: Instant,
}

impl RateLimitEntry {
    /// A slot that no source is in.
    pub const EMPTY: Self = Self { source: Source::V4(Ipv4Addr::UNSPECIFIED), full_at: Instant::ZERO };
}

impl Default for RateLimitEntry {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// What shares one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address; one host often has all the others.
    V6([u8; 8]),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        // A dual-stack socket gives IPv4 sources as ::ffff:a.b.c.d, which would all share one /64.
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// What the limiter says to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
pub enum Admission {
    /// The message may be processed.
    Admitted,
    /// Its source has sent too many.
    TooMany,
    /// Its source has no bucket yet, and every slot it could be in is held by a source that sent lately.
    TableFull,
}

/// Token buckets on the slots `S`.
#[derive(Debug)]
pub struct RateLimiter<S> {
    entries: S,
    /// Makes where a source is put unpredictable, so that nobody can aim at another's slots.
    hash_key: [u8; 32],
}

impl<S: Slots<RateLimitEntry>> RateLimiter<S> {
    /// A limiter on empty slots. The table has its full size from the start.
    pub fn new(mut entries: S, rng: &mut dyn rand_core::CryptoRng) -> Self {
        while entries.grow() {}
        let mut hash_key = [0; 32];
        rng.fill_bytes(&mut hash_key);
        Self { entries, hash_key }
    }

    /// Takes a token of this source's bucket.
    pub fn admit(&mut self, source: IpAddr, now: Instant) -> Admission {
        let source = Source::from(source);
        let Some(entry) = self.entry(source, now) else { return Admission::TableFull };
        let full_at = entry.full_at.max(now) + COST;
        if full_at.saturating_since(now) > BUCKET {
            return Admission::TooMany;
        }
        *entry = RateLimitEntry { source, full_at };
        Admission::Admitted
    }

    /// The slot that this source has, or one that it can take.
    fn entry(&mut self, source: Source, now: Instant) -> Option<&mut RateLimitEntry> {
        let capacity = self.entries.capacity();
        let start = self.position(source);
        let probes = || (0..PROBES.min(capacity)).map(|step| start.wrapping_add(step) % capacity);
        let is = |position: &usize, wanted: &dyn Fn(&RateLimitEntry) -> bool| {
            self.entries.get(*position).is_some_and(wanted)
        };
        let position = probes()
            .find(|position| is(position, &|entry| entry.full_at > now && entry.source == source))
            .or_else(|| probes().find(|position| is(position, &|entry| entry.full_at <= now)))?;
        self.entries.get_mut(position)
    }

    fn position(&self, source: Source) -> usize {
        let [a, b, c, d, ..] = match source {
            Source::V4(address) => hash::mac(&self.hash_key, &[&address.octets()]),
            Source::V6(prefix) => hash::mac(&self.hash_key, &[&prefix]),
        };
        u32::from_le_bytes([a, b, c, d]) as usize
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn limiter<const N: usize>() -> RateLimiter<[RateLimitEntry; N]> {
        RateLimiter::new([RateLimitEntry::EMPTY; N], &mut StdRng::seed_from_u64(1))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const START: Instant = Instant::from_secs(1);

    #[test]
    fn a_burst_of_five_then_one_each_50_ms() {
        let mut limiter = limiter::<8>();
        let source = ip("192.0.2.1");
        for _ in 0..5 {
            assert_eq!(limiter.admit(source, START), Admission::Admitted);
        }
        assert_eq!(limiter.admit(source, START), Admission::TooMany);
        for step in 1..=20 {
            let now = START + Duration::from_millis(50 * step);
            assert_eq!(limiter.admit(source, now), Admission::Admitted, "step {step}");
            assert_eq!(limiter.admit(source, now), Admission::TooMany, "step {step}");
        }
        let rested = START + Duration::from_secs(2);
        assert!((0..5).all(|_| limiter.admit(source, rested) == Admission::Admitted));
        assert_eq!(limiter.admit(source, rested), Admission::TooMany);
    }

    #[test]
    fn one_source_never_blocks_another() {
        let mut limiter = limiter::<64>();
        while limiter.admit(ip("192.0.2.1"), START) == Admission::Admitted {}
        assert_eq!(limiter.admit(ip("192.0.2.2"), START), Admission::Admitted);
        assert_eq!(limiter.admit(ip("2001:db8::1"), START), Admission::Admitted);
        assert_eq!(limiter.admit(ip("0.0.0.0"), START), Admission::Admitted);
    }

    #[test]
    fn the_addresses_of_an_ipv6_64_share_one_bucket() {
        let mut limiter = limiter::<64>();
        for host in 0..5 {
            assert_eq!(limiter.admit(ip(&std::format!("2001:db8:0:1::{host}")), START), Admission::Admitted);
        }
        assert_eq!(limiter.admit(ip("2001:db8:0:1:ffff::9"), START), Admission::TooMany);
        assert_eq!(limiter.admit(ip("2001:db8:0:2::1"), START), Admission::Admitted);
    }

    #[test]
    fn mapped_ipv4_addresses_are_ipv4_addresses() {
        let mut limiter = limiter::<64>();
        while limiter.admit(ip("::ffff:192.0.2.1"), START) == Admission::Admitted {}
        assert_eq!(limiter.admit(ip("192.0.2.1"), START), Admission::TooMany);
        assert_eq!(limiter.admit(ip("::ffff:192.0.2.2"), START), Admission::Admitted);
    }

    #[test]
    fn a_full_table_refuses_new_sources_until_an_old_one_has_rested() {
        let mut limiter = limiter::<4>();
        for host in 1..=4 {
            assert_eq!(limiter.admit(ip(&std::format!("192.0.2.{host}")), START), Admission::Admitted);
        }
        assert_eq!(limiter.admit(ip("192.0.2.5"), START), Admission::TableFull);
        assert_eq!(limiter.admit(ip("192.0.2.1"), START), Admission::Admitted);
        assert_eq!(limiter.admit(ip("192.0.2.5"), START + COST), Admission::Admitted);
        assert_eq!(super::tests::limiter::<0>().admit(ip("192.0.2.1"), START), Admission::TableFull);
    }
}
