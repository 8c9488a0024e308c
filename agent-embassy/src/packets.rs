//! Inner packets between the driver and the task: two short rings of buffers in which packets are sealed and opened.

use weft_core::wireguard::Outgoing;

use crate::MTU;

/// Room for a datagram: the largest inner packet with header and tag.
pub(crate) const DATAGRAM_LEN: usize = MTU + 32;
/// Packets on their way to the inner stack. Others wait as datagrams in the outer stack.
pub(crate) const INBOUND: usize = 1;
/// Packets on their way from the inner stack. One more stands in the outer socket.
pub(crate) const OUTBOUND: usize = 1;

// The headroom, the tag and all padding fit.
const _: () = assert!(DATAGRAM_LEN >= Outgoing::HEAD_ROOM + MTU + 16 && MTU.is_multiple_of(16));

/// A buffer with an inner packet somewhere in it.
pub(crate) struct Packet {
    bytes: [u8; DATAGRAM_LEN],
    start: u16,
    len: u16,
}

impl Packet {
    const EMPTY: Self = Self { bytes: [0; DATAGRAM_LEN], start: 0, len: 0 };

    /// The whole buffer.
    pub(crate) const fn buffer(&mut self) -> &mut [u8; DATAGRAM_LEN] {
        &mut self.bytes
    }

    /// The inner packet.
    pub(crate) fn inner(&mut self) -> &mut [u8] {
        let start = usize::from(self.start);
        self.bytes.get_mut(start..start + usize::from(self.len)).unwrap_or_default()
    }

    /// The length of the inner packet.
    pub(crate) fn len(&self) -> usize {
        self.len.into()
    }

    /// Says where in the buffer the inner packet is. What lies beyond it is an empty packet.
    pub(crate) fn set(&mut self, start: usize, len: usize) {
        let fits = start.saturating_add(len) <= DATAGRAM_LEN;
        (self.start, self.len) = if fits { (start as u16, len as u16) } else { (0, 0) };
    }
}

/// Packets in the order of their arrival.
pub(crate) struct Ring<const N: usize> {
    packets: [Packet; N],
    first: usize,
    len: usize,
}

impl<const N: usize> Ring<N> {
    /// All of it is zero.
    pub(crate) const fn new() -> Self {
        Self { packets: [const { Packet::EMPTY }; N], first: 0, len: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.len == N
    }

    /// The oldest packet.
    pub(crate) fn front(&mut self) -> Option<&mut Packet> {
        self.packets.get_mut(self.first).filter(|_| self.len > 0)
    }

    /// Gives the oldest packet's buffer back.
    pub(crate) fn pop(&mut self) {
        if self.len > 0 {
            self.len -= 1;
            self.first = (self.first + 1) % N;
        }
    }

    /// A free buffer, which [`push`](Self::push) puts behind the others.
    pub(crate) fn free(&mut self) -> Option<&mut Packet> {
        let place = (self.first + self.len) % N;
        self.packets.get_mut(place).filter(|_| self.len < N)
    }

    /// Puts the packet in the buffer of [`free`](Self::free) behind the others.
    pub(crate) const fn push(&mut self) {
        if self.len < N {
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_in_the_order_in_which_they_came() {
        let mut ring = Ring::<2>::new();
        for round in 0..5u8 {
            assert!(ring.front().is_none() && ring.is_empty());
            for value in [round, round + 100] {
                let packet = ring.free().unwrap();
                packet.buffer()[16] = value;
                packet.set(16, 1);
                ring.push();
            }
            assert!(ring.is_full() && ring.free().is_none());
            for value in [round, round + 100] {
                assert_eq!(ring.front().unwrap().inner(), [value]);
                ring.pop();
            }
        }
    }

    #[test]
    fn a_packet_never_reaches_beyond_its_buffer() {
        let mut packet = Packet::EMPTY;
        packet.set(DATAGRAM_LEN - 1, 2);
        assert!(packet.inner().is_empty());
        packet.set(32, MTU);
        assert_eq!(packet.inner().len(), MTU);
    }
}
