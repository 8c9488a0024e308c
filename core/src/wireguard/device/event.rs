//! What the embedder may want to know, beyond what it has to carry out.

use crate::{limits, wireguard::peer::PeerId};

/// Something that happened to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// A handshake is complete: packets flow both ways.
    Established(PeerId),
    /// The peer's endpoint changed, since an authentic message came from there.
    Roamed(PeerId),
    /// A handshake is wanted and no endpoint is known. [`Device::set_endpoint`](super::Device::set_endpoint) lets it
    /// begin; it is given up after 90 s as any other.
    NeedsEndpoint(PeerId),
    /// An initiation that claims to be this peer's was forged or altered, or was sent before.
    Impersonated(PeerId),
    /// 90 s of initiations found no answer. New packets to the peer begin anew.
    GaveUp(PeerId),
}

/// Events that were not collected yet; the same one is kept once.
#[derive(Debug)]
pub(super) struct EventQueue(heapless::Deque<Event, { limits::DEVICE_EVENTS }>);

impl EventQueue {
    pub(super) const fn new() -> Self {
        Self(heapless::Deque::new())
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.0.pop_front()
    }

    /// False where the oldest event had to go.
    pub(super) fn push(&mut self, event: Event) -> bool {
        if self.0.iter().any(|queued| *queued == event) {
            return true;
        }
        let room = !self.0.is_full() || self.0.pop_front().is_none();
        // There is room now in any case.
        let _ = self.0.push_back(event);
        room
    }
}
