//! The records that a server sends.

use super::{Address, Delivery, Endpoint, ErrorCode, List, NodeId, Revision, Text};
use crate::{
    control::cbor::body,
    keys::{NodeKey, ServerKey},
    time::UnixTime,
};

/// The first record of a server in a connection: the node is registered. Body `{0: SelfInfo, 1: time}`.
#[derive(Debug, PartialEq)]
pub struct Registered<'a> {
    /// The node as the server knows it.
    pub node: SelfInfo<'a>,
    /// The server's clock.
    pub time: UnixTime,
    /// The address and port that the server sees the node's control connection come from.
    pub seen_from: Option<Endpoint>,
    /// The server's version, for instance `0.1.0`.
    pub server: Option<Text<'a>>,
}

body!(Registered<'a> { 0: node, 1: time, 2: seen_from, 3: server });

/// A node as the server knows it: the body of `SelfChanged`, and part of [`Registered`]. Always whole. Indices 9 to
/// 15 are reserved (routes, filter rules, relays, DNS).
#[derive(Debug, PartialEq)]
pub struct SelfInfo<'a> {
    /// The node's id.
    pub id: NodeId,
    /// Its node key: after a renewal, the new one.
    pub node_key: NodeKey,
    /// Its name, without the domain.
    pub name: Text<'a>,
    /// Its mesh addresses.
    pub addresses: List<'a, Address>,
    /// The domain that names of this network stand under.
    pub domain: Text<'a>,
    /// How it gets its peers.
    pub delivery: Delivery,
    /// When its node key expires; absent where it does not.
    pub key_expiry: Option<UnixTime>,
    /// The user that it belongs to; absent where it is tagged.
    pub user: Option<Text<'a>>,
    /// Its tags, each with its `tag:`.
    pub tags: List<'a, Text<'a>>,
}

body!(SelfInfo<'a> { 0: id, 1: node_key, 2: name, 3: addresses, 4: domain, 5: delivery, 6: key_expiry, 7: user, 8: tags });

/// A peer as it is now: the body of `PeerUpsert`, replacing what was known of the peer. Index 9 is reserved for its disco
/// key, 10 for routes, 11 for filter rules, 12 for its capabilities, 13 to 15 for later.
#[derive(Debug, PartialEq)]
pub struct Peer<'a> {
    /// The peer's id.
    pub id: NodeId,
    /// Its node key.
    pub node_key: NodeKey,
    /// Its name, without the domain.
    pub name: Text<'a>,
    /// Its mesh addresses: those that it may send from.
    pub addresses: List<'a, Address>,
    /// Its operating system.
    pub os: Option<Text<'a>>,
    /// The user that it belongs to; absent where it is tagged.
    pub user: Option<Text<'a>>,
    /// Its tags, each with its `tag:`.
    pub tags: List<'a, Text<'a>>,
    /// When its node key expires; absent where it does not. A node enforces it while the server is away.
    pub key_expiry: Option<UnixTime>,
    /// The number of the revision that last changed it.
    pub revision: u64,
}

body!(Peer<'a> { 0: id, 1: node_key, 2: name, 3: addresses, 4: os, 5: user, 6: tags, 7: key_expiry, 8: revision });

/// A peer is gone, or may not be reached any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeerRemove {
    /// The peer's id.
    pub id: NodeId,
    /// The number of the revision that removed it.
    pub revision: u64,
}

body!(PeerRemove { 0: id, 1: revision });

/// What changes by the hour in a peer that is watched. Not revisioned, not kept. Index 4 is reserved for its home
/// relay, 5 to 7 for kinds of endpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeerStatus<'a> {
    /// The peer's id.
    pub id: NodeId,
    /// Whether it is connected to the server.
    pub online: bool,
    /// When it was last connected, where it is not.
    pub last_seen: Option<UnixTime>,
    /// Where it may be reached over UDP, its own addresses first, then the address that the server saw with the port of
    /// its first own endpoint.
    pub endpoints: List<'a, Endpoint>,
}

body!(PeerStatus<'a> { 0: id, 1: online, 2: last_seen, 3: endpoints });

/// From here to [`SnapshotEnd`] comes every peer that the node may reach; see there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SnapshotBegin {
    /// The revision at which the snapshot was begun.
    pub revision: Revision,
}

body!(SnapshotBegin { 0: revision });

/// The snapshot is whole: peers that were neither sent nor changed since [`SnapshotBegin`] are gone, and the netmap has this
/// revision. Without this record nothing is removed and the revision is still the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SnapshotEnd {
    /// The revision that the netmap has now.
    pub revision: Revision,
}

body!(SnapshotEnd { 0: revision });

/// The node has all changes up to this revision, and resumes from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpTo {
    /// The revision that the netmap has now.
    pub revision: Revision,
}

body!(UpTo { 0: revision });

/// The answer to a [`Lookup`](super::Lookup), after the peer itself where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LookupResult {
    /// The number of the question.
    pub request: u32,
    /// The peer; absent where there is none that this node may reach.
    pub id: Option<NodeId>,
}

body!(LookupResult { 0: request, 1: id });

/// The server's clock, for nodes without one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time {
    /// Now.
    pub time: UnixTime,
}

body!(Time { 0: time });

/// Something that the node's status shows a person, until it is taken back or the connection ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health<'a> {
    /// What it is about; one sentence a subject. 1: another machine runs with this machine's identity.
    pub subject: u16,
    /// A sentence; empty: all is well with this subject again.
    pub sentence: Text<'a>,
}

body!(Health<'a> { 0: subject, 1: sentence });

impl Health<'_> {
    /// The subject of [`Health`] that says: two live machines have one identity.
    pub const CLONE: u16 = 1;
}

/// Where the server will be found, in case its key or its addresses change. Replaces what the last such record said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerNext<'a> {
    /// The key that the server will have. It answers to it already. Absent: it keeps the one it has.
    pub key: Option<ServerKey>,
    /// All its addresses, in the order in which to try them, each as `http://host:port`. Absent: as before.
    pub addresses: List<'a, Text<'a>>,
}

body!(ServerNext<'a> { 0: key, 1: addresses });

/// Why the server ends the connection. Always its last record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Error<'a> {
    /// The reason, for the program.
    pub code: ErrorCode,
    /// The reason, for a person: what happened and what to do next.
    pub sentence: Text<'a>,
    /// Do not connect again before so many seconds passed.
    pub retry_after: Option<u32>,
}

body!(Error<'a> { 0: code, 1: sentence, 2: retry_after });
