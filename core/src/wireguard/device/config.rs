//! Configuration: keys, peers, allowed IPs, limits; and what can be seen of a peer.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use zeroize::Zeroize;

use super::{Device, EventQueue, Identity, Jitter, LoadDetector, WallClock};
use crate::crypto::Crypto;
use crate::ip::IpPrefix;
use crate::keys::{NodeKey, NodeSecret, PresharedKey};
use crate::time::{Instant, UnixTime};
use crate::wireguard::active::ActivePeers;
use crate::wireguard::allowed_ips::{AllowedIps, AllowedIpsFull};
use crate::wireguard::cookie::CookieChecker;
use crate::wireguard::counters::{Counters, DropReason};
use crate::wireguard::handshake::StaticKeys;
use crate::wireguard::index_table::IndexTable;
use crate::wireguard::peer::{KnownPeers, LastHandshake, PeerId};
use crate::wireguard::rate_limit::RateLimiter;
use crate::wireguard::session::Role;
use crate::wireguard::staging::StagedPool;
use crate::wireguard::storage::{Storage, Tables};
use crate::wireguard::tai64n::Tai64n;
use crate::wireguard::timers::Timer;

/// Inner MTU of a device that was told no other: 1,500 less the 80 bytes that WireGuard over IPv6 adds.
const DEFAULT_MTU: usize = 1_420;
/// Packets of one peer that wait for a handshake, in a device that was told no other number (the kernel's).
const DEFAULT_MAX_STAGED: usize = 128;
/// Handshake messages a second, and at once, from which on a device that was told no others counts as loaded.
const DEFAULT_LOAD: (u32, u32) = (100, 100);

/// Why a peer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AddPeerError {
    /// The table of known peers is full.
    Full,
    /// The key is the device's own.
    OwnKey,
}

impl fmt::Display for AddPeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the device has no room for another peer",
            Self::OwnKey => "a device cannot be its own peer",
        })
    }
}

impl core::error::Error for AddPeerError {}

/// How it stands with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PeerState {
    /// No session that can send, and none is tried for.
    Idle,
    /// No session that can send yet; a handshake is under way.
    Handshaking,
    /// There is a session that can send.
    Established,
}

/// What can be seen of a peer.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Its key.
    pub key: NodeKey,
    /// Where it was last heard of, or is said to be.
    pub endpoint: Option<SocketAddr>,
    /// When a handshake was last completed.
    pub last_handshake: Option<LastHandshake>,
    /// Bytes of authentic datagrams received, handshakes and padding included.
    pub received_bytes: u64,
    /// Bytes of datagrams sent, likewise.
    pub sent_bytes: u64,
    /// The persistent keepalive's interval.
    pub persistent_keepalive: Option<Duration>,
    /// When its key expires.
    pub not_after: Option<UnixTime>,
    /// How it stands.
    pub state: PeerState,
}

impl<S: Storage> Device<S> {
    /// A device without private key and peers.
    ///
    /// `rng` gives the secrets of hash tables; it is not kept.
    pub fn new(tables: Tables<S>, rng: &mut dyn rand_core::CryptoRng) -> Self {
        let mut hash_key = [0; 32];
        rng.fill_bytes(&mut hash_key);
        let (per_second, burst) = DEFAULT_LOAD;
        let device = Self {
            identity: None,
            known: KnownPeers::new(tables.known, hash_key),
            active: ActivePeers::new(tables.active),
            allowed_ips: AllowedIps::new(tables.allowed_ips),
            indices: IndexTable::new(tables.indices),
            staged: StagedPool::new(tables.staged),
            limiter: RateLimiter::new(tables.sources, rng),
            load: LoadDetector::new(per_second, burst),
            counters: Counters::new(),
            events: EventQueue::new(),
            wall: WallClock::default(),
            timestamp_floor: UnixTime::default(),
            jitter: Jitter::new(rng),
            last_serial: 0,
            crowded_until: Instant::ZERO,
            mtu: DEFAULT_MTU,
            max_staged: DEFAULT_MAX_STAGED,
        };
        hash_key.zeroize();
        device
    }

    /// Sets the least time that initiations are stamped with, for a wall clock that may stand behind what peers have
    /// seen from this key before.
    pub const fn set_timestamp_floor(&mut self, floor: UnixTime) {
        self.timestamp_floor = floor;
    }

