//! The one-call composition of the phases, for chips and for whoever needs no threads.

use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use super::{Device, HandshakeBegin, SealRefusal, Work};
use crate::crypto::Crypto;
use crate::ip::IpHeader;
use crate::keys::NodeKey;
use crate::time::{Instant, UnixTime};
use crate::wireguard::counters::DropReason;
use crate::wireguard::peer::PeerId;
use crate::wireguard::storage::Storage;
use crate::wireguard::ticket::{HandshakeTicket, Incoming, Outgoing, SealOutcome, TicketProgress, Verdict};
use crate::wireguard::timers::Timer;

/// A datagram to be sent, which stands at the start of the buffer that was given for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The peer that it is for; `None` for a cookie reply, whose receiver is not known yet.
    pub peer: Option<PeerId>,
    /// Where it goes.
    pub endpoint: SocketAddr,
    /// Its length in bytes.
    pub len: usize,
    /// What it is.
    pub kind: TransmitKind,
}

/// What a datagram is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TransmitKind {
    /// A first handshake message. While it is not certain where the peer is, it may go to several endpoints.
    Initiation,
    /// The answer to an initiation.
    Response,
    /// The demand to prove an address.
    CookieReply,
    /// An inner packet.
    Data,
    /// An empty packet.
    Keepalive,
}

/// What came of an inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Send the datagram.
    Transmit(Transmit),
    /// It waits for a handshake with this peer.
    Staged(PeerId),
    /// No peer has its destination: answer with "no route to host".
    NoRoute(IpAddr),
    /// The peer's address is not known, so nothing can be sent: answer with "host unreachable". Nothing was staged.
    NoEndpoint(PeerId),
    /// Dropped and counted.
    Drop(DropReason),
}

/// What came of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// An inner packet in the datagram's buffer.
    Packet {
        /// Who sent it.
        peer: PeerId,
        /// Where it lies.
        range: Range<usize>,
    },
    /// An answer, at the start of the datagram's buffer, has to be sent.
    Transmit(Transmit),
    /// Taken; there is nothing to do for it but to poll.
    Taken(PeerId),
    /// An initiation that claims to be from this key, which is no peer's; dropped and counted. An embedder that finds out
    /// whose it is adds the peer and gives the same datagram, which was not altered, again.
    Stranger(NodeKey),
    /// Dropped and counted.
    Drop(DropReason),
}

impl<S: Storage> Device<S> {
    /// Routes and seals an inner packet of `inner_len` bytes that stands [`Outgoing::HEAD_ROOM`] bytes into `buffer`,
    /// with [`Outgoing::OVERHEAD`] bytes of the buffer to spare.
    pub fn send<C: Crypto>(
        &mut self,
        buffer: &mut [u8],
        inner_len: usize,
        now: Instant,
        unix: UnixTime,
    ) -> SendOutcome {
        self.wall.set(now, unix);
        let end = Outgoing::HEAD_ROOM.saturating_add(inner_len);
        let header = buffer.get(Outgoing::HEAD_ROOM..end).and_then(IpHeader::parse);
        let Some(header) = header else { return SendOutcome::Drop(self.counters.count(DropReason::NotIp)) };
        let Some(peer) = self.route(header.destination) else { return SendOutcome::NoRoute(header.destination) };
        match self.seal_one::<C>(peer, buffer, inner_len, now) {
            Ok(transmit) => SendOutcome::Transmit(transmit),
            Err(Some(SealRefusal::NoSession)) => {
                let packet = buffer.get(Outgoing::HEAD_ROOM..end).unwrap_or_default();
                match self.stage(peer, packet, now) {
                    Ok(()) => SendOutcome::Staged(peer),
                    Err(reason) => SendOutcome::Drop(reason),
                }
            }
            Err(Some(SealRefusal::NoEndpoint)) => SendOutcome::NoEndpoint(peer),
            Err(refusal) => {
                let reason = match refusal {
                    Some(SealRefusal::PeerExpired) => DropReason::PeerExpired,
                    Some(SealRefusal::NoPrivateKey) => DropReason::NoPrivateKey,
                    Some(_) => DropReason::UnknownPeer,
                    None => DropReason::BufferTooSmall,
                };
                SendOutcome::Drop(self.counters.count(reason))
            }
        }
    }

    /// Seals one packet, empty for a keepalive. `Err(None)` where the buffer is too small.
    fn seal_one<C: Crypto>(
        &mut self,
        peer: PeerId,
        buffer: &mut [u8],
        inner_len: usize,
        now: Instant,
    ) -> Result<Transmit, Option<SealRefusal>> {
        let mut ticket = self.begin_seal(peer, 1, now).map_err(Some)?;
        let endpoint = ticket.endpoint();
        let mut packets = [Outgoing::new(buffer, inner_len)];
        ticket.seal::<C::Aead>(&mut packets);
        self.commit_seal(ticket, SealOutcome::all_sent(&packets), now);
        let [packet] = packets;
        let kind = if packet.is_keepalive() { TransmitKind::Keepalive } else { TransmitKind::Data };
        match packet.datagram_len() {
            0 => Err(None),
            len => Ok(Transmit { peer: Some(peer), endpoint, len, kind }),
        }
    }

