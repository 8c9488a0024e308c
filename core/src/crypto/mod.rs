//! The primitives, behind narrow seams.
//!
//! [`Aead`] and [`DiffieHellman`] are traits, so that a host may plug in a faster library and a chip its own
//! field code; [`Crypto`] bundles a pair of them. [`RustCrypto`] runs everywhere and is the default. BLAKE2s
//! ([`hash`]) is one implementation everywhere. [`noise`] is the Noise symmetric state, which the WireGuard
//! handshake and the control channel share, and [`xchacha`] the long-nonce AEAD of cookie replies, over any [`Aead`].

pub mod aead;
#[cfg(any(test, target_os = "none"))]
mod blake2s;
pub mod dh;
pub mod hash;
pub mod noise;
pub mod xchacha;

pub use aead::{Aead, OpenError, OpenPacket, SealPacket, TAG_LEN};
pub use dh::{DiffieHellman, LowOrderPoint, SharedSecret};

/// A choice of primitives for a whole node.
pub trait Crypto: 'static {
    /// ChaCha20-Poly1305.
    type Aead: Aead;
    /// X25519.
    type Dh: DiffieHellman;
}

/// The default primitives: `chacha20poly1305` and `x25519-dalek`.
#[derive(Clone, Copy, Debug)]
pub struct RustCrypto;

impl Crypto for RustCrypto {
    type Aead = aead::ChaCha20Poly1305;
    type Dh = dh::X25519;
}
