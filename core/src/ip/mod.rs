//! Addresses and header views of inner packets: prefixes, and just enough of IPv4 and IPv6 to route and filter.
//! Knows nothing of WireGuard.

pub mod ecn;
pub mod header;
pub mod icmp;
pub mod prefix;

pub use ecn::Ecn;
pub use header::IpHeader;
pub use prefix::IpPrefix;
