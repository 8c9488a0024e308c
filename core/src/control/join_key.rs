//! The join key: one string that holds all that a machine needs to find, to trust and to join a network.
//!
//! `weft1` and then base32 (RFC 4648, lower case, no padding) of
//!
//! | bytes | what |
//! |---|---|
//! | 1 | length of the body, 53 to 255 |
//! | 1 | that length XOR `0xa5` |
//! | 32 | the server's public key |
//! | 16 | the join secret |
//! | | one or more server addresses in the order in which to try them, each a length byte and the text |
//! | 4 | checksum: the first bytes of BLAKE2s-256 over all of the above, `weft1` included |
//!
//! Letters and digits only, so that a double click selects all of it and no shell changes it; upper case is the same
//! key, so that it makes a small QR code; white space is skipped. The length comes twice so that a key which was
//! cut off is told apart from one that was altered.

use core::{fmt, str::FromStr};

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::server_address::{self, ServerAddress};
use crate::{crypto::hash, keys::ServerKey};

/// Length of the secret in bytes.
pub const SECRET_LEN: usize = 16;
/// The longest join key in characters.
pub const MAX_TEXT: usize = PREFIX.len() + (2 + MAX_BODY).div_ceil(5) * 8;

const PREFIX: &str = "weft1";
const MAX_BODY: usize = 255;
const CHECKSUM_LEN: usize = 4;
const LENGTH_MASK: u8 = 0xa5;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a join key proves that its bearer may join. The server keeps its hash.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct JoinSecret([u8; SECRET_LEN]);

impl JoinSecret {
    /// A secret from its bytes. The caller wipes its own copy.
    pub const fn from_bytes(bytes: [u8; SECRET_LEN]) -> Self {
        Self(bytes)
    }

    /// A fresh secret.
    pub fn generate(rng: &mut dyn rand_core::CryptoRng) -> Self {
        let mut secret = Self([0; SECRET_LEN]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// The bytes of the secret.
    pub const fn as_bytes(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }
}

impl PartialEq for JoinSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for JoinSecret {}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(..)")
    }
}

/// A join key, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinKey {
    server_key: ServerKey,
    secret: JoinSecret,
    /// The addresses as they stand in the body, checked.
    addresses: heapless::Vec<u8, MAX_BODY>,
}

impl JoinKey {
    /// A join key of its parts; the addresses in the order in which to try them.
    ///
    /// # Errors
    /// [`JoinKeyError::Addresses`] where there is no address, or more than fit (about 200 bytes together).
    pub fn new<'a>(
        server_key: ServerKey,
        secret: JoinSecret,
        addresses: impl IntoIterator<Item = &'a ServerAddress>,
    ) -> Result<Self, JoinKeyError> {
        const ROOM: usize = MAX_BODY - 32 - SECRET_LEN - CHECKSUM_LEN;

        let mut encoded = heapless::Vec::new();
        for address in addresses {
            let text = address.as_str().as_bytes();
            let len = u8::try_from(text.len()).map_err(|_| JoinKeyError::Addresses)?;
            encoded.push(len).map_err(|_| JoinKeyError::Addresses)?;
            encoded.extend_from_slice(text).map_err(|_| JoinKeyError::Addresses)?;
        }
        if encoded.is_empty() || encoded.len() > ROOM {
            return Err(JoinKeyError::Addresses);
        }
        Ok(Self { server_key, secret, addresses: encoded })
    }

    /// The public key that the server has to prove.
    pub const fn server_key(&self) -> &ServerKey {
        &self.server_key
    }

    /// The secret to register with.
    pub const fn secret(&self) -> &JoinSecret {
        &self.secret
    }

    /// The server's addresses in the order in which to try them.
    pub fn addresses(&self) -> impl Iterator<Item = ServerAddress> + '_ {
        texts(&self.addresses).filter_map(|text| core::str::from_utf8(text.ok()?).ok()?.parse().ok())
    }

    /// The key as a string. It holds the secret, so it is wiped when dropped.
    pub fn to_text(&self) -> JoinKeyText {
        // `new` and `from_str` see to it that this is at most 255, and that the text fits.
        let len = u8::try_from(32 + SECRET_LEN + self.addresses.len() + CHECKSUM_LEN).unwrap_or(u8::MAX);
        let head = [len, len ^ LENGTH_MASK];
        let content: [&[u8]; 4] = [&head, self.server_key.as_bytes(), self.secret.as_bytes(), &self.addresses];
        let sum = checksum(content);
        let mut text = JoinKeyText(heapless::String::new());
        let _ = text.0.push_str(PREFIX);
        encode_base32(content.into_iter().flatten().chain(&sum).copied(), &mut text.0);
        text
    }
}

impl fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinKey({}, ..)", self.server_key)
    }
}

/// A join key as a string, wiped on drop.
pub struct JoinKeyText(heapless::String<MAX_TEXT>);

impl JoinKeyText {
    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for JoinKeyText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for JoinKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinKeyText(..)")
    }
}

/// Why a text is not a join key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum JoinKeyError {
    /// It does not begin as a join key does.
    NotAJoinKey,
    /// It is a join key of a version that this program does not know.
    NewerVersion,
    /// Its end is missing.
    Truncated,
    /// A character is wrong, or there are characters too many.
    Altered,
    /// It holds no server address, one that is none, or more than fit.
    Addresses,
}

impl fmt::Display for JoinKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAJoinKey => "this is not a join key: a join key begins with `weft1`",
            Self::NewerVersion => "this join key is of a newer kind: upgrade this program",
            Self::Truncated => "this join key is truncated: its end is missing, copy all of it",
            Self::Altered => "this join key was altered: copy it again",
            Self::Addresses => "the join key has no server address that can be used: make a new one",
        })
    }
}

