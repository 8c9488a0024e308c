//! The records: what the two sides say to each other, in CBOR (RFC 8949).
//!
//! A record is `[type, network, body]`: two unsigned integers and a map with unsigned keys. All lengths are
//! definite. A reader skips map keys that it does not know, and whole records of a type that it does not know, so
//! both may be added without a new version. A field that is there today stays.
//!
//! | type | from | record | type | from | record |
//! |---|---|---|---|---|---|
//! | 1 | both | [`Ping`] | 64 | server | [`Registered`] |
//! | 2 | both | [`Pong`] | 65 | server | `SelfChanged` ([`SelfInfo`]) |
//! | 16 | node | [`Register`] | 66 | server | `PeerUpsert` ([`Peer`]) |
//! | 17 | node | [`RenewNodeKey`] | 67 | server | [`PeerRemove`] |
//! | 18 | node | [`Endpoints`] | 68 | server | [`PeerStatus`] |
//! | 19 | node | [`Lookup`] | 69, 70 | server | [`SnapshotBegin`], [`SnapshotEnd`] |
//! | 20 | node | [`Watch`] | 71 | server | [`UpTo`] |
//! | 21 | node | [`Held`] | 72 | server | [`LookupResult`] |
//! | 22 | node | [`Logout`] | 73 | server | [`Time`] |
//! | | | | 74 | server | [`Health`] |
//! | | | | 75 | server | [`ServerNext`] |
//! | | | | 76 | server | [`Error`] |

mod error_code;
mod list;
mod to_node;
mod to_server;
mod value;

use super::cbor::{Item, Reader, Writer, body};

pub use super::cbor::Malformed;
pub use error_code::{ErrorCode, Retry};
pub use list::{Iter, List};
pub use to_node::{
    Error, Health, LookupResult, Peer, PeerRemove, PeerStatus, Registered, SelfInfo, ServerNext, SnapshotBegin,
    SnapshotEnd, Time, UpTo,
};
pub use to_server::{Endpoints, Held, Logout, Lookup, Register, RenewNodeKey, Watch};
pub use value::{Address, Capacity, Delivery, Endpoint, InstanceId, NetworkId, NodeId, Revision, Text};

/// Asks the other side for a [`Pong`], to learn whether it is still there. The connections answer by themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ping {
    /// Repeated by the answer.
    pub token: u32,
}

body!(Ping { 0: token });

/// The answer to a [`Ping`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pong {
    /// The token of the [`Ping`].
    pub token: u32,
}

body!(Pong { 0: token });

impl Ping {
    /// The number of the record's type.
    pub const NUMBER: u16 = 1;
}

impl Pong {
    /// The number of the record's type.
    pub const NUMBER: u16 = 2;
}

/// The record does not fit into [`MAX_RECORD`](super::MAX_RECORD) bytes or the buffer that it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TooLarge;

impl core::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the record does not fit into its buffer; send it in smaller parts")
    }
}

impl core::error::Error for TooLarge {}

macro_rules! records {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $number:literal $variant:ident($body:ty)),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "decoded in place and borrowed; there is no heap to box it on")]
        pub enum $name<'a> {
            $($(#[$variant_doc])* $variant($body),)+
        }

        impl<'a> $name<'a> {
            /// The number of the record's type on the wire.
            pub const fn number(&self) -> u16 {
                match self { $(Self::$variant(_) => $number,)+ }
            }

            /// Whether this version knows a type of record.
            pub const fn is_known(number: u16) -> bool {
                matches!(number, $($number)|+)
            }

            /// Writes the record to `out` and returns its length.
            ///
            /// # Errors
            /// [`TooLarge`] where `out` is too small.
            pub fn encode(&self, network: NetworkId, out: &mut [u8]) -> Result<usize, TooLarge> {
                let mut writer = begin(self.number(), network, out);
                match self { $(Self::$variant(body) => body.write(&mut writer),)+ }
                writer.finish().ok_or(TooLarge)
            }

            /// Reads the record that `bytes` are; `None` for a type that this version does not know.
            ///
            /// # Errors
            /// [`Malformed`] where they are not exactly one record.
            pub fn decode(bytes: &'a [u8]) -> Result<(NetworkId, Option<Self>), Malformed> {
                let (number, network, mut body) = open(bytes)?;
                let record = match number {
                    $($number => Some(Self::$variant(Item::read(&mut body)?)),)+
                    _ => None,
                };
                Ok((network, record))
            }
        }

        $(impl<'a> From<$body> for $name<'a> {
            fn from(body: $body) -> Self {
                Self::$variant(body)
            }
        })+
    };
}

