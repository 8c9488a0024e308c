//! The device: many peers behind one UDP port, without clock, sockets, randomness or heap of its own.
//!
//! The caller passes time, datagrams and inner packets in and carries out what comes back. There are two ways to
//! drive a device, on the same rules:
//!
//! - **Phases**, for throughput and for chips that must not compute for long at a stretch. Inner packets:
//!   [`begin_seal`](Device::begin_seal) → [`SealTicket::seal`] → [`commit_seal`](Device::commit_seal), and
//!   [`begin_open`](Device::begin_open) → [`OpenTicket::open`] → [`commit_open`](Device::commit_open). Handshakes:
//!   [`begin_handshake_receive`](Device::begin_handshake_receive) or [`poll`](Device::poll) →
//!   [`HandshakeTicket::step`] → [`commit_handshake`](Device::commit_handshake). What stands in the middle needs no
//!   device and may run on any thread.
//! - **One call**: [`send`](Device::send), [`receive`](Device::receive), [`poll_transmit`](Device::poll_transmit).
//!
//! Either way: after each call, and when [`poll_timeout`](Device::poll_timeout) has come, poll until there is
//! nothing more, and collect [`poll_event`](Device::poll_event).
//!
//! A *known* peer costs a compact record. It becomes *active*, with sessions and timers, at its first handshake, and
//! falls back when its keys are wiped. Where all active slots are taken, the peer that is idle for longest makes
//! room: for a packet of our own, or for a peer that has proven who it is, never for a stranger.

mod activation;
mod compose;
mod config;
mod event;
mod handshake;
mod load;
mod receive;
mod send;
mod timers;

use core::time::Duration;

use super::active::{ActivePeer, ActivePeers};
use super::allowed_ips::AllowedIps;
use super::cookie::CookieChecker;
use super::counters::{Counters, DropReason};
use super::handshake::StaticKeys;
use super::index_table::IndexTable;
use super::peer::{KnownPeer, KnownPeers, PeerId};
use super::rate_limit::RateLimiter;
use super::staging::StagedPool;
use super::storage::Storage;
#[cfg(doc)]
use super::ticket::{HandshakeTicket, OpenTicket, SealTicket};
use crate::time::{Instant, UnixTime};

pub use compose::{Received, SendOutcome, Transmit, TransmitKind};
pub use config::{AddPeerError, PeerState, PeerView};
pub use event::Event;
pub use handshake::HandshakeBegin;
pub use send::SealRefusal;
pub use timers::Work;

use event::EventQueue;
use load::LoadDetector;

/// A WireGuard device on the tables of `S`. See the [module](self) for how to drive it.
pub struct Device<S: Storage> {
    identity: Option<Identity>,
    known: KnownPeers<S::Known>,
    active: ActivePeers<S::Active, S::Window>,
    allowed_ips: AllowedIps<S::AllowedIps>,
    indices: IndexTable<S::Indices, u32>,
    staged: StagedPool<S::Staged>,
    limiter: RateLimiter<S::Sources>,
    load: LoadDetector,
    counters: Counters,
    events: EventQueue,
    wall: WallClock,
    /// No initiation is stamped earlier.
    timestamp_floor: UnixTime,
    jitter: Jitter,
    /// Serial of the last session that was begun.
    last_serial: u64,
    /// Until then no active slot is looked for again, since all were in use lately.
    crowded_until: Instant,
    mtu: usize,
    max_staged: usize,
}

/// The device's keys, and the checker of macs that belongs to them.
struct Identity {
    keys: StaticKeys,
    checker: CookieChecker,
}

impl<S: Storage> Device<S> {
    /// What was dropped, by reason.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The next thing that happened. Events are few and kept in a small queue: collect them after each call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    fn raise(&mut self, event: Event) {
        if !self.events.push(event) {
            self.counters.count(DropReason::EventLost);
        }
    }

    /// The active slot of a peer.
    fn slot_of(&self, peer: PeerId) -> Option<u32> {
        self.known.get(peer)?.active()
    }

    /// The active peer in a slot, with its known record and handle.
    fn active_at(&mut self, slot: u32) -> Option<(PeerId, &mut KnownPeer, &mut ActivePeer<S::Window>)> {
        let active = self.active.get_mut(slot)?;
        let id = self.known.id_at(active.owner())?;
        let known = self.known.at_mut(active.owner())?;
        Some((id, known, active))
    }
}

impl<S: Storage> core::fmt::Debug for Device<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Device")
            .field("public_key", &self.public_key())
            .field("known", &self.known.len())
            .field("active", &self.active.len())
            .finish_non_exhaustive()
    }
}

/// The wall clock as it was last told, to be carried on by the monotonic one.
#[derive(Clone, Copy, Debug, Default)]
struct WallClock {
    at: Instant,
    wall: UnixTime,
}

impl WallClock {
    fn set(&mut self, now: Instant, wall: UnixTime) {
        *self = Self { at: now, wall };
    }

    fn at(&self, now: Instant) -> UnixTime {
        self.wall + now.saturating_since(self.at)
    }
}

/// The random part of timers that keeps two peers from trying in step. Not a secret.
#[derive(Clone, Debug)]
struct Jitter(u32);

impl Jitter {
    fn new(rng: &mut dyn rand_core::CryptoRng) -> Self {
        Self(rng.next_u32() | 1)
    }

    /// Between zero and [`MAX_TIMER_JITTER`](super::constants::MAX_TIMER_JITTER).
    fn draw(&mut self) -> Duration {
        // Marsaglia's xorshift, period 2^32 - 1.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        let max = super::constants::MAX_TIMER_JITTER.as_millis() as u32;
        Duration::from_millis(u64::from(self.0 % (max + 1)))
    }
}
