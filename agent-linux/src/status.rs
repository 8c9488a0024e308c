//! What a node tells about itself and its peers: the document behind `weft status` and `weft status --json`.
//!
//! Field names are those of `tailscale status --json` wherever the meaning is the same, so that scripts and people
//! need not learn new ones. Knows nothing of where the facts come from; the daemon fills it in.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use weft_core::time::UnixTime;

/// The version of this agent, as `weft version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How far the daemon is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackendState {
    /// This machine is in no mesh: `weft up --join` is next.
    #[default]
    NeedsLogin,
    /// It is in a mesh and was told `weft down`.
    Stopped,
    /// It is on its way: neither a kept netmap nor an answer of the server so far.
    Starting,
    /// It has its addresses and carries packets.
    Running,
}

/// The whole answer to `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Whether packets go through a network device; always so in this agent.
    #[serde(rename = "TUN")]
    pub tun: bool,
    /// How far the daemon is.
    pub backend_state: BackendState,
    /// Whether the node has a key of its own.
    pub have_node_key: bool,
    /// The node's mesh addresses.
    #[serde(rename = "TailscaleIPs")]
    pub tailscale_ips: Vec<IpAddr>,
    /// This node.
    #[serde(rename = "Self")]
    pub this: Option<NodeStatus>,
    /// Sentences that the owner of the machine should read; empty where all is well.
    pub health: Vec<String>,
    /// The suffix of mesh names, without a leading dot; empty where the server gave none.
    #[serde(rename = "MagicDNSSuffix")]
    pub magic_dns_suffix: String,
    /// The network that the node is in.
    pub current_tailnet: Option<Network>,
    /// The control server and whether it answers.
    pub control: Option<Control>,
    /// The other nodes by their node key. The daemon gives them by pages.
    pub peer: BTreeMap<String, NodeStatus>,
    /// The owners of nodes by their id.
    pub user: BTreeMap<String, UserProfile>,
}

/// The network that a node is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// The suffix of its names.
    #[serde(rename = "MagicDNSSuffix")]
    pub magic_dns_suffix: String,
}

/// The control server as this node sees it. Not a field of Tailscale's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Control {
    /// The addresses of the server, as in the join key.
    #[serde(rename = "URLs")]
    pub urls: Vec<String>,
    /// The server's public key.
    pub public_key: String,
    /// Whether there is an authenticated connection now.
    pub connected: bool,
}

/// The owner of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UserProfile {
    /// The user's id.
    #[serde(rename = "ID")]
    pub id: u64,
    /// The name that the user is known by on the server.
    pub login_name: String,
    /// The same, for people.
    pub display_name: String,
}

/// One node: this one or a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeStatus {
    /// The node's id on the server.
    #[serde(rename = "ID")]
    pub id: String,
    /// The node's key.
    pub public_key: String,
    /// The node's name within the network.
    pub host_name: String,
    /// The name with the network's suffix and a closing dot.
    #[serde(rename = "DNSName")]
    pub dns_name: String,
    /// The operating system, such as `linux`.
    #[serde(rename = "OS")]
    pub os: String,
    /// The owner's id; see [`Status::user`].
    #[serde(rename = "UserID")]
    pub user_id: u64,
    /// Mesh addresses, IPv4 first.
    #[serde(rename = "TailscaleIPs")]
    pub tailscale_ips: Vec<IpAddr>,
    /// The prefixes that the node may send from.
    #[serde(rename = "AllowedIPs")]
    pub allowed_ips: Vec<String>,
    /// The node's tags; a tagged node has no owner.
    pub tags: Vec<String>,
    /// Where the node may be reachable.
    pub addrs: Vec<SocketAddr>,
    /// Where it is reached now; empty where it is not.
    pub cur_addr: String,
    /// The relay that it is reached through; empty in this version.
    pub relay: String,
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// When the node joined, RFC 3339.
    pub created: String,
    /// When the server last heard of it, RFC 3339; the zero time where it is online or never was.
    pub last_seen: String,
    /// The last completed handshake, RFC 3339; the zero time where there was none.
    pub last_handshake: String,
    /// Whether the server has a connection to it.
    pub online: bool,
    /// Whether packets went lately.
    pub active: bool,
    /// When its key expires, RFC 3339; absent where it never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_expiry: Option<String>,
    /// Whether its key has expired.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
    /// Whether the server's list names it.
    pub in_network_map: bool,
    /// Whether it has a session or waits for one.
    pub in_engine: bool,
}

/// The time of fields that have none, as Go prints its zero time.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

