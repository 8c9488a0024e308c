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
mod shape;
mod to_node;
mod to_server;
mod value;

use minicbor::{Decode, Decoder, Encode, Encoder, encode::write::Cursor};

pub use error_code::{ErrorCode, Retry};
pub use list::{Iter, List};
pub use to_node::{
    Error, Health, LookupResult, Peer, PeerRemove, PeerStatus, Registered, SelfInfo, ServerNext, SnapshotBegin,
    SnapshotEnd, Time, UpTo,
};
pub use to_server::{Endpoints, Held, Logout, Lookup, Register, RenewNodeKey, Watch};
pub use value::{Address, Capacity, Delivery, Endpoint, InstanceId, NetworkId, NodeId, Revision, Text};

/// Asks the other side for a [`Pong`], to learn whether it is still there. The connections answer by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Ping {
    /// Repeated by the answer.
    #[n(0)]
    pub token: u32,
}

/// The answer to a [`Ping`].
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Pong {
    /// The token of the [`Ping`].
    #[n(0)]
    pub token: u32,
}

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

/// The bytes are not a record: not CBOR, of indefinite length, a wrong type, a field that has to be there is
/// missing, or bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Malformed;

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the record is malformed")
    }
}

impl core::error::Error for Malformed {}

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
                let mut encoder = Encoder::new(Cursor::new(out));
                encoder.array(3).and_then(|e| e.u16(self.number())).map_err(|_| TooLarge)?;
                encoder.encode(network).map_err(|_| TooLarge)?;
                match self { $(Self::$variant(body) => encoder.encode(body).map_err(|_| TooLarge)?,)+ };
                Ok(encoder.into_writer().position())
            }

            /// Reads the record that `bytes` are; `None` for a type that this version does not know.
            ///
            /// # Errors
            /// [`Malformed`] where they are not exactly one record.
            pub fn decode(bytes: &'a [u8]) -> Result<(NetworkId, Option<Self>), Malformed> {
                shape::check(bytes)?;
                let mut d = Decoder::new(bytes);
                if d.array().map_err(|_| Malformed)? != Some(3) {
                    return Err(Malformed);
                }
                let number = d.u16().map_err(|_| Malformed)?;
                let network = d.decode().map_err(|_| Malformed)?;
                let body = d.position();
                skip_body(&mut d)?;
                d.set_position(body);
                let record = match number {
                    $($number => Some(Self::$variant(d.decode().map_err(|_| Malformed)?)),)+
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
    let mut d = Decoder::new(bytes);
    match d.array() {
        Ok(Some(3)) => d.u16().map_err(|_| Malformed),
        _ => Err(Malformed),
    }
}

/// Skips a body: a map with unsigned keys.
fn skip_body(d: &mut Decoder<'_>) -> Result<(), Malformed> {
    let entries = d.map().map_err(|_| Malformed)?.ok_or(Malformed)?;
    for _ in 0..entries {
        d.u64().map_err(|_| Malformed)?;
        d.skip().map_err(|_| Malformed)?;
    }
    Ok(())
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
