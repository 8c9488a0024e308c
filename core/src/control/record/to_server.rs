//! The records that a node sends.

use minicbor::{Decode, Encode};

use super::{Capacity, Endpoint, InstanceId, List, NodeId, Revision, Text};
use crate::{
    control::{join_key::JoinSecret, proof::NodeKeyProof},
    keys::NodeKey,
};

/// The first record of a connection: who the node is and what it has. Indices 10 to 15 are reserved.
///
/// The machine key is the one that the channel proved. A known machine registers without a join secret; one that
/// brings the secret that it registered with before is the same node again, and uses nothing up.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Register<'a> {
    /// The node's WireGuard key. A known machine that brings another than before renews by it, as
    /// [`RenewNodeKey`] does.
    #[n(0)]
    pub node_key: NodeKey,
    /// That the node holds that key's secret.
    #[n(1)]
    pub proof: NodeKeyProof,
    /// The secret of the join key, for a machine that is new or whose node key expired.
    #[n(2)]
    pub join_secret: Option<JoinSecret>,
    /// Which process of this machine this is.
    #[n(3)]
    pub instance: InstanceId,
    /// The name that the node would like. The server makes it DNS-safe and unique.
    #[b(4)]
    pub hostname: Text<'a>,
    /// The operating system, for instance `linux` or `embassy`.
    #[b(5)]
    pub os: Text<'a>,
    /// The version of the agent, for instance `0.1.0`.
    #[b(6)]
    pub agent: Text<'a>,
    /// What the node can hold.
    #[n(7)]
    pub capacity: Option<Capacity>,
    /// The revision that the node's netmap has, where it kept one of this network.
    #[n(8)]
    pub resume: Option<Revision>,
    /// The network that `resume` and the kept netmap belong to.
    #[n(9)]
    pub network: Option<super::NetworkId>,
}

/// Replaces the node key. The answer is [`SelfChanged`](super::SelfInfo) with the new key; until then the old one
/// is valid, and from then on only the new one.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct RenewNodeKey {
    /// The new key. The node has its secret on disk before it sends this.
    #[n(0)]
    pub node_key: NodeKey,
    /// That the node holds that key's secret.
    #[n(1)]
    pub proof: NodeKeyProof,
    /// The secret of a join key: the expiry begins anew. Without one the new key expires when the old one would have.
    #[n(2)]
    pub join_secret: Option<JoinSecret>,
}

/// The addresses at which the node may be reached over UDP, replacing those of the last such record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Endpoints<'a> {
    /// Addresses of the node's own interfaces, the likeliest first. The server adds what it saw itself. Indices 1
    /// (seen by STUN), 2 (mapped on a router) and 3 (home relay) are reserved.
    #[b(0)]
    pub local: List<'a, Endpoint>,
}

/// Asks for one peer by exactly one of address, key and name. The answer is
/// [`PeerUpsert`](super::Peer), where there is such a peer, and then [`LookupResult`](super::LookupResult).
/// A peer that is found counts as held from then on.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Lookup<'a> {
    /// The node's number for this question, which the answer repeats.
    #[n(0)]
    pub request: u32,
    /// By mesh address.
    #[n(1)]
    pub address: Option<super::Address>,
    /// By node key, for instance one that sent a handshake.
    #[n(2)]
    pub node_key: Option<NodeKey>,
    /// By name, without the domain.
    #[b(3)]
    pub name: Option<Text<'a>>,
}

/// Changes the set of peers whose [`PeerStatus`](super::PeerStatus) the node gets: at once for each one added, then
/// whenever it changes. The set is empty when a connection begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Watch<'a> {
    /// Peers to watch.
    #[b(0)]
    pub add: List<'a, NodeId>,
    /// Peers to watch no more.
    #[b(1)]
    pub remove: List<'a, NodeId>,
}

/// Changes the set of peers that a node with [`Delivery::OnDemand`](super::Delivery) holds. The set is empty when a
/// connection begins.
///
/// For each peer added the server answers with a [`PeerUpsert`](super::Peer), or a
/// [`PeerRemove`](super::PeerRemove) where it is gone or not to be reached any more, or with nothing where it did
/// not change after `since`. Changes to a held peer follow as they happen. After the last `Held` of the set that a node
/// names when a connection or this kind of delivery begins, and not before, the server sends the first [`UpTo`](super::UpTo).
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Held<'a> {
    /// Peers that the node has in its netmap.
    #[b(0)]
    pub add: List<'a, NodeId>,
    /// Peers that it gave up.
    #[b(1)]
    pub remove: List<'a, NodeId>,
    /// The revision as of which the node has them. Absent, of another epoch, or compacted: all of them are sent.
    #[n(2)]
    pub since: Option<Revision>,
    /// More of the set follows. Absent where it does not.
    #[n(3)]
    #[cbor(skip_if = "is_false")]
    pub more: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Ends the node's membership: its key expires at once, an ephemeral node is removed. The server answers with
/// [`ErrorCode::LoggedOut`](super::ErrorCode::LoggedOut).
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Logout {}
