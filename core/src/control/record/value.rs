//! The values that records are made of, and how each stands in CBOR.

use core::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{
    control::{
        cbor::{Item, Malformed, Reader, Writer, body},
        join_key::JoinSecret,
        proof::NodeKeyProof,
    },
    keys::{NodeKey, ServerKey},
    time::UnixTime,
};

/// Which of a server's networks a record belongs to. Zero in [`Register`](super::Register): the join secret or the
/// machine key decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NetworkId(pub u32);

impl NetworkId {
    /// Not known yet, in the first record of a connection.
    pub const UNKNOWN: Self = Self(0);
}

/// The server's name for a node in its network, never used again for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NodeId(pub u32);

/// A random number that a node's process draws once at its start, by which the server tells a restarted machine
/// from a cloned one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct InstanceId(pub u64);

/// How far a netmap is: a number that grows with each change, within an epoch that changes when the server's
/// history does (a backup was restored). Numbers of different epochs do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Revision {
    /// The history that the number counts in; random.
    pub epoch: u64,
    /// The changes counted so far.
    pub number: u64,
}

/// What a node can hold. Absent means that it does not care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Capacity {
    /// Peers at most.
    pub peers: Option<u32>,
    /// Routes at most, beside the peers' own addresses.
    pub routes: Option<u32>,
}

/// How a node gets its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Delivery {
    /// All peers that it may reach, and each change to them.
    Whole,
    /// Those peers that it holds or asks for, since all of them exceed its capacity.
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

impl<'b> Item<'b> for Text<'b> {
    fn read(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        Self::new(reader.text()?).ok_or(Malformed)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.text(self.0);
    }
}

macro_rules! numbers {
    ($($name:ident),+) => {$(
        impl Item<'_> for $name {
            fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                Item::read(reader).map(Self)
            }

            fn write(&self, writer: &mut Writer<'_>) {
                self.0.write(writer);
            }
        }
    )+};
}

numbers!(NetworkId, NodeId, InstanceId);

/// An array `[epoch, number]`. What a later version adds behind is skipped.
impl Item<'_> for Revision {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let behind = reader.array()?.checked_sub(2).ok_or(Malformed)?;
        let (epoch, number) = (reader.unsigned()?, reader.unsigned()?);
        for _ in 0..behind {
            reader.skip()?;
        }
        Ok(Self { epoch, number })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(2);
        writer.unsigned(self.epoch);
        writer.unsigned(self.number);
    }
}

body!(Capacity { 0: peers, 1: routes });

impl Item<'_> for Delivery {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.unsigned()? {
            0 => Ok(Self::Whole),
            1 => Ok(Self::OnDemand),
            _ => Err(Malformed),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.unsigned(match self {
            Self::Whole => 0,
            Self::OnDemand => 1,
        });
    }
}

/// An IP address: 4 or 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub IpAddr);

impl Item<'_> for Address {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        ip_address(reader.bytes()?).map(Self)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self.0 {
            IpAddr::V4(v4) => writer.bytes(&v4.octets()),
            IpAddr::V6(v6) => writer.bytes(&v6.octets()),
        }
    }
}

fn ip_address(bytes: &[u8]) -> Result<IpAddr, Malformed> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    <[u8; 16]>::try_from(bytes).map(IpAddr::from).map_err(|_| Malformed)
}

/// A UDP endpoint: the address, then the port in network byte order; 6 or 18 bytes. Scope ids do not travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(pub SocketAddr);

impl Item<'_> for Endpoint {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (address, port) = reader.bytes()?.split_last_chunk::<2>().ok_or(Malformed)?;
        Ok(Self(SocketAddr::new(ip_address(address)?, u16::from_be_bytes(*port))))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut bytes = [0; 18];
        let address_len = match self.0.ip() {
            IpAddr::V4(v4) => copy(&mut bytes, 0, &v4.octets()),
            IpAddr::V6(v6) => copy(&mut bytes, 0, &v6.octets()),
        };
        let len = copy(&mut bytes, address_len, &self.0.port().to_be_bytes());
        writer.bytes(bytes.get(..len).unwrap_or_default());
    }
}

/// Copies `from` to `at` and returns where it ends. The caller's buffer is large enough.
fn copy(to: &mut [u8], at: usize, from: &[u8]) -> usize {
    to.iter_mut().skip(at).zip(from).for_each(|(to, from)| *to = *from);
    at + from.len()
}

/// Wall-clock time in milliseconds, an unsigned integer.
impl Item<'_> for UnixTime {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let millis = reader.unsigned()?;
        Ok(Self::new(millis / 1_000, (millis % 1_000) as u32 * 1_000_000))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.unsigned(self.secs().saturating_mul(1_000).saturating_add(u64::from(self.subsec_nanos() / 1_000_000)));
    }
}

macro_rules! byte_strings {
    ($($name:ty),+) => {$(
        impl Item<'_> for $name {
            fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.byte_array().map(Self::from_bytes)
            }

            fn write(&self, writer: &mut Writer<'_>) {
                writer.bytes(self.as_bytes());
            }
        }
    )+};
}

byte_strings!(NodeKey, ServerKey, NodeKeyProof, JoinSecret);
