//! The primitives that a chip's node uses.

/// Core's AEAD, and the X25519 that is faster on the chip.
pub(crate) type ChipCrypto = weft_x25519::ChipCrypto;
