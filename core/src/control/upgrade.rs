//! How a connection begins: an HTTP/1.1 `Upgrade` with the versions that the node offers and the server key that it
//! expects, and the server's answer.
//!
//! ```text
//! GET /weft/control HTTP/1.1              HTTP/1.1 101 Switching Protocols
//! Host: weft.example.org:8080             Connection: Upgrade
//! Connection: Upgrade                     Upgrade: weft-control
//! Upgrade: weft-control                   Weft-Version: 1
//! Weft-Version: 1-1
//! Weft-Server-Key: 64 hexadecimal digits
//! ```
//!
//! Nothing of this is authentic by itself; the [`Prologue`] makes it so, since the handshake fails where the two
//! sides do not agree on it. A refusal is not authentic either: it may be shown, but a node tries again.

use core::fmt::{self, Write};

use super::{
    PATH, PROTOCOL, VERSIONS,
    record::{ErrorCode, Text, TooLarge},
    server_address::ServerAddress,
};
use crate::keys::ServerKey;

/// The most bytes that an answer's head may have.
pub const MAX_HEAD: usize = 8_192;

/// The versions that a side speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl VersionRange {
    /// Reads `1-3`: decimal, without leading zeros, the smaller first.
    pub fn parse(text: &str) -> Option<Self> {
        let (min, max) = text.split_once('-')?;
        let range = Self { min: parse_number(min)?, max: parse_number(max)? };
        (range.min <= range.max).then_some(range)
    }

    /// The newest version that both speak.
    pub fn newest_common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }

    /// Whether a version is in the range.
    pub const fn contains(self, version: u16) -> bool {
        self.min <= version && version <= self.max
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// A decimal number from 1 on, without sign or leading zeros, so that a version has one spelling.
fn parse_number(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    canonical.then(|| text.parse().ok()).flatten()
}

/// What both sides must agree on, mixed into the handshake first: `weft-control 1 1-1 /weft/control`, the chosen version
/// and the offered range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prologue(heapless::String<64>);

impl Prologue {
    /// The prologue of a connection in which `offered` was offered and `chosen` was chosen.
    pub fn new(offered: VersionRange, chosen: u16) -> Self {
        let mut text = heapless::String::new();
        // 46 bytes at most.
        let _ = write!(text, "{PROTOCOL} {chosen} {offered} {PATH}");
        Self(text)
    }

    /// The bytes to mix in.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Writes the upgrade request to `out` and returns its length, below 384 bytes.
///
/// # Errors
/// [`TooLarge`] where `out` is too small.
pub fn write_request(
    out: &mut [u8],
    address: &ServerAddress,
    versions: VersionRange,
    server: &ServerKey,
) -> Result<usize, TooLarge> {
    let mut writer = SliceWriter { out, len: 0 };
    write!(
        writer,
        "GET {PATH} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\nWeft-Version: {versions}\r\nWeft-Server-Key: ",
        address.authority()
    )
    .and_then(|()| server.as_bytes().iter().try_for_each(|byte| write!(writer, "{byte:02x}")))
    .and_then(|()| writer.write_str("\r\n\r\n"))
    .map_err(|_| TooLarge)?;
    Ok(writer.len)
}

struct SliceWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Write for SliceWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.out.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// What a server agreed to in an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The versions that the node offered.
    pub offered: VersionRange,
    /// The version that is spoken.
    pub version: u16,
    /// Which of the server's keys the node expects.
    pub server: ServerKey,
}

/// The server's side: decides on an upgrade request from the values of its `Weft-Version` and `Weft-Server-Key` headers.
/// `keys` are all the keys that the server answers to. The HTTP server checks method, path, `Connection` and
/// `Upgrade`.
///
/// # Errors
/// [`UpgradeRefusal`], with the HTTP answer to give.
pub fn negotiate(
    versions: Option<&str>,
    server_key: Option<&str>,
    keys: &[ServerKey],
) -> Result<Accepted, UpgradeRefusal> {
    let offered = versions.ok_or(UpgradeRefusal::VersionMissing)?;
    let offered = VersionRange::parse(offered).ok_or(UpgradeRefusal::BadRequest)?;
    let version = offered.newest_common(VERSIONS).ok_or(if offered.max < VERSIONS.min {
        UpgradeRefusal::NodeTooOld
    } else {
        UpgradeRefusal::ServerTooOld
    })?;
    let expected = server_key.ok_or(UpgradeRefusal::BadRequest)?;
    if expected.len() != 64 || !expected.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(UpgradeRefusal::BadRequest);
    }
    let matches = |key: &ServerKey| {
        let digits = expected.as_bytes().chunks_exact(2);
        key.as_bytes().iter().zip(digits).all(|(byte, digits)| {
            core::str::from_utf8(digits).is_ok_and(|digits| u8::from_str_radix(digits, 16) == Ok(*byte))
        })
    };
    let server = *keys.iter().find(|key| matches(key)).ok_or(UpgradeRefusal::UnknownServerKey)?;
    Ok(Accepted { offered, version, server })
}

/// Why a server refuses an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeRefusal {
    /// The server key is missing, or a header is malformed.
    BadRequest,
    /// The request names no versions.
    VersionMissing,
    /// All versions that the node offers are older than the server's.
    NodeTooOld,
    /// All versions that the node offers are newer than the server's.
    ServerTooOld,
    /// The node expects a key that the server does not have.
    UnknownServerKey,
    /// The server takes no more connections for now.
    Busy,
    /// The server is stopping.
    ShuttingDown,
}

