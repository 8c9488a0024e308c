//! Makes an erase all or nothing, and says in which format the region is.
//!
//! Power that fails during an erase leaves a page with any content: chips program a page to zeros first, then raise all
//! its bits more or less at once. `sequential-storage` tells a page's state by its first and last word, so that such a
//! page may pass for a full one, and be taken for newer than what was copied out of it. So before a page is erased, the
//! intent is written here, and afterwards that it was done; at the next start an erase that was begun is done again
//! before anybody reads the page.
//!
//! The journal has two pages and writes into one of them. Where that is full, the other is erased and begun with the
//! next number; the greater number counts. So the page that counts is never the one that is being erased.
//!
//! A slot has 16 bytes, or a word of the flash where that is longer:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | kind: 1 begin of a page, 2 the region is formatted, 3 a page is about to be erased, 4 that was done |
//! | 1 | format of the region, 1 |
//! | 2 | begin: 1 where the region is formatted; intent: number of the page |
//! | 4 | number of the journal page |
//! | 8 | checksum: the first bytes of BLAKE2s-256 over the above |
//!
//! A slot that power loss cut has a wrong checksum and counts for nothing: the erase that it was about had not begun, or is
//! over and is done once more. Knows nothing of what the other pages hold.

use embedded_storage_async::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use weft_core::crypto::hash;

/// Pages before those of the map: the provisioning page and the two of the journal.
pub(super) const RESERVED_PAGES: u32 = 3;
const FIRST_PAGE: u32 = 1;
/// The format of the region that this firmware writes.
pub(super) const FORMAT: u8 = 1;
/// The longest word of a flash in bytes, as `sequential-storage` has it.
pub(super) const MAX_WORD: usize = 32;
const SLOT: usize = 16;
/// A slot that does not read back as it was written is given up; so many times.
const ATTEMPTS: usize = 3;

/// Why an access failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum RegionError<E> {
    /// The driver's word.
    Driver(E),
    /// What was written does not read back.
    Unreliable,
    /// The region is only looked at.
    ReadOnly,
}

impl<E: NorFlashError> NorFlashError for RegionError<E> {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Driver(error) => error.kind(),
            Self::Unreliable | Self::ReadOnly => NorFlashErrorKind::Other,
        }
    }
}

/// A whole region of flash whose erases are all or nothing.
pub(super) struct Region<F> {
    flash: F,
    /// The journal page that counts: 0 or 1.
    page: u32,
    number: u32,
    /// Where the next slot begins in it, in bytes.
    next: u32,
    formatted: bool,
    /// Nobody writes outside the journal: before it is known whether there is anything of a node's at all.
    pub(super) read_only: bool,
    /// Pages of the map that were erased since this was last asked, by their number there.
    erased: u32,
}

/// What the journal said at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The region is formatted.
    Formatted,
    /// The journal is new: the region was never formatted, or was damaged where the journal is.
    Nothing,
    /// A later firmware wrote it.
    Later(u8),
}

#[repr(align(4))]
struct Aligned([u8; MAX_WORD]);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    kind: u8,
    format: u8,
    value: u16,
    number: u32,
}

impl Slot {
    const BEGIN: u8 = 1;
    const FORMATTED: u8 = 2;
    const INTENT: u8 = 3;
    const DONE: u8 = 4;

    fn encode(self) -> [u8; SLOT] {
        let mut out = [0; SLOT];
        let ([a, b], [n, o, p, q]) = (self.value.to_le_bytes(), self.number.to_le_bytes());
        let content = [self.kind, self.format, a, b, n, o, p, q];
        let sum = hash::hash(&[&content]);
        out.iter_mut().zip(content.iter().chain(&sum)).for_each(|(out, byte)| *out = *byte);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [kind, format, a, b, n, o, p, q, ..] = *bytes.first_chunk::<SLOT>()?;
        let slot = Self { kind, format, value: u16::from_le_bytes([a, b]), number: u32::from_le_bytes([n, o, p, q]) };
        (bytes.first_chunk() == Some(&slot.encode())).then_some(slot)
    }
}

impl<F: NorFlash> Region<F> {
    /// The unit in which all of the flash can be read and written, in bytes.
    const WORD: usize = if F::WRITE_SIZE > F::READ_SIZE { F::WRITE_SIZE } else { F::READ_SIZE };
    const SLOT_LEN: usize = SLOT.next_multiple_of(Self::WORD);
    const PAGE: u32 = F::ERASE_SIZE as u32;

    /// Whether the geometry of `flash` can be worked with: words of at most 32 bytes, and pages that hold some slots.
    pub(super) const fn is_possible() -> bool {
        Self::WORD <= MAX_WORD && F::ERASE_SIZE >= 16 * Self::SLOT_LEN && F::ERASE_SIZE.is_multiple_of(Self::SLOT_LEN)
    }

    /// Reads the journal, and does an erase again that was begun. `flash` [can be worked with](Self::is_possible).
    pub(super) async fn open(flash: F) -> Result<(Self, Found), RegionError<F::Error>> {
        let mut region = Self { flash, page: 0, number: 0, next: 0, formatted: false, read_only: false, erased: 0 };
        let mut best: Option<(u32, Slot)> = None;
        for page in 0..2 {
            let mut bytes = Aligned([0; MAX_WORD]);
            if let Some(slot) = region.read_slot(page, 0, &mut bytes).await? {
                if slot.format != FORMAT {
                    return Ok((region, Found::Later(slot.format)));
                }
                if slot.kind == Slot::BEGIN && best.is_none_or(|(_, other)| other.number < slot.number) {
                    best = Some((page, slot));
                }
            }
        }
        let Some((page, begin)) = best else {
            region.begin_page(0, 1).await?;
            return Ok((region, Found::Nothing));
        };
        (region.page, region.number, region.formatted) = (page, begin.number, begin.value == 1);
        if let Some(pending) = region.read_on().await? {
            region.erase_begun(u32::from(pending)).await?;
        }
        let found = if region.formatted { Found::Formatted } else { Found::Nothing };
        Ok((region, found))
    }

