//! The firmware's handle of the node.

use core::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    net::{IpAddr, Ipv4Addr},
    task::Poll,
};

use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Timer};
use weft_core::{
    control::ErrorCode,
    node::{PeerRecord, Resolution, SelfRecord},
    wireguard::PeerState,
};

use crate::{
    clock,
    event::{Event, Status},
    state::{Mesh, Shared},
};

/// After this time an answer of the server is not waited for any longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

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

/// What was carried and dropped since the start. Each wraps.
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

impl Counters {
    pub(crate) const ZERO: Self = Self { sent: 0, received: 0, handshakes: 0, dropped: 0, connects: 0 };
}

impl Node {
    pub(crate) const fn new(shared: &'static Shared) -> Self {
        Self { shared }
    }

    /// How it stands with the node.
    pub fn status(&self) -> Status {
        self.shared.board.status()
    }

    /// The node's mesh address, once it has one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.shared.board.address.get()
    }

    /// Waits until the node has a mesh address.
    pub async fn wait_joined(&self) -> Ipv4Addr {
        self.wait(Self::address).await
    }

    /// The next event. Events wait for one reader; of many that nobody reads the oldest are lost.
    pub async fn next_event(&self) -> Event {
        self.wait(|node| node.shared.board.pop_event()).await
    }

    /// Waits until `look` gives something. It is asked after each change of what the board says.
    async fn wait<R>(&self, look: impl Fn(&Self) -> Option<R>) -> R {
        poll_fn(|cx| {
            self.shared.board.register(cx.waker());
            look(self).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The mesh address of the peer of this name, the domain left out: of the netmap, else the server is asked.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve(&self, name: &str) -> Result<Ipv4Addr, ResolveError> {
        let answer = poll_fn(|cx| {
            self.shared.board.register(cx.waker());
            self.look_up(name).map_or(Poll::Pending, Poll::Ready)
        });
        match select(answer, Timer::after(ANSWER_WITHIN)).await {
            Either::First(answer) => answer,
            Either::Second(()) => Err(ResolveError::ServerAway),
        }
    }

    /// What is known of a name now; `None` where the server was asked.
    fn look_up(&self, name: &str) -> Option<Result<Ipv4Addr, ResolveError>> {
        let mut mesh = match self.shared.mesh.get().map(RefCell::try_borrow_mut) {
            Some(Ok(mesh)) => mesh,
            _ => return Some(Err(ResolveError::ServerAway)),
        };
        let resolution = mesh.node.resolve(name, clock::now());
        let found = match resolution {
            Resolution::Awaited => {
                // The question goes out by the node's task.
                self.shared.kick();
                return None;
            }
            Resolution::Peer(id) => mesh.node.netmap().by_id(id).and_then(PeerRecord::v4),
            Resolution::Absent => mesh.node.netmap().own().filter(|own| own.name() == name).and_then(SelfRecord::v4),
            Resolution::NotNow => return Some(Err(ResolveError::ServerAway)),
        };
        Some(found.ok_or(ResolveError::NotFound))
    }

    /// Shows each peer that the node has a record of. The node stands still meanwhile: `show` is to be short, and does
    /// not use this handle.
    pub fn peers(&self, mut show: impl FnMut(&Peer<'_>)) {
        let now = clock::now();
        self.read(|mesh| {
            for record in mesh.node.netmap().peers() {
                let view = mesh.node.device_peer(record.id()).and_then(|peer| mesh.node.device().peer(peer, now));
                show(&Peer {
                    name: record.name(),
                    address: record.v4(),
                    connected: view.as_ref().is_some_and(|view| view.state == PeerState::Established),
                    received_bytes: view.as_ref().map_or(0, |view| view.received_bytes),
                    sent_bytes: view.as_ref().map_or(0, |view| view.sent_bytes),
                });
            }
        });
    }

    /// The name of the peer with this mesh address, given to `read`.
    pub fn name_of<R>(&self, address: Ipv4Addr, read: impl FnOnce(&str) -> R) -> Option<R> {
        self.read(|mesh| mesh.node.peer_by_address(IpAddr::V4(address)).map(|peer| read(peer.name()))).flatten()
    }

    /// Why the server refused this node or the last connection ended: its code, where it said one, and a sentence.
    pub fn last_error<R>(&self, read: impl FnOnce(Option<ErrorCode>, &str) -> R) -> Option<R> {
        self.read(|mesh| mesh.node.last_error().map(|(code, sentence)| read(code, sentence))).flatten()
    }

    /// What was carried and dropped since the start.
    pub fn counters(&self) -> Counters {
        self.shared.board.counters()
    }

    /// Reads the node, once there is one.
    fn read<R>(&self, read: impl FnOnce(&Mesh) -> R) -> Option<R> {
        let mesh = self.shared.mesh.get()?.try_borrow().ok()?;
        Some(read(&mesh))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.status()).finish()
    }
}
