//! The seed as it is kept.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// What the randomness of the next start begins with.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Seed {
    /// Starts so far. It only grows, so that of two seeds it tells the newer.
    pub(crate) boots: u32,
    pub(crate) bytes: [u8; 32],
}

impl Seed {
    pub(super) fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let (boots, bytes) = out.get_mut(..36)?.split_first_chunk_mut()?;
        *boots = self.boots.to_le_bytes();
        bytes.copy_from_slice(&self.bytes);
        Some(36)
    }

    pub(super) fn decode(content: &[u8]) -> Option<Self> {
        let (boots, bytes) = content.split_first_chunk()?;
        Some(Self { boots: u32::from_le_bytes(*boots), bytes: bytes.try_into().ok()? })
    }
}
