//! The last 64 KiB of the flash chip, as a NOR flash of their own.
//!
//! Offset 0 is the first byte of the region. The program cannot grow into it: `memory.x` of each board ends the program's
//! flash [`LENGTH`] bytes early. The region knows nothing of what is stored in it.
//!
//! The chip runs its program from the same flash, so an erase (about 45 ms a page of 4 KiB by the data sheet of the usual
//! W25Q16) and a write stop the core and hold back its interrupts until they are done.

use embassy_rp::{
    Peri,
    flash::{Blocking, ERASE_SIZE, Error, Flash},
    peripherals::FLASH,
};
use embedded_storage_async::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};

/// The size of the flash chip of a Raspberry Pi Pico and Pico W, in bytes.
pub const FLASH_SIZE: usize = 2 * 1024 * 1024;

/// The size of the region, in bytes.
pub const LENGTH: usize = 64 * 1024;

/// Where the region begins, in bytes from the start of the flash chip.
pub const START: usize = FLASH_SIZE - LENGTH;

/// The last 64 KiB of the flash chip.
pub struct Region {
    flash: Flash<'static, FLASH, Blocking, FLASH_SIZE>,
}

impl Region {
    /// Takes the flash chip.
    pub fn new(flash: Peri<'static, FLASH>) -> Self {
        Self { flash: Flash::new_blocking(flash) }
    }

    /// The number that the maker gave to this flash chip, of 8 or 16 bytes by make. Chips without one give equal bytes.
    ///
    /// # Errors
    /// Where it is called on the second core.
    pub fn unique_id(&mut self) -> Result<[u8; 16], Error> {
        let mut id = [0; 16];
        self.flash.blocking_unique_id(&mut id)?;
        Ok(id)
    }
}

impl core::fmt::Debug for Region {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Region")
    }
}

/// Where `length` bytes at `offset` of the region lie in the chip.
fn place(offset: u32, length: usize) -> Result<u32, Error> {
    let end = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(length)).ok_or(Error::OutOfBounds)?;
    if end > LENGTH { Err(Error::OutOfBounds) } else { Ok(START as u32 + offset) }
}

impl ErrorType for Region {
    type Error = Error;
}

impl ReadNorFlash for Region {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        self.flash.blocking_read(place(offset, bytes.len())?, bytes)
    }

    fn capacity(&self) -> usize {
        LENGTH
    }
}

impl NorFlash for Region {
    /// The chip writes single bytes; words of four give every board the same layout of the kept state.
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Error> {
        let length = to.checked_sub(from).ok_or(Error::OutOfBounds)?;
        let start = place(from, length as usize)?;
        self.flash.blocking_erase(start, start + length)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        if !offset.is_multiple_of(Self::WRITE_SIZE as u32) || !bytes.len().is_multiple_of(Self::WRITE_SIZE) {
            return Err(Error::Unaligned);
        }
        self.flash.blocking_write(place(offset, bytes.len())?, bytes)
    }
}

impl MultiwriteNorFlash for Region {}
