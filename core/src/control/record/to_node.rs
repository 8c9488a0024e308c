//! The records that a server sends.

use minicbor::{Decode, Encode};

use super::{Address, Delivery, Endpoint, ErrorCode, List, NodeId, Revision, Text};
use crate::{
    keys::{NodeKey, ServerKey},
    time::UnixTime,
};

/// The first record of a server in a connection: the node is registered. Body `{0: SelfInfo, 1: time}`.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Registered<'a> {
    /// The node as the server knows it.
    #[b(0)]
    pub node: SelfInfo<'a>,
    /// The server's clock.
    #[n(1)]
    pub time: UnixTime,
    /// The address and port that the server sees the node's control connection come from.
    #[n(2)]
    pub seen_from: Option<Endpoint>,
    /// The server's version, for instance `0.1.0`.
    #[b(3)]
    pub server: Option<Text<'a>>,
}

/// A node as the server knows it: the body of `SelfChanged`, and part of [`Registered`]. Always whole. Indices 9 to
/// 15 are reserved (routes, filter rules, relays, DNS).
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SelfInfo<'a> {
    /// The node's id.
    #[n(0)]
    pub id: NodeId,
    /// Its node key: after a renewal, the new one.
    #[n(1)]
    pub node_key: NodeKey,
    /// Its name, without the domain.
    #[b(2)]
    pub name: Text<'a>,
    /// Its mesh addresses.
    #[b(3)]
    pub addresses: List<'a, Address>,
    /// The domain that names of this network stand under.
    #[b(4)]
    pub domain: Text<'a>,
    /// How it gets its peers.
    #[n(5)]
    pub delivery: Delivery,
    /// When its node key expires; absent where it does not.
    #[n(6)]
    pub key_expiry: Option<UnixTime>,
    /// The user that it belongs to; absent where it is tagged.
    #[b(7)]
    pub user: Option<Text<'a>>,
    /// Its tags, each with its `tag:`.
    #[b(8)]
    pub tags: List<'a, Text<'a>>,
}

/// A peer as it is now: the body of `PeerUpsert`, replacing what was known of the peer. Index 9 is reserved for its disco
/// key, 10 for routes, 11 for filter rules, 12 for its capabilities, 13 to 15 for later.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Peer<'a> {
    /// The peer's id.
    #[n(0)]
    pub id: NodeId,
    /// Its node key.
    #[n(1)]
    pub node_key: NodeKey,
    /// Its name, without the domain.
    #[b(2)]
    pub name: Text<'a>,
    /// Its mesh addresses: those that it may send from.
    #[b(3)]
    pub addresses: List<'a, Address>,
    /// Its operating system.
    #[b(4)]
    pub os: Option<Text<'a>>,
    /// The user that it belongs to; absent where it is tagged.
    #[b(5)]
    pub user: Option<Text<'a>>,
    /// Its tags, each with its `tag:`.
    #[b(6)]
    pub tags: List<'a, Text<'a>>,
    /// When its node key expires; absent where it does not. A node enforces it while the server is away.
    #[n(7)]
    pub key_expiry: Option<UnixTime>,
    /// The number of the revision that last changed it.
    #[n(8)]
    pub revision: u64,
}

/// A peer is gone, or may not be reached any more.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct PeerRemove {
    /// The peer's id.
    #[n(0)]
    pub id: NodeId,
    /// The number of the revision that removed it.
    #[n(1)]
    pub revision: u64,
}

/// What changes by the hour in a peer that is watched. Not revisioned, not kept. Index 4 is reserved for its home
/// relay, 5 to 7 for kinds of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct PeerStatus<'a> {
    /// The peer's id.
    #[n(0)]
    pub id: NodeId,
    /// Whether it is connected to the server.
    #[n(1)]
    pub online: bool,
    /// When it was last connected, where it is not.
    #[n(2)]
    pub last_seen: Option<UnixTime>,
    /// Where it may be reached over UDP, its own addresses first, then the address that the server saw with the port of
    /// its first own endpoint.
    #[b(3)]
    pub endpoints: List<'a, Endpoint>,
}

/// From here to [`SnapshotEnd`] comes every peer that the node may reach; see there.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SnapshotBegin {
    /// The revision at which the snapshot was begun.
    #[n(0)]
    pub revision: Revision,
}

/// The snapshot is whole: peers that were neither sent nor changed since [`SnapshotBegin`] are gone, and the netmap has this
/// revision. Without this record nothing is removed and the revision is still the one before.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SnapshotEnd {
    /// The revision that the netmap has now.
    #[n(0)]
    pub revision: Revision,
}

/// The node has all changes up to this revision, and resumes from it.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct UpTo {
    /// The revision that the netmap has now.
    #[n(0)]
    pub revision: Revision,
}

/// The answer to a [`Lookup`](super::Lookup), after the peer itself where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct LookupResult {
    /// The number of the question.
    #[n(0)]
    pub request: u32,
    /// The peer; absent where there is none that this node may reach.
    #[n(1)]
    pub id: Option<NodeId>,
}

/// The server's clock, for nodes without one.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Time {
    /// Now.
    #[n(0)]
    pub time: UnixTime,
}

/// Something that the node's status shows a person, until it is taken back or the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Health<'a> {
    /// What it is about; one sentence a subject. 1: another machine runs with this machine's identity.
    #[n(0)]
    pub subject: u16,
    /// A sentence; empty: all is well with this subject again.
    #[b(1)]
    pub sentence: Text<'a>,
}

impl Health<'_> {
    /// The subject of [`Health`] that says: two live machines have one identity.
    pub const CLONE: u16 = 1;
}

/// Where the server will be found, in case its key or its addresses change. Replaces what the last such record said.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct ServerNext<'a> {
    /// The key that the server will have. It answers to it already. Absent: it keeps the one it has.
    #[n(0)]
    pub key: Option<ServerKey>,
    /// All its addresses, in the order in which to try them, each as `http://host:port`. Absent: as before.
    #[b(1)]
    pub addresses: List<'a, Text<'a>>,
}

/// Why the server ends the connection. Always its last record.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Error<'a> {
    /// The reason, for the program.
    #[n(0)]
    pub code: ErrorCode,
    /// The reason, for a person: what happened and what to do next.
    #[b(1)]
    pub sentence: Text<'a>,
    /// Do not connect again before so many seconds passed.
    #[n(2)]
    pub retry_after: Option<u32>,
}
