//! ChaCha20-Poly1305 (RFC 8439) as WireGuard and the control channel use it: the nonce is four zero bytes and a
//! little-endian 64-bit counter, and text is sealed and opened in place.

use chacha20poly1305::{KeyInit, Tag, aead::AeadInOut};
use core::fmt;

/// Length of the authentication tag in bytes.
pub const TAG_LEN: usize = 16;

/// One packet of a batch to seal: `buffer` is the plaintext followed by [`TAG_LEN`] bytes for the tag.
#[derive(Debug)]
pub struct SealPacket<'a> {
    /// The nonce counter. Never the same twice under one key.
    pub counter: u64,
    /// Plaintext and room for the tag; afterwards ciphertext and tag.
    pub buffer: &'a mut [u8],
}

/// One packet of a batch to open: `buffer` is ciphertext followed by the tag.
#[derive(Debug)]
pub struct OpenPacket<'a> {
    /// The nonce counter that the packet carries.
    pub counter: u64,
    /// Ciphertext and tag; afterwards, where `authentic`, the plaintext and a tag that means nothing any more.
    pub buffer: &'a mut [u8],
    /// Set by [`Aead::open_batch`]: the tag was right. Where it is false the buffer's content must not be used.
    pub authentic: bool,
}

/// A ChaCha20-Poly1305 implementation.
///
/// The unit of the data path is a batch of packets under one key, since some implementations do several at once;
/// the default does one at a time.
pub trait Aead: 'static {
    /// Encrypts `text` in place and returns the tag over it and `aad`.
    fn seal(key: &[u8; 32], counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN];

    /// Checks `tag` over `text` and `aad`, then decrypts `text` in place.
    ///
    /// # Errors
    /// [`OpenError`] where the tag is wrong; `text` is then not plaintext and must not be used.
    fn open(key: &[u8; 32], counter: u64, aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), OpenError>;

    /// Seals every packet, without associated data. A buffer shorter than a tag is left as it is.
    fn seal_batch(key: &[u8; 32], packets: &mut [SealPacket<'_>]) {
        for packet in packets {
            if let Some((text, room)) = packet.buffer.split_last_chunk_mut::<TAG_LEN>() {
                *room = Self::seal(key, packet.counter, &[], text);
            }
        }
    }

    /// Opens every packet, without associated data, and sets its `authentic`.
    fn open_batch(key: &[u8; 32], packets: &mut [OpenPacket<'_>]) {
        for packet in packets {
            packet.authentic = packet
                .buffer
                .split_last_chunk_mut::<TAG_LEN>()
                .is_some_and(|(text, tag)| Self::open(key, packet.counter, &[], text, tag).is_ok());
        }
    }
}

/// The tag was wrong: the text was altered, or sealed under another key, counter or associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OpenError;

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message is not authentic")
    }
}

impl core::error::Error for OpenError {}

/// RustCrypto's ChaCha20-Poly1305.
#[derive(Clone, Copy, Debug)]
pub struct ChaCha20Poly1305;

impl Aead for ChaCha20Poly1305 {
    fn seal(key: &[u8; 32], counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        let cipher = chacha20poly1305::ChaCha20Poly1305::new(key.into());
        match cipher.encrypt_inout_detached(&nonce(counter).into(), aad, text.into()) {
            Ok(tag) => tag.into(),
            // The only failure is a text of more than 256 GiB, which no buffer holds. A zero tag never verifies.
            Err(_) => [0; TAG_LEN],
        }
    }

    fn open(key: &[u8; 32], counter: u64, aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), OpenError> {
        let cipher = chacha20poly1305::ChaCha20Poly1305::new(key.into());
        let tag = Tag::from(*tag);
        cipher.decrypt_inout_detached(&nonce(counter).into(), aad, text.into(), &tag).map_err(|_| OpenError)
    }
}

/// The 96-bit nonce of a counter: four zero bytes, then the counter little-endian (WireGuard paper 5.4.6).
pub const fn nonce(counter: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}
