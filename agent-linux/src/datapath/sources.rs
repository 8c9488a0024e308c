//! Which address of this machine to answer each peer from: the one that it reached last. A host with several addresses
//! would otherwise answer from one that the peer's firewall has never heard of.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use weft_core::wireguard::PeerId;

/// The addresses, by peer. An entry counts only as long as the peer is where it was when it was learned.
#[derive(Debug, Default)]
pub(super) struct SourceAddresses(HashMap<PeerId, (SocketAddr, IpAddr)>);

impl SourceAddresses {
    /// Notes that an authentic message of `peer` came from `remote` to `local`.
    pub(super) fn learn(&mut self, peer: PeerId, remote: SocketAddr, local: Option<IpAddr>) {
        match local {
            Some(local) => drop(self.0.insert(peer, (remote, local))),
            None => self.forget(peer),
        }
    }

    /// The address to send from to `peer` at `remote`; `None` leaves it to the routing table.
    pub(super) fn get(&self, peer: PeerId, remote: SocketAddr) -> Option<IpAddr> {
        self.0.get(&peer).filter(|(learned, _)| *learned == remote).map(|(_, local)| *local)
    }

    /// Leaves it to the routing table, for instance since the address is gone, or nothing comes back.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }

    /// Forgets the peers that the device no longer knows.
    pub(super) fn retain(&mut self, known: impl Fn(PeerId) -> bool) {
        self.0.retain(|peer, _| known(*peer));
    }

    /// How many peers there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
