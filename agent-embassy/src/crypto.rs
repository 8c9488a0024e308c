//! The primitives that a chip's node uses.

/// Core's default primitives.
pub(crate) type ChipCrypto = weft_core::crypto::RustCrypto;