    /// Takes a datagram in. Afterwards [`poll_transmit`](Self::poll_transmit).
    ///
    /// An initiation costs up to five Diffie-Hellmans in this one call; a chip that cannot spare the time uses
    /// [`begin_handshake_receive`](Self::begin_handshake_receive).
    pub fn receive<C: Crypto>(
        &mut self,
        datagram: &mut [u8],
        source: SocketAddr,
        now: Instant,
        unix: UnixTime,
        rng: &mut dyn rand_core::CryptoRng,
    ) -> Received {
        match Self::data_receiver(datagram) {
            Some(index) => self.receive_data::<C>(index, datagram, source, now, unix),
            None => self.receive_handshake::<C>(datagram, source, now, unix, rng),
        }
    }

    fn receive_data<C: Crypto>(
        &mut self,
        index: u32,
        datagram: &mut [u8],
        source: SocketAddr,
        now: Instant,
        unix: UnixTime,
    ) -> Received {
        self.wall.set(now, unix);
        let ticket = match self.begin_open(index, now) {
            Ok(ticket) => ticket,
            Err(reason) => return Received::Drop(reason),
        };
        let peer = ticket.peer();
        let mut packets = [Incoming::new(datagram, source)];
        ticket.open::<C::Aead>(&mut packets);
        self.commit_open(ticket, &mut packets, now, unix);
        let [packet] = packets;
        match packet.verdict() {
            Verdict::Deliver(range) => Received::Packet { peer, range: range.clone() },
            Verdict::Keepalive | Verdict::Pending => Received::Taken(peer),
            Verdict::Drop(reason) => Received::Drop(*reason),
        }
    }

    // Inlined, the ticket would lie on the stack of those who receive data too.
    #[inline(never)]
    fn receive_handshake<C: Crypto>(
        &mut self,
        datagram: &mut [u8],
        source: SocketAddr,
        now: Instant,
        unix: UnixTime,
        rng: &mut dyn rand_core::CryptoRng,
    ) -> Received {
        let mut ticket = match self.begin_handshake_receive::<C>(datagram, source, now, unix, rng) {
            HandshakeBegin::Ticket(ticket) => ticket,
            HandshakeBegin::Reply(len) => {
                let kind = TransmitKind::CookieReply;
                return Received::Transmit(Transmit { peer: None, endpoint: source, len, kind });
            }
            HandshakeBegin::CookieKept(peer) => return Received::Taken(peer),
            HandshakeBegin::Drop(reason) => return Received::Drop(reason),
        };
        let ran = self.run::<C>(&mut ticket, now);
        if let (Err(DropReason::UnknownPeer), Some(key)) = (ran, ticket.claimed_initiator()) {
            return Received::Stranger(key);
        }
        let done = ran.and_then(|()| {
            let peer = ticket.peer();
            self.commit_handshake(ticket, now, unix, rng, datagram).map(|transmit| (peer, transmit))
        });
        match done {
            Ok((_, Some(transmit))) => Received::Transmit(transmit),
            Ok((Some(peer), None)) => Received::Taken(peer),
            // A ticket that was committed knows its peer.
            Ok((None, None)) => Received::Drop(DropReason::UnknownPeer),
            Err(reason) => Received::Drop(reason),
        }
    }

    /// Computes a ticket to its end, on a stack of its own that is free again before the ticket is committed.
    #[inline(never)]
    fn run<C: Crypto>(&mut self, ticket: &mut HandshakeTicket, now: Instant) -> Result<(), DropReason> {
        loop {
            match ticket.step::<C>() {
                TicketProgress::Again => {}
                TicketProgress::Identify(_) => {
                    self.identify_initiator(ticket, now)?;
                }
                TicketProgress::Done => return Ok(()),
            }
        }
    }

    /// The next datagram that is due, written to `buffer`, which needs room for the largest inner packet and
    /// [`Outgoing::OVERHEAD`]. To be called until it gives `None`.
    pub fn poll_transmit<C: Crypto>(
        &mut self,
        now: Instant,
        unix: UnixTime,
        rng: &mut dyn rand_core::CryptoRng,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        loop {
            let transmit = match self.poll(now, unix, rng)? {
                Work::Handshake(mut ticket) => {
                    let done = self.run::<C>(&mut ticket, now);
                    done.and_then(|()| self.commit_handshake(ticket, now, unix, rng, buffer)).ok().flatten()
                }
                Work::Keepalive(peer) => self.seal_one::<C>(peer, buffer, 0, now).ok(),
                Work::Staged(peer) => self.seal_staged::<C>(peer, buffer, now),
            };
            if transmit.is_some() {
                return transmit;
            }
        }
    }

    /// The oldest packet that waits for a peer; the others follow with the next poll.
    fn seal_staged<C: Crypto>(&mut self, peer: PeerId, buffer: &mut [u8], now: Instant) -> Option<Transmit> {
        let inner = buffer.get_mut(Outgoing::HEAD_ROOM..).unwrap_or_default();
        let len = self.take_staged(peer, inner)?;
        let transmit = self.seal_one::<C>(peer, buffer, len, now);
        if let Some((slot, active)) = self.slot_of(peer).and_then(|slot| Some((slot, self.active.get_mut(slot)?)))
            && !active.staged.is_empty()
        {
            active.timers.arm(Timer::Flush, now);
            self.active.reschedule(slot);
        }
        transmit.ok()
    }
}
