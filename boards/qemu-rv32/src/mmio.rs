//! The registers of the machine's interrupt controllers and of a virtio device's interrupt.

#![allow(unsafe_code)]

/// The registers of one device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    base: usize,
    len: usize,
}

/// The timer and its comparator.
pub(crate) const CLINT: Block = Block { base: 0x0200_0000, len: 0x1_0000 };
/// The interrupt controller of the devices.
pub(crate) const PLIC: Block = Block { base: 0x0c00_0000, len: 0x40_0000 };
/// Slots that a virtio device may be in.
pub(crate) const VIRTIO_SLOTS: usize = 8;

/// The slot of a virtio device, below [`VIRTIO_SLOTS`].
pub(crate) const fn virtio(slot: usize) -> Block {
    assert!(slot < VIRTIO_SLOTS);
    Block { base: 0x1000_1000 + slot * 0x1000, len: 0x1000 }
}

impl Block {
    /// Where the block begins.
    pub(crate) const fn address(self) -> usize {
        self.base
    }

    /// Bytes of the block.
    pub(crate) const fn len(self) -> usize {
        self.len
    }

    /// Reads the register at `offset`.
    #[inline]
    pub(crate) fn read(self, offset: usize) -> u32 {
        assert!(offset < self.len && offset.is_multiple_of(4));
        // SAFETY: only this file makes blocks, of device memory that the machine always has; the offset is inside and aligned. Reads
        // of these registers touch no memory of Rust's.
        unsafe { ((self.base + offset) as *const u32).read_volatile() }
    }

    /// Writes the register at `offset`. Of a virtio slot only the interrupt's registers are to be written; its queues
    /// belong to the driver.
    #[inline]
    pub(crate) fn write(self, offset: usize, value: u32) {
        assert!(offset < self.len && offset.is_multiple_of(4));
        // SAFETY: as in `read`; timers and interrupt controllers neither read nor write memory by themselves.
        unsafe { ((self.base + offset) as *mut u32).write_volatile(value) }
    }
}
