//! What a node takes back of its last run.

use std::marker::PhantomData;

use rand::{SeedableRng, rngs::StdRng};
use weft_core::{
    control::MAX_RECORD,
    node::{
        ContactSlot, IdEntry, Identity, MAX_IDENTITY, MAX_RECENT_LEN, Node, NodeConfig, NodeStorage, NodeTables,
        PeerRecord, PeerSlot,
    },
    time::Instant,
    wireguard::storage::{Borrowed, FixedTables},
};

use super::Input;

/// A kept identity is read without a panic, and what is read is written as it is meant.
pub(super) fn kept_identity(data: &[u8]) {
    let Ok(identity) = Identity::decode(data) else { return };
    let mut out = [0; MAX_IDENTITY];
    let len = identity.encode(&mut out).expect("what was read fits");
    assert_eq!(Identity::decode(&out[..len]), Ok(identity));
}

struct Storage<'a>(PhantomData<&'a mut ()>);

impl<'a> NodeStorage for Storage<'a> {
    type Device = Borrowed<'a, 2, 256>;
    type Peers = &'a mut [PeerSlot];
    type Ids = &'a mut [IdEntry];
    type Contacts = &'a mut [ContactSlot];
}

/// The tables of one node with room for four peers, two of them in contact.
struct Tables {
    device: Box<FixedTables<4, 2, 16, 8, 4, 256, 4, 2>>,
    peers: [PeerSlot; 4],
    ids: [IdEntry; 6],
    contacts: [ContactSlot; 2],
}

impl Tables {
    fn new() -> Self {
        Self {
            device: Box::new(FixedTables::EMPTY),
            peers: [const { None }; 4],
            ids: [IdEntry::EMPTY; 6],
            contacts: [const { None }; 2],
        }
    }

    fn node(&mut self) -> Node<Storage<'_>> {
        let tables = NodeTables {
            device: self.device.tables(),
            peers: self.peers.as_mut_slice(),
            ids: self.ids.as_mut_slice(),
            contacts: self.contacts.as_mut_slice(),
        };
        Node::new(NodeConfig::default(), tables, &mut StdRng::seed_from_u64(1))
    }
}

/// What a netmap holds, in the order of ids, as far as a restart brings it back.
fn content(node: &Node<Storage<'_>>) -> Vec<String> {
    let mut peers: Vec<&PeerRecord> = node.netmap().peers().collect();
    peers.sort_by_key(|peer| peer.id());
    peers
        .iter()
        .map(|peer| {
            let (tags, expiry) = (peer.tags().collect::<Vec<_>>(), peer.key_expiry());
            format!("{peer:?} {} {} {:?} {tags:?} {expiry:?} {}", peer.key(), peer.os(), peer.user(), peer.revision())
        })
        .collect()
}

/// Kept records, each behind its 16-bit length, and what is none as kept recent peers: netmap and device stay in
/// step, and the netmap comes back the same from what the node itself would keep of it.
pub(super) fn kept_netmap(data: &[u8]) {
    let now = Instant::from_secs(1);
    let mut tables = Tables::new();
    let mut node = tables.node();
    let mut input = Input(data);
    while !input.is_empty() {
        let len = usize::from(u16::from_be_bytes(input.bytes()));
        let (record, rest) = input.0.split_at(len.min(input.0.len()));
        input.0 = rest;
        if node.restore_netmap_record(record, now).is_err() {
            let _ = node.restore_recent_peers(record, now);
        }
    }
    assert_eq!(node.netmap().peers().count(), node.netmap().len());
    assert_eq!(node.device().peer_counts().0, node.netmap().len());
    for peer in node.netmap().peers() {
        assert_eq!(node.netmap().by_id(peer.id()).map(PeerRecord::key), Some(peer.key()));
        assert_eq!(node.peer_by_key(peer.key()).map(PeerRecord::id), Some(peer.id()));
    }
    let mut recent = [0; MAX_RECENT_LEN];
    let len = node.recent_peers(&mut recent);

    let mut tables = Tables::new();
    let mut restored = tables.node();
    let (mut cursor, mut record) = (0, [0; MAX_RECORD]);
    while let Some(len) = node.netmap_record(&mut cursor, &mut record) {
        restored.restore_netmap_record(&record[..len], now).expect("its own record");
    }
    restored.restore_recent_peers(&recent[..len], now).expect("its own recent peers");
    if node.netmap().own().is_some() {
        assert_eq!(content(&restored), content(&node));
        assert_eq!(restored.netmap().revision(), node.netmap().revision());
        let mut again = [0; MAX_RECENT_LEN];
        let again_len = restored.recent_peers(&mut again);
        assert_eq!(again[..again_len], recent[..len]);
    }
}
