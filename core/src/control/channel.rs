//! The sealed channel after the handshake: each direction has a key and a counter that grows by one a frame.
//!
//! The counter is not sent. A frame that was altered, left out, sent twice or moved does not open, and that ends
//! the connection.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{MAX_RECORD, frame, record::TooLarge};
use crate::crypto::{Aead, OpenError, TAG_LEN};

/// One direction of a channel: its key and the counter of the next frame.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Direction {
    key: [u8; 32],
    counter: u64,
}

impl fmt::Debug for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Direction({} frames)", self.counter)
    }
}

impl Direction {
    /// A direction before its first frame.
    pub const fn new(key: [u8; 32]) -> Self {
        Self { key, counter: 0 }
    }

    /// Makes a frame in `out`: `write` writes the record into the slice that it gets, at most [`MAX_RECORD`] bytes, and
    /// returns its length. Returns the length of the frame.
    ///
    /// # Errors
    /// [`TooLarge`] where `write` fails or `out` has no room; no counter is used up and what is in `out` means nothing.
    pub fn seal<A: Aead>(
        &mut self,
        out: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> Result<usize, TooLarge>,
    ) -> Result<usize, TooLarge> {
        let (length, content) = out.split_first_chunk_mut::<{ frame::LENGTH_LEN }>().ok_or(TooLarge)?;
        let room = content.len().checked_sub(TAG_LEN).ok_or(TooLarge)?.min(MAX_RECORD);
        let len = match write(content.get_mut(..room).ok_or(TooLarge)?) {
            Ok(len) if len > 0 && len <= room => len,
            _ => {
                content.zeroize();
                return Err(TooLarge);
            }
        };
        let (text, rest) = content.split_at_mut(len);
        let tag = rest.first_chunk_mut::<TAG_LEN>().ok_or(TooLarge)?;
        *tag = A::seal(&self.key, self.counter, &[], text);
        *length = frame::length(len + TAG_LEN);
        // 2^64 frames are never sent.
        self.counter = self.counter.saturating_add(1);
        Ok(frame::LENGTH_LEN + len + TAG_LEN)
    }

    /// Opens the content of the next frame in place and returns the record in it.
    ///
    /// # Errors
    /// [`OpenError`] where it is not the next frame of the other side; the connection must then end.
    pub fn open<'a, A: Aead>(&mut self, content: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let (text, tag) = content.split_last_chunk_mut::<TAG_LEN>().ok_or(OpenError)?;
        A::open(&self.key, self.counter, &[], text, tag)?;
        self.counter = self.counter.saturating_add(1);
        Ok(text)
    }
}

/// Why a record was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SendError {
    /// The connection is not open, `Register` was sent already, or something else before the server registered this
    /// node.
    NotNow,
    /// The record does not fit.
    TooLarge,
}

impl From<TooLarge> for SendError {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNow => f.write_str("this record cannot be sent in this state of the connection"),
            Self::TooLarge => fmt::Display::fmt(&TooLarge, f),
        }
    }
}

impl core::error::Error for SendError {}
