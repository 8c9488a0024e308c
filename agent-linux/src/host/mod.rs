//! The machine that the node is a guest on: its interfaces, routes and name servers, and what other software does
//! with the same addresses.
//!
//! [`HostView`] is a picture of it, taken by [`netlink`]. What follows from the picture is decided by pure functions:
//! [`routes`] (which routes the mesh may have), [`endpoints`] (where this node may be reached), [`tailscale`] (whether
//! tailscaled runs). Nothing here knows a peer's state or the control server.
//!
//! Packets that bear a mesh address as their source and come in by another interface are *not* dropped here. The
//! kernel offers two ways without a firewall, and neither fits: strict reverse-path filtering holds for a whole
//! interface and would break hosts with asymmetric routes; policy rules are only consulted after the local table, so
//! they never see packets to this machine itself. Answers to such packets go into the tunnel, to the real owner of the
//! address, so the sender learns nothing; but whoever trusts a source address alone must drop them in the firewall:
//! `nft add rule inet filter input ip saddr 100.64.0.0/10 iifname != { "weft0", "lo" } drop`.

pub mod endpoints;
pub mod netlink;
pub mod routes;
pub mod tailscale;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_core::ip::IpPrefix;

/// The mesh's IPv4 addresses: 100.64.0.0/10.
pub fn mesh_v4() -> IpPrefix {
    prefix(IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10)
}

/// The mesh's IPv6 addresses: fd7a:115c:a1e0::/48.
pub fn mesh_v6() -> IpPrefix {
    prefix(IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0)), 48)
}

/// Whether `address` is one of the mesh's.
pub fn is_mesh_address(address: IpAddr) -> bool {
    mesh_v4().contains(address) || mesh_v6().contains(address)
}

/// The prefix of `len` bits that holds `address`; the address alone where no prefix is that long.
fn prefix(address: IpAddr, len: u8) -> IpPrefix {
    IpPrefix::new(address, len).unwrap_or(IpPrefix::host(address))
}

/// Whether any address is in both.
fn overlap(a: &IpPrefix, b: &IpPrefix) -> bool {
    a.contains(b.address()) || b.contains(a.address())
}

/// A picture of the machine's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// Every interface, the node's own device too.
    pub interfaces: Vec<Interface>,
    /// Every route of every table that sends packets somewhere or refuses them; not the local table's.
    pub routes: Vec<Route>,
    /// The priorities of the policy routing rules.
    pub rules: Vec<u32>,
    /// The name servers that the machine asks, those behind its own stub too.
    pub name_servers: Vec<IpAddr>,
    /// Whether the machine has IPv6 switched off, so that no interface can have an address of it.
    pub ipv6_off: bool,
    /// Whether something accepts connections at tailscaled's socket.
    pub tailscaled_answers: bool,
}

impl HostView {
    /// The interface that is called `name`.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    fn interface_name(&self, index: Option<u32>) -> &str {
        let found = self.interfaces.iter().find(|interface| Some(interface.index) == index);
        found.map_or("another interface", |interface| interface.name.as_str())
    }
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up and has a carrier.
    pub up: bool,
    /// Whether it is a loopback interface.
    pub loopback: bool,
    /// Whether software made it up: a bridge, a tunnel, one end of a veth pair; none of a network card's.
    pub is_virtual: bool,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// The network that is reached directly by it.
    pub network: IpPrefix,
    /// Whether it may be told to others: neither tentative, nor deprecated, nor a temporary privacy address.
    pub lasting: bool,
}

/// A route of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpPrefix,
    /// The routing table: 254 is the main one.
    pub table: u32,
    /// The interface; none for routes that refuse and for several next hops.
    pub interface: Option<u32>,
    /// The next hop.
    pub gateway: Option<IpAddr>,
}

/// The name servers that a `resolv.conf` names.
pub fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    // `fe80::1%eth0` has a zone that `IpAddr` does not read.
    lines.filter_map(|rest| rest.split_whitespace().next()?.split('%').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_and_noise_is_not() {
        let text =
            "# comment\nnameserver 100.64.0.1\nsearch example\n nameserver fe80::1%eth0\nnameserver\nnameserver x\n";
        let expected: Vec<IpAddr> = vec!["100.64.0.1".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }
}
