//! The values that records are made of, and how each stands in CBOR.

use core::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use minicbor::{
    Decode, Decoder, Encode, Encoder,
    decode::Error as DecodeError,
    encode::{Error as EncodeError, Write},
};

use crate::{
    control::{join_key::JoinSecret, proof::NodeKeyProof},
    keys::{NodeKey, ServerKey},
    time::UnixTime,
};

/// Which of a server's networks a record belongs to. Zero in [`Register`](super::Register): the join secret or the
/// machine key decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NetworkId(#[n(0)] pub u32);

impl NetworkId {
    /// Not known yet, in the first record of a connection.
    pub const UNKNOWN: Self = Self(0);
}

/// The server's name for a node in its network, never used again for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NodeId(#[n(0)] pub u32);

/// A random number that a node's process draws once at its start, by which the server tells a restarted machine
/// from a cloned one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct InstanceId(#[n(0)] pub u64);

/// How far a netmap is: a number that grows with each change, within an epoch that changes when the server's
/// history does (a backup was restored). Numbers of different epochs do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Revision {
    /// The history that the number counts in; random.
    #[n(0)]
    pub epoch: u64,
    /// The changes counted so far.
    #[n(1)]
    pub number: u64,
}

/// What a node can hold. Absent means that it does not care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Capacity {
    /// Peers at most.
    #[n(0)]
    pub peers: Option<u32>,
    /// Routes at most, beside the peers' own addresses.
    #[n(1)]
    pub routes: Option<u32>,
}

/// How a node gets its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Delivery {
    /// All peers that it may reach, and each change to them.
    #[n(0)]
    Whole,
    /// Those peers that it holds or asks for, since all of them exceed its capacity.
    #[n(1)]
    OnDemand,
}

/// A text without control characters, so that it can be shown on a terminal.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// A text; `None` where it holds a control character.
    pub fn new(text: &'a str) -> Option<Self> {
        if text.chars().any(char::is_control) { None } else { Some(Self(text)) }
    }

    /// A text, cut at its first control character.
    pub fn cut(text: &'a str) -> Self {
        Self(text.split(char::is_control).next().unwrap_or_default())
    }

    /// The text.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<'b, C> Decode<'b, C> for Text<'b> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        Self::new(d.str()?).ok_or_else(|| DecodeError::message("a control character in a text"))
    }
}

impl<C> Encode<C> for Text<'_> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.str(self.0)?.ok()
    }
}

/// An IP address: 4 or 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub IpAddr);

impl<C> Decode<'_, C> for Address {
    fn decode(d: &mut Decoder<'_>, _: &mut C) -> Result<Self, DecodeError> {
        let bytes = d.bytes()?;
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Ok(Self(v4.into()));
        }
        let v6 =
            <[u8; 16]>::try_from(bytes).map_err(|_| DecodeError::message("an address of neither 4 nor 16 bytes"))?;
        Ok(Self(v6.into()))
    }
}

impl<C> Encode<C> for Address {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        match self.0 {
            IpAddr::V4(v4) => e.bytes(&v4.octets())?.ok(),
            IpAddr::V6(v6) => e.bytes(&v6.octets())?.ok(),
        }
    }
}

/// A UDP endpoint: the address, then the port in network byte order; 6 or 18 bytes. Scope ids do not travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(pub SocketAddr);

impl<C> Decode<'_, C> for Endpoint {
    fn decode(d: &mut Decoder<'_>, _: &mut C) -> Result<Self, DecodeError> {
        const LENGTH: &str = "an endpoint of neither 6 nor 18 bytes";
        let (address, port) = d.bytes()?.split_last_chunk::<2>().ok_or_else(|| DecodeError::message(LENGTH))?;
        let port = u16::from_be_bytes(*port);
        if let Ok(v4) = <[u8; 4]>::try_from(address) {
            return Ok(Self(SocketAddr::new(v4.into(), port)));
        }
        let v6 = <[u8; 16]>::try_from(address).map_err(|_| DecodeError::message(LENGTH))?;
        Ok(Self(SocketAddr::new(v6.into(), port)))
    }
}

impl<C> Encode<C> for Endpoint {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        let mut bytes = [0; 18];
        let address_len = match self.0.ip() {
            IpAddr::V4(v4) => copy(&mut bytes, 0, &v4.octets()),
            IpAddr::V6(v6) => copy(&mut bytes, 0, &v6.octets()),
        };
        let len = copy(&mut bytes, address_len, &self.0.port().to_be_bytes());
        e.bytes(bytes.get(..len).unwrap_or_default())?.ok()
    }
}

/// Copies `from` to `at` and returns where it ends. The caller's buffer is large enough.
fn copy(to: &mut [u8], at: usize, from: &[u8]) -> usize {
    to.iter_mut().skip(at).zip(from).for_each(|(to, from)| *to = *from);
    at + from.len()
}

/// Wall-clock time in milliseconds, an unsigned integer.
impl<C> Decode<'_, C> for UnixTime {
    fn decode(d: &mut Decoder<'_>, _: &mut C) -> Result<Self, DecodeError> {
        let millis = d.u64()?;
        Ok(Self::new(millis / 1_000, (millis % 1_000) as u32 * 1_000_000))
    }
}

impl<C> Encode<C> for UnixTime {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.u64(self.secs().saturating_mul(1_000).saturating_add(u64::from(self.subsec_nanos() / 1_000_000)))?.ok()
    }
}

macro_rules! byte_string {
    ($($name:ty, $len:literal);+) => {$(
        impl<C> Decode<'_, C> for $name {
            fn decode(d: &mut Decoder<'_>, _: &mut C) -> Result<Self, DecodeError> {
                let bytes = <[u8; $len]>::try_from(d.bytes()?)
                    .map_err(|_| DecodeError::message(concat!("a byte string that has not ", $len, " bytes")))?;
                Ok(Self::from_bytes(bytes))
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
                e.bytes(self.as_bytes())?.ok()
            }
        }
    )+};
}

byte_string!(NodeKey, 32; ServerKey, 32; NodeKeyProof, 16; JoinSecret, 16);
