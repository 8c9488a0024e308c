//! The tables of core's node, in a `static`.
//!
//! Each is filled slot by slot where it lies, so that a large value is never moved over the stack and no image of it
//! stands in flash.

use heapless::Vec;
use weft_core::{
    node::{ContactSlot, IdEntry, NodeStorage, NodeTables, PeerSlot},
    wireguard::{
        ActivePeer, FixedPacket, KnownPeer, PeerId, StagedPacket,
        allowed_ips::AllowedIpNode,
        index_table::IndexEntry,
        rate_limit::RateLimitEntry,
        replay::ReplayWindow,
        storage::{Storage, Tables as DeviceTables},
    },
};

use crate::MTU;

/// Replay window in 64-bit words: 128 bits, many times what a chip sends or takes at a stretch.
const WINDOW_WORDS: usize = 2;
/// Packets of all peers that wait for a handshake. The oldest makes room: its sender will send it again.
pub(crate) const STAGED: usize = 1;
/// Nodes of the allowed-IP trie for each peer: two for its one address, IPv6 being left out on a chip.
const TRIE_NODES: usize = if cfg!(target_os = "none") { 2 } else { 4 };
/// Receiver indices for each peer.
const INDICES: usize = 4;
/// Places in the index of ids for each peer.
const IDS: usize = 2;
/// Sources of handshake messages that are told apart under load.
const SOURCES: usize = 16;

/// Core's node works on slices, so that its code is the same for any number of peers.
#[derive(Debug)]
pub(crate) struct ChipStorage;

impl Storage for ChipStorage {
    type Window = ReplayWindow<WINDOW_WORDS>;
    type Packet = FixedPacket<MTU>;
    type Known = &'static mut [KnownPeer];
    type Active = &'static mut [ActivePeer<ReplayWindow<WINDOW_WORDS>>];
    type AllowedIps = &'static mut [AllowedIpNode<PeerId>];
    type Indices = &'static mut [Option<IndexEntry<u32>>];
    type Staged = &'static mut [StagedPacket<FixedPacket<MTU>>];
    type Sources = &'static mut [RateLimitEntry];
}

impl NodeStorage for ChipStorage {
    type Device = Self;
    type Peers = &'static mut [PeerSlot];
    type Ids = &'static mut [IdEntry];
    type Contacts = &'static mut [ContactSlot];
}

/// The tables for `PEERS` peers. All of a constant one are zero or nothing.
pub(crate) struct Tables<const PEERS: usize> {
    known: Vec<KnownPeer, PEERS>,
    active: Vec<ActivePeer<ReplayWindow<WINDOW_WORDS>>, PEERS>,
    allowed_ips: Vec<[AllowedIpNode<PeerId>; TRIE_NODES], PEERS>,
    indices: Vec<[Option<IndexEntry<u32>>; INDICES], PEERS>,
    staged: Vec<StagedPacket<FixedPacket<MTU>>, STAGED>,
    sources: Vec<RateLimitEntry, SOURCES>,
    peers: Vec<PeerSlot, PEERS>,
    ids: Vec<[IdEntry; IDS], PEERS>,
    contacts: Vec<ContactSlot, PEERS>,
}

impl<const PEERS: usize> Tables<PEERS> {
    pub(crate) const fn new() -> Self {
        Self {
            known: Vec::new(),
            active: Vec::new(),
            allowed_ips: Vec::new(),
            indices: Vec::new(),
            staged: Vec::new(),
            sources: Vec::new(),
            peers: Vec::new(),
            ids: Vec::new(),
            contacts: Vec::new(),
        }
    }

    /// Fills the tables with empty slots and lends them.
    pub(crate) fn lend(&'static mut self) -> NodeTables<ChipStorage> {
        NodeTables {
            device: DeviceTables {
                known: filled(&mut self.known, || KnownPeer::EMPTY),
                active: filled(&mut self.active, || ActivePeer::EMPTY),
                allowed_ips: filled(&mut self.allowed_ips, || [AllowedIpNode::FREE; TRIE_NODES]).as_flattened_mut(),
                indices: filled(&mut self.indices, || [None; INDICES]).as_flattened_mut(),
                staged: filled(&mut self.staged, || StagedPacket::EMPTY),
                sources: filled(&mut self.sources, || RateLimitEntry::EMPTY),
            },
            peers: filled(&mut self.peers, || None),
            ids: filled(&mut self.ids, || [IdEntry::EMPTY; IDS]).as_flattened_mut(),
            contacts: filled(&mut self.contacts, || None),
        }
    }
}

fn filled<T, const N: usize>(slots: &mut Vec<T, N>, empty: impl Fn() -> T) -> &mut [T] {
    slots.clear();
    while slots.push(empty()).is_ok() {}
    slots.as_mut_slice()
}
