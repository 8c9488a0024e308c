//! Which addresses and routes the node may set on this machine.
//!
//! Normally the whole mesh is routed into the node's device. Where other software or the uplink uses a part of the
//! mesh's ranges (a provider's carrier NAT, tailscaled), only the peers themselves are, one host route each, and none
//! that would cover what the others use: their networks, their gateways, the name servers, the control server. Peers
//! that stay unreachable for that reason are named. A pure function of what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use weft_core::ip::IpPrefix;

use super::{HostView, mesh_v4, mesh_v6, overlap};

/// How many nodes a sentence names before it counts.
const NAMED: usize = 5;

/// What of the mesh is to be routed.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// This node's addresses.
    pub own: Vec<IpAddr>,
    /// Every peer's addresses with its name.
    pub peers: Vec<(IpAddr, String)>,
    /// Addresses that must go by the network below although they are in the mesh's ranges: the control server,
    /// endpoints of peers.
    pub underlay: Vec<IpAddr>,
}

/// What to set on the node's device, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The routes of the main table.
    pub routes: BTreeSet<IpPrefix>,
    /// What others use already, each with a sentence for the owner of the machine.
    pub sentences: Vec<String>,
    /// Whether the routes depend on which peers there are.
    pub by_peer: bool,
}

/// Plans for a machine where the node's own device has the index `device`.
pub fn plan(host: &HostView, device: u32, mesh: &Mesh) -> Plan {
    let mut plan = Plan::default();
    for range in [mesh_v4(), mesh_v6()] {
        if host.ipv6_off && range.address().is_ipv6() {
            continue;
        }
        let claims = claims(host, device, mesh, &range);
        let taken = |address: &IpAddr| claims.iter().find(|claim| claim.prefix.contains(*address));
        for address in mesh.own.iter().filter(|address| range.contains(**address)) {
            match taken(address) {
                None => _ = plan.addresses.insert(*address),
                Some(claim) => plan.sentences.push(format!(
                    "This node's address {address} is not set: {} has it already. Peers reach this node by its other \
                     address.",
                    claim.owner
                )),
            }
        }
        if claims.is_empty() {
            plan.routes.insert(range);
            continue;
        }
        plan.by_peer = true;
        let mut colliding = BTreeMap::<&str, Vec<(&str, IpAddr)>>::new();
        for (address, name) in mesh.peers.iter().filter(|(address, _)| range.contains(*address)) {
            match taken(address) {
                None => _ = plan.routes.insert(IpPrefix::host(*address)),
                Some(claim) => colliding.entry(&claim.owner).or_default().push((name, *address)),
            }
        }
        plan.sentences.extend(colliding.iter().map(|(owner, nodes)| sentence(owner, nodes)));
    }
    plan
}

/// A part of a mesh range that somebody else uses.
struct Claim {
    prefix: IpPrefix,
    owner: String,
}

fn claims(host: &HostView, device: u32, mesh: &Mesh, range: &IpPrefix) -> Vec<Claim> {
    let mut claims = Vec::new();
    for interface in host.interfaces.iter().filter(|interface| interface.index != device) {
        for address in &interface.addresses {
            claims.push(Claim {
                prefix: address.network,
                owner: format!("the network {} of {}", address.network, interface.name),
            });
        }
    }
    for route in host.routes.iter().filter(|route| route.interface != Some(device)) {
        // A shorter prefix, the default route for one, is what any route of ours is more specific than on purpose.
        if route.destination.len() >= range.len() {
            let name = host.interface_name(route.interface);
            claims.push(Claim {
                prefix: route.destination,
                owner: format!("the route {} through {name}", route.destination),
            });
        }
        if let Some(gateway) = route.gateway {
            claims.push(Claim { prefix: IpPrefix::host(gateway), owner: format!("the gateway {gateway}") });
        }
    }
    for server in &host.name_servers {
        claims.push(Claim { prefix: IpPrefix::host(*server), owner: format!("the name server {server}") });
    }
    let peer = |address: &IpAddr| mesh.own.contains(address) || mesh.peers.iter().any(|(peer, _)| peer == address);
    for address in mesh.underlay.iter().filter(|address| range.contains(**address) && !peer(address)) {
        claims.push(Claim { prefix: IpPrefix::host(*address), owner: format!("{address} of the network below") });
    }
    claims.retain(|claim| overlap(&claim.prefix, range) && claim.prefix.len() >= range.len());
    claims
}

