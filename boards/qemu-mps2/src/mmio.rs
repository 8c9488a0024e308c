//! The registers of the machine's devices, by block.

#![allow(unsafe_code)]

/// The registers of one device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    base: usize,
}

/// First of the two 32-bit timers.
pub(crate) const TIMER0: Block = Block { base: 0x4000_0000 };
/// Second of the two.
pub(crate) const TIMER1: Block = Block { base: 0x4000_1000 };
/// The Ethernet controller.
pub(crate) const ETHERNET: Block = Block { base: 0x4020_0000 };

/// Bytes of a block.
const LEN: usize = 0x1000;

impl Block {
    /// Reads the register at `offset`.
    #[inline]
    pub(crate) fn read(self, offset: usize) -> u32 {
        assert!(offset < LEN && offset.is_multiple_of(4));
        // SAFETY: only this file makes blocks, of page-sized device memory that the machine always has; the offset is inside and
        // aligned. Reads of these devices touch no memory of Rust's.
        unsafe { ((self.base + offset) as *const u32).read_volatile() }
    }

    /// Writes the register at `offset`.
    #[inline]
    pub(crate) fn write(self, offset: usize, value: u32) {
        assert!(offset < LEN && offset.is_multiple_of(4));
        // SAFETY: as in `read`; none of these devices reads or writes memory by itself.
        unsafe { ((self.base + offset) as *mut u32).write_volatile(value) }
    }
}
