//! A node of the network as the server knows it, and the records that say so to itself and to its peers.

use std::net::IpAddr;

use weft_core::{
    control::{
        Delivery, NodeId, ServerRecord,
        record::{Address, List, Peer, SelfInfo, Text},
    },
    keys::{MachineKey, NodeKey},
    time::UnixTime,
};

use crate::address::Host;

/// A registered node. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id, never used for another node.
    pub id: NodeId,
    /// The name of the user that it belongs to, also where it is tagged.
    pub user: String,
    /// The join key that it joined or was last renewed with.
    pub join_key_id: u64,
    /// The key that its control connections prove.
    pub machine_key: MachineKey,
    /// Its WireGuard key.
    pub node_key: NodeKey,
    /// Its unique name.
    pub name: String,
    /// The name before a number was added.
    pub base_name: String,
    /// The number that was added to the name; 0 for none.
    pub suffix: u32,
    /// An administrator chose the name.
    pub name_fixed: bool,
    /// What the machine calls itself.
    pub hostname: String,
    /// Its operating system.
    pub os: String,
    /// The version of its agent.
    pub agent: String,
    /// Its place in the address pool.
    pub host: Host,
    /// Its tags, each with its `tag:`.
    pub tags: Vec<String>,
    /// It is removed some time after it went offline.
    pub ephemeral: bool,
    /// When it joined.
    pub created_at: u64,
    /// When its node key expires, unless it does not.
    pub key_expires_at: Option<u64>,
    /// When it was last connected, as far as that was stored.
    pub last_seen_at: u64,
    /// The revision that last changed what its peers are told of it.
    pub revision: u64,
}

impl Node {
    /// Its mesh addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.host.ipv4().into(), self.host.ipv6().into()]
    }

    /// Whether its node key has expired at `now`, in seconds since 1970.
    pub fn is_expired(&self, now: u64) -> bool {
        self.key_expires_at.is_some_and(|expiry| expiry <= now)
    }

    /// Calls `send` with the record that tells its peers of it.
    pub fn with_peer_record<R>(&self, send: impl FnOnce(&ServerRecord<'_>) -> R) -> R {
        let tags: Vec<Text<'_>> = self.tags.iter().map(|tag| Text::cut(tag)).collect();
        let addresses = self.addresses().map(Address);
        send(&ServerRecord::PeerUpsert(Peer {
            id: self.id,
            node_key: self.node_key,
            name: Text::cut(&self.name),
            addresses: List::from(&addresses),
            os: Some(Text::cut(&self.os)),
            user: self.shown_user(),
            tags: List::from(tags.as_slice()),
            key_expiry: self.key_expires_at.map(unix_time),
            revision: self.revision,
        }))
    }

    /// Calls `send` with what the node is told of itself.
    pub fn with_self_info<R>(&self, domain: &str, delivery: Delivery, send: impl FnOnce(SelfInfo<'_>) -> R) -> R {
        let tags: Vec<Text<'_>> = self.tags.iter().map(|tag| Text::cut(tag)).collect();
        let addresses = self.addresses().map(Address);
        send(SelfInfo {
            id: self.id,
            node_key: self.node_key,
            name: Text::cut(&self.name),
            addresses: List::from(&addresses),
            domain: Text::cut(domain),
            delivery,
            key_expiry: self.key_expires_at.map(unix_time),
            user: self.shown_user(),
            tags: List::from(tags.as_slice()),
        })
    }

    /// A tagged node acts for its tags, not for the user that made its join key.
    fn shown_user(&self) -> Option<Text<'_>> {
        self.tags.is_empty().then(|| Text::cut(&self.user))
    }
}

/// A time in seconds since 1970 as core has it.
pub fn unix_time(secs: u64) -> UnixTime {
    UnixTime::new(secs, 0)
}
