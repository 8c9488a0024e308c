//! The proof that a node holds the secret of the node key that it registers.
//!
//! The channel proves the machine key. Without this proof a machine could register somebody else's node key and have
//! that node's peers cut off from it. The proof is a MAC under the Diffie-Hellman of node key and server key, over the
//! handshake hash, so it is worth nothing in another connection, for another machine or another node key.
//!
//! ```text
//! secret = X25519(node secret, server public key)          the server: X25519(server secret, node key)
//! key    = HKDF-BLAKE2s(chaining key = BLAKE2s("weft node key proof 1"), input = secret), first output
//! proof  = BLAKE2s-128 keyed with key, over handshake hash (32 bytes), machine key (32), node key (32)
//! ```

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::{
    crypto::{DiffieHellman, LowOrderPoint, SharedSecret, hash},
    keys::{MachineKey, NodeKey, NodeSecret, ServerKey, ServerSecret},
};

const LABEL: &[u8] = b"weft node key proof 1";

/// A proof of one node key in one connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeKeyProof([u8; hash::MAC_LEN]);

impl NodeKeyProof {
    /// A proof that was received.
    pub const fn from_bytes(bytes: [u8; hash::MAC_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of the proof.
    pub const fn as_bytes(&self) -> &[u8; hash::MAC_LEN] {
        &self.0
    }

    /// The node's side: proves that it holds `secret`, whose public key is `node`. One Diffie-Hellman.
    ///
    /// # Errors
    /// [`LowOrderPoint`] where the server's key is one.
    pub fn prove<D: DiffieHellman>(
        binding: &Binding,
        secret: &NodeSecret,
        node: &NodeKey,
        server: &ServerKey,
    ) -> Result<Self, LowOrderPoint> {
        Ok(binding.mac(&D::agree(secret.as_bytes(), server.as_bytes())?, node))
    }

    /// The server's side: whether this proves that the other side holds the secret of `node`. One Diffie-Hellman.
    pub fn verify<D: DiffieHellman>(&self, binding: &Binding, server: &ServerSecret, node: &NodeKey) -> bool {
        let Ok(shared) = D::agree(server.as_bytes(), node.as_bytes()) else { return false };
        binding.mac(&shared, node).0.ct_eq(&self.0).into()
    }
}

impl fmt::Debug for NodeKeyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKeyProof(..)")
    }
}

/// The connection that a proof is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The hash of the channel's handshake.
    pub handshake_hash: [u8; 32],
    /// The machine key that the channel proved.
    pub machine: MachineKey,
}

impl Binding {
    fn mac(&self, shared: &SharedSecret, node: &NodeKey) -> NodeKeyProof {
        let [mut key] = hash::hkdf::<1>(&hash::hash(&[LABEL]), shared.as_bytes());
        let proof = hash::mac(&key, &[&self.handshake_hash, self.machine.as_bytes(), node.as_bytes()]);
        key.zeroize();
        NodeKeyProof(proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::dh::X25519;

    #[test]
    fn a_proof_holds_for_its_connection_machine_and_node_key_alone() {
        let secret = NodeSecret::from_bytes([1; 32]);
        let other = NodeSecret::from_bytes([2; 32]).public::<X25519>();
        let server = ServerSecret::from_bytes([3; 32]);
        let node = secret.public::<X25519>();
        let binding = Binding { handshake_hash: [4; 32], machine: MachineKey::from_bytes([5; 32]) };
        let proof = NodeKeyProof::prove::<X25519>(&binding, &secret, &node, &server.public::<X25519>()).unwrap();

        assert!(proof.verify::<X25519>(&binding, &server, &node));
        assert!(!proof.verify::<X25519>(&binding, &server, &other));
        assert!(!proof.verify::<X25519>(&binding, &ServerSecret::from_bytes([6; 32]), &node));
        assert!(!proof.verify::<X25519>(&Binding { handshake_hash: [7; 32], ..binding }, &server, &node));
        let machine = MachineKey::from_bytes([8; 32]);
        assert!(!proof.verify::<X25519>(&Binding { machine, ..binding }, &server, &node));

        let claimed = NodeKeyProof::prove::<X25519>(&binding, &secret, &other, &server.public::<X25519>()).unwrap();
        assert!(!claimed.verify::<X25519>(&binding, &server, &other));
        assert!(!proof.verify::<X25519>(&binding, &server, &NodeKey::from_bytes([0; 32])));
    }
}
