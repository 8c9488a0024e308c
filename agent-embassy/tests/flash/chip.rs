//! A flash chip with the rules of NOR flash, whose power can be cut in the middle of any access.

use std::{cell::RefCell, rc::Rc};

use embedded_storage_async::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

/// Bytes of an erase page.
pub(crate) const PAGE: usize = 4_096;
/// The page of the provisioning, the two of the journal, and six of the map.
pub(crate) const PAGES: usize = 9;

/// What an access that the power was cut in leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tear {
    /// Nothing was done.
    Before,
    /// So many 256ths of the bytes are done, and one word behind them half.
    Prefix(usize),
    /// Each bit that had to change changed or did not.
    Scattered,
    /// Of an erase: all bits are zero, as chips begin it.
    Zeroed,
    /// Of an erase: any content.
    Noise,
    /// Of an erase: any content but for the first and the last words, which are as before.
    EndsLeft,
    /// Of an erase: as before, but for the first and the last words, which are erased.
    EndsErased,
    /// It was done, and nothing after it.
    After,
}

impl Tear {
    pub(crate) const ALL: [Self; 10] = [
        Self::Before,
        Self::Prefix(64),
        Self::Prefix(128),
        Self::Prefix(250),
        Self::Scattered,
        Self::Zeroed,
        Self::Noise,
        Self::EndsLeft,
        Self::EndsErased,
        Self::After,
    ];

