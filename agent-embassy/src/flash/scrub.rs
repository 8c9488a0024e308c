//! Gets what was secret out of the flash for good.
//!
//! The map only appends: the join secret stays in its pages, after the server took it, until they are erased. So the
//! pages are used up with filler, one turn of all, until each that could hold the secret was erased. Which pages are still to
//! come is kept, so that a start after a power loss goes on from there.

use embedded_storage_async::nor_flash::NorFlash;

use super::{
    item::Key,
    store::{FlashError, Store},
};

/// A scrub is owed; which pages it is about is found out when it begins. As a set of pages it would have every page in
/// use, which never is.
const NOT_BEGUN: u32 = u32::MAX;
/// Bytes of filler a step.
const FILLER: usize = 1_000;

/// What is still to be erased.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    /// Pages of the map, a bit each.
    owed: u32,
}

impl<F: NorFlash> Store<F> {
    /// Whether flash still holds copies of a join secret that are to go.
    pub const fn owes_scrub(&self) -> bool {
        self.scrub.owed != 0
    }

    /// Does a step towards a flash without the join secret: writes about 1 KB and erases one page at most. Called after
    /// the server registered the node and at each start, again and again while it returns true. Does nothing while
    /// the join secret is still needed.
    ///
    /// # Errors
    /// [`FlashError`]; it may be called again.
    pub async fn scrub(&mut self) -> Result<bool, FlashError> {
        if self.scrub.owed == 0 || self.needs_join_secret().await? {
            return Ok(false);
        }
        if self.scrub.owed == NOT_BEGUN {
            self.map.flash().take_erased();
            let owed = self.used_pages().await?;
            self.keep_owed(owed).await?;
        }
        let zeros = |out: &mut [u8]| {
            out.get_mut(..FILLER)?.fill(0);
            Some(FILLER)
        };
        self.write(Key::FILLER, &zeros).await?;
        let owed = self.scrub.owed & !self.map.flash().take_erased();
        if owed == 0 {
            self.forget(Key::FILLER).await?;
        }
        if owed != self.scrub.owed {
            self.keep_owed(owed).await?;
        }
        Ok(owed != 0)
    }

    /// Called before a join secret is written.
    pub(super) async fn owe_scrub(&mut self) -> Result<(), FlashError> {
        if self.scrub.owed == NOT_BEGUN { Ok(()) } else { self.keep_owed(NOT_BEGUN).await }
    }

    pub(super) async fn resume_scrub(&mut self) -> Result<(), FlashError> {
        let read = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        self.scrub.owed = self.read(Key::SCRUB, read).await?;
        Ok(())
    }

    async fn keep_owed(&mut self, owed: u32) -> Result<(), FlashError> {
        let bytes = owed.to_le_bytes();
        self.put_bytes(Key::SCRUB, if owed == 0 { &[] } else { &bytes }).await?;
        self.scrub.owed = owed;
        Ok(())
    }

    async fn needs_join_secret(&mut self) -> Result<bool, FlashError> {
        let waits = self.join_key().await?.is_some();
        Ok(waits || self.identity().await?.is_some_and(|identity| identity.join_secret.is_some()))
    }

    /// Pages of the map that anything was written to since they were erased, a bit each.
    async fn used_pages(&mut self) -> Result<u32, FlashError> {
        let word = F::WRITE_SIZE.max(F::READ_SIZE);
        let mut used = 0;
        for (number, page) in self.map.flash_range().step_by(F::ERASE_SIZE).enumerate() {
            if !self.is_blank(page, word).await? {
                used |= 1 << number;
            }
        }
        Ok(used)
    }
}
