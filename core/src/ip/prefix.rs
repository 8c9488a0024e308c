//! IP prefixes such as `100.64.0.0/10`.

use core::{fmt, net::IpAddr, str::FromStr};

/// An address and the number of leading bits that count. The bits behind them are always zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix {
    address: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// The prefix of `len` bits that holds `address`; host bits are cleared. `None` where `len` is over 32 for IPv4
    /// or over 128 for IPv6.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if len <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) if len <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { address, len })
    }

    /// The prefix that holds `address` alone: /32 or /128.
    pub const fn host(address: IpAddr) -> Self {
        let len = if address.is_ipv4() { 32 } else { 128 };
        Self { address, len }
    }

    /// The first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of bits that count.
    #[expect(clippy::len_without_is_empty, reason = "a prefix length, not a collection's")]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// Whether `address` is of this family and lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self::new(address, self.len) == Some(*self)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an address with an optional `/length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePrefixError;

impl fmt::Display for ParsePrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address with a prefix length, such as 192.0.2.0/24 or 2001:db8::/32")
    }
}

impl core::error::Error for ParsePrefixError {}

impl FromStr for IpPrefix {
    type Err = ParsePrefixError;

    /// Reads `192.0.2.0/24`; without a length the address alone.
    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        let Some((address, len)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| ParsePrefixError);
        };
        let address = address.parse().map_err(|_| ParsePrefixError)?;
        let len = len.parse().map_err(|_| ParsePrefixError)?;
        Self::new(address, len).ok_or(ParsePrefixError)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn host_bits_are_cleared_and_lengths_checked() {
        let prefix: IpPrefix = "100.100.1.2/10".parse().unwrap();
        assert_eq!(prefix.to_string(), "100.64.0.0/10");
        assert!(prefix.contains("100.127.255.255".parse().unwrap()));
        assert!(!prefix.contains("100.128.0.0".parse().unwrap()));
        assert!(!prefix.contains("::ffff:100.64.0.1".parse().unwrap()));
        assert_eq!("0.0.0.0/0".parse::<IpPrefix>().unwrap().len(), 0);
        assert!("10.0.0.0/33".parse::<IpPrefix>().is_err());
        assert!("::/129".parse::<IpPrefix>().is_err());
        assert_eq!("fd7a::1".parse::<IpPrefix>().unwrap().len(), 128);
    }
}
