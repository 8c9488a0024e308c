//! The status document of a node, and finding the node that a person means.

use std::{collections::BTreeMap, net::IpAddr};

use weft_core::{
    control::ErrorCode,
    keys::NodeKey,
    node::{ControlState, PeerRecord, SelfRecord},
    time::{Instant, UnixTime},
    wireguard::{PeerState, PeerView},
};

use super::mesh_node::MeshNode;
use crate::{
    local_api::{Peers, Whois},
    status::{BackendState, Control, Network, NodeStatus, Status, UserProfile, VERSION, rfc3339},
};

/// Peers on one page: some 100 KB, so that a large mesh costs the daemon little memory and never holds up its packets.
const PEERS_ON_A_PAGE: usize = 128;

/// The status document without the peers.
pub(super) fn status(
    node: &MeshNode,
    state: BackendState,
    health: Vec<String>,
    now: Instant,
    wall: UnixTime,
) -> Status {
    let time = node.time(now, wall);
    let identity = node.identity().filter(|_| state != BackendState::NeedsLogin);
    let mut status = Status {
        version: VERSION.into(),
        tun: true,
        backend_state: state,
        have_node_key: identity.is_some(),
        health,
        control: identity.map(|identity| Control {
            urls: identity.addresses.iter().map(|address| address.as_str().into()).collect(),
            public_key: identity.server.to_string(),
            connected: node.control_state() == ControlState::Registered,
        }),
        ..Status::default()
    };
    let Some(own) = node.netmap().own() else { return status };
    status.tailscale_ips = own.addresses().collect();
    status.magic_dns_suffix = own.domain().into();
    status.current_tailnet = Some(Network { name: own.domain().into(), magic_dns_suffix: own.domain().into() })
        .filter(|n| !n.name.is_empty());
    let (this, user) = self_status(node, own, state, time);
    add_user(&mut status.user, user);
    status.this = Some(this);
    status
}

/// The page of the status document's peers that begins at the cursor `from`.
pub(super) fn peers(node: &MeshNode, state: BackendState, from: usize, now: Instant, wall: UnixTime) -> Peers {
    let time = node.time(now, wall);
    let mut page = Peers::default();
    for (next, peer) in node.netmap().peers_from(from).take(PEERS_ON_A_PAGE) {
        let (mut peer, user) = peer_status(node, peer, now, time);
        // A handshake that nobody answered yet does not go on while the node is stopped.
        peer.active &= state != BackendState::Stopped;
        peer.in_engine &= state != BackendState::Stopped;
        add_user(&mut page.user, user);
        page.peer.insert(peer.public_key.clone(), peer);
        page.next = Some(next);
    }
    page.next = page.next.filter(|_| page.peer.len() == PEERS_ON_A_PAGE);
    page
}

/// Whose a mesh address is.
pub(super) fn whois(node: &MeshNode, address: IpAddr, now: Instant, wall: UnixTime) -> Option<Whois> {
    let time = node.time(now, wall);
    let own = node.netmap().own().filter(|own| own.addresses().any(|each| each == address));
    let (node, user_profile) = match own {
        Some(own) => self_status(node, own, BackendState::Running, time),
        None => peer_status(node, node.peer_by_address(address)?, now, time),
    };
    Some(Whois { node, user_profile })
}

/// A node that a person named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    /// Its key; none for this node.
    pub(super) key: Option<NodeKey>,
}

/// The node that `text` means: a name with or without the suffix, a mesh address or a node key.
pub(super) fn find(node: &MeshNode, text: &str) -> Option<Named> {
    let own = node.netmap().own()?;
    let label = text.trim_end_matches('.');
    let label = match label.split_once('.') {
        Some((label, domain)) if domain.eq_ignore_ascii_case(own.domain()) => label,
        _ => label,
    };
    let address = text.parse::<IpAddr>().ok();
    if own.name().eq_ignore_ascii_case(label)
        || address.is_some_and(|address| own.addresses().any(|each| each == address))
        || own.key().to_string() == text
    {
        return Some(Named { name: own.name().into(), addresses: own.addresses().collect(), key: None });
    }
    let peer = match (address, text.parse::<NodeKey>()) {
        (Some(address), _) => node.peer_by_address(address),
        (None, Ok(key)) => node.peer_by_key(&key),
        (None, Err(_)) => node.netmap().by_name(label),
    }?;
    Some(Named { name: peer.name().into(), addresses: peer.addresses().collect(), key: Some(*peer.key()) })
}

fn self_status(
    node: &MeshNode,
    own: &SelfRecord,
    state: BackendState,
    time: UnixTime,
) -> (NodeStatus, Option<UserProfile>) {
    let user = own.user().map(user_profile);
    let status = NodeStatus {
        id: own.id().0.to_string(),
        public_key: own.key().to_string(),
        host_name: own.name().into(),
        dns_name: dns_name(own.name(), own.domain()),
        os: "linux".into(),
        user_id: user.as_ref().map_or(0, |user| user.id),
        tailscale_ips: own.addresses().collect(),
        allowed_ips: allowed_ips(own.addresses()),
        tags: own.tags().map(Into::into).collect(),
        addrs: node.local_endpoints().iter().collect(),
        online: node.control_state() == ControlState::Registered,
        key_expiry: own.key_expiry().map(|expiry| rfc3339(Some(expiry))),
        // An owner's decision comes as a refusal, while the last record names a later day.
        expired: own.is_expired(time)
            || node.last_error().is_some_and(|(code, _)| code == Some(ErrorCode::NodeKeyExpired)),
        in_network_map: true,
        in_engine: state == BackendState::Running,
        ..NodeStatus::default()
    };
    (status, user)
}

