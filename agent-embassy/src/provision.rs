//! The provisioning page: what a host writes into the first page of a node's flash region, for the node to take at its
//! next start.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `WEFTPROV` |
//! | 2 | version, 1 |
//! | 2 | length of the fields in bytes |
//! | | fields: each a tag of 2 bytes, a length of 2 bytes, the content |
//! | 4 | checksum: the first bytes of BLAKE2s-256 over all of the above |
//! | | `0xff` to the end of the page |
//!
//! Numbers are little-endian. A field with an unknown tag is skipped, so that an older firmware takes what it knows of a
//! newer page; the version changes only where that would be wrong. The page holds secrets in the clear: the node erases it
//! as soon as it kept what was in it. Knows nothing of flash; the host and the chip use this same code.

use core::fmt;

use weft_core::{control::JoinKey, crypto::hash};

/// The longest encoding in bytes. The rest of a flash page stays `0xff`.
pub const MAX_PAGE: usize = 1_024;
/// The longest content of a field in bytes; a join key needs most of it.
pub const MAX_FIELD: usize = 448;
/// Settings of the firmware's own have numbers below this.
pub const APP_FIELDS: u8 = 64;

const MAGIC: &[u8; 8] = b"WEFTPROV";
const VERSION: u16 = 1;
const HEADER_LEN: usize = MAGIC.len() + 2 + 2;
const CHECKSUM_LEN: usize = 4;
/// The tag of the firmware's own setting number zero.
const APP_TAG: u16 = 0x100;

/// One thing that a node is given.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field<'a> {
    /// The key to join with, as the server printed it.
    JoinKey(&'a str),
    /// 32 bytes from a good random source, another for each chip.
    Seed(&'a [u8; 32]),
    /// The name to ask for.
    Hostname(&'a str),
    /// The name of the Wi-Fi network.
    Ssid(&'a str),
    /// The password of the Wi-Fi network.
    Password(&'a str),
    /// A setting of the firmware's own, by its number below [`APP_FIELDS`].
    App(u8, &'a [u8]),
}

impl<'a> Field<'a> {
    /// The tag and the longest content in bytes.
    const fn shape(&self) -> (u16, usize) {
        match self {
            Self::JoinKey(_) => (1, MAX_FIELD),
            Self::Seed(_) => (2, 32),
            Self::Hostname(_) => (3, 63),
            Self::Ssid(_) => (4, 32),
            Self::Password(_) => (5, 64),
            Self::App(number, _) => (APP_TAG + *number as u16, MAX_FIELD),
        }
    }

    pub(crate) const fn content(&self) -> &'a [u8] {
        match self {
            Self::JoinKey(text) | Self::Hostname(text) | Self::Ssid(text) | Self::Password(text) => text.as_bytes(),
            Self::Seed(seed) => *seed,
            Self::App(_, content) => content,
        }
    }

    /// The field of a tag; none for a tag that is not known.
    fn read(tag: u16, content: &'a [u8]) -> Result<Option<Self>, PageError> {
        let text = || core::str::from_utf8(content).map_err(|_| PageError::Damaged);
        let field = match tag {
            1 => Self::JoinKey(text()?),
            2 => Self::Seed(content.try_into().map_err(|_| PageError::Damaged)?),
            3 => Self::Hostname(text()?),
            4 => Self::Ssid(text()?),
            5 => Self::Password(text()?),
            _ => match tag.checked_sub(APP_TAG).and_then(|number| u8::try_from(number).ok()) {
                Some(number) if number < APP_FIELDS => Self::App(number, content),
                _ => return Ok(None),
            },
        };
        let (_, longest) = field.shape();
        if content.len() <= longest { Ok(Some(field)) } else { Err(PageError::Damaged) }
    }
}

impl fmt::Debug for Field<'_> {
    /// Join key, seed and password are secrets, and a firmware's settings may be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinKey(_) => f.write_str("JoinKey(..)"),
            Self::Seed(_) => f.write_str("Seed(..)"),
            Self::Hostname(name) => f.debug_tuple("Hostname").field(name).finish(),
            Self::Ssid(name) => f.debug_tuple("Ssid").field(name).finish(),
            Self::Password(_) => f.write_str("Password(..)"),
            Self::App(number, _) => write!(f, "App({number}, ..)"),
        }
    }
}

/// Why fields cannot be made a page of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The join key is not one; it was cut or changed on its way.
    JoinKey,
    /// A text or setting is longer than its field, or the number of a setting is too high.
    TooLong,
    /// The fields do not fit together.
    DoesNotFit,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinKey => f.write_str("this is not a join key; copy the whole line that the server printed"),
            Self::TooLong => write!(
                f,
                "a field is too long: a host name has at most 63 bytes, a Wi-Fi name 32, its password 64, a setting of \
                 the firmware's own {MAX_FIELD} and a number below {APP_FIELDS}"
            ),
            Self::DoesNotFit => write!(f, "the fields together are longer than {MAX_PAGE} bytes; leave some out"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why a page cannot be taken. It stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PageError {
    /// A newer host wrote it.
    Later {
        /// Its version.
        found: u16,
    },
    /// Its checksum or a field is wrong.
    Damaged,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later { found } => write!(
                f,
                "the provisioning page has version {found}, this firmware knows {VERSION}; write it with the tool of \
                 this firmware's version, or update the firmware"
            ),
            Self::Damaged => f.write_str("the provisioning page is damaged; write it again"),
        }
    }
}

