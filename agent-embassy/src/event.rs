//! What the firmware is told.

use core::net::Ipv4Addr;

use weft_core::control::ErrorCode;

/// Something that happened to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// The node is on the mesh under this address, for the first time since the start: by the server's word, or by
    /// what it kept.
    Joined(Ipv4Addr),
    /// The server gave the node another address.
    AddressChanged(Ipv4Addr),
    /// A session with the peer of this address began, or was renewed: every two minutes while there is traffic.
    PeerUp(Ipv4Addr),
    /// The control server does not answer any more. Peers that are known stay reachable.
    ServerAway,
    /// The control server is there, and has registered this node.
    ServerBack,
    /// The control server refused this node; [`Node::last_error`](crate::Node::last_error) has its sentence.
    Refused(ErrorCode),
    /// The node is no member of the mesh any more.
    Left,
    /// Something is in the way that needs a person, or is so no more.
    Problem(Option<Problem>),
}

/// What keeps a node from working until somebody does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Problem {
    /// The node is no member yet and was given no join key.
    NoJoinKey,
    /// The join key cannot be read.
    JoinKeyUnreadable,
    /// There is no seed in flash and the board vouches for too little noise to make keys from.
    NoEntropy,
    /// The flash cannot be used: nothing would outlast a reset, so nothing is begun.
    Flash,
    /// This node's own key expired.
    KeyExpired,
}

/// How it stands with the control server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Server {
    /// No connection is wanted.
    #[default]
    Off,
    /// The next attempt waits for its time.
    Waiting,
    /// Connecting, or not registered yet.
    Connecting,
    /// Registered.
    Registered,
}

/// How it stands with the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Status {
    /// Its mesh address.
    pub address: Option<Ipv4Addr>,
    /// How it stands with the control server.
    pub server: Server,
    /// Peers that it has a record of.
    pub peers: u16,
    /// Peers that it has sessions or timers for.
    pub active: u16,
    /// What is in the way.
    pub problem: Option<Problem>,
}
