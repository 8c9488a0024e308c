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
    let mut state = blake2s_simd::State::new();
    for part in parts {
        state.update(part);
    }
    *state.finalize().as_array()
}

/// Keyed BLAKE2s with a 16-byte output, over the concatenation of `parts`. The key has at most 32 bytes.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    let mut state = blake2s_simd::Params::new().hash_length(MAC_LEN).key(key).to_state();
    for part in parts {
        state.update(part);
    }
    let digest = state.finalize();
    let mut out = [0; MAC_LEN];
    out.iter_mut().zip(digest.as_bytes()).for_each(|(out, byte)| *out = *byte);
    out
}

/// HMAC (RFC 2104) over BLAKE2s-256, over the concatenation of `parts`.
pub fn hmac(key: &[u8; HASH_LEN], parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut inner_pad = [0x36; BLOCK_LEN];
    let mut outer_pad = [0x5c; BLOCK_LEN];
    for ((inner, outer), byte) in inner_pad.iter_mut().zip(&mut outer_pad).zip(key) {
        *inner ^= byte;
        *outer ^= byte;
    }
    let mut state = blake2s_simd::State::new();
    state.update(&inner_pad);
    for part in parts {
        state.update(part);
    }
    let mut inner = *state.finalize().as_array();
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