impl UpgradeRefusal {
    /// The HTTP status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::VersionMissing => 400,
            Self::NodeTooOld | Self::ServerTooOld => 426,
            Self::UnknownServerKey => 421,
            Self::Busy | Self::ShuttingDown => 503,
        }
    }

    /// The code that stands in the body before the sentence.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::BadRequest => ErrorCode::Protocol,
            Self::VersionMissing => ErrorCode::VersionMissing,
            Self::NodeTooOld => ErrorCode::NodeTooOld,
            Self::ServerTooOld => ErrorCode::ServerTooOld,
            Self::UnknownServerKey => ErrorCode::UnknownServerKey,
            Self::Busy => ErrorCode::Busy,
            Self::ShuttingDown => ErrorCode::ShuttingDown,
        }
    }
}

/// The body of the HTTP answer: the code, a space and a sentence. The answer also carries `Weft-Version` with the server's
/// range, and with status 426 `Upgrade: weft-control`.
impl fmt::Display for UpgradeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::BadRequest => "This is no request of a weft node.",
            Self::VersionMissing => "The request names no protocol version: something on the way removes it.",
            Self::NodeTooOld => "This node is too old for its server: upgrade the node.",
            Self::ServerTooOld => "This server is too old for the node: upgrade the server.",
            Self::UnknownServerKey => {
                "This server has another key than the node expects: check the address, or join with a new join key."
            }
            Self::Busy => "This server takes no more connections for now.",
            Self::ShuttingDown => "This server is stopping.",
        };
        write!(f, "{} {sentence}", self.code())
    }
}

/// A server's answer other than the upgrade. Not authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The code from the body, where there is one.
    pub code: Option<ErrorCode>,
}

/// How a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// It switches to this version.
    Switched(u16),
    /// It does not.
    Refused(Refusal),
}

/// Why an answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ResponseError {
    /// It is not HTTP/1.1, or switches to something else.
    NotThisProtocol,
    /// Its head has more than [`MAX_HEAD`] bytes.
    TooLong,
}

/// Reads a server's answer from a byte stream, a line at a time: headers that a proxy adds cost no memory.
#[derive(Debug)]
pub struct ResponseParser {
    /// The line that is being received, cut at its capacity; then the body.
    line: heapless::Vec<u8, 192>,
    total: usize,
    status: Option<u16>,
    upgrade: bool,
    version: Option<u16>,
    content_length: usize,
    in_body: bool,
}

impl Default for ResponseParser {
    fn default() -> Self {
        Self::new()
    }
}

impl ResponseParser {
    /// A parser before the first byte.
    pub const fn new() -> Self {
        Self {
            line: heapless::Vec::new(),
            total: 0,
            status: None,
            upgrade: false,
            version: None,
            content_length: 0,
            in_body: false,
        }
    }

    /// Takes bytes from `input` up to the end of the answer; what follows an upgrade is left there.
    ///
    /// # Errors
    /// [`ResponseError`] where it is no answer of a control server.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Response>, ResponseError> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            if self.in_body {
                let _ = self.line.push(byte);
            } else {
                self.total += 1;
                if self.total > MAX_HEAD {
                    return Err(ResponseError::TooLong);
                }
                if byte != b'\n' {
                    // What does not fit is cut off: no header that matters is so long.
                    let _ = self.line.push(byte);
                    continue;
                }
                if let Some(response) = self.end_of_line()? {
                    return Ok(Some(response));
                }
            }
            if self.in_body && self.line.len() >= self.content_length.min(self.line.capacity()) {
                return Ok(Some(self.refused()));
            }
        }
        Ok(None)
    }

    /// The sentence that came with a refusal.
    pub fn sentence(&self) -> Option<Text<'_>> {
        let (_, sentence) = self.body()?.split_once(' ')?;
        Some(Text::cut(sentence.trim()))
    }

    fn body(&self) -> Option<&str> {
        let body = self.line.get(..self.line.len().min(self.content_length)).filter(|_| self.in_body)?;
        // A body that was cut may end within a character.
        Some(body.utf8_chunks().next()?.valid())
    }

    fn refused(&self) -> Response {
        let code = self.body().and_then(|body| body.split_once(' ')).and_then(|(code, _)| parse_number(code));
        Response::Refused(Refusal { status: self.status.unwrap_or_default(), code: code.map(ErrorCode::from_number) })
    }

    fn end_of_line(&mut self) -> Result<Option<Response>, ResponseError> {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let text = core::str::from_utf8(line).unwrap_or_default();
        let Some(status) = self.status else {
            self.status = Some(parse_status(text).ok_or(ResponseError::NotThisProtocol)?);
            self.line.clear();
            return Ok(None);
        };
        if !line.is_empty() {
            if let Some((name, value)) = text.split_once(':') {
                let value = value.trim();
                if name.eq_ignore_ascii_case("upgrade") {
                    self.upgrade = value.eq_ignore_ascii_case(PROTOCOL);
                } else if name.eq_ignore_ascii_case("weft-version") {
                    self.version = parse_number(value);
                } else if name.eq_ignore_ascii_case("content-length") {
                    self.content_length = value.parse().unwrap_or_default();
                }
            }
            self.line.clear();
            return Ok(None);
        }
        self.line.clear();
        match (status, self.version) {
            (101, Some(version)) if self.upgrade => Ok(Some(Response::Switched(version))),
            (101, _) => Err(ResponseError::NotThisProtocol),
            // An interim answer; the answer itself follows.
            (100..=199, _) => {
                *self = Self { total: self.total, ..Self::new() };
                Ok(None)
            }
            _ => {
                self.in_body = true;
                Ok(None)
            }
        }
    }
}

/// The status of `HTTP/1.1 426 Upgrade Required`.
fn parse_status(line: &str) -> Option<u16> {
    let digits = line.strip_prefix("HTTP/1.1 ")?.split(' ').next()?;
    parse_number(digits).filter(|status| (100..=999).contains(status))
}