    /// Sets the inner MTU, which padding does not exceed. Default 1,420.
    pub const fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
    }

    /// Sets how many packets of one peer may wait for a handshake; the storage bounds those of all peers. Default 128.
    pub const fn set_max_staged(&mut self, packets: usize) {
        self.max_staged = packets;
    }

    /// Sets from how many handshake messages a second, after a burst, the device counts as loaded and demands
    /// cookies. Default 100 and 100. An initiation costs up to five Diffie-Hellmans, a response two.
    pub fn set_load_limit(&mut self, per_second: u32, burst: u32) {
        self.load = LoadDetector::new(per_second, burst);
    }

    /// Tells the device that it is loaded now and for a second on, for instance since a queue of tickets is long.
    pub fn note_load(&mut self, now: Instant) {
        self.load.note_load(now);
    }

    /// Sets or removes the private key. A peer with the same key is removed. Sessions under the old key send no more
    /// and every peer may be initiated to at once; without a key, all sessions are wiped.
    pub fn set_private_key<C: Crypto>(&mut self, secret: Option<NodeSecret>, now: Instant) {
        let unchanged = match (&self.identity, &secret) {
            (Some(identity), Some(secret)) => identity.keys.secret() == secret,
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            return;
        }
        self.replace_keys(secret.map(StaticKeys::new::<C::Dh>), now);
    }

    /// As [`set_private_key`](Self::set_private_key), with the public key that belongs to `secret`, which costs a
    /// Diffie-Hellman to compute.
    pub(crate) fn set_key_pair(&mut self, secret: &NodeSecret, public: &NodeKey, now: Instant) {
        if self.private_key() != Some(secret) {
            self.replace_keys(Some(StaticKeys::of_pair(secret.clone(), *public)), now);
        }
    }

    fn replace_keys(&mut self, keys: Option<StaticKeys>, now: Instant) {
        self.identity = keys.map(|keys| {
            let checker = CookieChecker::new(keys.public());
            Identity { keys, checker }
        });
        if let Some(own) = self.public_key().copied().and_then(|key| self.known.find(&key)) {
            self.remove_peer(own);
        }
        for slot in self.active.slots() {
            self.forget_initiation(slot);
            if self.identity.is_none() {
                self.wipe_keys(slot);
            }
            let Some((peer, known, active)) = self.active_at(slot) else { continue };
            active.static_static = None;
            active.sessions.stop_sending();
            active.timers.allow_initiation();
            let wanted = known.persistent_keepalive().is_some() || !active.staged.is_empty();
            if wanted && self.identity.is_some() {
                let _ = self.initiate(peer, now);
            }
        }
    }

    /// The device's public key.
    pub fn public_key(&self) -> Option<&NodeKey> {
        self.identity.as_ref().map(|identity| identity.keys.public())
    }

    /// The device's private key, for configuration tools.
    pub fn private_key(&self) -> Option<&NodeSecret> {
        self.identity.as_ref().map(|identity| identity.keys.secret())
    }

    /// Adds a peer; one that is there already is left as it is.
    ///
    /// # Errors
    /// [`AddPeerError`]; nothing has changed then.
    pub fn add_peer(&mut self, key: &NodeKey) -> Result<PeerId, AddPeerError> {
        if self.public_key() == Some(key) {
            return Err(AddPeerError::OwnKey);
        }
        match self.known.find(key) {
            Some(peer) => Ok(peer),
            None => self.known.add(*key).ok_or(AddPeerError::Full),
        }
    }

    /// Removes a peer and wipes what belongs to it; false where it is gone already. Tickets of the peer are stale from
    /// now on. Prefixes that it still has cost a search through all; who knows them removes them before.
    pub fn remove_peer(&mut self, peer: PeerId) -> bool {
        if self.known.get(peer).is_none() {
            return false;
        }
        if let Some(slot) = self.slot_of(peer) {
            self.deactivate(slot);
        }
        self.clear_allowed_ips(peer);
        self.known.remove(peer);
        true
    }

    /// The handle of the peer with this key.
    pub fn peer_by_key(&self, key: &NodeKey) -> Option<PeerId> {
        self.known.find(key)
    }

    /// All known peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.known.ids()
    }

    /// How many peers are known, and how many of them are active.
    pub const fn peer_counts(&self) -> (usize, usize) {
        (self.known.len(), self.active.len())
    }

    /// How many peers may be known and active at once.
    pub fn max_peers(&self) -> usize {
        self.known.limit().min(self.active.limit())
    }

    /// The greatest timestamp of an authentic initiation of a peer; zero where there was none.
    pub fn greatest_timestamp(&self, peer: PeerId) -> Tai64n {
        self.known.get(peer).map_or(Tai64n::ZERO, |known| known.greatest_timestamp)
    }

    /// Refuses initiations of a peer up to this timestamp, for an embedder that remembers it of a peer that it removed.
    /// Never lowers what is refused. False for a stale handle.
    pub fn set_greatest_timestamp(&mut self, peer: PeerId, timestamp: Tai64n) -> bool {
        let known = self.known.get_mut(peer);
        known.map(|known| known.greatest_timestamp = known.greatest_timestamp.max(timestamp)).is_some()
    }

    /// What can be seen of a peer. `now` says whether its session can still send.
    pub fn peer(&self, peer: PeerId, now: Instant) -> Option<PeerView> {
        let known = self.known.get(peer)?;
        let state = known.active().and_then(|slot| self.active.get(slot)).map_or(PeerState::Idle, |active| {
            let waits = [Timer::Initiate, Timer::Retransmit].iter().any(|timer| active.timers.is_armed(*timer));
            match active.sessions.get(Role::Current) {
                Some(session) if session.may_send(1, now) => PeerState::Established,
                _ if waits => PeerState::Handshaking,
                _ => PeerState::Idle,
            }
        });
        Some(PeerView {
            key: *known.key(),
            endpoint: known.endpoint,
            last_handshake: known.last_handshake,
            received_bytes: known.received_bytes,
            sent_bytes: known.sent_bytes,
            persistent_keepalive: known.persistent_keepalive(),
            not_after: (known.not_after_secs != u64::MAX).then(|| UnixTime::new(known.not_after_secs, 0)),
            state,
        })
    }

    /// When an inner packet last went either way in the sessions that the peer has, or they were begun; `None` where it
    /// is not active.
    pub fn last_used(&self, peer: PeerId) -> Option<Instant> {
        Some(self.active.get(self.slot_of(peer)?)?.last_used)
    }

    /// Whether an inner packet went either way in the sessions that the peer has.
    pub fn has_carried(&self, peer: PeerId) -> bool {
        self.slot_of(peer).and_then(|slot| self.active.get(slot)).is_some_and(|active| active.carried)
    }

    /// The preshared key of a peer, for configuration tools.
    pub fn preshared_key(&self, peer: PeerId) -> Option<&PresharedKey> {
        self.known.get(peer).map(|known| &known.preshared_key)
    }

    /// Sets the preshared key; the next handshake uses it. [`PresharedKey::NONE`] for none. False for a stale handle,
    /// as in all that follow.
    pub fn set_preshared_key(&mut self, peer: PeerId, key: PresharedKey) -> bool {
        self.known.get_mut(peer).map(|known| known.preshared_key = key).is_some()
    }

    /// Sets or removes the endpoint. A handshake that waited for one begins.
    pub fn set_endpoint(&mut self, peer: PeerId, endpoint: Option<SocketAddr>, now: Instant) -> bool {
        let Some(known) = self.known.get_mut(peer) else { return false };
        let waited = known.endpoint.is_none() && endpoint.is_some();
        known.endpoint = endpoint;
        if let Some(active) = known.active().filter(|_| waited).and_then(|slot| self.active.get(slot))
            && (!active.staged.is_empty() || active.timers.is_armed(Timer::Retransmit))
        {
            let _ = self.initiate(peer, now);
        }
        true
    }

    /// Sets the persistent keepalive, in whole seconds (rounded up, at most 65,535), or turns it off. One that was
    /// off begins at once.
    pub fn set_persistent_keepalive(&mut self, peer: PeerId, interval: Option<Duration>, now: Instant) -> bool {
        let Some(known) = self.known.get_mut(peer) else { return false };
        let was_off = known.persistent_keepalive().is_none();
        known.set_persistent_keepalive(interval);
        let interval = known.persistent_keepalive();
        let slot = match interval {
            Some(_) => self.activate(peer, now).map_err(|reason| self.counters.count(reason)).ok(),
            None => known.active(),
        };
        if let Some((slot, active)) = slot.and_then(|slot| self.active.get_mut(slot).map(|active| (slot, active))) {
            match interval {
                Some(_) if was_off => active.timers.arm(Timer::PersistentKeepalive, now),
                _ => active.timers.any_authenticated_packet_traversal(now, interval),
            }
            self.active.reschedule(slot);
        }
        true
    }

    /// Sets when the peer's key expires, or that it does not: from then on nothing is sent to the peer nor accepted
    /// from it. Whole seconds count.
    pub fn set_not_after(&mut self, peer: PeerId, not_after: Option<UnixTime>) -> bool {
        let secs = not_after.map_or(u64::MAX, UnixTime::secs);
        self.known.get_mut(peer).map(|known| known.not_after_secs = secs).is_some()
    }

    /// Wants a handshake with a peer, data or not: at once, or 5 s after the last handshake message to it.
    ///
    /// # Errors
    /// [`DropReason::UnknownPeer`] and [`DropReason::NoActiveSlot`].
    pub fn initiate(&mut self, peer: PeerId, now: Instant) -> Result<(), DropReason> {
        let slot = self.activate(peer, now).map_err(|reason| self.counters.count(reason))?;
        self.want_initiation(slot, now, true);
        Ok(())
    }

    /// As [`initiate`](Self::initiate), but without the wait: the embedder knows from elsewhere that the peer has lost
    /// its sessions, for instance since it restarted.
    ///
    /// # Errors
    /// As [`initiate`](Self::initiate).
    pub fn initiate_anew(&mut self, peer: PeerId, now: Instant) -> Result<(), DropReason> {
        let slot = self.activate(peer, now).map_err(|reason| self.counters.count(reason))?;
        if let Some(active) = self.active.get_mut(slot) {
            active.timers.allow_initiation();
        }
        self.want_initiation(slot, now, true);
        Ok(())
    }

    /// Gives a prefix to a peer, taking it from whichever had it. `Ok(false)` for a stale handle.
    ///
    /// # Errors
    /// [`AllowedIpsFull`]; nothing has changed then.
    pub fn add_allowed_ip(&mut self, peer: PeerId, prefix: IpPrefix) -> Result<bool, AllowedIpsFull> {
        if self.known.get(peer).is_none() {
            return Ok(false);
        }
        let before = self.allowed_ips.insert(prefix, peer)?;
        if let Some(before) = before.and_then(|before| self.known.get_mut(before)) {
            before.allowed_ips = before.allowed_ips.saturating_sub(1);
        }
        if let Some(known) = self.known.get_mut(peer) {
            known.allowed_ips = known.allowed_ips.saturating_add(1);
        }
        Ok(true)
    }

    /// Takes a prefix from a peer; false where it is not this peer's.
    pub fn remove_allowed_ip(&mut self, peer: PeerId, prefix: IpPrefix) -> bool {
        match self.allowed_ips.remove(prefix) {
            Some(owner) if owner == peer => {
                if let Some(known) = self.known.get_mut(peer) {
                    known.allowed_ips = known.allowed_ips.saturating_sub(1);
                }
                true
            }
            Some(other) => {
                // Its nodes have only just become free.
                let _ = self.allowed_ips.insert(prefix, other);
                false
            }
            None => false,
        }
    }

    /// Takes all prefixes from a peer.
    pub fn clear_allowed_ips(&mut self, peer: PeerId) -> bool {
        let Some(known) = self.known.get_mut(peer) else { return false };
        // The search goes through all nodes; a peer without prefixes saves it.
        if core::mem::take(&mut known.allowed_ips) > 0 {
            self.allowed_ips.remove_owner(peer);
        }
        true
    }

    /// All prefixes with their peers, in no particular order.
    pub fn all_allowed_ips(&self) -> impl Iterator<Item = (IpPrefix, PeerId)> + '_ {
        self.allowed_ips.iter()
    }

    /// The prefixes of a peer, in no particular order. Searches through all; for many peers,
    /// [`all_allowed_ips`](Self::all_allowed_ips).
    pub fn allowed_ips(&self, peer: PeerId) -> impl Iterator<Item = IpPrefix> + '_ {
        self.allowed_ips.prefixes_of(peer)
    }

    /// The peer that packets to `destination` go to: the one with the longest prefix that holds it.
    pub fn route(&self, destination: IpAddr) -> Option<PeerId> {
        self.allowed_ips.lookup(destination)
    }
}
