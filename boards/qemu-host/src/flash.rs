//! A NOR flash chip in a file of the host, as strict as the strictest of the real boards.
//!
//! Words of 4 bytes, pages of 4 KiB; a word is written once after its page was erased. Each word, and each quarter
//! kilobyte of an erase, is a write to the file of its own: where QEMU is killed in the midst, the file holds a half-written
//! record or a half-erased page, as a chip does that lost power. `cut=` does the same at an exact operation.

use core::ffi::CStr;

use embedded_storage_async::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use semihosting::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
};

use crate::exit;

/// Bytes of a page.
const PAGE: u32 = 4096;
/// Bytes of a word.
const WORD: usize = 4;
/// Bytes that an erase clears at a time.
const ERASE_STEP: usize = 256;

/// 64 KiB of flash in a file.
#[derive(Debug)]
pub struct HostFlash {
    file: File,
    /// Operations until the power fails.
    cut: Option<u32>,
}

/// Why the flash refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, defmt::Format)]
pub enum FlashError {
    /// The offset or the length is not a multiple of a word or page.
    NotAligned,
    /// The range leaves the region.
    OutOfBounds,
    /// The word was written since the last erase of its page.
    NotErased,
    /// The host could not read or write the file.
    Host,
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::NotAligned => NorFlashErrorKind::NotAligned,
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            Self::NotErased | Self::Host => NorFlashErrorKind::Other,
        }
    }
}

impl HostFlash {
    /// Bytes of the region.
    pub const SIZE: u32 = 64 * 1024;

    /// Opens the file at `path`, or makes one that is all erased. The power fails in the midst of the `cut`-th operation.
    ///
    /// # Errors
    /// [`FlashError::Host`] where the file cannot be opened for writing, or is longer than the region.
    pub fn open(path: &str, cut: Option<u32>) -> Result<Self, FlashError> {
        let mut terminated = [0; 257];
        terminated.get_mut(..path.len()).ok_or(FlashError::Host)?.copy_from_slice(path.as_bytes());
        let path = CStr::from_bytes_until_nul(&terminated).map_err(|_| FlashError::Host)?;
        let opened = File::options().read(true).write(true).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(_) => File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(host)?,
        };
        let length = file.metadata().map_err(host)?.len();
        let missing = u64::from(Self::SIZE).checked_sub(length).ok_or(FlashError::Host)?;
        let mut flash = Self { file, cut: None };
        flash.erase_steps(Self::SIZE - missing as u32, Self::SIZE)?;
        Ok(Self { cut, ..flash })
    }

    fn put(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.file.seek(SeekFrom::Start(offset.into())).map_err(host)?;
        if let Some(left) = &mut self.cut {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default()).map_err(host)?;
                exit(exit::CUT);
            }
        }
        self.file.write_all(bytes).map_err(host)
    }

    fn get(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.file.seek(SeekFrom::Start(offset.into())).map_err(host)?;
        self.file.read_exact(bytes).map_err(host)
    }

    fn erase_steps(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        for offset in (from..to).step_by(ERASE_STEP) {
            let length = (to - offset).min(ERASE_STEP as u32) as usize;
            self.put(offset, [0xff; ERASE_STEP].get(..length).unwrap_or_default())?;
        }
        Ok(())
    }
}

fn host<E>(_: E) -> FlashError {
    FlashError::Host
}

fn check(offset: u32, length: usize, unit: u32) -> Result<(), FlashError> {
    let length = u32::try_from(length).map_err(|_| FlashError::OutOfBounds)?;
    let end = offset.checked_add(length).ok_or(FlashError::OutOfBounds)?;
    match () {
        () if end > HostFlash::SIZE => Err(FlashError::OutOfBounds),
        () if !offset.is_multiple_of(unit) || !length.is_multiple_of(unit) => Err(FlashError::NotAligned),
        () => Ok(()),
    }
}

impl ErrorType for HostFlash {
    type Error = FlashError;
}

impl ReadNorFlash for HostFlash {
    const READ_SIZE: usize = WORD;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        check(offset, bytes.len(), WORD as u32)?;
        self.get(offset, bytes)
    }

    fn capacity(&self) -> usize {
        Self::SIZE as usize
    }
}

impl NorFlash for HostFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE as usize;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let length = to.checked_sub(from).ok_or(FlashError::OutOfBounds)?;
        check(from, length as usize, PAGE)?;
        self.erase_steps(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        check(offset, bytes.len(), WORD as u32)?;
        for (offset, word) in (offset..).step_by(WORD).zip(bytes.chunks(WORD)) {
            let mut old = [0; WORD];
            self.get(offset, &mut old)?;
            if old != [0xff; WORD] {
                defmt::error!("flash: the word at {=u32:#x} was written before", offset);
                return Err(FlashError::NotErased);
            }
            self.put(offset, word)?;
        }
        Ok(())
    }
}
