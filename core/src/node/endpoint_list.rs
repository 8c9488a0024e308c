//! The UDP endpoints at which a peer may be reached, the likeliest first, in a compact form.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits;

/// Candidate endpoints of one peer at most.
pub const MAX_CANDIDATES: usize = limits::CANDIDATES;

/// Bytes of an address. A chip's outer stack has IPv4 alone.
const ADDRESS_LEN: usize = if limits::OUTER_V6 { 16 } else { 4 };

/// One endpoint in 19 bytes, on a chip 7, instead of 32. Scope ids are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compact {
    is_v6: bool,
    /// An IPv4 address is at the start.
    address: [u8; ADDRESS_LEN],
    port: [u8; 2],
}

impl Compact {
    /// `None` where this node cannot send there.
    pub(super) fn new(endpoint: SocketAddr) -> Option<Self> {
        let mut address = [0; ADDRESS_LEN];
        let mut put = |octets: &[u8]| address.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        let is_v6 = match endpoint.ip().to_canonical() {
            IpAddr::V4(v4) => {
                put(&v4.octets());
                false
            }
            IpAddr::V6(v6) if limits::OUTER_V6 => {
                put(&v6.octets());
                true
            }
            IpAddr::V6(_) => return None,
        };
        Some(Self { is_v6, address, port: endpoint.port().to_be_bytes() })
    }

    pub(super) fn endpoint(self) -> SocketAddr {
        let port = u16::from_be_bytes(self.port);
        if self.is_v6 {
            return SocketAddr::new(Ipv6Addr::from(self.octets::<16>()).into(), port);
        }
        SocketAddr::new(Ipv4Addr::from(self.octets::<4>()).into(), port)
    }

    fn octets<const N: usize>(self) -> [u8; N] {
        let mut octets = [0; N];
        octets.iter_mut().zip(self.address).for_each(|(to, from)| *to = from);
        octets
    }
}

/// Up to [`MAX_CANDIDATES`] endpoints without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointList(heapless::Vec<Compact, MAX_CANDIDATES>);

impl EndpointList {
    /// No endpoint.
    pub const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    /// The one endpoint that a datagram goes to, whatever it is.
    pub(super) fn only(endpoint: SocketAddr) -> Self {
        let mut list = heapless::Vec::new();
        let _ = Compact::new(endpoint).map(|compact| list.push(compact));
        Self(list)
    }

    /// Adds an endpoint at the end. One that no datagram can be sent to is left out, and so is one too many.
    pub fn push(&mut self, endpoint: SocketAddr) {
        if let Some(compact) = Compact::new(endpoint).filter(|compact| is_usable(endpoint) && !self.0.contains(compact))
        {
            let _ = self.0.push(compact);
        }
    }

    /// The endpoints in order.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.0.iter().map(|compact| compact.endpoint())
    }

    /// Whether `endpoint` is one of them.
    pub fn contains(&self, endpoint: SocketAddr) -> bool {
        Compact::new(endpoint).is_some_and(|compact| self.0.contains(&compact))
    }

    /// The number of endpoints.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<SocketAddr> for EndpointList {
    fn from_iter<T: IntoIterator<Item = SocketAddr>>(endpoints: T) -> Self {
        let mut list = Self::new();
        endpoints.into_iter().for_each(|endpoint| list.push(endpoint));
        list
    }
}

/// Whether a peer can have this endpoint: a port, and an address of one host. A peer's word must not make this node
/// send to itself or to everybody, and a link-local address of IPv6 means nothing without its interface.
fn is_usable(endpoint: SocketAddr) -> bool {
    let usable = match endpoint.ip().to_canonical() {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast() || v4.is_loopback()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_loopback() || v6.is_unicast_link_local()),
    };
    usable && endpoint.port() != 0
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn list(endpoints: &[&str]) -> EndpointList {
        endpoints.iter().map(|text| text.parse::<SocketAddr>().unwrap()).collect()
    }

    #[test]
    fn endpoints_keep_their_order_and_do_not_repeat() {
        let list = list(&["192.0.2.1:7", "[2001:db8::1]:8", "192.0.2.1:7", "[::ffff:192.0.2.1]:7", "192.0.2.1:9"]);
        let texts: Vec<SocketAddr> = list.iter().collect();
        assert_eq!(texts, ["192.0.2.1:7", "[2001:db8::1]:8", "192.0.2.1:9"].map(|text| text.parse().unwrap()));
    }

    #[test]
    fn what_no_peer_can_have_is_left_out() {
        assert!(list(&["0.0.0.0:1", "127.0.0.1:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1"]).is_empty());
        assert!(list(&["[::1]:1", "[fe80::1]:1", "[ff02::1]:1", "192.0.2.1:0", "[::ffff:127.0.0.1]:1"]).is_empty());
    }

    #[test]
    fn the_list_is_bounded() {
        let many: EndpointList =
            (1..=20).map(|port| SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), port)).collect();
        assert_eq!(many.len(), MAX_CANDIDATES);
        assert_eq!(many.iter().next().map(|endpoint| endpoint.port()), Some(1));
    }
}
