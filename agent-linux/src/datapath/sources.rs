//! Which address of this machine to answer each peer from: the one that it reached last. A host with several addresses
//! would otherwise answer from one that the peer's firewall has never heard of.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use weft_core::wireguard::PeerId;

/// The addresses, by peer. An entry counts only as long as the peer is where it was when it was learned.
#[derive(Debug, Default)]
pub(super) struct SourceAddresses {
    by_peer: HashMap<PeerId, (SocketAddr, IpAddr)>,
    moved: Vec<SocketAddr>,
}

impl SourceAddresses {
    /// Notes that an authentic message of `peer` came from `remote` to `local`.
    pub(super) fn learn(&mut self, peer: PeerId, remote: SocketAddr, local: Option<IpAddr>) {
        if self.by_peer.get(&peer).is_none_or(|(learned, _)| *learned != remote) {
            self.moved.push(remote);
        }
        match local {
            Some(local) => drop(self.by_peer.insert(peer, (remote, local))),
            None => self.forget(peer),
        }
    }

    /// The address to send from to `peer` at `remote`; `None` leaves it to the routing table.
    pub(super) fn get(&self, peer: PeerId, remote: SocketAddr) -> Option<IpAddr> {
        self.by_peer.get(&peer).filter(|(learned, _)| *learned == remote).map(|(_, local)| *local)
    }

    /// Where messages came from that were not learned there before, since the last time.
    pub(super) fn take_moved(&mut self) -> impl Iterator<Item = SocketAddr> {
        self.moved.drain(..)
    }

    /// Leaves it to the routing table, for instance since the address is gone, or nothing comes back.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.by_peer.remove(&peer);
    }

    /// Forgets the peers that the device no longer knows.
    pub(super) fn retain(&mut self, known: impl Fn(PeerId) -> bool) {
        self.by_peer.retain(|peer, _| known(*peer));
    }

    /// How many peers there are.
    pub(super) fn len(&self) -> usize {
        self.by_peer.len()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.by_peer.clear();
    }
}
