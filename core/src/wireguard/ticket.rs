//! Tickets: work that the device hands out, that is done without the device, and that the device then takes back.
//!
//! A ticket owns copies of what it needs and borrows nothing, so it may go to another thread; what it copied is
//! wiped when it is dropped. A ticket that never comes back costs the counters it reserved, no more: nothing waits
//! for it. The device refuses a ticket whose session, handshake or peer has gone meanwhile.

use core::{net::SocketAddr, ops::Range};

use zeroize::Zeroize;

use super::constants::PADDING;
use super::counters::DropReason;
use super::handshake::{
    ConsumeInitiation, ConsumeResponse, CreateInitiation, CreateResponse, EphemeralSecret, HandshakeError, Progress,
    StaticKeys,
};
use super::message::{DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader, MessageKind};
use super::peer::PeerId;
use super::tai64n::Tai64n;
use crate::crypto::{Aead, Crypto, OpenPacket, SealPacket, SharedSecret, TAG_LEN};
use crate::ip::header::udp_payload;
use crate::keys::{NodeKey, PresharedKey};

/// How many packets go to the AEAD in one call.
const BATCH: usize = 8;

/// A session key with the session it belongs to.
#[derive(Debug)]
pub(crate) struct SessionRef {
    pub(crate) peer: PeerId,
    pub(crate) serial: u64,
}

/// A key copied out of a session, wiped on drop.
struct KeyCopy([u8; 32]);

impl Drop for KeyCopy {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// An inner packet on its way out, in the buffer that becomes its datagram.
///
/// The inner packet stands [`HEAD_ROOM`](Self::HEAD_ROOM) bytes into the buffer. Behind it there must be room for
/// padding to the next multiple of 16 (less where the MTU or the buffer ends first) and 16 bytes of tag. An inner
/// packet of length zero is a keepalive.
#[derive(Debug)]
pub struct Outgoing<'a> {
    buffer: &'a mut [u8],
    inner_len: usize,
    datagram_len: usize,
}

impl<'a> Outgoing<'a> {
    /// Bytes that the caller leaves free before the inner packet.
    pub const HEAD_ROOM: usize = DATA_HEADER_LEN;
    /// Bytes, head room included, that a buffer must have beyond the inner packet's length to hold any padding.
    pub const OVERHEAD: usize = DATA_OVERHEAD + PADDING - 1;

    /// Length of the datagram that an inner packet of `inner_len` bytes becomes, in a device of that MTU and in a
    /// buffer with room for the padding.
    pub fn sealed_len(inner_len: usize, mtu: usize) -> usize {
        inner_len.saturating_add(padding(inner_len, mtu)).saturating_add(DATA_OVERHEAD)
    }

    /// An inner packet of `inner_len` bytes at [`HEAD_ROOM`](Self::HEAD_ROOM) of `buffer`.
    pub fn new(buffer: &'a mut [u8], inner_len: usize) -> Self {
        Self { buffer, inner_len, datagram_len: 0 }
    }

    /// Length of the datagram at the start of the buffer; zero where the packet was not sealed, since the buffer is
    /// too small or the ticket had no counter left.
    pub const fn datagram_len(&self) -> usize {
        self.datagram_len
    }

    /// The datagram; empty where the packet was not sealed.
    pub fn datagram(&self) -> &[u8] {
        self.buffer.get(..self.datagram_len).unwrap_or_default()
    }

    /// Whether this is a keepalive.
    pub const fn is_keepalive(&self) -> bool {
        self.inner_len == 0
    }

