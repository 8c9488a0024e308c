//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), whose nonce is long enough to be random.
//!
//! Built from HChaCha20 and whatever [`Aead`] the node has, so that it adds no second cipher to a chip's flash.

use zeroize::Zeroizing;

use super::{Aead, OpenError, TAG_LEN};

/// Length of the nonce in bytes.
pub const NONCE_LEN: usize = 24;

/// Encrypts `text` in place and returns the tag over it and `aad`.
pub fn seal<A: Aead>(key: &[u8; 32], nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
    let (subkey, counter) = derive(key, nonce);
    A::seal(&subkey, counter, aad, text)
}

/// Checks `tag` over `text` and `aad`, then decrypts `text` in place.
///
/// # Errors
/// [`OpenError`] where the tag is wrong; `text` must then not be used.
pub fn open<A: Aead>(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), OpenError> {
    let (subkey, counter) = derive(key, nonce);
    A::open(&subkey, counter, aad, text, tag)
}

/// The key and the counter to use with the ordinary cipher: its nonce is four zero bytes and the last eight of ours,
/// which is what [`nonce`](super::aead::nonce) makes of a little-endian counter.
fn derive(key: &[u8; 32], nonce: &[u8; NONCE_LEN]) -> (Zeroizing<[u8; 32]>, u64) {
    let mut input = [0; 16];
    let mut counter = [0; 8];
    input.iter_mut().chain(&mut counter).zip(nonce).for_each(|(out, byte)| *out = *byte);
    let subkey = chacha20::hchacha::<chacha20::R20>(key.into(), &input.into());
    (Zeroizing::new(subkey.into()), u64::from_le_bytes(counter))
}
