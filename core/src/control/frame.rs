//! Frames: how messages stand in a byte stream. A frame is a big-endian 16-bit length and so many bytes.

use core::fmt;

use zeroize::Zeroize;

use super::MAX_FRAME;

/// Length of the length field in bytes.
pub const LENGTH_LEN: usize = 2;
/// The largest content of a frame in bytes.
pub const MAX_CONTENT: usize = MAX_FRAME - LENGTH_LEN;

/// A frame announces more than [`MAX_CONTENT`] bytes, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BadLength;

impl fmt::Display for BadLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a frame has a length that is not allowed")
    }
}

impl core::error::Error for BadLength {}

/// The length field of a frame with so many bytes of content, at most [`MAX_CONTENT`].
pub const fn length(content: usize) -> [u8; LENGTH_LEN] {
    (content as u16).to_be_bytes()
}

/// Collects the bytes of one frame after the other, in a buffer of one frame. The buffer is wiped between frames,
/// since records hold secrets.
pub struct FrameReader {
    buffer: [u8; MAX_CONTENT],
    header: [u8; LENGTH_LEN],
    header_len: u8,
    received: u16,
    complete: bool,
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameReader({} of {} bytes)", self.received, self.announced())
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

impl FrameReader {
    /// A reader at the start of a frame.
    pub const fn new() -> Self {
        Self { buffer: [0; MAX_CONTENT], header: [0; LENGTH_LEN], header_len: 0, received: 0, complete: false }
    }

    /// Whether a frame has begun and is not complete.
    pub const fn is_partial(&self) -> bool {
        !self.complete && self.header_len > 0
    }

    /// Takes from `input` what the current frame lacks, and returns the frame's content once it is complete. The
    /// next call begins the next frame.
    ///
    /// # Errors
    /// [`BadLength`], before any of the frame's content is taken. The stream cannot be read any further then.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<&mut [u8]>, BadLength> {
        if self.complete {
            self.buffer.iter_mut().take(usize::from(self.received)).for_each(|byte| byte.zeroize());
            (self.header_len, self.received, self.complete) = (0, 0, false);
        }
        while usize::from(self.header_len) < LENGTH_LEN {
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            if let Some(slot) = self.header.get_mut(usize::from(self.header_len)) {
                *slot = byte;
            }
            self.header_len += 1;
        }
        let announced = self.announced();
        if announced == 0 || announced > MAX_CONTENT {
            return Err(BadLength);
        }
        let received = usize::from(self.received);
        let room = self.buffer.get_mut(received..announced).unwrap_or_default();
        let (taken, rest) = input.split_at(room.len().min(input.len()));
        room.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        *input = rest;
        // At most `MAX_CONTENT`, which fits.
        self.received += taken.len() as u16;
        if usize::from(self.received) < announced {
            return Ok(None);
        }
        self.complete = true;
        Ok(self.buffer.get_mut(..announced))
    }

    /// The first `len` bytes of the frame that [`read`](Self::read) returned last.
    pub fn content(&self, len: usize) -> &[u8] {
        self.buffer.get(..len).unwrap_or_default()
    }

    const fn announced(&self) -> usize {
        u16::from_be_bytes(self.header) as usize
    }
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_however_the_stream_is_cut() {
        let stream: std::vec::Vec<u8> = [&[0, 3, 1, 2, 3][..], &[0, 1, 9]].concat();
        for cut in 1..stream.len() {
            let mut reader = FrameReader::new();
            let mut frames = std::vec::Vec::new();
            for mut part in stream.chunks(cut) {
                while let Some(frame) = reader.read(&mut part).unwrap() {
                    frames.push(frame.to_vec());
                }
                assert!(part.is_empty());
            }
            assert_eq!(frames, [&[1, 2, 3][..], &[9]]);
            assert!(!reader.is_partial());
        }
    }

    #[test]
    fn an_empty_and_an_oversized_frame_are_refused_at_their_length() {
        assert_eq!(FrameReader::new().read(&mut &[0, 0][..]), Err(BadLength));
        assert_eq!(FrameReader::new().read(&mut &length(MAX_CONTENT + 1)[..]), Err(BadLength));
        assert_eq!(FrameReader::new().read(&mut &length(MAX_CONTENT)[..]), Ok(None));
    }

    #[test]
    fn a_frame_is_wiped_before_the_next_one_is_read() {
        let mut reader = FrameReader::new();
        assert!(reader.read(&mut &[0, 3, 7, 7, 7][..]).unwrap().is_some());
        assert_eq!(reader.content(3), [7, 7, 7]);
        assert_eq!(reader.read(&mut &[0][..]), Ok(None));
        assert_eq!(reader.content(3), [0, 0, 0]);
    }
}
