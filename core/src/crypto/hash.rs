//! BLAKE2s (RFC 7693), keyed BLAKE2s as a MAC, HMAC-BLAKE2s and the HKDF that Noise builds on it.

use zeroize::Zeroize;

/// Length of a BLAKE2s-256 hash in bytes.
pub const HASH_LEN: usize = 32;
/// Length of a keyed BLAKE2s-128 MAC in bytes.
pub const MAC_LEN: usize = 16;
/// Block length of BLAKE2s in bytes, which HMAC pads its key to.
const BLOCK_LEN: usize = 64;

/// BLAKE2s-256 of the concatenation of `parts`.
pub fn hash(parts: &[&[u8]]) -> [u8; HASH_LEN] {
    blake2s(HASH_LEN, &[], &[], parts)
}

/// Keyed BLAKE2s with a 16-byte output, over the concatenation of `parts`. The key has at most 32 bytes.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    let mut digest = blake2s(MAC_LEN, key, &[], parts);
    let mut out = [0; MAC_LEN];
    out.iter_mut().zip(&digest).for_each(|(out, byte)| *out = *byte);
    digest.zeroize();
    out
}

/// A BLAKE2s of `len` bytes over `head` and `parts`, at the start of what is returned.
#[cfg(not(target_os = "none"))]
fn blake2s(len: usize, key: &[u8], head: &[u8], parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut state = blake2s_simd::Params::new().hash_length(len).key(key).to_state();
    for part in core::iter::once(&head).chain(parts) {
        state.update(part);
    }
    let mut out = [0; HASH_LEN];
    out.iter_mut().zip(state.finalize().as_bytes()).for_each(|(out, byte)| *out = *byte);
    out
}

/// A BLAKE2s of `len` bytes over `head` and `parts`, at the start of what is returned.
#[cfg(target_os = "none")]
fn blake2s(len: usize, key: &[u8], head: &[u8], parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut state = super::blake2s::Blake2s::new(len, key);
    for part in core::iter::once(&head).chain(parts) {
        state.update(part);
    }
    state.finish()
}

/// HMAC (RFC 2104) over BLAKE2s-256, over the concatenation of `parts`.
pub fn hmac(key: &[u8; HASH_LEN], parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut inner_pad = [0x36; BLOCK_LEN];
    let mut outer_pad = [0x5c; BLOCK_LEN];
    for ((inner, outer), byte) in inner_pad.iter_mut().zip(&mut outer_pad).zip(key) {
        *inner ^= byte;
        *outer ^= byte;
    }
    let mut inner = blake2s(HASH_LEN, &[], &inner_pad, parts);
    let out = hash(&[&outer_pad, &inner]);
    inner_pad.zeroize();
    outer_pad.zeroize();
    inner.zeroize();
    out
}

/// Noise's HKDF with `N` outputs (1 to 3): chained HMACs of the input under the chaining key (Noise section 4.3).
pub fn hkdf<const N: usize>(chaining_key: &[u8; HASH_LEN], input: &[u8]) -> [[u8; HASH_LEN]; N] {
    let mut extracted = hmac(chaining_key, &[input]);
    let mut outputs = [[0; HASH_LEN]; N];
    let mut previous: &[u8] = &[];
    for (output, index) in outputs.iter_mut().zip(1u8..) {
        *output = hmac(&extracted, &[previous, &[index]]);
        previous = output;
    }
    extracted.zeroize();
    outputs
}
