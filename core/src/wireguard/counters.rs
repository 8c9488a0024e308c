//! What the device dropped, by reason, and what it could not do. A dropped packet is a count, not an error that
//! travels.

use core::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a datagram, an inner packet or a handshake went no further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            /// Every reason, in the order of declaration.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            /// A few words for a person.
            pub const fn describe(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// Not a WireGuard message: unknown type, reserved bytes set, or a length that its type does not have.
    Malformed = "not a WireGuard message",
    /// No private key is set.
    NoPrivateKey = "no private key is set",
    /// The first mac is wrong: not meant for this device's public key.
    WrongMac1 = "not addressed to this device's key",
    /// Under load, and the source address was not proven: a cookie reply was the answer.
    CookieRequired = "under load, answered with a cookie",
    /// Under load, and this source sends more handshake messages than it may.
    RateLimited = "too many handshakes from one source under load",
    /// The receiver index belongs to no session and no handshake.
    UnknownIndex = "unknown receiver index",
    /// The AEAD tag is wrong.
    NotAuthentic = "not authentic",
    /// The counter was received before, or is older than the replay window.
    Replayed = "replayed or too old counter",
    /// The session is older than it may be, or has used all its counters.
    SessionExpired = "the session has expired",
    /// The ticket's session, handshake or peer has gone since it was handed out.
    TicketStale = "its session has gone meanwhile",
    /// An initiation whose timestamp is not greater than the last one of its peer.
    StaleTimestamp = "replayed initiation, or the peer's clock went back",
    /// An initiation too soon after the last one of its peer.
    InitiationFlood = "initiations too close together",
    /// The static key of an initiation belongs to no known peer.
    UnknownPeer = "unknown peer",
    /// The peer's key has expired.
    PeerExpired = "the peer's key has expired",
    /// A Diffie-Hellman with a low-order point.
    LowOrderPoint = "low-order public key",
    /// The inner packet is not IPv4 or IPv6, or shorter than it says.
    NotIp = "the inner packet is not IP",
    /// The inner source address does not belong to the peer that sent it.
    ForbiddenSource = "the inner source address is not the peer's",
    /// Every active slot is taken by a peer that is in use.
    NoActiveSlot = "all session slots are in use",
    /// The table of receiver indices is full.
    NoIndex = "the index table is full",
    /// A waiting packet made room for a newer one, or there was no room at all.
    StagedOverflow = "too many packets wait for a handshake",
    /// A waiting packet was dropped since the handshake was given up or its peer removed.
    StagedPurged = "the handshake they waited for was given up",
    /// A cookie reply that was not asked for, or whose cookie is not authentic.
    InvalidCookie = "unexpected or invalid cookie",
    /// The buffer that the caller gave is too small.
    BufferTooSmall = "the buffer is too small",
    /// An event was lost since nobody collected events.
    EventLost = "events were not collected",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

impl core::error::Error for DropReason {}

/// Counts by reason. Wraps at 2^64.
#[derive(Clone, Debug)]
pub struct Counters {
    dropped: [u64; DropReason::ALL.len()],
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self { dropped: [0; DropReason::ALL.len()] }
    }

    /// How often this happened.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or_default()
    }

    /// Every reason that happened at all, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self.get(reason))).filter(|(_, count)| *count > 0)
    }

    /// Counts one, and gives the reason back to be returned.
    pub(crate) fn count(&mut self, reason: DropReason) -> DropReason {
        self.add(reason, 1);
        reason
    }

    pub(crate) fn add(&mut self, reason: DropReason, n: u64) {
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count = count.wrapping_add(n);
        }
    }
}
