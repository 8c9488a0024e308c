//! Which mesh addresses there are, and in which order they are handed out.
//!
//! A node has one [`Host`] number for life, and both of its addresses follow from it: the IPv4 address counts through
//! 100.64.0.0/10, leaving out what must not be handed out, and the IPv6 address carries the IPv4 address in its last
//! four bytes. So two nodes never share one address of either kind, and nothing has to be searched.
//!
//! This module knows nothing of who has which number; the store does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The number of a node's place in the address pool, counted from zero without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u32);

/// 100.64.0.0, the first address of the shared address space of RFC 6598.
const POOL: u32 = u32::from_be_bytes([100, 64, 0, 0]);
/// Blocks of 256 addresses in 100.64.0.0/10.
const BLOCKS: u32 = 1 << 14;
/// Addresses that are handed out of each block: neither `.0` nor `.255`, which some equipment takes for a network's
/// own and its broadcast address.
const HOSTS_PER_BLOCK: u32 = 254;
/// Blocks that are never handed out, ascending: 100.100.100.0/24 holds the resolver, 100.115.92.0/23 is used inside
/// ChromeOS.
const RESERVED_BLOCKS: [u32; 3] = [block([100, 100, 100]), block([100, 115, 92]), block([100, 115, 93])];
/// fd7a:115c:a1e0::/48. Its resolver is `::53`, which no IPv4 address of the pool maps to.
const ULA: u128 = 0xfd7a_115c_a1e0 << 80;

impl Host {
    /// How many there are.
    pub const COUNT: u32 = (BLOCKS - RESERVED_BLOCKS.len() as u32) * HOSTS_PER_BLOCK;

    /// The host's IPv4 address.
    pub fn ipv4(self) -> Ipv4Addr {
        let mut block = self.0 / HOSTS_PER_BLOCK;
        for reserved in RESERVED_BLOCKS {
            if block >= reserved {
                block += 1;
            }
        }
        Ipv4Addr::from_bits(POOL + block * 256 + self.0 % HOSTS_PER_BLOCK + 1)
    }

    /// The host's IPv6 address.
    pub fn ipv6(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(ULA | u128::from(self.ipv4().to_bits()))
    }

    /// The host that has `address`; `None` where no host can have it.
    pub fn of(address: IpAddr) -> Option<Self> {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_bits(),
            IpAddr::V6(v6) => u32::try_from(v6.to_bits().checked_sub(ULA)?).ok()?,
        };
        let offset = bits.checked_sub(POOL).filter(|offset| offset / 256 < BLOCKS)?;
        let (mut block, in_block) = (offset / 256, (offset % 256).checked_sub(1)?);
        if in_block >= HOSTS_PER_BLOCK || RESERVED_BLOCKS.contains(&block) {
            return None;
        }
        block -= RESERVED_BLOCKS.iter().filter(|reserved| **reserved < block).count() as u32;
        Some(Self(block * HOSTS_PER_BLOCK + in_block))
    }
}

const fn block([a, b, c]: [u8; 3]) -> u32 {
    (u32::from_be_bytes([a, b, c, 0]) - POOL) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_addresses_of_its_own_that_lead_back_to_it() {
        let mut previous = Ipv4Addr::UNSPECIFIED;
        for number in 0..Host::COUNT {
            let host = Host(number);
            let v4 = host.ipv4();
            assert!(v4 > previous, "{v4} after {previous}");
            previous = v4;
            assert_eq!(Host::of(v4.into()), Some(host));
            if number % 1_000 == 0 {
                assert_eq!(Host::of(host.ipv6().into()), Some(host));
            }
        }
    }

    #[test]
    fn reserved_addresses_are_never_handed_out() {
        assert_eq!(Host(0).ipv4(), Ipv4Addr::new(100, 64, 0, 1));
        assert_eq!(Host(Host::COUNT - 1).ipv4(), Ipv4Addr::new(100, 127, 255, 254));
        assert_eq!(Host(0).ipv6(), "fd7a:115c:a1e0::6440:1".parse::<Ipv6Addr>().unwrap());
        let never = [
            "100.64.0.0",
            "100.64.7.255",
            "100.100.100.100",
            "100.115.92.1",
            "100.115.93.254",
            "100.127.255.255",
            "100.128.0.1",
            "100.63.255.1",
            "192.168.0.1",
            "fd7a:115c:a1e0::53",
            "fd7a:115c:a1e0::6464:6464",
            "fd7a:115c:a1e0:1::6440:1",
            "::1",
        ];
        for address in never {
            assert_eq!(Host::of(address.parse().unwrap()), None, "{address}");
        }
        for near in ["100.100.99.254", "100.100.101.1", "100.115.91.254", "100.115.94.1"] {
            assert!(Host::of(near.parse().unwrap()).is_some(), "{near}");
        }
    }
}
