//! X25519 (RFC 7748).

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The result of a Diffie-Hellman, wiped on drop. Never used as a key without a KDF.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret([u8; 32]);

impl SharedSecret {
    /// A shared secret computed by an implementation of [`DiffieHellman`].
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the shared secret.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// An X25519 implementation. Constant time in the secret.
pub trait DiffieHellman: 'static {
    /// The public key of `secret`; clamps.
    fn public_key(secret: &[u8; 32]) -> [u8; 32];

    /// The shared secret of `secret` and `public`; clamps.
    ///
    /// # Errors
    /// [`LowOrderPoint`] where the result is all zero, so that no session is ever built on it.
    fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<SharedSecret, LowOrderPoint>;
}

/// The other side's public key lies in a small subgroup, so the shared secret would be known to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LowOrderPoint;

impl fmt::Display for LowOrderPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the public key is a low-order point")
    }
}

impl core::error::Error for LowOrderPoint {}

/// dalek's X25519.
#[derive(Clone, Copy, Debug)]
pub struct X25519;

impl DiffieHellman for X25519 {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that wraps the raw function")]
    fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that wraps the raw function")]
    fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<SharedSecret, LowOrderPoint> {
        use subtle::ConstantTimeEq;

        let shared = SharedSecret(x25519_dalek::x25519(*secret, *public));
        if shared.0.ct_eq(&[0; 32]).into() { Err(LowOrderPoint) } else { Ok(shared) }
    }
}
