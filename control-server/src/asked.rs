//! What a connected node asks for, taken out of the buffer that its record came in.

use std::net::{IpAddr, SocketAddr};

use weft_core::{
    control::{
        ClientRecord, NodeId, Revision,
        record::{Address, RenewNodeKey},
    },
    keys::NodeKey,
};

/// What a record asks for, out of the buffer that it came in.
pub(crate) enum Asked {
    Nothing,
    Pong(u32),
    Endpoints(Vec<SocketAddr>),
    Lookup(u32, Option<Sought>),
    Watch { add: Vec<NodeId>, remove: Vec<NodeId> },
    Held { add: Vec<NodeId>, remove: Vec<NodeId>, since: Option<Revision>, more: bool },
    Renew(RenewNodeKey),
    LogOut,
}

/// A peer that is sought.
pub(crate) enum Sought {
    Address(IpAddr),
    NodeKey(NodeKey),
    Name(String),
}

impl From<ClientRecord<'_>> for Asked {
    fn from(record: ClientRecord<'_>) -> Self {
        match record {
            ClientRecord::Ping(_) | ClientRecord::Register(_) => Self::Nothing,
            ClientRecord::Pong(pong) => Self::Pong(pong.token),
            ClientRecord::Endpoints(endpoints) => {
                Self::Endpoints(endpoints.local.iter().map(|endpoint| endpoint.0).collect())
            }
            ClientRecord::Lookup(lookup) => {
                let sought = match (lookup.address, lookup.node_key, lookup.name) {
                    (Some(Address(address)), None, None) => Some(Sought::Address(address)),
                    (None, Some(key), None) => Some(Sought::NodeKey(key)),
                    (None, None, Some(name)) => Some(Sought::Name(name.as_str().to_ascii_lowercase())),
                    _ => None,
                };
                Self::Lookup(lookup.request, sought)
            }
            ClientRecord::Watch(watch) => {
                Self::Watch { add: watch.add.iter().collect(), remove: watch.remove.iter().collect() }
            }
            ClientRecord::Held(held) => Self::Held {
                add: held.add.iter().collect(),
                remove: held.remove.iter().collect(),
                since: held.since,
                more: held.more,
            },
            ClientRecord::RenewNodeKey(renew) => Self::Renew(renew),
            ClientRecord::Logout(_) => Self::LogOut,
        }
    }
}
