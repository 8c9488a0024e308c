//! From the TUN device to the network: read a batch, route it, seal it by runs to one peer, send it by runs of equal
//! datagrams.
//!
//! Packets are read one behind the other with the room between them that sealing needs, so that a run of packets of
//! one length, as bulk transfers make, becomes one piece of memory that the kernel cuts into datagrams itself.

use std::{io, ops::Range};

use weft_core::{
    crypto::Crypto,
    ip::{Ecn, IpHeader, icmp::Undeliverable},
    wireguard::{Outgoing, PeerId, SealOutcome, SealRefusal, SealTicket},
};

use super::{DataPath, Engine, MAX_INNER_LEN};
use crate::{clock, crypto_ring::RingCrypto, tun_device::TunDevice, udp::Run};

/// Packets of a batch: as many datagrams as the kernel cuts one send into.
const BATCH_PACKETS: usize = 64;
/// Bytes of a batch, beyond which no further packet is begun.
const BATCH_LEN: usize = 1 << 16;
/// The TUN device never gives more than this.
const MAX_IP_LEN: usize = 65_535;

/// Packets that were read, in the buffer that they become datagrams in.
pub(super) struct OutboundBatch {
    buffer: Box<[u8]>,
    packets: Vec<Packet>,
    mtu: usize,
}

/// One packet of a batch.
#[derive(Clone, Copy, Debug)]
struct Packet {
    peer: PeerId,
    /// Where its datagram begins in the buffer.
    start: usize,
    /// Room from there to the next packet: exactly what the datagram will need.
    room: usize,
    inner_len: usize,
    ecn: Ecn,
}

impl Packet {
    fn inner(&self) -> Range<usize> {
        let start = self.start + Outgoing::HEAD_ROOM;
        start..start + self.inner_len
    }

    const fn end(&self) -> usize {
        self.start + self.room
    }
}

impl std::fmt::Debug for OutboundBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboundBatch").field("packets", &self.packets).finish_non_exhaustive()
    }
}

impl OutboundBatch {
    /// An empty batch for packets of a device whose MTU is `mtu` bytes.
    pub(super) fn new(mtu: usize) -> Self {
        let len = BATCH_LEN + Outgoing::HEAD_ROOM + MAX_IP_LEN + Outgoing::OVERHEAD;
        Self { buffer: vec![0; len].into_boxed_slice(), packets: Vec::with_capacity(BATCH_PACKETS), mtu }
    }

    /// Follows a change of the MTU, between two batches.
    pub(super) const fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
    }

    /// Reads the next packet behind those that are there, and says where it lies. `None` where there is none.
    fn read(&mut self, tun: &TunDevice) -> io::Result<Option<Range<usize>>> {
        let start = self.end() + Outgoing::HEAD_ROOM;
        let room = &mut self.buffer[start..start + MAX_IP_LEN];
        Ok(tun.try_read(room)?.map(|len| start..start + len))
    }

    /// Keeps the packet that was read last, for `peer`.
    fn keep(&mut self, peer: PeerId, packet: Range<usize>) {
        let ecn = Ecn::of(&self.buffer[packet.clone()]);
        let inner_len = packet.len();
        let room = Outgoing::sealed_len(inner_len, self.mtu);
        self.packets.push(Packet { peer, start: packet.start - Outgoing::HEAD_ROOM, room, inner_len, ecn });
    }

    fn end(&self) -> usize {
        self.packets.last().map_or(0, Packet::end)
    }

    fn is_full(&self) -> bool {
        self.packets.len() >= BATCH_PACKETS || self.end() >= BATCH_LEN
    }

    /// Takes a run of packets that follow one another to one peer out of the batch, beginning with `first`.
    fn run(&mut self, first: usize) -> (&[Packet], &mut [u8]) {
        let packets = self.packets.get(first..).unwrap_or_default();
        let len = packets.iter().take_while(|packet| packet.peer == packets[0].peer).count();
        let packets = &packets[..len];
        let (start, end) = (packets.first().map_or(0, |packet| packet.start), packets.last().map_or(0, Packet::end));
        (packets, &mut self.buffer[start..end])
    }
}

