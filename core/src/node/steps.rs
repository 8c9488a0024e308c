//! What of a node takes a Diffie-Hellman, each as a step of its own, so that a chip can yield between them: the public
//! keys of its identity, the channel's handshake, the proof of its node key.
//!
//! A step is due from the moment that its inputs are there. Whoever has time never asks: the calls that need a result
//! compute what is missing.

use rand_core::CryptoRng;

use super::{Identity, Member, Node, NodeStorage, control_link::Link};
use crate::{
    control::{ClientConnection, ClientError, proof::NodeKeyProof},
    crypto::Crypto,
    keys::{MachineKey, NodeKey, NodeSecret},
    time::Instant,
};

/// The public keys of an identity, as far as they are computed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PublicKeys {
    pub(super) machine: Option<MachineKey>,
    pub(super) node: Option<NodeKey>,
    pub(super) next_node: Option<NodeKey>,
}

impl PublicKeys {
    /// Whether one of them is missing.
    fn lacks(&self, identity: &Identity) -> bool {
        self.machine.is_none() || self.node.is_none() || (self.next_node.is_none() && identity.next_node.is_some())
    }

    /// Computes one that is missing.
    fn compute<C: Crypto>(&mut self, identity: &Identity) {
        if self.machine.is_none() {
            self.machine = Some(identity.machine.public::<C::Dh>());
        } else if self.node.is_none() {
            self.node = Some(identity.node.public::<C::Dh>());
        } else if self.next_node.is_none() {
            self.next_node = identity.next_node.as_ref().map(NodeSecret::public::<C::Dh>);
        }
    }
}

/// A proof in the present connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    pub(super) node_key: NodeKey,
    pub(super) proof: NodeKeyProof,
}

impl<S: NodeStorage, C: Crypto> Node<S, C> {
    /// Whether [`step`](Self::step) has something to compute. It may after any call that takes the time, and after
    /// [`identity_kept`](Self::identity_kept).
    pub fn needs_step(&self) -> bool {
        self.member.lacks_keys()
            || self.link.connection.as_ref().is_some_and(ClientConnection::needs_step)
            || wanted_proof(&self.link, &self.member).is_some()
    }

    /// Computes one step, at most one Diffie-Hellman. A chip calls this until [`needs_step`](Self::needs_step) is false,
    /// before any other call; else [`handle_timeout`](Self::handle_timeout),
    /// [`control_connected`](Self::control_connected) and [`control_transmit`](Self::control_transmit) compute all
    /// that is due.
    pub fn step(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        if self.member.lacks_keys() {
            return self.member.compute_key(now);
        }
        if let Some(connection) = self.link.connection.as_mut().filter(|connection| connection.needs_step()) {
            if let Err(error) = connection.step::<C>() {
                self.connection_failed(error, now, rng);
            }
            return;
        }
        let Some((connection, secret, node_key)) = wanted_proof(&self.link, &self.member) else { return };
        match connection.prove_node_key::<C::Dh>(secret, &node_key) {
            Ok(proof) => self.link.proof = proof.map(|proof| Proof { node_key, proof }),
            Err(_) => self.connection_failed(ClientError::ServerNotAuthentic, now, rng),
        }
    }

    /// Computes all that is due.
    pub(super) fn finish_steps(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        while self.needs_step() {
            self.step(now, rng);
        }
    }
}

/// The key that has to be proven next over the present connection and is not yet, with its secret.
fn wanted_proof<'a, S: NodeStorage, C: Crypto>(
    link: &'a Link,
    member: &'a Member<S, C>,
) -> Option<(&'a ClientConnection, &'a NodeSecret, NodeKey)> {
    let connection = link.connection.as_ref()?;
    let (secret, key) = if connection.awaits_register() {
        member.key_to_register()?
    } else if connection.is_registered() && member.outbox.renew {
        member.key_to_renew()?
    } else {
        return None;
    };
    let proven = link.proof.is_some_and(|proof| proof.node_key == key);
    (!proven).then_some((connection, secret, key))
}

impl<S: NodeStorage, C: Crypto> Member<S, C> {
    fn lacks_keys(&self) -> bool {
        self.identity.as_ref().is_some_and(|identity| self.keys.lacks(identity))
    }

    fn compute_key(&mut self, now: Instant) {
        if let Some(identity) = &self.identity {
            self.keys.compute::<C>(identity);
        }
        self.put_key(now);
    }

    /// The key that this node registers: the next one where there is one, once its secret is kept.
    pub(super) fn key_to_register(&self) -> Option<(&NodeSecret, NodeKey)> {
        if self.unkept.identity {
            return None;
        }
        match self.key_to_renew() {
            Some(next) => Some(next),
            None => Some((&self.identity.as_ref()?.node, self.keys.node?)),
        }
    }

    /// The key that is to replace the one in use, once its secret is kept.
    pub(super) fn key_to_renew(&self) -> Option<(&NodeSecret, NodeKey)> {
        if self.unkept.next_node {
            return None;
        }
        Some((self.identity.as_ref()?.next_node.as_ref()?, self.keys.next_node?))
    }

    /// Gives the device the key that it is to use now, or none while that is not computed.
    pub(super) fn put_key(&mut self, now: Instant) {
        let usable = self.identity.as_ref().filter(|_| self.running && self.key_usable);
        match usable.zip(self.keys.node) {
            Some((identity, key)) => self.device.set_key_pair(&identity.node, &key, now),
            None => self.device.set_private_key::<C>(None, now),
        }
    }
}