/// The number of a record's type.
///
/// # Errors
/// [`Malformed`] where the bytes do not begin as a record does.
pub fn peek(bytes: &[u8]) -> Result<u16, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != 3 {
        return Err(Malformed);
    }
    Item::read(&mut reader)
}

/// Records of a server that a node writes too, for its own next start: each with the number of its type.
pub(crate) trait Kept<'b>: Item<'b> {
    const NUMBER: u16;

    /// Writes the record as [`ServerRecord::encode`] does, without the code for the others.
    fn encode_alone(&self, network: NetworkId, out: &mut [u8]) -> Option<usize> {
        let mut writer = begin(Self::NUMBER, network, out);
        self.write(&mut writer);
        writer.finish()
    }
}

impl<'b> Kept<'b> for SelfInfo<'b> {
    const NUMBER: u16 = 65;
}

impl<'b> Kept<'b> for Peer<'b> {
    const NUMBER: u16 = 66;
}

impl Kept<'_> for UpTo {
    const NUMBER: u16 = 71;
}

/// Writes what stands before a record's body.
fn begin(number: u16, network: NetworkId, out: &mut [u8]) -> Writer<'_> {
    let mut writer = Writer::new(out);
    writer.array(3);
    number.write(&mut writer);
    network.write(&mut writer);
    writer
}

/// Reads what stands before a record's body, and checks that the bytes are exactly one record, well-formed also where this
/// version skips it.
fn open(bytes: &[u8]) -> Result<(u16, NetworkId, Reader<'_>), Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != 3 {
        return Err(Malformed);
    }
    let (number, network) = (Item::read(&mut reader)?, Item::read(&mut reader)?);
    let body = reader;
    reader.fields()?;
    if reader.is_at_end() { Ok((number, network, body)) } else { Err(Malformed) }
}

records! {
    /// A record from a node to its server.
    ClientRecord {
        /// Are you there?
        1 Ping(Ping),
        /// Yes.
        2 Pong(Pong),
        /// Who this is. The first record, and only the first.
        16 Register(Register<'a>),
        /// A new node key.
        17 RenewNodeKey(RenewNodeKey),
        /// Where this node may be reached.
        18 Endpoints(Endpoints<'a>),
        /// Which peer is that?
        19 Lookup(Lookup<'a>),
        /// Whose status this node wants.
        20 Watch(Watch<'a>),
        /// Which peers this node holds.
        21 Held(Held<'a>),
        /// This node leaves.
        22 Logout(Logout),
    }
}

records! {
    /// A record from a server to a node.
    ServerRecord {
        /// Are you there?
        1 Ping(Ping),
        /// Yes.
        2 Pong(Pong),
        /// You are registered. The first record, unless that is [`Self::Error`].
        64 Registered(Registered<'a>),
        /// What the server knows of this node changed.
        65 SelfChanged(SelfInfo<'a>),
        /// A peer, as it is now.
        66 PeerUpsert(Peer<'a>),
        /// A peer is gone.
        67 PeerRemove(PeerRemove),
        /// How a watched peer is.
        68 PeerStatus(PeerStatus<'a>),
        /// A whole netmap begins.
        69 SnapshotBegin(SnapshotBegin),
        /// The whole netmap was sent.
        70 SnapshotEnd(SnapshotEnd),
        /// All changes up to here were sent.
        71 UpTo(UpTo),
        /// The answer to a lookup.
        72 LookupResult(LookupResult),
        /// The server's clock.
        73 Time(Time),
        /// Something a person should know.
        74 Health(Health<'a>),
        /// Where the server will be.
        75 ServerNext(ServerNext<'a>),
        /// The connection ends, and why.
        76 Error(Error<'a>),
    }
}
