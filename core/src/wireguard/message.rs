//! The four messages on the wire (paper section 5.4): parsing with exact length checks, and emitting.
//!
//! Handshake messages are small and become values; a data message stays where it is and only its header is read.
//! Nothing here is authenticated yet.

/// Length of an initiation in bytes.
pub const INITIATION_LEN: usize = 148;
/// Length of a response in bytes.
pub const RESPONSE_LEN: usize = 92;
/// Length of a cookie reply in bytes.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Bytes of a data message before the ciphertext.
pub const DATA_HEADER_LEN: usize = 16;
/// Bytes that a data message adds to the padded inner packet: header and tag.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + crate::crypto::TAG_LEN;
/// Length of mac1 and of mac2, the last two fields of an initiation and of a response.
pub const MAC_LEN: usize = 16;

/// What a datagram claims to be, by its type, its reserved bytes and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MessageKind {
    /// The first message of a handshake.
    Initiation,
    /// The second message of a handshake.
    Response,
    /// A loaded peer's demand to prove the source address.
    CookieReply,
    /// An encrypted inner packet, or a keepalive.
    Data,
}

impl MessageKind {
    /// Classifies a datagram. `None` where the type is unknown, a reserved byte is not zero, or the length is not
    /// the type's own (for data: at least a header and a tag).
    pub const fn of(datagram: &[u8]) -> Option<Self> {
        match (datagram.first_chunk(), datagram.len()) {
            (Some([1, 0, 0, 0]), INITIATION_LEN) => Some(Self::Initiation),
            (Some([2, 0, 0, 0]), RESPONSE_LEN) => Some(Self::Response),
            (Some([3, 0, 0, 0]), COOKIE_REPLY_LEN) => Some(Self::CookieReply),
            (Some([4, 0, 0, 0]), DATA_OVERHEAD..) => Some(Self::Data),
            _ => None,
        }
    }

    /// The first four bytes of such a message: type and reserved bytes.
    pub const fn header(self) -> [u8; 4] {
        match self {
            Self::Initiation => [1, 0, 0, 0],
            Self::Response => [2, 0, 0, 0],
            Self::CookieReply => [3, 0, 0, 0],
            Self::Data => [4, 0, 0, 0],
        }
    }
}

/// The first message of a handshake, from initiator to responder. Its macs are read and written in the datagram,
/// by [`cookie`](super::cookie).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiation {
    /// The index that the initiator wants to be addressed by.
    pub sender: u32,
    /// The initiator's ephemeral public key.
    pub ephemeral: [u8; 32],
    /// The initiator's static public key, sealed.
    pub sealed_static: [u8; 32],
    /// The tag of `sealed_static`.
    pub static_tag: [u8; 16],
    /// The initiator's timestamp, sealed.
    pub sealed_timestamp: [u8; 12],
    /// The tag of `sealed_timestamp`.
    pub timestamp_tag: [u8; 16],
}

impl Initiation {
    /// Reads an initiation; `None` where the datagram is not one.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(datagram, MessageKind::Initiation)?;
        Some(Self {
            sender: fields.u32()?,
            ephemeral: fields.bytes()?,
            sealed_static: fields.bytes()?,
            static_tag: fields.bytes()?,
            sealed_timestamp: fields.bytes()?,
            timestamp_tag: fields.bytes()?,
        })
    }

    /// The message with both macs zero.
    pub fn emit(&self) -> [u8; INITIATION_LEN] {
        emit(&[
            &MessageKind::Initiation.header(),
            &self.sender.to_le_bytes(),
            &self.ephemeral,
            &self.sealed_static,
            &self.static_tag,
            &self.sealed_timestamp,
            &self.timestamp_tag,
        ])
    }
}

/// The second message of a handshake, from responder to initiator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The index that the responder wants to be addressed by.
    pub sender: u32,
    /// The index that the initiator chose.
    pub receiver: u32,
    /// The responder's ephemeral public key.
    pub ephemeral: [u8; 32],
    /// The tag of the sealed empty text.
    pub empty_tag: [u8; 16],
}

impl Response {
    /// Reads a response; `None` where the datagram is not one.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(datagram, MessageKind::Response)?;
        Some(Self {
            sender: fields.u32()?,
            receiver: fields.u32()?,
            ephemeral: fields.bytes()?,
            empty_tag: fields.bytes()?,
        })
    }

    /// The message with both macs zero.
    pub fn emit(&self) -> [u8; RESPONSE_LEN] {
        emit(&[
            &MessageKind::Response.header(),
            &self.sender.to_le_bytes(),
            &self.receiver.to_le_bytes(),
            &self.ephemeral,
            &self.empty_tag,
        ])
    }
}

/// A loaded peer's answer to a handshake message whose source address is not proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieReply {
    /// The sender index of the message that this answers.
    pub receiver: u32,
    /// The random nonce of the sealed cookie.
    pub nonce: [u8; 24],
    /// The cookie, sealed.
    pub sealed_cookie: [u8; 16],
    /// The tag of `sealed_cookie`.
    pub tag: [u8; 16],
}