impl core::error::Error for PageError {}

/// Makes `page` the provisioning page of `fields`, filled up with `0xff`, and returns the length of the encoding.
///
/// # Errors
/// [`EncodeError`]; what is in `page` then means nothing.
pub fn encode(fields: &[Field<'_>], page: &mut [u8]) -> Result<usize, EncodeError> {
    page.fill(0xff);
    let room = page.len().min(MAX_PAGE);
    let mut at = HEADER_LEN;
    let mut put = |bytes: &[u8]| {
        let end = at + bytes.len();
        let place = page.get_mut(at..end).filter(|_| end + CHECKSUM_LEN <= room).ok_or(EncodeError::DoesNotFit)?;
        place.copy_from_slice(bytes);
        at = end;
        Ok(())
    };
    for field in fields {
        let ((tag, longest), content) = (field.shape(), field.content());
        match field {
            Field::JoinKey(text) => _ = text.parse::<JoinKey>().map_err(|_| EncodeError::JoinKey)?,
            Field::App(number, _) if *number >= APP_FIELDS => return Err(EncodeError::TooLong),
            _ => {}
        }
        let len = u16::try_from(content.len()).ok().filter(|_| content.len() <= longest).ok_or(EncodeError::TooLong)?;
        put(&tag.to_le_bytes())?;
        put(&len.to_le_bytes())?;
        put(content)?;
    }
    // At most `MAX_PAGE`.
    let fields_len = (at - HEADER_LEN) as u16;
    let header = MAGIC.iter().copied().chain(VERSION.to_le_bytes()).chain(fields_len.to_le_bytes());
    page.iter_mut().zip(header).for_each(|(place, byte)| *place = byte);
    let (content, rest) = page.split_at_mut_checked(at).ok_or(EncodeError::DoesNotFit)?;
    let checksum = checksum(content);
    rest.get_mut(..CHECKSUM_LEN).ok_or(EncodeError::DoesNotFit)?.copy_from_slice(&checksum);
    Ok(at + CHECKSUM_LEN)
}

/// The fields of a provisioning page; none where `page` is not one.
///
/// # Errors
/// [`PageError`] where it is one that cannot be taken.
pub fn decode(page: &[u8]) -> Result<Option<Fields<'_>>, PageError> {
    let Some((MAGIC, rest)) = page.split_first_chunk() else { return Ok(None) };
    let (version, rest) = rest.split_first_chunk().ok_or(PageError::Damaged)?;
    match u16::from_le_bytes(*version) {
        VERSION => {}
        // Never written: the start of an erase or of a write that power loss cut.
        0 | u16::MAX => return Err(PageError::Damaged),
        found => return Err(PageError::Later { found }),
    }
    let (len, rest) = rest.split_first_chunk().ok_or(PageError::Damaged)?;
    let len = usize::from(u16::from_le_bytes(*len));
    let (fields, rest) = rest.split_at_checked(len).ok_or(PageError::Damaged)?;
    let content = page.get(..HEADER_LEN + len).ok_or(PageError::Damaged)?;
    if rest.first_chunk() != Some(&checksum(content)) {
        return Err(PageError::Damaged);
    }
    let fields = Fields { rest: fields };
    let mut check = fields.clone();
    while check.step()?.is_some() {}
    Ok(Some(fields))
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_LEN] {
    let [a, b, c, d, ..] = hash::hash(&[content]);
    [a, b, c, d]
}