fn peer_status(node: &MeshNode, peer: &PeerRecord, now: Instant, time: UnixTime) -> (NodeStatus, Option<UserProfile>) {
    let user = peer.user().map(user_profile);
    let view = node.device_peer(peer.id()).and_then(|id| node.device().peer(id, now));
    let engaged = view.as_ref().is_some_and(|view| view.state != PeerState::Idle);
    let view = view.as_ref();
    let domain = node.netmap().own().map_or("", SelfRecord::domain);
    let online = peer.online().unwrap_or(engaged);
    let status = NodeStatus {
        id: peer.id().0.to_string(),
        public_key: peer.key().to_string(),
        host_name: peer.name().into(),
        dns_name: dns_name(peer.name(), domain),
        os: peer.os().into(),
        user_id: user.as_ref().map_or(0, |user| user.id),
        tailscale_ips: peer.addresses().collect(),
        allowed_ips: allowed_ips(peer.addresses()),
        tags: peer.tags().map(Into::into).collect(),
        addrs: node.candidates(peer.id()).iter().collect(),
        cur_addr: view.and_then(current_address).unwrap_or_default(),
        rx_bytes: view.map_or(0, |view| view.received_bytes),
        tx_bytes: view.map_or(0, |view| view.sent_bytes),
        last_seen: rfc3339(peer.last_seen().filter(|_| !online)),
        last_handshake: rfc3339(view.and_then(|view| view.last_handshake).map(|handshake| handshake.wall)),
        online,
        active: engaged,
        key_expiry: peer.key_expiry().map(|expiry| rfc3339(Some(expiry))),
        expired: peer.is_expired(time),
        in_network_map: true,
        in_engine: engaged,
        ..NodeStatus::default()
    };
    (status, user)
}

/// Where the peer is reached, while it is.
fn current_address(view: &PeerView) -> Option<String> {
    let reached = view.state == PeerState::Established;
    view.endpoint.filter(|_| reached).map(|endpoint| endpoint.to_string())
}

fn dns_name(name: &str, domain: &str) -> String {
    if domain.is_empty() { format!("{name}.") } else { format!("{name}.{domain}.") }
}

fn allowed_ips(addresses: impl Iterator<Item = IpAddr>) -> Vec<String> {
    addresses.map(|address| weft_core::ip::IpPrefix::host(address).to_string()).collect()
}

fn add_user(users: &mut BTreeMap<String, UserProfile>, user: Option<UserProfile>) {
    if let Some(user) = user {
        users.insert(user.id.to_string(), user);
    }
}

/// The profile of the user of this name. The server gives names only, so the number that Tailscale's JSON has is made
/// of the name: FNV-1a, cut to what JSON numbers hold exactly.
fn user_profile(name: &str) -> UserProfile {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    UserProfile { id: hash >> 11, login_name: name.into(), display_name: name.into() }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use weft_core::control::{
        MAX_RECORD, NetworkId, NodeId, ServerRecord,
        record::{Address, Peer, Text},
    };

    use super::*;
    use crate::clock;

    /// A node that knows `count` peers.
    fn node(count: u32) -> MeshNode {
        let mut node = super::super::mesh_node::new("laptop", 1_280);
        let mut out = [0; MAX_RECORD];
        for id in 1..=count {
            let name = format!("node-{id}");
            let addresses = [Address(Ipv4Addr::from_bits(0x6440_0000 + id).into())];
            let mut key = [7; 32];
            key[..4].copy_from_slice(&id.to_le_bytes());
            let peer = Peer {
                id: NodeId(id),
                node_key: NodeKey::from_bytes(key),
                name: Text::new(&name).unwrap(),
                addresses: (&addresses).into(),
                os: None,
                user: Some(Text::new("ada").unwrap()),
                tags: Default::default(),
                key_expiry: None,
                revision: id.into(),
            };
            let len = ServerRecord::from(peer).encode(NetworkId(1), &mut out).unwrap();
            node.restore_netmap_record(&out[..len], clock::now()).unwrap();
        }
        node
    }

    #[test]
    fn the_pages_hold_every_peer_once_and_end() {
        for count in [0, 1, PEERS_ON_A_PAGE - 1, PEERS_ON_A_PAGE, PEERS_ON_A_PAGE + 1, 3 * PEERS_ON_A_PAGE] {
            let node = node(count as u32);
            let (mut names, mut from) = (Vec::new(), Some(0));
            while let Some(cursor) = from {
                let page = peers(&node, BackendState::Running, cursor, clock::now(), clock::unix());
                assert!(page.peer.len() <= PEERS_ON_A_PAGE);
                assert_eq!(page.user.len(), usize::from(!page.peer.is_empty()));
                assert!(page.next.is_none_or(|next| next > cursor), "no way back");
                names.extend(page.peer.into_values().map(|peer| peer.host_name));
                from = page.next;
            }
            assert_eq!(names.len(), count);
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "none twice");
        }
    }

    #[test]
    fn a_page_behind_the_last_peer_is_empty() {
        let page = peers(&node(3), BackendState::Running, usize::MAX, clock::now(), clock::unix());
        assert!(page.peer.is_empty() && page.next.is_none());
    }
}