impl CookieReply {
    /// Reads a cookie reply; `None` where the datagram is not one.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(datagram, MessageKind::CookieReply)?;
        Some(Self {
            receiver: fields.u32()?,
            nonce: fields.bytes()?,
            sealed_cookie: fields.bytes()?,
            tag: fields.bytes()?,
        })
    }

    /// The message.
    pub fn emit(&self) -> [u8; COOKIE_REPLY_LEN] {
        emit(&[
            &MessageKind::CookieReply.header(),
            &self.receiver.to_le_bytes(),
            &self.nonce,
            &self.sealed_cookie,
            &self.tag,
        ])
    }
}

/// The clear part of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The index that the receiving side chose in the handshake.
    pub receiver: u32,
    /// The nonce counter.
    pub counter: u64,
}

impl DataHeader {
    /// Reads the header of a data message; `None` where the datagram is not one.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(datagram, MessageKind::Data)?;
        Some(Self { receiver: fields.u32()?, counter: u64::from_le_bytes(fields.bytes()?) })
    }

    /// The header's bytes.
    pub fn emit(&self) -> [u8; DATA_HEADER_LEN] {
        emit(&[&MessageKind::Data.header(), &self.receiver.to_le_bytes(), &self.counter.to_le_bytes()])
    }
}

/// The fields of a message, read in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields behind the type of a datagram that is of this kind.
    fn of(datagram: &'a [u8], kind: MessageKind) -> Option<Self> {
        if MessageKind::of(datagram) != Some(kind) {
            return None;
        }
        datagram.get(kind.header().len()..).map(Self)
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }
}

/// `fields` one after the other, and zeros behind them.
fn emit<const N: usize>(fields: &[&[u8]]) -> [u8; N] {
    let mut message = [0; N];
    message.iter_mut().zip(fields.iter().copied().flatten()).for_each(|(out, byte)| *out = *byte);
    message
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn fields_lie_where_the_paper_puts_them() {
        let mut datagram: [u8; INITIATION_LEN] = core::array::from_fn(|i| i as u8);
        datagram[..4].copy_from_slice(&[1, 0, 0, 0]);
        let initiation = Initiation::parse(&datagram).unwrap();
        assert_eq!(initiation.sender, u32::from_le_bytes([4, 5, 6, 7]));
        assert_eq!(initiation.ephemeral[0], 8);
        assert_eq!(initiation.sealed_static[0], 40);
        assert_eq!(initiation.static_tag[0], 72);
        assert_eq!(initiation.sealed_timestamp[0], 88);
        assert_eq!(initiation.timestamp_tag[0], 100);
        assert_eq!(initiation.emit()[..116], datagram[..116]);
        assert_eq!(initiation.emit()[116..], [0; 32]);

        let mut datagram: [u8; RESPONSE_LEN] = core::array::from_fn(|i| i as u8);
        datagram[..4].copy_from_slice(&[2, 0, 0, 0]);
        let response = Response::parse(&datagram).unwrap();
        assert_eq!((response.sender.to_le_bytes()[0], response.receiver.to_le_bytes()[0]), (4, 8));
        assert_eq!((response.ephemeral[0], response.empty_tag[0]), (12, 44));
        assert_eq!(response.emit()[..60], datagram[..60]);

        let mut datagram: [u8; COOKIE_REPLY_LEN] = core::array::from_fn(|i| i as u8);
        datagram[..4].copy_from_slice(&[3, 0, 0, 0]);
        let reply = CookieReply::parse(&datagram).unwrap();
        assert_eq!((reply.nonce[0], reply.sealed_cookie[0], reply.tag[0]), (8, 32, 48));
        assert_eq!(reply.emit(), datagram);

        let mut datagram: [u8; 33] = core::array::from_fn(|i| i as u8);
        datagram[..4].copy_from_slice(&[4, 0, 0, 0]);
        let header = DataHeader::parse(&datagram).unwrap();
        assert_eq!(header.counter.to_le_bytes(), [8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(header.emit(), datagram[..16]);
    }

    #[test]
    fn lengths_are_exact_and_reserved_bytes_zero() {
        for (kind, len) in [(1, INITIATION_LEN), (2, RESPONSE_LEN), (3, COOKIE_REPLY_LEN)] {
            for (wrong, accepted) in [(len - 1, false), (len, true), (len + 1, false)] {
                let mut datagram = vec![0; wrong];
                datagram[0] = kind;
                assert_eq!(MessageKind::of(&datagram).is_some(), accepted, "type {kind}, {wrong} bytes");
            }
        }
        for (len, accepted) in [(31, false), (32, true), (33, true), (65_535, true)] {
            let mut datagram = vec![0; len];
            datagram[0] = 4;
            assert_eq!(MessageKind::of(&datagram).is_some(), accepted, "data of {len} bytes");
        }
        for (kind, len) in [(1, INITIATION_LEN), (2, RESPONSE_LEN), (3, COOKIE_REPLY_LEN), (4, DATA_OVERHEAD)] {
            for reserved in 1..4 {
                let mut datagram = vec![0; len];
                datagram[0] = kind;
                datagram[reserved] = 1;
                assert_eq!(MessageKind::of(&datagram), None, "type {kind}, byte {reserved}");
            }
        }
        for unknown in [0, 5, 255] {
            assert_eq!(MessageKind::of(&[unknown, 0, 0, 0].repeat(37)), None);
        }
        assert_eq!(MessageKind::of(&[]), None);
    }
}