    /// Writes header and padding, and cuts out what the AEAD works on.
    fn prepare(&mut self, header: DataHeader, mtu: usize) -> Option<&mut [u8]> {
        let room = self.buffer.len().checked_sub(DATA_OVERHEAD)?.checked_sub(self.inner_len)?;
        let padding = padding(self.inner_len, mtu).min(room);
        let (head, rest) = self.buffer.split_first_chunk_mut::<DATA_HEADER_LEN>()?;
        *head = header.emit();
        let padded = self.inner_len.saturating_add(padding);
        rest.get_mut(self.inner_len..padded)?.fill(0);
        let sealed = rest.get_mut(..padded.saturating_add(TAG_LEN))?;
        self.datagram_len = sealed.len().saturating_add(DATA_HEADER_LEN);
        Some(sealed)
    }
}

/// Zeros behind an inner packet: up to the next multiple of 16, but not beyond the MTU. A packet over the MTU (it is
/// going to be segmented) counts by its last segment.
fn padding(inner_len: usize, mtu: usize) -> usize {
    let last = if inner_len > mtu { inner_len.checked_rem(mtu).unwrap_or(inner_len) } else { inner_len };
    let padded = last.next_multiple_of(PADDING);
    let padded = if mtu == 0 { padded } else { padded.min(mtu) };
    padded.saturating_sub(last)
}

/// Permission to seal a number of packets in one session. See [`Device::begin_seal`](super::Device::begin_seal).
pub struct SealTicket {
    pub(crate) session: SessionRef,
    pub(crate) endpoint: SocketAddr,
    receiver_index: u32,
    next_counter: u64,
    end_counter: u64,
    mtu: usize,
    key: KeyCopy,
}

impl SealTicket {
    pub(crate) fn new(
        session: SessionRef,
        endpoint: SocketAddr,
        receiver_index: u32,
        counters: Range<u64>,
        mtu: usize,
        key: &[u8; 32],
    ) -> Self {
        let Range { start, end } = counters;
        Self { session, endpoint, receiver_index, next_counter: start, end_counter: end, mtu, key: KeyCopy(*key) }
    }

    /// The peer that the packets are for.
    pub const fn peer(&self) -> PeerId {
        self.session.peer
    }

    /// Where the datagrams go.
    pub const fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// Whether an inner packet is a datagram of this very session, which the host's routing sent into the tunnel that
    /// it came from. Sealed again it would come back again, longer each time and then in fragments: drop it.
    pub fn is_own_datagram(&self, packet: &[u8]) -> bool {
        udp_payload(packet).and_then(DataHeader::parse).is_some_and(|header| header.receiver == self.receiver_index)
    }

    /// Seals packets in place, each with a counter of its own. May be called until the counters are used up; a packet
    /// that gets none, or whose buffer is too small, has a [`datagram_len`](Outgoing::datagram_len) of zero.
    pub fn seal<A: Aead>(&mut self, packets: &mut [Outgoing<'_>]) {
        for packets in packets.chunks_mut(BATCH) {
            let mut packets = packets.iter_mut();
            let mut batch: [SealPacket<'_>; BATCH] = core::array::from_fn(|_| {
                let sealed = packets.next().and_then(|packet| {
                    packet.datagram_len = 0;
                    let counter = self.next_counter;
                    if counter >= self.end_counter {
                        return None;
                    }
                    let buffer = packet.prepare(DataHeader { receiver: self.receiver_index, counter }, self.mtu)?;
                    self.next_counter = counter.saturating_add(1);
                    Some(SealPacket { counter, buffer })
                });
                sealed.unwrap_or(SealPacket { counter: 0, buffer: &mut [] })
            });
            // The empty ones are those that nothing was to be sealed for; the AEAD leaves them.
            A::seal_batch(&self.key.0, &mut batch);
        }
    }
}

impl core::fmt::Debug for SealTicket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SealTicket").field("session", &self.session).finish_non_exhaustive()
    }
}

/// What became of the packets of a [`SealTicket`]: what the socket accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealOutcome {
    /// Datagrams with an inner packet.
    pub data: usize,
    /// Datagrams without one.
    pub keepalives: usize,
    /// Bytes of all these datagrams.
    pub bytes: u64,
}

