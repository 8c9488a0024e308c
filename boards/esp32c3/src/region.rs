//! The partition named `weft`, as a NOR flash of its own.
//!
//! Offset 0 is its first byte. The region knows nothing of what is stored in it. The chip runs its program from the same
//! flash: an erase or a write stops it until it is done.

use defmt::error;
use embassy_time::{Duration, Timer};
use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use esp_bootloader_esp_idf::partitions::{self, PARTITION_TABLE_MAX_LEN};
use esp_storage::FlashStorage;

/// The name in `partitions.csv`.
const NAME: &str = "weft";

/// The region.
pub(crate) struct Region {
    flash: FlashStorage<'static>,
    start: u32,
    length: u32,
}

/// Why there is no region.
#[derive(Debug, Clone, Copy, defmt::Format)]
pub(crate) enum NoRegion {
    /// The partition table cannot be read.
    Table,
    /// The table has no partition of that name.
    Missing,
}

impl Region {
    /// Looks the partition up. A call of its own, since the table takes 3 KiB of stack.
    #[inline(never)]
    pub(crate) fn find(mut flash: FlashStorage<'static>) -> Result<Self, NoRegion> {
        let mut buffer = [0; PARTITION_TABLE_MAX_LEN];
        let table = partitions::read_partition_table(&mut flash, &mut buffer).map_err(|_| NoRegion::Table)?;
        let entry = table.iter().find(|entry| entry.label_as_str() == NAME).ok_or(NoRegion::Missing)?;
        let (start, length) = (entry.offset(), entry.len());
        Ok(Self { flash, start, length })
    }

    /// Where `length` bytes at `offset` of the region lie in the chip.
    fn place(&self, offset: u32, length: usize) -> Result<u32, Error> {
        let end = u32::try_from(length).ok().and_then(|length| offset.checked_add(length)).ok_or(Error::OutOfBounds)?;
        if end > self.length { Err(Error::OutOfBounds) } else { Ok(self.start + offset) }
    }
}

/// Says so again and again: whoever attaches a monitor later wants to know, too.
pub(crate) async fn unusable(reason: NoRegion) -> ! {
    loop {
        error!("there is no partition for the node's state ({}): flash with --partition-table partitions.csv", reason);
        Timer::after(Duration::from_secs(10)).await;
    }
}

/// Why an access failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, defmt::Format)]
pub(crate) enum Error {
    /// It is not inside the region.
    OutOfBounds,
    /// It is not in whole words, or whole pages.
    Unaligned,
    /// The chip refused it.
    Chip,
}

impl NorFlashError for Error {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            Self::Unaligned => NorFlashErrorKind::NotAligned,
            Self::Chip => NorFlashErrorKind::Other,
        }
    }
}

impl From<esp_storage::FlashStorageError> for Error {
    fn from(error: esp_storage::FlashStorageError) -> Self {
        match error {
            esp_storage::FlashStorageError::NotAligned => Self::Unaligned,
            esp_storage::FlashStorageError::OutOfBounds => Self::OutOfBounds,
            _ => Self::Chip,
        }
    }
}

impl ErrorType for Region {
    type Error = Error;
}

impl ReadNorFlash for Region {
    const READ_SIZE: usize = FlashStorage::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        let place = self.place(offset, bytes.len())?;
        Ok(self.flash.read_nor(place, bytes)?)
    }

    fn capacity(&self) -> usize {
        self.length as usize
    }
}

impl NorFlash for Region {
    const WRITE_SIZE: usize = FlashStorage::WRITE_SIZE;
    const ERASE_SIZE: usize = FlashStorage::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Error> {
        let length = to.checked_sub(from).ok_or(Error::OutOfBounds)?;
        let start = self.place(from, length as usize)?;
        Ok(self.flash.erase(start, start + length)?)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        let place = self.place(offset, bytes.len())?;
        Ok(self.flash.write_nor(place, bytes)?)
    }
}

impl MultiwriteNorFlash for Region {}