impl DataPath {
    /// Moves a batch from the TUN device to the network.
    pub(super) fn send<E: Engine>(&mut self, engine: &mut E) -> io::Result<()> {
        self.outbound.packets.clear();
        while !self.outbound.is_full() {
            let Some(packet) = self.outbound.read(&self.tun)? else { break };
            self.route(engine, packet);
        }
        let mut first = 0;
        while first < self.outbound.packets.len() {
            first += self.send_run(engine, first);
        }
        Ok(())
    }

    /// Finds the peer of the packet that was read last, or answers that there is none.
    fn route<E: Engine>(&mut self, engine: &mut E, range: Range<usize>) {
        let packet = &self.outbound.buffer[range.clone()];
        let Some(header) = IpHeader::parse(packet) else {
            self.dropped.not_ip += 1;
            return;
        };
        let reason = match engine.device_mut().route(header.destination) {
            Some(_) if packet.len() > MAX_INNER_LEN => {
                self.dropped.too_big += 1;
                Undeliverable::TooBig { mtu: MAX_INNER_LEN as u16 }
            }
            Some(peer) => {
                self.outbound.keep(peer, range);
                return;
            }
            None => {
                self.dropped.no_peer += 1;
                if engine.may_come(header.destination) {
                    return;
                }
                Undeliverable::HostUnreachable
            }
        };
        self.unreachable.answer(&self.tun, packet, reason);
    }

    /// Seals and sends the run that begins with packet `first`, or stages it; returns how many packets it had.
    fn send_run<E: Engine>(&mut self, engine: &mut E, first: usize) -> usize {
        let now = clock::now();
        let (packets, _) = self.outbound.run(first);
        let (peer, count) = (packets[0].peer, packets.len());
        match engine.device_mut().begin_seal(peer, count, now) {
            Ok(ticket) => self.seal_run(engine, first, ticket),
            Err(SealRefusal::NoSession) => self.stage_run(engine, first),
            Err(SealRefusal::NoEndpoint) if engine.may_wait(peer) => self.stage_run(engine, first),
            Err(SealRefusal::NoEndpoint) => {
                self.dropped.no_target += count as u64;
                for packet in &self.outbound.packets[first..first + count] {
                    let packet = &self.outbound.buffer[packet.inner()];
                    self.unreachable.answer(&self.tun, packet, Undeliverable::HostUnreachable);
                }
            }
            Err(_) => self.dropped.refused += count as u64,
        }
        count
    }

    fn stage_run<E: Engine>(&mut self, engine: &mut E, first: usize) {
        let now = clock::now();
        let (packets, _) = self.outbound.run(first);
        let packets = first..first + packets.len();
        for packet in &self.outbound.packets[packets] {
            // What does not find a place is in the device's counters.
            let _ = engine.device_mut().stage(packet.peer, &self.outbound.buffer[packet.inner()], now);
        }
    }