impl SealOutcome {
    /// The outcome where the socket accepted all that were sealed.
    pub fn all_sent(packets: &[Outgoing<'_>]) -> Self {
        let mut outcome = Self::default();
        packets.iter().for_each(|packet| outcome.add(packet));
        outcome
    }

    /// Adds a packet that the socket accepted.
    pub fn add(&mut self, packet: &Outgoing<'_>) {
        match packet.datagram_len {
            0 => return,
            _ if packet.is_keepalive() => self.keepalives = self.keepalives.saturating_add(1),
            _ => self.data = self.data.saturating_add(1),
        }
        self.bytes = self.bytes.saturating_add(packet.datagram_len as u64);
    }
}

/// A data message on its way in, in the buffer that it arrived in.
#[derive(Debug)]
pub struct Incoming<'a> {
    datagram: &'a mut [u8],
    source: SocketAddr,
    counter: u64,
    /// Serial of the session that it was opened in.
    serial: u64,
    pub(crate) verdict: Verdict,
}

/// What came of an [`Incoming`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The ticket has not opened it, or the device has not committed it.
    Pending,
    /// Authentic; where the inner packet lies in the datagram.
    Deliver(Range<usize>),
    /// Authentic and empty.
    Keepalive,
    /// Dropped.
    Drop(DropReason),
}

impl<'a> Incoming<'a> {
    /// A datagram that came from `source`.
    pub fn new(datagram: &'a mut [u8], source: SocketAddr) -> Self {
        Self { datagram, source, counter: 0, serial: 0, verdict: Verdict::Pending }
    }

    /// What came of it, once the device has committed it.
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The inner packet, where the verdict is to deliver it.
    pub fn packet(&mut self) -> Option<&mut [u8]> {
        match &self.verdict {
            Verdict::Deliver(range) => self.datagram.get_mut(range.clone()),
            _ => None,
        }
    }

    /// Where it came from.
    pub const fn source(&self) -> SocketAddr {
        self.source
    }

    /// What the AEAD found authentic.
    pub(crate) fn authentic(&self) -> Option<Authentic> {
        let len = self.datagram.len();
        matches!(self.verdict, Verdict::Deliver(_)).then_some(Authentic {
            serial: self.serial,
            counter: self.counter,
            len,
        })
    }

    /// The inner packet with its padding.
    pub(crate) fn plaintext(&self) -> &[u8] {
        let end = self.datagram.len().saturating_sub(TAG_LEN);
        self.datagram.get(DATA_HEADER_LEN..end).unwrap_or_default()
    }
}

/// An authentic packet: the session that it was opened in, its counter and the length of its datagram.
pub(crate) struct Authentic {
    pub(crate) serial: u64,
    pub(crate) counter: u64,
    pub(crate) len: usize,
}

/// Permission to open packets of one session. See [`Device::begin_open`](super::Device::begin_open).
pub struct OpenTicket {
    pub(crate) session: SessionRef,
    receiver_index: u32,
    key: KeyCopy,
}

impl OpenTicket {
    pub(crate) fn new(session: SessionRef, receiver_index: u32, key: &[u8; 32]) -> Self {
        Self { session, receiver_index, key: KeyCopy(*key) }
    }

    /// The peer that the session is with.
    pub const fn peer(&self) -> PeerId {
        self.session.peer
    }