impl Default for NodeStatus {
    fn default() -> Self {
        Self {
            id: String::new(),
            public_key: String::new(),
            host_name: String::new(),
            dns_name: String::new(),
            os: String::new(),
            user_id: 0,
            tailscale_ips: Vec::new(),
            allowed_ips: Vec::new(),
            tags: Vec::new(),
            addrs: Vec::new(),
            cur_addr: String::new(),
            relay: String::new(),
            rx_bytes: 0,
            tx_bytes: 0,
            created: ZERO_TIME.into(),
            last_seen: ZERO_TIME.into(),
            last_handshake: ZERO_TIME.into(),
            online: false,
            active: false,
            key_expiry: None,
            expired: false,
            in_network_map: false,
            in_engine: false,
        }
    }
}

impl Status {
    /// The node that a person means by `text`: a name, a name with the suffix, a mesh address or a node key.
    pub fn find(&self, text: &str) -> Option<&NodeStatus> {
        let text = text.trim_end_matches('.');
        let address = text.parse::<IpAddr>().ok();
        self.this.iter().chain(self.peer.values()).find(|node| {
            address.is_some_and(|address| node.tailscale_ips.contains(&address))
                || node.host_name.eq_ignore_ascii_case(text)
                || (!text.is_empty() && node.dns_name.trim_end_matches('.').eq_ignore_ascii_case(text))
                || node.public_key == text
        })
    }
}

/// The sentence for a `text` that means no node of the mesh.
pub fn unknown_node(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => format!("no node of this mesh has the address {address}; `weft status` lists them"),
        Err(_) => format!("no node is called {text}; `weft status` lists them"),
    }
}

/// `time` as RFC 3339 in whole seconds, [`ZERO_TIME`] for none.
pub fn rfc3339(time: Option<UnixTime>) -> String {
    // The formatter refuses years above 9999.
    const LAST: u64 = 253_402_300_799;
    match time {
        Some(time) if time.secs() > 0 && time.secs() <= LAST => {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.secs());
            humantime::format_rfc3339_seconds(time).to_string()
        }
        _ => ZERO_TIME.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_nobody_has_is_not_called_a_name() {
        assert!(unknown_node("nas").starts_with("no node is called nas;"));
        assert!(unknown_node("100.64.0.9").starts_with("no node of this mesh has the address 100.64.0.9;"));
    }

    #[test]
    fn the_json_has_the_field_names_that_scripts_know() {
        let mut status = Status { version: "0.1.0".into(), tun: true, ..Status::default() };
        status.peer.insert("nodekey:00".into(), NodeStatus::default());
        let json = serde_json::to_value(&status).unwrap();
        for name in ["Version", "TUN", "BackendState", "HaveNodeKey", "TailscaleIPs", "Self", "Health"] {
            assert!(json.get(name).is_some(), "{name}");
        }
        for name in ["MagicDNSSuffix", "CurrentTailnet", "Peer", "User"] {
            assert!(json.get(name).is_some(), "{name}");
        }
        let peer = &json["Peer"]["nodekey:00"];
        for name in ["ID", "PublicKey", "HostName", "DNSName", "OS", "UserID", "TailscaleIPs", "AllowedIPs", "Tags"] {
            assert!(peer.get(name).is_some(), "{name}");
        }
        for name in ["Addrs", "CurAddr", "RxBytes", "TxBytes", "Created", "LastSeen", "LastHandshake", "Online"] {
            assert!(peer.get(name).is_some(), "{name}");
        }
        assert_eq!(json["BackendState"], "NeedsLogin");
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
    }

    #[test]
    fn a_node_is_found_by_name_address_and_key() {
        let nas = NodeStatus {
            host_name: "nas".into(),
            dns_name: "nas.weft.example.".into(),
            public_key: "nodekey:01".into(),
            tailscale_ips: vec!["100.64.0.2".parse().unwrap()],
            ..NodeStatus::default()
        };
        let status = Status { peer: [("nodekey:01".into(), nas)].into(), ..Status::default() };
        for text in ["nas", "NAS", "nas.weft.example", "nas.weft.example.", "100.64.0.2", "nodekey:01"] {
            assert!(status.find(text).is_some(), "{text}");
        }
        for text in ["", ".", "pi", "100.64.0.3"] {
            assert!(status.find(text).is_none(), "{text}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(Some(UnixTime::new(1_700_000_000, 5))), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(None), ZERO_TIME);
        assert_eq!(rfc3339(Some(UnixTime::new(u64::MAX, 0))), ZERO_TIME);
    }
}
