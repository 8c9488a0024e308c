//! The whole WireGuard protocol for many peers in one heap-free [`Device`]. Knows nothing of the mesh.
//!
//! The lower half knows nothing of the device: [`message`] and [`handshake`] are the wire, [`cookie`] and
//! [`rate_limit`] the defence, [`replay`], [`tai64n`], [`allowed_ips`] and [`index_table`] what their names say. The
//! upper half is the device: peers ([`peer`], known and active apart), their sessions and timers, packets that wait
//! for a handshake, and the tickets by which work leaves the device and comes back ([`ticket`]). All tables lie in
//! [`storage`] that the caller gives.

mod active;
pub mod allowed_ips;
pub mod constants;
pub mod cookie;
pub mod counters;
pub mod device;
pub mod handshake;
pub mod index_table;
pub mod message;
pub mod peer;
pub mod rate_limit;
pub mod replay;
mod session;
mod staging;
pub mod storage;
pub mod tai64n;
pub mod ticket;
mod timers;

pub use active::ActivePeer;
pub use counters::{Counters, DropReason};
pub use device::{
    AddPeerError, Device, Event, HandshakeBegin, PeerState, PeerView, Received, SealRefusal, SendOutcome, Transmit,
    TransmitKind, Work,
};
pub use message::MessageKind;
pub use peer::{KnownPeer, LastHandshake, PeerId};
pub use session::Window;
pub use staging::{FixedPacket, PacketBuffer, StagedPacket};
pub use ticket::{HandshakeTicket, Incoming, OpenTicket, Outgoing, SealOutcome, SealTicket, TicketProgress, Verdict};