    /// Reads the slots of the page that counts; returns the page whose erase was begun and not ended.
    async fn read_on(&mut self) -> Result<Option<u16>, RegionError<F::Error>> {
        let mut pending = None;
        self.next = Self::SLOT_LEN as u32;
        for at in (Self::SLOT_LEN as u32..Self::PAGE).step_by(Self::SLOT_LEN) {
            let mut bytes = Aligned([0; MAX_WORD]);
            let slot = self.read_slot(self.page, at, &mut bytes).await?;
            if slot.is_none() && bytes.0.iter().take(Self::SLOT_LEN).all(|byte| *byte == 0xff) {
                continue;
            }
            self.next = at + Self::SLOT_LEN as u32;
            match slot.filter(|slot| slot.number == self.number) {
                Some(Slot { kind: Slot::INTENT, value, .. }) => pending = Some(value),
                Some(Slot { kind: Slot::DONE, .. }) => pending = None,
                Some(Slot { kind: Slot::FORMATTED, .. }) => self.formatted = true,
                _ => {}
            }
        }
        Ok(pending)
    }

    async fn read_slot(
        &mut self,
        page: u32,
        at: u32,
        bytes: &mut Aligned,
    ) -> Result<Option<Slot>, RegionError<F::Error>> {
        let bytes = bytes.0.get_mut(..Self::SLOT_LEN).unwrap_or_default();
        self.flash.read((FIRST_PAGE + page) * Self::PAGE + at, bytes).await.map_err(RegionError::Driver)?;
        Ok(Slot::decode(bytes))
    }

    /// Begins a journal page: from now on it counts.
    async fn begin_page(&mut self, page: u32, number: u32) -> Result<(), RegionError<F::Error>> {
        let from = (FIRST_PAGE + page) * Self::PAGE;
        self.flash.erase(from, from + Self::PAGE).await.map_err(RegionError::Driver)?;
        (self.page, self.number, self.next) = (page, number, 0);
        self.append(Slot::BEGIN, u16::from(self.formatted)).await
    }

    async fn append(&mut self, kind: u8, value: u16) -> Result<(), RegionError<F::Error>> {
        let slot = Slot { kind, format: FORMAT, value, number: self.number };
        for _ in 0..ATTEMPTS {
            let at = self.next;
            if at + Self::SLOT_LEN as u32 > Self::PAGE || (kind == Slot::BEGIN && at != 0) {
                break;
            }
            self.next += Self::SLOT_LEN as u32;
            let mut bytes = Aligned([0xff; MAX_WORD]);
            bytes.0.iter_mut().zip(slot.encode()).for_each(|(place, byte)| *place = byte);
            let content = bytes.0.get(..Self::SLOT_LEN).unwrap_or_default();
            let address = (FIRST_PAGE + self.page) * Self::PAGE + at;
            self.flash.write(address, content).await.map_err(RegionError::Driver)?;
            if self.read_slot(self.page, at, &mut bytes).await? == Some(slot) {
                return Ok(());
            }
        }
        Err(RegionError::Unreliable)
    }

    /// The region is formatted now.
    pub(super) async fn set_formatted(&mut self) -> Result<(), RegionError<F::Error>> {
        self.append(Slot::FORMATTED, 0).await?;
        self.formatted = true;
        Ok(())
    }

    async fn erase_page(&mut self, page: u32) -> Result<(), RegionError<F::Error>> {
        // Room for this intent, its end, and some slots that do not read back.
        if self.next + (2 * ATTEMPTS * Self::SLOT_LEN) as u32 > Self::PAGE {
            self.begin_page(1 - self.page, self.number.wrapping_add(1)).await?;
        }
        // The region has fewer pages than that.
        self.append(Slot::INTENT, page as u16).await?;
        self.erase_begun(page).await
    }

    async fn erase_begun(&mut self, page: u32) -> Result<(), RegionError<F::Error>> {
        let from = page.saturating_mul(Self::PAGE);
        self.flash.erase(from, from.saturating_add(Self::PAGE)).await.map_err(RegionError::Driver)?;
        if let Some(number) = page.checked_sub(RESERVED_PAGES) {
            self.erased |= 1u32.checked_shl(number).unwrap_or_default();
        }
        if self.next + Self::SLOT_LEN as u32 > Self::PAGE {
            // Power was lost again and again just here. A new journal page has nothing pending.
            return self.begin_page(1 - self.page, self.number.wrapping_add(1)).await;
        }
        self.append(Slot::DONE, 0).await
    }

    /// Pages of the map that were erased since this was last asked, a bit each.
    pub(super) const fn take_erased(&mut self) -> u32 {
        core::mem::replace(&mut self.erased, 0)
    }
}

impl<F: ErrorType> ErrorType for Region<F> {
    type Error = RegionError<F::Error>;
}

impl<F: NorFlash> ReadNorFlash for Region<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.flash.read(offset, bytes).await.map_err(RegionError::Driver)
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl<F: NorFlash> NorFlash for Region<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        if self.read_only {
            return Err(RegionError::ReadOnly);
        }
        for page in from / Self::PAGE..to / Self::PAGE {
            self.erase_page(page).await?;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        if self.read_only {
            return Err(RegionError::ReadOnly);
        }
        self.flash.write(offset, bytes).await.map_err(RegionError::Driver)
    }
}
