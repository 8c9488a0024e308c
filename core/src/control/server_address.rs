//! Where a control server listens: `http://host:port` or `https://host:port`.

use core::{fmt, net::IpAddr, str::FromStr};

/// The longest address in bytes.
pub const MAX_LEN: usize = 128;

/// A control server's address. The path of the control protocol is fixed, so an address has none.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    text: heapless::String<MAX_LEN>,
}

impl ServerAddress {
    /// The whole address, as it was written, without a trailing `/`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether TLS goes around the connection (`https`).
    pub fn is_tls(&self) -> bool {
        self.text.starts_with("https://")
    }

    /// Host and port as they stand in the address, for the `Host` header.
    pub fn authority(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// The host: a DNS name, or an IP address without brackets.
    pub fn host(&self) -> &str {
        split_authority(self.authority()).map_or("", |(host, _)| host)
    }

    /// The port: the one that is written, or the scheme's.
    pub fn port(&self) -> u16 {
        let scheme = if self.is_tls() { 443 } else { 80 };
        split_authority(self.authority()).and_then(|(_, port)| port).unwrap_or(scheme)
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; `None` where it is none of these.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            host.parse::<core::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?,
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0)?)
        }
        None if rest.is_empty() => None,
        _ => return None,
    };
    let is_host = host.parse::<IpAddr>().is_ok()
        || (!host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)));
    is_host.then_some((host, port))
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text is not the address of a control server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ParseAddressError;

impl fmt::Display for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not the address of a control server, such as http://weft.example.org:8080 (no path, 128 bytes at most)",
        )
    }
}

impl core::error::Error for ParseAddressError {}

impl FromStr for ServerAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (scheme, authority) = text.split_once("://").ok_or(ParseAddressError)?;
        if !matches!(scheme, "http" | "https") || split_authority(authority).is_none() {
            return Err(ParseAddressError);
        }
        Ok(Self { text: heapless::String::try_from(text).map_err(|_| ParseAddressError)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let parts = |text: &str| {
            let address: ServerAddress = text.parse().unwrap();
            (std::string::String::from(address.host()), address.port(), address.is_tls())
        };
        assert_eq!(parts("http://weft.example.org:8080"), ("weft.example.org".into(), 8080, false));
        assert_eq!(parts("https://weft.example.org/"), ("weft.example.org".into(), 443, true));
        assert_eq!(parts("http://192.0.2.1"), ("192.0.2.1".into(), 80, false));
        assert_eq!(parts("http://[2001:db8::1]:81"), ("2001:db8::1".into(), 81, false));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "weft.example.org",
            "ftp://a",
            "http://",
            "http://a/path",
            "http://u@a",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://[::1",
            "http://::1",
            "http://[a]",
            "http://a b",
            "http://a:",
            "http://a\r\nX: y",
        ] {
            assert_eq!(text.parse::<ServerAddress>(), Err(ParseAddressError), "{text}");
        }
    }
}
