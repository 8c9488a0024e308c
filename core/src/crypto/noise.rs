//! The Noise symmetric state (Noise Protocol Framework, revision 34, section 5.2) over BLAKE2s and
//! ChaCha20-Poly1305, which the WireGuard handshake and the control channel are both built from.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Aead, OpenError, TAG_LEN, hash};

/// Chaining key, handshake hash and the key of the next handshake message.
///
/// A handshake computes on a copy and keeps it only when the message proved authentic.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SymmetricState {
    chaining_key: [u8; 32],
    hash: [u8; 32],
    key: [u8; 32],
    counter: u64,
}

/// A [`SymmetricState`] between two messages, before the next `MixKey`: it has no key that is used any more.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeylessState {
    chaining_key: [u8; 32],
    hash: [u8; 32],
}

impl core::fmt::Debug for KeylessState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeylessState(..)")
    }
}

impl core::fmt::Debug for SymmetricState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SymmetricState(..)")
    }
}

impl SymmetricState {
    /// `InitializeSymmetric(protocol_name)`. A name of up to 32 bytes is padded with zeros, a longer one hashed.
    pub fn new(protocol_name: &[u8]) -> Self {
        let mut initial = [0; 32];
        if protocol_name.len() <= initial.len() {
            initial.iter_mut().zip(protocol_name).for_each(|(out, byte)| *out = *byte);
        } else {
            initial = hash::hash(&[protocol_name]);
        }
        Self { chaining_key: initial, hash: initial, key: [0; 32], counter: 0 }
    }

    /// What is left of this state when its key is not used any more.
    pub const fn keyless(&self) -> KeylessState {
        KeylessState { chaining_key: self.chaining_key, hash: self.hash }
    }

    /// The state as it was, but for its key.
    pub const fn from_keyless(state: &KeylessState) -> Self {
        Self { chaining_key: state.chaining_key, hash: state.hash, key: [0; 32], counter: 0 }
    }

    /// `MixHash(data)`.
    pub fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash::hash(&[&self.hash, data]);
    }

    /// `MixKey(input)`.
    pub fn mix_key(&mut self, input: &[u8]) {
        let [mut chaining_key, mut key] = hash::hkdf::<2>(&self.chaining_key, input);
        self.chaining_key = chaining_key;
        self.key = key;
        self.counter = 0;
        chaining_key.zeroize();
        key.zeroize();
    }

    /// `MixKey` where no message is encrypted before the next one: mixes into the chaining key alone.
    pub fn mix_chaining_key(&mut self, input: &[u8]) {
        let [mut chaining_key] = hash::hkdf::<1>(&self.chaining_key, input);
        self.chaining_key = chaining_key;
        chaining_key.zeroize();
    }

    /// `MixKeyAndHash(input)`, for a preshared key.
    pub fn mix_key_and_hash(&mut self, input: &[u8]) {
        let [mut chaining_key, temp, mut key] = hash::hkdf::<3>(&self.chaining_key, input);
        self.chaining_key = chaining_key;
        self.mix_hash(&temp);
        self.key = key;
        self.counter = 0;
        chaining_key.zeroize();
        key.zeroize();
    }

    /// `EncryptAndHash`: seals `text` in place, returns the tag, and mixes both into the hash.
    pub fn encrypt_and_hash<A: Aead>(&mut self, text: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = A::seal(&self.key, self.counter, &self.hash, text);
        self.counter = self.counter.saturating_add(1);
        self.hash = hash::hash(&[&self.hash, text, &tag]);
        tag
    }

    /// `DecryptAndHash`: opens `text` in place and mixes ciphertext and tag into the hash.
    ///
    /// # Errors
    /// [`OpenError`] where the tag is wrong; the state must then be thrown away.
    pub fn decrypt_and_hash<A: Aead>(&mut self, text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), OpenError> {
        let next = hash::hash(&[&self.hash, text, tag]);
        A::open(&self.key, self.counter, &self.hash, text, tag)?;
        self.counter = self.counter.saturating_add(1);
        self.hash = next;
        Ok(())
    }

    /// The handshake hash so far, for channel binding.
    pub const fn handshake_hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// `Split()`: the initiator's sending key and the responder's sending key.
    pub fn split(&self) -> TransportKeys {
        let [initiator, responder] = hash::hkdf::<2>(&self.chaining_key, &[]);
        TransportKeys { initiator, responder }
    }
}

/// The two keys that a handshake ends in, wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TransportKeys {
    /// The key that the initiator seals with.
    pub initiator: [u8; 32],
    /// The key that the responder seals with.
    pub responder: [u8; 32],
}

impl core::fmt::Debug for TransportKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TransportKeys(..)")
    }
}
