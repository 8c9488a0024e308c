//! This machine's mesh node: core's [`Node`] on tables of the heap, and what is kept of it over a restart.

use std::{
    net::{IpAddr, SocketAddr},
    ops::{Deref, DerefMut},
};

use rand_core::UnwrapErr;
use weft_core::{
    control::MAX_RECORD,
    keys::NodeKey,
    node::{
        ContactSlot, IdEntry, Identity, MAX_IDENTITY, MAX_RECENT_LEN, Node, NodeConfig, NodeStorage, NodeTables,
        PeerSlot,
    },
    time::UnixTime,
    wireguard::{Device, PeerId, Transmit},
};
use zeroize::Zeroizing;

use crate::{
    clock,
    crypto_ring::RingCrypto,
    datapath::Engine,
    slots::ChunkedSlots,
    state::{File, OpenError, StateDirectory},
    status::VERSION,
    storage::{self, HeapStorage},
};

/// Peers of a mesh that this agent holds at most.
const MAX_PEERS: usize = 1 << 20;
/// Peers that it is in contact with at most.
const MAX_CONTACTS: usize = 1 << 16;

/// Randomness of the operating system.
pub(super) type SystemRng = UnwrapErr<getrandom::SysRng>;

/// Tables on the heap that grow with the mesh.
#[derive(Debug)]
pub(super) struct MeshStorage;

impl NodeStorage for MeshStorage {
    type Device = HeapStorage;
    type Peers = ChunkedSlots<PeerSlot>;
    type Ids = ChunkedSlots<IdEntry>;
    type Contacts = ChunkedSlots<ContactSlot>;
}

/// The node of this daemon.
#[derive(Debug)]
pub(super) struct MeshNode {
    node: Node<MeshStorage, RingCrypto>,
    moved: Vec<SocketAddr>,
}

impl MeshNode {
    /// Where peers were heard from that were not heard from there before, since the last time.
    pub(super) fn take_moved(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.moved)
    }
}

impl Deref for MeshNode {
    type Target = Node<MeshStorage, RingCrypto>;

    fn deref(&self) -> &Self::Target {
        &self.node
    }
}

impl DerefMut for MeshNode {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.node
    }
}

/// A node that is member of no mesh yet and would like to be called `hostname`.
pub(super) fn new(hostname: &str, mtu: u16) -> MeshNode {
    let tables = NodeTables {
        device: storage::tables(),
        peers: ChunkedSlots::new(64, MAX_PEERS, || None),
        ids: ChunkedSlots::new(128, MAX_PEERS * 2, || IdEntry::EMPTY),
        contacts: ChunkedSlots::new(16, MAX_CONTACTS, || None),
    };
    let config = NodeConfig { os: "linux", agent: VERSION, ..NodeConfig::default() };
    let mut rng = UnwrapErr(getrandom::SysRng);
    let mut node = Node::new(config, tables, &mut rng);
    node.device_mut().set_mtu(usize::from(mtu));
    node.set_hostname(&label(hostname), clock::now(), &mut rng);
    MeshNode { node, moved: Vec::new() }
}

/// What of a machine's name can be asked for: the server makes it fit for DNS and unique.
pub(super) fn label(hostname: &str) -> String {
    let label = hostname.split('.').next().unwrap_or_default();
    label.chars().filter(|c| !c.is_control()).collect()
}

/// Gives the node what was kept. False where it never joined.
///
/// # Errors
/// Where the identity cannot be read. The rest is not worth an error: the server sends it again.
pub(super) fn restore(node: &mut MeshNode, directory: &StateDirectory) -> Result<bool, OpenError> {
    let now = clock::now();
    let Some(identity) = directory.load(File::Identity)? else { return Ok(false) };
    node.restore_identity(directory.parse(File::Identity, Identity::decode(&identity))?, now);
    let kept = |file| {
        directory.load(file).unwrap_or_else(|error| {
            tracing::warn!("{error}; the server will send it again");
            None
        })
    };
    if let Some(netmap) = kept(File::Netmap)
        && let Err(damaged) = records(&netmap).try_for_each(|record| node.restore_netmap_record(record?, now))
    {
        tracing::warn!("{damaged}");
    }
    if let Some(recent) = kept(File::RecentPeers)
        && let Err(damaged) = node.restore_recent_peers(&recent, now)
    {
        tracing::warn!("{damaged}");
    }
    Ok(true)
}

