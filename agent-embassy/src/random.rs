//! Randomness of a chip: what the board gives.

/// What a board has to make a node's randomness from.
pub trait Entropy {
    /// What no other chip has: the serial number of the flash or of the chip. Not a secret.
    fn unique_id(&mut self) -> [u8; 16];

    /// Fills `noise` from whatever noise the board has, and returns how many bits of it the board vouches for. Zero
    /// where it has no source that it trusts; the bytes are mixed in all the same.
    fn sample(&mut self, noise: &mut [u8; 32]) -> impl Future<Output = u32>;
}
