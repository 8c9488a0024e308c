//! The firmware's handle of the node.

use core::{fmt, net::Ipv4Addr};

use weft_core::control::ErrorCode;

use crate::{
    event::{Event, Status},
    state::Shared,
};

/// A node's handle. Copies are the same node.
#[derive(Clone, Copy)]
pub struct Node {
    shared: &'static Shared,
}

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ResolveError {
    /// No peer of this node has the name.
    NotFound,
    /// The name is not known here, and the control server is not there to be asked.
    ServerAway,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no peer has this name",
            Self::ServerAway => "the name is not known, and the control server cannot be asked now",
        })
    }
}

impl core::error::Error for ResolveError {}

/// A peer as a status page shows it.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its name, without the domain.
    pub name: &'a str,
    /// Its mesh address.
    pub address: Option<Ipv4Addr>,
    /// Whether there is a session that can send.
    pub connected: bool,
    /// Bytes of authentic datagrams received.
    pub received_bytes: u64,
    /// Bytes of datagrams sent.
    pub sent_bytes: u64,
}

/// What was carried and dropped since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counters {
    /// Inner packets that were sent.
    pub sent: u32,
    /// Inner packets that were received.
    pub received: u32,
    /// Handshakes that were completed.
    pub handshakes: u32,
    /// Datagrams and packets that were dropped, for any reason.
    pub dropped: u32,
    /// Connections to the control server that were begun.
    pub connects: u32,
}

impl Node {
    pub(crate) const fn new(shared: &'static Shared) -> Self {
        Self { shared }
    }

    /// How it stands with the node.
    pub fn status(&self) -> Status {
        self.shared.status.get()
    }

    /// The node's mesh address, once it has one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.status().address
    }

    /// Waits until the node has a mesh address.
    pub async fn wait_joined(&self) -> Ipv4Addr {
        core::future::pending().await
    }

    /// The next event. Events wait for one reader; of many that nobody reads the oldest are lost.
    pub async fn next_event(&self) -> Event {
        core::future::pending().await
    }

    /// The mesh address of the peer of this name, the domain left out: of the netmap, else the server is asked.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve(&self, _name: &str) -> Result<Ipv4Addr, ResolveError> {
        Err(ResolveError::ServerAway)
    }

    /// Shows each peer that the node has a record of. The node stands still meanwhile: `show` is to be short.
    pub fn peers(&self, _show: impl FnMut(&Peer<'_>)) {}

    /// Why the server refused this node or the last connection ended: its code, where it said one, and a sentence.
    pub fn last_error<R>(&self, read: impl FnOnce(Option<ErrorCode>, &str) -> R) -> Option<R> {
        let _ = read;
        None
    }

    /// What was carried and dropped since the start.
    pub fn counters(&self) -> Counters {
        Counters::default()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.status()).finish()
    }
}