    /// Opens packets in place. Nothing may be delivered before
    /// [`Device::commit_open`](super::Device::commit_open) has given its verdict.
    pub fn open<A: Aead>(&self, packets: &mut [Incoming<'_>]) {
        for packets in packets.chunks_mut(BATCH) {
            let (mut counters, mut verdicts) = ([0; BATCH], [const { None }; BATCH]);
            {
                let mut fields = packets.iter_mut().zip(&mut counters).zip(&mut verdicts);
                let mut batch: [OpenPacket<'_>; BATCH] = core::array::from_fn(|_| {
                    let opened = fields.next().and_then(|((packet, kept), verdict)| {
                        let header = DataHeader::parse(packet.datagram);
                        match header {
                            Some(header) if header.receiver == self.receiver_index => {
                                *kept = header.counter;
                                let buffer = packet.datagram.get_mut(DATA_HEADER_LEN..)?;
                                Some(OpenPacket { counter: header.counter, buffer, authentic: false })
                            }
                            Some(_) => {
                                *verdict = Some(DropReason::UnknownIndex);
                                None
                            }
                            None => {
                                *verdict = Some(DropReason::Malformed);
                                None
                            }
                        }
                    });
                    opened.unwrap_or(OpenPacket { counter: 0, buffer: &mut [], authentic: false })
                });
                A::open_batch(&self.key.0, &mut batch);
                drop(fields);
                for (packet, verdict) in batch.iter().zip(&mut verdicts) {
                    if !packet.authentic && verdict.is_none() {
                        *verdict = Some(DropReason::NotAuthentic);
                    }
                }
            }
            for ((packet, counter), verdict) in packets.iter_mut().zip(counters).zip(verdicts) {
                packet.counter = counter;
                packet.serial = self.session.serial;
                // The range is narrowed to the inner packet at commit.
                packet.verdict = verdict.map_or(Verdict::Deliver(0..0), Verdict::Drop);
            }
        }
    }
}

impl core::fmt::Debug for OpenTicket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OpenTicket").field("session", &self.session).finish_non_exhaustive()
    }
}

/// What a [`HandshakeTicket`] needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum TicketProgress {
    /// Call [`step`](HandshakeTicket::step) again.
    Again,
    /// Call [`Device::identify_initiator`](super::Device::identify_initiator), then step again. The key is not
    /// proven to be the sender's yet.
    Identify(NodeKey),
    /// Call [`Device::commit_handshake`](super::Device::commit_handshake), also where the computation failed.
    Done,
}

/// What the device knows of the peer that an initiation claims to come from.
#[derive(Debug)]
pub(crate) struct Identified {
    pub(crate) preshared_key: PresharedKey,
    pub(crate) greatest_timestamp: Tai64n,
}

/// A handshake message being made or being read. See
/// [`Device::begin_handshake_receive`](super::Device::begin_handshake_receive) and
/// [`Work::Handshake`](super::Work::Handshake).
#[derive(Debug)]
pub struct HandshakeTicket {
    pub(crate) computation: Computation,
    /// The device's keys that this was begun with.
    pub(crate) keys: StaticKeys,
    /// The peer, once it is known which.
    pub(crate) peer: Option<PeerId>,
    /// Where the message came from.
    pub(crate) source: Option<SocketAddr>,
    /// It began with an initiation that came in.
    pub(crate) reads_initiation: bool,
    /// The static-static secret: the device's copy, or computed on the way for the device to keep.
    pub(crate) static_static: Option<SharedSecret>,
    /// Which try of the peer's this is.
    pub(crate) attempt: u64,
}

/// What a ticket computes.
#[derive(Debug)]
pub(crate) enum Computation {
    /// An initiation to make.
    Initiation { create: CreateInitiation, remote: NodeKey },
    /// An initiation to read, up to the initiator's claimed key.
    Received { consume: ConsumeInitiation, ephemeral: EphemeralSecret, identified: Option<Identified> },
    /// A response to make.
    Response { create: CreateResponse, timestamp: Tai64n },
    /// A response to read.
    Answered { consume: ConsumeResponse, receiver_index: u32 },
    /// It failed, or was taken apart.
    Failed(DropReason),
}

impl HandshakeTicket {
    /// What kind of message the ticket makes or reads.
    pub const fn kind(&self) -> Option<MessageKind> {
        match self.computation {
            Computation::Initiation { .. } | Computation::Received { .. } => Some(MessageKind::Initiation),
            Computation::Response { .. } | Computation::Answered { .. } => Some(MessageKind::Response),
            Computation::Failed(_) => None,
        }
    }

