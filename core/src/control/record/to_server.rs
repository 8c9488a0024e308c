//! The records that a node sends.

use super::{Capacity, Endpoint, InstanceId, List, NodeId, Revision, Text};
use crate::{
    control::{
        cbor::{Item, Malformed, Reader, Writer, body},
        join_key::JoinSecret,
        proof::NodeKeyProof,
    },
    keys::NodeKey,
};

/// The first record of a connection: who the node is and what it has. Indices 10 to 15 are reserved.
///
/// The machine key is the one that the channel proved. A known machine registers without a join secret; one that
/// brings the secret that it registered with before is the same node again, and uses nothing up.
#[derive(Debug, PartialEq)]
pub struct Register<'a> {
    /// The node's WireGuard key. A known machine that brings another than before renews by it, as
    /// [`RenewNodeKey`] does.
    pub node_key: NodeKey,
    /// That the node holds that key's secret.
    pub proof: NodeKeyProof,
    /// The secret of the join key, for a machine that is new or whose node key expired.
    pub join_secret: Option<JoinSecret>,
    /// Which process of this machine this is.
    pub instance: InstanceId,
    /// The name that the node would like. The server makes it DNS-safe and unique.
    pub hostname: Text<'a>,
    /// The operating system, for instance `linux` or `embassy`.
    pub os: Text<'a>,
    /// The version of the agent, for instance `0.1.0`.
    pub agent: Text<'a>,
    /// What the node can hold.
    pub capacity: Option<Capacity>,
    /// The revision that the node's netmap has, where it kept one of this network.
    pub resume: Option<Revision>,
    /// The network that `resume` and the kept netmap belong to.
    pub network: Option<super::NetworkId>,
}

body!(Register<'a> { 0: node_key, 1: proof, 2: join_secret, 3: instance, 4: hostname, 5: os, 6: agent, 7: capacity, 8: resume, 9: network });

/// Replaces the node key. The answer is [`SelfChanged`](super::SelfInfo) with the new key; until then the old one
/// is valid, and from then on only the new one.
#[derive(Debug, PartialEq)]
pub struct RenewNodeKey {
    /// The new key. The node has its secret on disk before it sends this.
    pub node_key: NodeKey,
    /// That the node holds that key's secret.
    pub proof: NodeKeyProof,
    /// The secret of a join key: the expiry begins anew. Without one the new key expires when the old one would have.
    pub join_secret: Option<JoinSecret>,
}

body!(RenewNodeKey { 0: node_key, 1: proof, 2: join_secret });

/// The addresses at which the node may be reached over UDP, replacing those of the last such record.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Endpoints<'a> {
    /// Addresses of the node's own interfaces, the likeliest first. The server adds what it saw itself. Indices 1
    /// (seen by STUN), 2 (mapped on a router) and 3 (home relay) are reserved.
    pub local: List<'a, Endpoint>,
}

body!(Endpoints<'a> { 0: local });

/// Asks for one peer by exactly one of address, key and name. The answer is
/// [`PeerUpsert`](super::Peer), where there is such a peer, and then [`LookupResult`](super::LookupResult).
/// A peer that is found counts as held from then on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lookup<'a> {
    /// The node's number for this question, which the answer repeats.
    pub request: u32,
    /// By mesh address.
    pub address: Option<super::Address>,
    /// By node key, for instance one that sent a handshake.
    pub node_key: Option<NodeKey>,
    /// By name, without the domain.
    pub name: Option<Text<'a>>,
}

body!(Lookup<'a> { 0: request, 1: address, 2: node_key, 3: name });

/// Changes the set of peers whose [`PeerStatus`](super::PeerStatus) the node gets: at once for each one added, then
/// whenever it changes. The set is empty when a connection begins.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Watch<'a> {
    /// Peers to watch.
    pub add: List<'a, NodeId>,
    /// Peers to watch no more.
    pub remove: List<'a, NodeId>,
}

body!(Watch<'a> { 0: add, 1: remove });

/// Changes the set of peers that a node with [`Delivery::OnDemand`](super::Delivery) holds. The set is empty when a
/// connection begins.
///
/// For each peer added the server answers with a [`PeerUpsert`](super::Peer), or a
/// [`PeerRemove`](super::PeerRemove) where it is gone or not to be reached any more, or with nothing where it did
/// not change after `since`. Changes to a held peer follow as they happen. After the last `Held` of the set that a node
/// names when a connection or this kind of delivery begins, and not before, the server sends the first [`UpTo`](super::UpTo).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held<'a> {
    /// Peers that the node has in its netmap.
    pub add: List<'a, NodeId>,
    /// Peers that it gave up.
    pub remove: List<'a, NodeId>,
    /// The revision as of which the node has them. Absent, of another epoch, or compacted: all of them are sent.
    pub since: Option<Revision>,
    /// More of the set follows. Absent where it does not.
    pub more: bool,
}

impl<'b> Item<'b> for Held<'b> {
    fn read(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let fields = reader.fields()?;
        let more = fields.get::<Option<bool>>(3)?.unwrap_or_default();
        Ok(Self { add: fields.get(0)?, remove: fields.get(1)?, since: fields.get(2)?, more })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let more = self.more.then_some(true);
        let absent = [self.add.is_absent(), self.remove.is_absent(), self.since.is_absent(), more.is_absent()];
        writer.map(absent.iter().filter(|absent| !**absent).count());
        writer.field(0, &self.add);
        writer.field(1, &self.remove);
        writer.field(2, &self.since);
        writer.field(3, &more);
    }
}

/// Ends the node's membership: its key expires at once, an ephemeral node is removed. The server answers with
/// [`ErrorCode::LoggedOut`](super::ErrorCode::LoggedOut).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Logout {}

body!(Logout {});
