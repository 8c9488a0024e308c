//! The control protocol between a node and its control server: both halves, without I/O.
//!
//! `docs/control-protocol.md` describes it for an implementer. A node opens one TCP connection, asks the server's
//! ordinary HTTP port for an upgrade ([`upgrade`]), proves the two static keys to each other with Noise IK
//! ([`handshake`]), and from then on both sides send sealed frames ([`frame`], [`channel`]), each of which holds
//! one CBOR record ([`record`]). The node's side of a connection is [`ClientConnection`], the server's
//! [`ServerConnection`]; both are fed bytes and a clock. What a node needs to find and to trust its server is
//! one string, the [`JoinKey`].
//!
//! This module knows nothing of peers' sessions, of netmaps or of the server's database: it says what was
//! received, in an order that the protocol allows, from whom it is proven to be.

pub mod cbor;
pub mod channel;
pub mod client;
pub mod frame;
pub mod handshake;
pub mod join_key;
pub mod proof;
pub mod record;
pub mod server;
pub mod server_address;
pub mod upgrade;

pub use channel::SendError;
pub use client::{ClientConfig, ClientConnection, ClientError};
pub use join_key::{JoinKey, JoinKeyError, JoinSecret};
pub use record::{ClientRecord, Delivery, ErrorCode, InstanceId, NetworkId, NodeId, Retry, Revision, ServerRecord};
pub use server::{ServerConnection, ServerError};
pub use server_address::ServerAddress;

/// The path of the upgrade request.
pub const PATH: &str = "/weft/control";
/// The protocol's name in the `Upgrade` header and at the head of the prologue.
pub const PROTOCOL: &str = "weft-control";
/// The versions of the protocol that this code speaks.
pub const VERSIONS: upgrade::VersionRange = upgrade::VersionRange { min: 1, max: 1 };
/// The largest record in bytes, before it is sealed.
pub const MAX_RECORD: usize = 1_024;
/// The largest frame in bytes: the length field, the largest record and the tag.
pub const MAX_FRAME: usize = frame::LENGTH_LEN + MAX_RECORD + crate::crypto::TAG_LEN;
/// Room that a node needs for what it says to its server at once, in bytes.
pub const MAX_NODE_OUTPUT: usize = crate::limits::NODE_OUTPUT;