/// The fields of a page, in their order. Made by [`decode`], which has checked them all.
#[derive(Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Fields<'a> {
    fn step(&mut self) -> Result<Option<Field<'a>>, PageError> {
        while !self.rest.is_empty() {
            let (tag, rest) = self.rest.split_first_chunk().ok_or(PageError::Damaged)?;
            let (len, rest) = rest.split_first_chunk().ok_or(PageError::Damaged)?;
            let len = usize::from(u16::from_le_bytes(*len));
            let (content, rest) = rest.split_at_checked(len).ok_or(PageError::Damaged)?;
            self.rest = rest;
            if let Some(field) = Field::read(u16::from_le_bytes(*tag), content)? {
                return Ok(Some(field));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        self.step().ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::{string::ToString, vec::Vec};

    use weft_core::{control::JoinSecret, keys::ServerKey};

    use super::*;

    fn join_key() -> std::string::String {
        let address = "http://192.0.2.1:8080".parse().unwrap();
        JoinKey::new(ServerKey::from_bytes([4; 32]), JoinSecret::from_bytes([5; 16]), [&address])
            .unwrap()
            .to_text()
            .as_str()
            .to_string()
    }

    #[test]
    fn every_field_reads_back() {
        let key = join_key();
        let fields = [
            Field::JoinKey(&key),
            Field::Seed(&[7; 32]),
            Field::Hostname("sensor"),
            Field::Ssid("attic"),
            Field::Password("correct horse"),
            Field::App(3, b"laptop:9000"),
        ];
        let mut page = [0; 4_096];
        let len = encode(&fields, &mut page).unwrap();
        assert!(page[len..].iter().all(|byte| *byte == 0xff));
        assert_eq!(decode(&page).unwrap().unwrap().collect::<Vec<_>>(), fields);
    }

    #[test]
    fn a_blank_or_foreign_page_is_none_and_a_changed_one_is_damaged() {
        assert!(decode(&[0xff; 4_096]).unwrap().is_none());
        assert!(decode(&[]).unwrap().is_none());
        let mut page = [0; 256];
        let len = encode(&[Field::Hostname("sensor"), Field::Seed(&[7; 32])], &mut page).unwrap();
        for at in MAGIC.len()..len {
            let mut changed = page;
            changed[at] ^= 0x10;
            assert!(decode(&changed).is_err(), "byte {at}");
        }
        for cut in MAGIC.len()..len {
            assert_eq!(decode(&page[..cut]).unwrap_err(), PageError::Damaged);
        }
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let mut page = [0; 256];
        encode(&[Field::Hostname("sensor")], &mut page).unwrap();
        page[MAGIC.len()] = 2;
        assert_eq!(decode(&page).unwrap_err(), PageError::Later { found: 2 });
    }

    #[test]
    fn an_unknown_field_is_skipped() {
        let mut page = [0; 256];
        encode(&[Field::App(0, b"from the future"), Field::Hostname("sensor")], &mut page).unwrap();
        page[HEADER_LEN + 1] = 0x7f;
        let content = HEADER_LEN + usize::from(u16::from_le_bytes([page[10], page[11]]));
        let sum = checksum(&page[..content]);
        page[content..content + CHECKSUM_LEN].copy_from_slice(&sum);
        assert_eq!(decode(&page).unwrap().unwrap().collect::<Vec<_>>(), [Field::Hostname("sensor")]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut page = [0; 4_096];
        let long = [b'a'; MAX_FIELD + 1];
        let text = core::str::from_utf8(&long).unwrap();
        for field in [Field::Hostname(text), Field::Ssid(text), Field::App(0, &long), Field::App(APP_FIELDS, b"")] {
            assert_eq!(encode(&[field], &mut page), Err(EncodeError::TooLong), "{field:?}");
        }
        let app = [Field::App(0, &long[1..]), Field::App(1, &long[1..]), Field::App(2, &long[1..])];
        assert_eq!(encode(&app, &mut page), Err(EncodeError::DoesNotFit));
        let cut = &join_key()[..50];
        assert_eq!(encode(&[Field::JoinKey(cut)], &mut page), Err(EncodeError::JoinKey));
    }

    #[test]
    fn secrets_do_not_print() {
        let key = join_key();
        let fields = [Field::JoinKey(&key), Field::Seed(&[7; 32]), Field::Password("horse"), Field::App(1, b"horse")];
        let printed = std::format!("{fields:?}");
        assert!(!printed.contains("horse") && !printed.contains("weft1") && !printed.contains('7'));
    }
}