    fn is_of_an_erase(self) -> bool {
        matches!(self, Self::Zeroed | Self::Noise | Self::EndsLeft | Self::EndsErased)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Erased,
    /// A cut left it; what is programmed over it is anded.
    Torn,
    Written,
}

#[derive(Clone)]
struct Cells {
    bytes: Vec<u8>,
    words: Vec<Word>,
    /// Before which access the power is cut, counted from now, and how.
    cut: Option<(usize, Tear)>,
    dead: bool,
    accesses: usize,
    erases: Vec<u32>,
    noise: u64,
}

/// A chip of which `WRITE` bytes are programmed at least at a time and `READ` read. Clones are the same chip.
#[derive(Clone)]
pub(crate) struct Chip<const WRITE: usize, const READ: usize>(Rc<RefCell<Cells>>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct PowerIsCut;

impl NorFlashError for PowerIsCut {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl<const WRITE: usize, const READ: usize> Chip<WRITE, READ> {
    pub(crate) fn blank() -> Self {
        Self::of_pages(PAGES)
    }

    pub(crate) fn of_pages(pages: usize) -> Self {
        let len = PAGE * pages;
        Self(Rc::new(RefCell::new(Cells {
            bytes: vec![0xff; len],
            words: vec![Word::Erased; len / WRITE],
            cut: None,
            dead: false,
            accesses: 0,
            erases: vec![0; pages],
            noise: 0x9e37_79b9_7f4a_7c15,
        })))
    }

    /// Another chip with the same content.
    pub(crate) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// What a programmer of the factory does: any content, wherever.
    pub(crate) fn program(&self, offset: usize, content: &[u8]) {
        let mut cells = self.0.borrow_mut();
        cells.bytes[offset..offset + content.len()].copy_from_slice(content);
        let Cells { bytes, words, .. } = &mut *cells;
        for word in offset / WRITE..(offset + content.len()).div_ceil(WRITE) {
            let blank = bytes[word * WRITE..][..WRITE].iter().all(|byte| *byte == 0xff);
            words[word] = if blank { Word::Erased } else { Word::Written };
        }
    }

    pub(crate) fn flip(&self, offset: usize, mask: u8) {
        self.0.borrow_mut().bytes[offset] ^= mask;
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    /// Whether `wanted` is anywhere in the raw flash.
    pub(crate) fn contains(&self, wanted: &[u8]) -> bool {
        self.0.borrow().bytes.windows(wanted.len()).any(|bytes| bytes == wanted)
    }

    /// The power is cut in the access with this number from now, or comes back.
    pub(crate) fn cut_in(&self, cut: Option<(usize, Tear)>) {
        let mut cells = self.0.borrow_mut();
        (cells.cut, cells.dead) = (cut, false);
        // Else the same cut would tear alike everywhere.
        cells.noise = cells.noise.wrapping_add(cut.map_or(1, |(at, _)| at as u64));
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.borrow().dead
    }

    /// Writes and erases so far.
    pub(crate) fn accesses(&self) -> usize {
        self.0.borrow().accesses
    }

    /// Erases of each page so far.
    pub(crate) fn erases(&self) -> Vec<u32> {
        self.0.borrow().erases.clone()
    }
}

impl Cells {
    fn random(&mut self) -> u8 {
        self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.noise >> 56) as u8
    }

    /// What becomes of the access that begins now: done, or torn so.
    fn begin(&mut self, erase: bool) -> Result<Option<Tear>, PowerIsCut> {
        if self.dead {
            return Err(PowerIsCut);
        }
        self.accesses += 1;
        match &mut self.cut {
            Some((0, tear)) => {
                let tear = *tear;
                self.dead = true;
                let tear = if tear.is_of_an_erase() && !erase { Tear::Scattered } else { tear };
                Ok(Some(tear))
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

impl<const WRITE: usize, const READ: usize> ErrorType for Chip<WRITE, READ> {
    type Error = PowerIsCut;
}

impl<const WRITE: usize, const READ: usize> ReadNorFlash for Chip<WRITE, READ> {
    const READ_SIZE: usize = READ;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerIsCut> {
        let (cells, offset) = (self.0.borrow(), offset as usize);
        assert!(offset.is_multiple_of(READ) && bytes.len().is_multiple_of(READ), "read {offset}+{}", bytes.len());
        if cells.dead {
            return Err(PowerIsCut);
        }
        bytes.copy_from_slice(&cells.bytes[offset..offset + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.borrow().bytes.len()
    }
}

impl<const WRITE: usize, const READ: usize> NorFlash for Chip<WRITE, READ> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerIsCut> {
        let (from, to) = (from as usize, to as usize);
        assert!(from < to && from.is_multiple_of(PAGE) && to.is_multiple_of(PAGE), "erase {from}..{to}");
        let mut cells = self.0.borrow_mut();
        let tear = cells.begin(true)?;
        if tear == Some(Tear::Before) {
            return Err(PowerIsCut);
        }
        for page in from / PAGE..to / PAGE {
            cells.erases[page] += 1;
        }
        for at in from..to {
            let end = !(from + 32..to - 32).contains(&at);
            let old = cells.bytes[at];
            cells.bytes[at] = match tear {
                None | Some(Tear::After) => 0xff,
                Some(Tear::Prefix(part)) if (at - from) * 256 < part * (to - from) => 0xff,
                Some(Tear::Scattered) => old | cells.random(),
                Some(Tear::Zeroed) => 0,
                Some(Tear::Noise) => cells.random(),
                Some(Tear::EndsLeft) if !end => cells.random(),
                Some(Tear::EndsErased) if end => 0xff,
                _ => old,
            };
        }
        let state = if tear.is_none_or(|tear| tear == Tear::After) { Word::Erased } else { Word::Torn };
        cells.words[from / WRITE..to / WRITE].fill(state);
        if tear.is_some() { Err(PowerIsCut) } else { Ok(()) }
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerIsCut> {
        let offset = offset as usize;
        assert!(offset.is_multiple_of(WRITE) && bytes.len().is_multiple_of(WRITE), "write {offset}+{}", bytes.len());
        let mut cells = self.0.borrow_mut();
        let tear = cells.begin(false)?;
        if tear == Some(Tear::Before) {
            return Err(PowerIsCut);
        }
        let done = match tear {
            Some(Tear::Prefix(part)) => (bytes.len() * part / 256).next_multiple_of(WRITE).min(bytes.len()),
            _ => bytes.len(),
        };
        for (index, byte) in bytes.iter().enumerate() {
            let at = offset + index;
            let word = at / WRITE;
            assert!(cells.words[word] != Word::Written || !at.is_multiple_of(WRITE), "word at {at} was written before");
            let kept = match tear {
                Some(Tear::Scattered) => cells.random(),
                _ if index < done => 0,
                // The word behind the prefix.
                _ if index < done + WRITE => cells.random(),
                _ => 0xff,
            };
            cells.bytes[at] &= byte | kept;
            if at % WRITE == WRITE - 1 && kept != 0xff {
                cells.words[word] =
                    if tear.is_none_or(|tear| tear == Tear::After) || index < done && tear != Some(Tear::Scattered) {
                        Word::Written
                    } else {
                        Word::Torn
                    };
            }
        }
        if tear.is_some() { Err(PowerIsCut) } else { Ok(()) }
    }
}
