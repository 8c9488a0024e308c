//! Handshake messages that wait until the one before is computed.

use core::net::SocketAddr;

use heapless::Deque;

/// Messages that wait at most.
const WAITING: usize = 3;
/// The longest message of a handshake in bytes: an initiation.
const MESSAGE_LEN: usize = 148;

/// A message of a handshake, and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Message {
    bytes: [u8; MESSAGE_LEN],
    len: usize,
    pub(super) source: SocketAddr,
}

impl Message {
    /// A message that `give` writes, where it has one, with its length and source.
    pub(super) fn read(give: impl FnOnce(&mut [u8]) -> Option<(usize, SocketAddr)>) -> Option<Self> {
        let mut bytes = [0; MESSAGE_LEN];
        let (len, source) = give(&mut bytes)?;
        Some(Self { bytes, len, source })
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

/// The messages, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Inbox(Deque<Message, WAITING>);

impl Inbox {
    /// False where there is no room, or the datagram cannot be one.
    pub(super) fn push(&mut self, datagram: &[u8], source: SocketAddr) -> bool {
        let mut bytes = [0; MESSAGE_LEN];
        let Some(room) = bytes.get_mut(..datagram.len()) else { return false };
        room.copy_from_slice(datagram);
        self.0.push_back(Message { bytes, len: datagram.len(), source }).is_ok()
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        self.0.pop_front()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.is_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_in_order_and_what_is_too_long_or_too_much_does_not() {
        let mut inbox = Inbox::default();
        let source = "192.0.2.1:41641".parse().unwrap();
        assert!(!inbox.push(&[0; MESSAGE_LEN + 1], source));
        for number in 0..WAITING as u8 {
            assert!(inbox.push(&[number; 92], source));
        }
        assert!(inbox.is_full() && !inbox.push(&[9; 92], source));
        for number in 0..WAITING as u8 {
            assert_eq!(inbox.pop().unwrap().bytes(), [number; 92]);
        }
        assert!(inbox.pop().is_none());
    }
}