fn sentence(owner: &str, nodes: &[(&str, IpAddr)]) -> String {
    let mut text = format!("{owner} is left alone, so weft does not carry packets to ");
    for (index, (name, address)) in nodes.iter().take(NAMED).enumerate() {
        let _ = write!(text, "{}{name} ({address})", if index == 0 { "" } else { ", " });
    }
    if nodes.len() > NAMED {
        let _ = write!(text, " and {} more", nodes.len() - NAMED);
    }
    text.push_str("; use the other address of these nodes.");
    if let Some(first) = text.get(..1).map(str::to_uppercase) {
        text.replace_range(..1, &first);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Interface, InterfaceAddress, Route};

    const DEVICE: u32 = 9;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn mesh() -> Mesh {
        Mesh {
            own: vec![ip("100.64.0.1"), ip("fd7a:115c:a1e0::1")],
            peers: vec![
                (ip("100.64.0.2"), "nas".into()),
                (ip("fd7a:115c:a1e0::2"), "nas".into()),
                (ip("100.70.0.3"), "pi".into()),
                (ip("fd7a:115c:a1e0::3"), "pi".into()),
            ],
            underlay: Vec::new(),
        }
    }

    fn interface(index: u32, name: &str, address: &str) -> Interface {
        let network: IpPrefix = address.parse().unwrap();
        let address = ip(address.split('/').next().unwrap());
        Interface {
            index,
            name: name.into(),
            up: true,
            addresses: vec![InterfaceAddress { address, network, lasting: true }],
            ..Interface::default()
        }
    }

    fn route(destination: &str, interface: u32, gateway: Option<&str>) -> Route {
        let gateway = gateway.map(ip);
        Route { destination: destination.parse().unwrap(), table: 254, interface: Some(interface), gateway }
    }

    fn routes(plan: &Plan) -> Vec<String> {
        plan.routes.iter().map(ToString::to_string).collect()
    }

    /// A home network, with the node's own device already set up.
    fn home() -> HostView {
        HostView {
            interfaces: vec![interface(2, "eth0", "192.168.1.5/24"), interface(DEVICE, "weft0", "100.64.0.1/32")],
            routes: vec![
                route("0.0.0.0/0", 2, Some("192.168.1.1")),
                route("192.168.1.0/24", 2, None),
                route("100.64.0.0/10", DEVICE, None),
            ],
            name_servers: vec![ip("192.168.1.1"), ip("127.0.0.53")],
            ..HostView::default()
        }
    }

    /// A mobile uplink behind carrier NAT: its subnet, gateway and name server are inside the mesh's range.
    fn carrier_nat() -> HostView {
        HostView {
            interfaces: vec![interface(2, "wwan0", "100.64.0.77/24")],
            routes: vec![route("0.0.0.0/0", 2, Some("100.64.0.254")), route("100.64.0.0/24", 2, None)],
            name_servers: vec![ip("100.99.0.53")],
            ..HostView::default()
        }
    }

    #[test]
    fn usually_the_whole_mesh_is_routed() {
        let plan = plan(&home(), DEVICE, &mesh());
        assert_eq!(routes(&plan), ["100.64.0.0/10", "fd7a:115c:a1e0::/48"]);
        assert_eq!(plan.addresses.len(), 2);
        assert!(plan.sentences.is_empty(), "{:?}", plan.sentences);
    }

    #[test]
    fn an_uplink_behind_carrier_nat_keeps_its_subnet_and_the_rest_of_the_mesh_works() {
        let plan = plan(&carrier_nat(), DEVICE, &mesh());
        assert_eq!(routes(&plan), ["100.70.0.3/32", "fd7a:115c:a1e0::/48"]);
        assert_eq!(plan.addresses, [ip("fd7a:115c:a1e0::1")].into());
        let text = plan.sentences.join("\n");
        assert!(text.contains("nas (100.64.0.2)"), "{text}");
        assert!(text.contains("100.64.0.1 is not set"), "{text}");
        assert!(!text.contains("pi"), "{text}");
    }

    #[test]
    fn no_route_covers_a_gateway_or_a_name_server_of_the_uplink() {
        let mut host = carrier_nat();
        // A point-to-point uplink: no subnet, a gateway beyond.
        host.interfaces = vec![interface(2, "ppp0", "100.80.0.9/32")];
        host.routes = vec![route("0.0.0.0/0", 2, Some("100.70.0.3"))];
        host.name_servers = vec![ip("100.64.0.2")];
        let plan = plan(&host, DEVICE, &mesh());
        for used in [ip("100.70.0.3"), ip("100.64.0.2"), ip("100.80.0.9")] {
            assert!(!plan.routes.iter().any(|route| route.contains(used)), "{used}");
        }
        let text = plan.sentences.join("\n");
        assert!(text.contains("The gateway 100.70.0.3") && text.contains("pi (100.70.0.3)"), "{text}");
        assert!(text.contains("The name server 100.64.0.2") && text.contains("nas (100.64.0.2)"), "{text}");
    }

    #[test]
    fn routes_of_other_tables_are_respected() {
        let mut host = home();
        host.interfaces.push(interface(5, "tailscale0", "100.101.102.103/32"));
        host.routes.push(Route { table: 52, ..route("100.70.0.3/32", 5, None) });
        host.routes.push(Route { table: 52, ..route("fd7a:115c:a1e0::/48", 5, None) });
        let plan = plan(&host, DEVICE, &mesh());
        assert_eq!(routes(&plan), ["100.64.0.2/32"]);
        assert_eq!(plan.addresses, [ip("100.64.0.1")].into());
        let text = plan.sentences.join("\n");
        assert!(text.contains("tailscale0") && text.contains("pi (100.70.0.3)"), "{text}");
    }

    #[test]
    fn a_server_inside_the_range_stays_reachable() {
        let mut mesh = mesh();
        mesh.underlay = vec![ip("100.90.0.1"), ip("192.0.2.1")];
        let plan = plan(&home(), DEVICE, &mesh);
        assert_eq!(routes(&plan), ["100.64.0.2/32", "100.70.0.3/32", "fd7a:115c:a1e0::/48"]);
        assert!(plan.sentences.is_empty());
    }

    #[test]
    fn an_endpoint_that_is_a_mesh_address_takes_no_peer_away() {
        let mut mesh = mesh();
        mesh.underlay = vec![ip("100.64.0.2")];
        assert_eq!(routes(&plan(&home(), DEVICE, &mesh)), ["100.64.0.0/10", "fd7a:115c:a1e0::/48"]);
    }

    #[test]
    fn a_machine_without_ipv6_gets_none() {
        let plan = plan(&HostView { ipv6_off: true, ..home() }, DEVICE, &mesh());
        assert_eq!(routes(&plan), ["100.64.0.0/10"]);
        assert_eq!(plan.addresses, [ip("100.64.0.1")].into());
        assert!(plan.sentences.is_empty(), "{:?}", plan.sentences);
    }

    #[test]
    fn a_long_list_is_counted() {
        let mut mesh = mesh();
        mesh.peers = (1..=8).map(|i| (ip(&format!("100.64.0.{i}")), format!("node-{i}"))).collect();
        mesh.own.clear();
        let plan = plan(&carrier_nat(), DEVICE, &mesh);
        assert_eq!(plan.sentences.len(), 1);
        assert!(plan.sentences[0].contains("node-5 (100.64.0.5) and 3 more;"), "{}", plan.sentences[0]);
    }
}
