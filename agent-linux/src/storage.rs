//! A host's storage for a WireGuard device: tables on the heap that grow with what is in them.

use weft_core::wireguard::{
    ActivePeer, KnownPeer, PacketBuffer, PeerId, StagedPacket,
    allowed_ips::AllowedIpNode,
    index_table::IndexEntry,
    rate_limit::RateLimitEntry,
    replay::ReplayWindow,
    storage::{Storage, Tables},
};

use crate::slots::ChunkedSlots;

/// Replay window in 64-bit words: 8,192 bits, as in the kernel.
const WINDOW_WORDS: usize = 128;
/// Peers, as many as the kernel allows.
const MAX_PEERS: usize = 1 << 20;
/// Packets of all peers that wait for handshakes: 12 MB of full ones.
const MAX_STAGED: usize = 8_192;
/// Sources that the rate limit tells apart under load.
const MAX_SOURCES: usize = 4_096;

/// Storage on the heap for up to a million peers. An idle device costs a few kilobytes.
#[derive(Clone, Copy, Debug)]
pub struct HeapStorage;

impl Storage for HeapStorage {
    type Window = ReplayWindow<WINDOW_WORDS>;
    type Packet = HeapPacket;
    type Known = ChunkedSlots<KnownPeer>;
    type Active = ChunkedSlots<ActivePeer<Self::Window>>;
    type AllowedIps = ChunkedSlots<AllowedIpNode<PeerId>>;
    type Indices = ChunkedSlots<Option<IndexEntry<u32>>>;
    type Staged = ChunkedSlots<StagedPacket<HeapPacket>>;
    type Sources = ChunkedSlots<RateLimitEntry>;
}

/// Empty tables.
pub fn tables() -> Tables<HeapStorage> {
    Tables {
        known: ChunkedSlots::new(64, MAX_PEERS, || KnownPeer::EMPTY),
        active: ChunkedSlots::new(4, MAX_PEERS, || ActivePeer::EMPTY),
        allowed_ips: ChunkedSlots::new(64, 1 << 24, || AllowedIpNode::FREE),
        indices: ChunkedSlots::new(64, 8 * MAX_PEERS, || None),
        staged: ChunkedSlots::new(64, MAX_STAGED, || StagedPacket::EMPTY),
        sources: ChunkedSlots::new(MAX_SOURCES, MAX_SOURCES, || RateLimitEntry::EMPTY).grown(),
    }
}

/// A staged packet on the heap, of any size.
#[derive(Clone, Default)]
pub struct HeapPacket(Vec<u8>);

impl std::fmt::Debug for HeapPacket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeapPacket({} bytes)", self.0.len())
    }
}

impl PacketBuffer for HeapPacket {
    const EMPTY: Self = Self(Vec::new());

    fn store(&mut self, packet: &[u8]) -> bool {
        self.0 = packet.to_vec();
        true
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use weft_core::wireguard::Device;

    use super::*;

    #[test]
    fn a_device_and_a_peer_have_their_sizes() {
        let device = size_of::<Device<HeapStorage>>();
        let (known, active) = (size_of::<KnownPeer>(), size_of::<ActivePeer<ReplayWindow<WINDOW_WORDS>>>());
        assert!(device <= 1_400, "device {device} B");
        assert!(known <= 200 && active <= 3_816, "known {known} B, active {active} B");
    }
}