    /// The peer, once it is known.
    pub const fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Whose initiation it claims to be, from the first step on; not proven before it is committed.
    pub fn claimed_initiator(&self) -> Option<NodeKey> {
        match &self.computation {
            Computation::Received { consume, .. } => consume.initiator(),
            _ => None,
        }
    }

    /// Computes on; at most one Diffie-Hellman.
    pub fn step<C: Crypto>(&mut self) -> TicketProgress {
        match self.advance::<C>() {
            Ok(progress) => progress,
            Err(reason) => {
                self.computation = Computation::Failed(reason);
                TicketProgress::Done
            }
        }
    }

    fn advance<C: Crypto>(&mut self) -> Result<TicketProgress, DropReason> {
        match &mut self.computation {
            Computation::Initiation { create, remote } => match &self.static_static {
                Some(_) => create.step::<C>().map(again_or_done).map_err(reason),
                None => {
                    let shared = agree::<C>(&self.keys, remote)?;
                    create.set_static_static(copy(&shared));
                    self.static_static = Some(shared);
                    Ok(TicketProgress::Again)
                }
            },
            Computation::Response { create, .. } => create.step::<C>().map(again_or_done).map_err(reason),
            Computation::Answered { consume, .. } => consume.step::<C>().map(again_or_done).map_err(reason),
            Computation::Failed(_) => Ok(TicketProgress::Done),
            Computation::Received { consume, identified, .. } => match (consume.initiator(), identified) {
                (None, _) => {
                    let _ = consume.step::<C>().map_err(reason)?;
                    let initiator = consume.initiator().ok_or(DropReason::NotAuthentic)?;
                    Ok(TicketProgress::Identify(initiator))
                }
                (Some(initiator), None) => Ok(TicketProgress::Identify(initiator)),
                (Some(initiator), Some(_)) if self.static_static.is_none() => {
                    let shared = agree::<C>(&self.keys, &initiator)?;
                    consume.set_static_static(copy(&shared));
                    self.static_static = Some(shared);
                    Ok(TicketProgress::Again)
                }
                (Some(_), Some(_)) => match consume.step::<C>().map_err(reason)? {
                    Progress::Again => Ok(TicketProgress::Again),
                    Progress::Done => self.begin_response(),
                },
            },
        }
    }

    /// The initiation is authentic: checks its timestamp before three more Diffie-Hellmans are spent on it.
    #[inline(never)]
    fn begin_response(&mut self) -> Result<TicketProgress, DropReason> {
        let Computation::Received { consume, ephemeral, identified: Some(identified) } = &self.computation else {
            return Err(DropReason::TicketStale);
        };
        let received = consume.finish().ok_or(DropReason::NotAuthentic)?;
        if received.timestamp <= identified.greatest_timestamp {
            return Err(DropReason::StaleTimestamp);
        }
        let timestamp = received.timestamp;
        let create = CreateResponse::new(received, identified.preshared_key.clone(), ephemeral.clone());
        self.computation = Computation::Response { create, timestamp };
        Ok(TicketProgress::Again)
    }
}

/// A second copy of a shared secret; both are wiped on drop.
pub(crate) fn copy(shared: &SharedSecret) -> SharedSecret {
    SharedSecret::from_bytes(*shared.as_bytes())
}

fn agree<C: Crypto>(keys: &StaticKeys, remote: &NodeKey) -> Result<SharedSecret, DropReason> {
    keys.agree::<C::Dh>(remote).map_err(|_| DropReason::LowOrderPoint)
}

fn again_or_done(progress: Progress) -> TicketProgress {
    match progress {
        Progress::Again => TicketProgress::Again,
        Progress::Done => TicketProgress::Done,
    }
}

fn reason(error: HandshakeError) -> DropReason {
    match error {
        HandshakeError::LowOrderPoint => DropReason::LowOrderPoint,
        HandshakeError::NotAuthentic => DropReason::NotAuthentic,
    }
}
