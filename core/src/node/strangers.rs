//! Initiations of keys that are no peer's: they wait here, as they came, until the server said who that is, and then go
//! through the device as if they came only now.

use core::{net::SocketAddr, time::Duration};

use super::endpoint_list::Compact;
use crate::{limits, time::Instant, wireguard::message::INITIATION_LEN};

/// An initiation that waited for so long makes room; its sender has sent another by then.
const WAITS_FOR: Duration = Duration::from_secs(5);

/// One initiation.
#[derive(Clone, Debug)]
struct Stranger {
    /// The question that it waits for.
    request: u32,
    /// The question was answered: there is such a peer, and it has a place.
    known: bool,
    source: Compact,
    arrived: Instant,
    message: [u8; INITIATION_LEN],
}

/// The table.
#[derive(Debug)]
pub(super) struct Strangers(heapless::Vec<Stranger, { limits::STRANGERS }>);

impl Strangers {
    pub(super) const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    /// Lets an initiation wait for the answer to a question. One that waits for the same answer already stays. False
    /// where there is no room, or it is no initiation.
    pub(super) fn wait(&mut self, request: u32, message: &[u8], source: SocketAddr, now: Instant) -> bool {
        if self.0.iter().any(|waiting| waiting.request == request) {
            return true;
        }
        let (Ok(message), Some(source)) = (message.try_into(), Compact::new(source)) else { return false };
        self.0.retain(|waiting| now.saturating_since(waiting.arrived) < WAITS_FOR);
        self.0.push(Stranger { request, known: false, source, arrived: now, message }).is_ok()
    }

    /// The question was answered. `known`: there is such a peer, and it has a place.
    pub(super) fn answered(&mut self, request: u32, known: bool) {
        if !known {
            self.0.retain(|waiting| waiting.request != request);
        }
        self.0.iter_mut().filter(|waiting| waiting.request == request).for_each(|waiting| waiting.known = true);
    }

    /// Copies an initiation whose sender is known now to `out`, and forgets it.
    pub(super) fn take_known(&mut self, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let place = self.0.iter().position(|waiting| waiting.known)?;
        let stranger = self.0.swap_remove(place);
        out.get_mut(..INITIATION_LEN)?.copy_from_slice(&stranger.message);
        Some((INITIATION_LEN, stranger.source.endpoint()))
    }

    /// Nobody answers any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_secs(100);

    fn source(port: u16) -> SocketAddr {
        SocketAddr::new([192, 0, 2, 1].into(), port)
    }

    #[test]
    fn an_initiation_comes_back_as_it_was_once_its_sender_is_known() {
        let mut strangers = Strangers::new();
        assert!(strangers.wait(1, &[7; INITIATION_LEN], source(1), NOW));
        assert!(strangers.wait(2, &[8; INITIATION_LEN], source(2), NOW));
        let mut out = [0; INITIATION_LEN];
        assert!(strangers.take_known(&mut out).is_none());
        strangers.answered(1, false);
        strangers.answered(2, true);
        assert_eq!(strangers.take_known(&mut out), Some((INITIATION_LEN, source(2))));
        assert_eq!(out, [8; INITIATION_LEN]);
        assert!(strangers.take_known(&mut out).is_none());
        assert!(!strangers.wait(3, &[9; 40], source(3), NOW), "no initiation");
    }

    #[test]
    fn a_full_table_takes_no_more_until_those_in_it_are_old() {
        let mut strangers = Strangers::new();
        for request in 0..limits::STRANGERS as u32 {
            assert!(strangers.wait(request, &[0; INITIATION_LEN], source(1), NOW));
        }
        assert!(strangers.wait(0, &[0; INITIATION_LEN], source(2), NOW), "that one waits already");
        assert!(!strangers.wait(99, &[0; INITIATION_LEN], source(1), NOW));
        assert!(strangers.wait(99, &[0; INITIATION_LEN], source(1), NOW + WAITS_FOR));
    }
}