    fn seal_run<E: Engine>(&mut self, engine: &mut E, first: usize, mut ticket: SealTicket) {
        let (peer, destination) = (ticket.peer(), ticket.endpoint());
        let (packets, mut rest) = self.outbound.run(first);
        let (mut sealed, mut looped) = (Vec::with_capacity(packets.len()), 0);
        for packet in packets {
            let (buffer, behind) = std::mem::take(&mut rest).split_at_mut(packet.room);
            rest = behind;
            let inner = Outgoing::HEAD_ROOM..Outgoing::HEAD_ROOM + packet.inner_len;
            let own = ticket.is_own_datagram(&buffer[inner]);
            looped += u64::from(own);
            // Without room it is not sealed, and so not sent.
            sealed.push(Outgoing::new(if own { &mut [] } else { buffer }, packet.inner_len));
        }
        ticket.seal::<<RingCrypto as Crypto>::Aead>(&mut sealed);
        let lens: Vec<usize> = sealed.iter().map(Outgoing::datagram_len).collect();
        self.dropped.looped += looped;

        let packets = first..first + lens.len();
        let mut outcome = SealOutcome::default();
        let mut source = self.sources.get(peer, destination);
        let mut rest = &self.outbound.packets[packets];
        let mut lens = lens.as_slice();
        while let Some(len) = equal_datagrams(rest, lens) {
            let (run, behind) = rest.split_at(len);
            let datagrams = &self.outbound.buffer[run[0].start..run[len - 1].start + lens[len - 1]];
            let segment = lens[0];
            if segment == 0 {
                // Refused above.
            } else if let Some(sockets) = &mut self.sockets {
                let run = Run { destination, source, ecn: run[0].ecn, datagrams, segment };
                let sent = sockets.send(&run);
                outcome.data += sent.datagrams;
                outcome.bytes += sent.bytes as u64;
                self.dropped.not_sent += (len - sent.datagrams) as u64;
                if sent.source_refused {
                    self.sources.forget(peer);
                    source = None;
                }
                if let Some(error) = sent.error {
                    tracing::trace!("{} of {len} datagrams to {destination} not sent: {error}", len - sent.datagrams);
                }
            } else {
                self.dropped.not_sent += len as u64;
            }
            (rest, lens) = (behind, &lens[len..]);
        }
        engine.device_mut().commit_seal(ticket, outcome, clock::now());
    }
}

/// How many of the packets lie behind one another as datagrams of one length (the last may be shorter) and have one
/// ECN mark, so that one send takes them. `None` where there are none left.
fn equal_datagrams(packets: &[Packet], lens: &[usize]) -> Option<usize> {
    let (first, segment) = (packets.first()?, *lens.first()?);
    let mut count = 1;
    while let (Some(packet), Some(&len)) = (packets.get(count), lens.get(count)) {
        let before = &packets[count - 1];
        let fits = len > 0 && len <= segment && lens[count - 1] == segment && before.room == segment;
        if !fits || packet.ecn != first.ecn {
            break;
        }
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{HeapStorage, tables};
    use rand_core::UnwrapErr;
    use weft_core::{keys::NodeKey, wireguard::Device};

    /// Packets behind one another with these lengths of their datagrams.
    fn packets(lens: &[usize]) -> Vec<Packet> {
        let mut device: Device<HeapStorage> = Device::new(tables(), &mut UnwrapErr(getrandom::SysRng));
        let peer = device.add_peer(&NodeKey::from_bytes([7; 32])).unwrap();
        let mut start = 0;
        let packet = |&room: &usize| {
            let packet = Packet { peer, start, room, inner_len: room - 32, ecn: Ecn::NotCapable };
            start += room;
            packet
        };
        lens.iter().map(packet).collect()
    }

    #[test]
    fn one_send_takes_equal_datagrams_and_a_shorter_last_one() {
        for (lens, expected) in [
            ([96, 96, 96, 96].as_slice(), 4),
            (&[96, 96, 64, 96], 3),
            (&[96, 112, 96], 1),
            (&[96, 64, 64], 2),
            (&[96], 1),
        ] {
            assert_eq!(equal_datagrams(&packets(lens), lens), Some(expected), "{lens:?}");
        }
        assert_eq!(equal_datagrams(&[], &[]), None);
    }

    #[test]
    fn a_packet_that_was_not_sealed_ends_a_send() {
        assert_eq!(equal_datagrams(&packets(&[96, 96, 96]), &[96, 0, 96]), Some(1));
        assert_eq!(equal_datagrams(&packets(&[96, 96, 96]), &[0, 96, 96]), Some(1));
    }

    #[test]
    fn another_mark_ends_a_send() {
        let mut packets = packets(&[96, 96, 96]);
        packets[1].ecn = Ecn::Capable0;
        assert_eq!(equal_datagrams(&packets, &[96, 96, 96]), Some(1));
    }
}
