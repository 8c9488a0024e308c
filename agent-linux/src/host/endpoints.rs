//! Where this node may be reached: the addresses of its interfaces, the likeliest first.
//!
//! A pure function of the machine's picture. What the server or a STUN answer saw is added elsewhere.

use std::net::{IpAddr, SocketAddr};

use super::{HostView, Interface, tailscale};

/// The endpoints of a node whose UDP sockets have `port` and whose own device has the index `device`.
///
/// Interfaces with a default route come first, then other network cards, then bridges and tunnels of other software
/// (another container on the same bridge may be the peer). Loopback counts only where there is nothing else.
pub fn local_endpoints(host: &HostView, device: u32, port: u16) -> Vec<SocketAddr> {
    let mut found: Vec<(u8, bool, SocketAddr)> = Vec::new();
    for interface in host.interfaces.iter().filter(|interface| interface.up && interface.index != device) {
        if interface.name == tailscale::DEVICE {
            continue;
        }
        let rank = rank(host, interface);
        for address in interface.addresses.iter().filter(|address| address.lasting && is_routable(address.address)) {
            found.push((rank, address.address.is_ipv6(), SocketAddr::new(address.address, port)));
        }
    }
    if found.iter().any(|(rank, ..)| *rank != LOOPBACK) {
        found.retain(|(rank, ..)| *rank != LOOPBACK);
    }
    // Stable: the kernel's order within a rank.
    found.sort_by_key(|(rank, v6, _)| (*rank, *v6));
    found.into_iter().map(|(.., endpoint)| endpoint).collect()
}

const LOOPBACK: u8 = 3;

fn rank(host: &HostView, interface: &Interface) -> u8 {
    let default =
        host.routes.iter().any(|route| route.destination.len() == 0 && route.interface == Some(interface.index));
    match () {
        () if interface.loopback => LOOPBACK,
        () if default => 0,
        () if !interface.is_virtual => 1,
        () => 2,
    }
}

/// Link-local addresses mean nothing to others without their interface.
fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_unspecified() && !v4.is_multicast(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_unspecified() && !v6.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{InterfaceAddress, Route, prefix};

    fn interface(index: u32, name: &str, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|text| {
            let address: IpAddr = text.parse().unwrap();
            InterfaceAddress { address, network: prefix(address, 24), lasting: true }
        });
        Interface { index, name: name.into(), up: true, addresses: addresses.collect(), ..Interface::default() }
    }

    fn endpoints(host: &HostView) -> Vec<String> {
        local_endpoints(host, 9, 41641).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_uplink_comes_first_and_bridges_last() {
        let host = HostView {
            interfaces: vec![
                Interface { loopback: true, ..interface(1, "lo", &["127.0.0.1", "::1"]) },
                Interface { is_virtual: true, ..interface(3, "docker0", &["172.17.0.1"]) },
                interface(4, "eth1", &["10.9.0.1"]),
                interface(2, "eth0", &["2001:db8::5", "192.168.1.5", "fe80::5"]),
                interface(5, "tailscale0", &["100.101.102.103"]),
                Interface { up: false, ..interface(6, "eth2", &["10.8.0.1"]) },
                interface(9, "weft0", &["100.64.0.1"]),
            ],
            routes: vec![Route {
                destination: "0.0.0.0/0".parse().unwrap(),
                table: 254,
                interface: Some(2),
                gateway: None,
            }],
            ..HostView::default()
        };
        assert_eq!(
            endpoints(&host),
            ["192.168.1.5:41641", "[2001:db8::5]:41641", "10.9.0.1:41641", "172.17.0.1:41641"]
        );
    }

    #[test]
    fn loopback_serves_where_there_is_nothing_else() {
        let host = HostView {
            interfaces: vec![Interface { loopback: true, ..interface(1, "lo", &["127.0.0.1"]) }],
            ..HostView::default()
        };
        assert_eq!(endpoints(&host), ["127.0.0.1:41641"]);
    }

    #[test]
    fn addresses_that_will_not_last_are_not_told() {
        let mut card = interface(2, "eth0", &["2001:db8::5"]);
        card.addresses[0].lasting = false;
        assert!(endpoints(&HostView { interfaces: vec![card], ..HostView::default() }).is_empty());
    }
}