impl core::error::Error for JoinKeyError {}

impl FromStr for JoinKey {
    type Err = JoinKeyError;

    fn from_str(text: &str) -> Result<Self, JoinKeyError> {
        let mut characters = text.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| b.to_ascii_lowercase());
        let (name, version) = PREFIX.split_at(PREFIX.len() - 1);
        if !name.bytes().all(|expected| characters.next() == Some(expected)) {
            return Err(JoinKeyError::NotAJoinKey);
        }
        match characters.next() {
            Some(digit) if version.as_bytes() == [digit] => {}
            Some(digit) if digit.is_ascii_digit() => return Err(JoinKeyError::NewerVersion),
            Some(_) => return Err(JoinKeyError::NotAJoinKey),
            None => return Err(JoinKeyError::Truncated),
        }
        let mut bytes = Base32Bytes::new(characters);
        let len = bytes.next()?.ok_or(JoinKeyError::Truncated)?;
        let check = bytes.next()?.ok_or(JoinKeyError::Truncated)?;
        if len ^ check != LENGTH_MASK {
            return Err(JoinKeyError::Altered);
        }
        let mut body = Zeroizing::new([0; MAX_BODY]);
        for slot in body.iter_mut().take(usize::from(len)) {
            *slot = bytes.next()?.ok_or(JoinKeyError::Truncated)?;
        }
        bytes.finish()?;
        Self::from_body(len, body.get(..usize::from(len)).unwrap_or_default())
    }
}

impl JoinKey {
    fn from_body(len: u8, body: &[u8]) -> Result<Self, JoinKeyError> {
        let (content, sum) = body.split_last_chunk::<CHECKSUM_LEN>().ok_or(JoinKeyError::Altered)?;
        let (server_key, rest) = content.split_first_chunk::<32>().ok_or(JoinKeyError::Altered)?;
        let (secret, addresses) = rest.split_first_chunk::<SECRET_LEN>().ok_or(JoinKeyError::Altered)?;
        if *sum != checksum([&[len, len ^ LENGTH_MASK], server_key, secret, addresses]) {
            return Err(JoinKeyError::Altered);
        }
        if addresses.is_empty() {
            return Err(JoinKeyError::Addresses);
        }
        for text in texts(addresses) {
            let text = text.map_err(|()| JoinKeyError::Addresses)?;
            let text = core::str::from_utf8(text).map_err(|_| JoinKeyError::Addresses)?;
            text.parse::<ServerAddress>().map_err(|_| JoinKeyError::Addresses)?;
        }
        Ok(Self {
            server_key: ServerKey::from_bytes(*server_key),
            secret: JoinSecret(*secret),
            addresses: heapless::Vec::from_slice(addresses).map_err(|_| JoinKeyError::Addresses)?,
        })
    }
}

/// The texts of a list of length-prefixed texts; an error, and then the end, where a length is wrong.
fn texts(mut list: &[u8]) -> impl Iterator<Item = Result<&[u8], ()>> {
    core::iter::from_fn(move || {
        let (&len, rest) = list.split_first()?;
        let Some((text, rest)) =
            rest.split_at_checked(usize::from(len)).filter(|_| usize::from(len) <= server_address::MAX_LEN)
        else {
            list = &[];
            return Some(Err(()));
        };
        list = rest;
        Some(Ok(text))
    })
}

fn checksum([head, server_key, secret, addresses]: [&[u8]; 4]) -> [u8; CHECKSUM_LEN] {
    let [a, b, c, d, ..] = hash::hash(&[PREFIX.as_bytes(), head, server_key, secret, addresses]);
    [a, b, c, d]
}

fn encode_base32(bytes: impl Iterator<Item = u8>, out: &mut heapless::String<MAX_TEXT>) {
    let mut bits = 0u16;
    let mut count = 0u32;
    let mut push = |value: u16| {
        let letter = ALPHABET.get(usize::from(value & 31)).copied().unwrap_or_default();
        let _ = out.push(char::from(letter));
    };
    for byte in bytes {
        bits = (bits << 8) | u16::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            push(bits >> count);
        }
    }
    if count > 0 {
        push(bits << (5 - count));
    }
    bits.zeroize();
}

/// The bytes of base32 characters, one by one.
struct Base32Bytes<I> {
    characters: I,
    bits: u16,
    count: u32,
}

impl<I: Iterator<Item = u8>> Base32Bytes<I> {
    fn new(characters: I) -> Self {
        Self { characters, bits: 0, count: 0 }
    }

    fn next(&mut self) -> Result<Option<u8>, JoinKeyError> {
        while self.count < 8 {
            let Some(character) = self.characters.next() else { return Ok(None) };
            let value = match character {
                b'a'..=b'z' => character - b'a',
                b'2'..=b'7' => character - b'2' + 26,
                _ => return Err(JoinKeyError::Altered),
            };
            self.bits = (self.bits << 5) | u16::from(value);
            self.count += 5;
        }
        self.count -= 8;
        Ok(u8::try_from((self.bits >> self.count) & 0xff).ok())
    }

    /// Checks that nothing follows but the zero bits that fill the last character.
    fn finish(mut self) -> Result<(), JoinKeyError> {
        let spare = self.bits & ((1 << self.count) - 1);
        if spare != 0 || self.characters.next().is_some() { Err(JoinKeyError::Altered) } else { Ok(()) }
    }
}