/// The node's identity as it is kept.
pub(super) fn identity(node: &MeshNode) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; MAX_IDENTITY]);
    let len = node.identity()?.encode(&mut bytes)?;
    bytes.truncate(len);
    Some(bytes)
}

/// The node's netmap as it is kept: each record behind its length.
pub(super) fn netmap(node: &MeshNode) -> Vec<u8> {
    let mut netmap = Vec::new();
    let (mut cursor, mut record) = (0, [0; MAX_RECORD]);
    while let Some(len) = node.netmap_record(&mut cursor, &mut record) {
        let Ok(prefix) = u16::try_from(len) else { continue };
        netmap.extend_from_slice(&prefix.to_be_bytes());
        netmap.extend_from_slice(record.get(..len).unwrap_or_default());
    }
    netmap
}

/// The node's recent peers as they are kept.
pub(super) fn recent_peers(node: &MeshNode) -> Vec<u8> {
    let mut recent = vec![0; MAX_RECENT_LEN];
    let len = node.recent_peers(&mut recent);
    recent.truncate(len);
    recent
}

/// The records of a kept netmap; an error and then the end where it is cut.
fn records(mut netmap: &[u8]) -> impl Iterator<Item = Result<&[u8], weft_core::node::DamagedRecord>> {
    std::iter::from_fn(move || {
        if netmap.is_empty() {
            return None;
        }
        let record = netmap
            .split_first_chunk::<2>()
            .and_then(|(len, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*len))));
        let Some((record, rest)) = record else {
            netmap = &[];
            return Some(Err(weft_core::node::DamagedRecord));
        };
        netmap = rest;
        Some(Ok(record))
    })
}

impl Engine for MeshNode {
    type Storage = HeapStorage;

    fn device_mut(&mut self) -> &mut Device<HeapStorage> {
        self.node.device_mut()
    }

    fn unix(&self) -> UnixTime {
        self.node.time(clock::now(), clock::unix())
    }

    fn moved(&mut self, source: SocketAddr) {
        self.moved.push(source);
    }

    /// The server may know where it is.
    fn may_wait(&mut self, _peer: PeerId) -> bool {
        true
    }

    fn may_come(&mut self, address: IpAddr) -> bool {
        self.node.need_address(address, clock::now())
    }

    fn stranger(&mut self, key: NodeKey, message: &[u8], source: SocketAddr) {
        self.node.need_initiator(key, message, source, clock::now());
    }

    fn targets(&mut self, transmit: &Transmit, targets: &mut Vec<SocketAddr>) {
        targets.extend(self.node.targets(transmit, clock::now(), clock::unix()).iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_label_of_the_machines_name_is_asked_for() {
        assert_eq!(label("nas.example.org"), "nas");
        assert_eq!(label("Ada's\u{7} laptop"), "Ada's laptop");
    }

    #[test]
    fn a_netmap_that_was_cut_ends_with_an_error() {
        let whole: Vec<_> = records(&[0, 1, 7, 0, 0, 0, 2, 8, 9]).collect();
        assert_eq!(whole, [Ok(&[7][..]), Ok(&[]), Ok(&[8, 9])]);
        let cut: Vec<_> = records(&[0, 1, 7, 0, 2, 8]).collect();
        assert_eq!(cut, [Ok(&[7][..]), Err(weft_core::node::DamagedRecord)]);
    }
}
