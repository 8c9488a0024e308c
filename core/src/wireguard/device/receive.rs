//! Data messages on their way in, in three phases.

use core::net::SocketAddr;

use super::{Device, Event};
use crate::ip::IpHeader;
use crate::time::{Instant, UnixTime};
use crate::wireguard::counters::DropReason;
use crate::wireguard::message::{DATA_HEADER_LEN, DataHeader, MessageKind};
use crate::wireguard::peer::{LastHandshake, PeerId};
use crate::wireguard::session::{Role, Window};
use crate::wireguard::storage::Storage;
use crate::wireguard::ticket::{Authentic, Incoming, OpenTicket, SessionRef, Verdict};
use crate::wireguard::timers::Timer;

impl<S: Storage> Device<S> {
    /// The receiver index of a data message, to be handed to [`begin_open`](Self::begin_open); `None` for every other
    /// datagram, which goes to [`begin_handshake_receive`](Self::begin_handshake_receive).
    pub fn data_receiver(datagram: &[u8]) -> Option<u32> {
        match MessageKind::of(datagram) {
            Some(MessageKind::Data) => DataHeader::parse(datagram).map(|header| header.receiver),
            _ => None,
        }
    }

    /// Begins to open data messages of one session. The ticket opens any number of them.
    ///
    /// # Errors
    /// The messages are to be dropped: [`DropReason::UnknownIndex`], [`DropReason::SessionExpired`],
    /// [`DropReason::PeerExpired`]. Counted once a call.
    pub fn begin_open(&mut self, receiver_index: u32, now: Instant) -> Result<OpenTicket, DropReason> {
        self.try_begin_open(receiver_index, now).map_err(|reason| self.counters.count(reason))
    }

    fn try_begin_open(&self, receiver_index: u32, now: Instant) -> Result<OpenTicket, DropReason> {
        let slot = self.indices.get(receiver_index).ok_or(DropReason::UnknownIndex)?;
        let active = self.active.get(slot).ok_or(DropReason::UnknownIndex)?;
        let role = active.sessions.by_index(receiver_index).ok_or(DropReason::UnknownIndex)?;
        let session = active.sessions.get(role).ok_or(DropReason::UnknownIndex)?;
        let peer = self.known.id_at(active.owner()).ok_or(DropReason::UnknownIndex)?;
        if !session.is_fresh(now) {
            return Err(DropReason::SessionExpired);
        }
        if self.known.get(peer).is_none_or(|known| known.is_expired(self.wall.at(now))) {
            return Err(DropReason::PeerExpired);
        }
        let session_ref = SessionRef { peer, serial: session.serial() };
        Ok(OpenTicket::new(session_ref, receiver_index, session.receiving_key()))
    }

    /// Takes a ticket back with the messages that it opened, in the order of arrival, and gives each its verdict.
    /// Only now the replay window, the endpoint, the timers and the rotation of sessions follow, and only from what
    /// is authentic. Where the session has gone meanwhile, everything is dropped.
    pub fn commit_open(&mut self, ticket: OpenTicket, packets: &mut [Incoming<'_>], now: Instant, unix: UnixTime) {
        self.wall.set(now, unix);
        let mut arrived = Arrived::default();
        for packet in packets.iter_mut() {
            if let Some(authentic) = packet.authentic() {
                packet.verdict = match self.accept(&ticket.session, &authentic, now) {
                    Ok(slot) => {
                        arrived.note(slot, authentic.len, packet.source());
                        self.inspect(ticket.session.peer, packet.plaintext(), &mut arrived)
                    }
                    Err(reason) => Verdict::Drop(reason),
                };
            }
            if let Verdict::Drop(reason) = packet.verdict {
                self.counters.count(reason);
            }
        }
        if let Some((slot, source)) = arrived.last {
            self.note_arrivals(slot, &arrived, source, now);
        }
    }

    /// Whether a packet of this session with this counter may be taken; the first one confirms a next session.
    fn accept(&mut self, session_ref: &SessionRef, packet: &Authentic, now: Instant) -> Result<u32, DropReason> {
        if packet.serial != session_ref.serial {
            return Err(DropReason::TicketStale);
        }
        let slot = self.slot_of(session_ref.peer).ok_or(DropReason::TicketStale)?;
        let wall = self.wall.at(now);
        let (peer, known, active) = self.active_at(slot).ok_or(DropReason::TicketStale)?;
        let role = active.sessions.by_serial(session_ref.serial).ok_or(DropReason::TicketStale)?;
        let session = active.sessions.get_mut(role).ok_or(DropReason::TicketStale)?;
        if known.is_expired(wall) {
            return Err(DropReason::PeerExpired);
        }
        if !session.is_fresh(now) {
            return Err(DropReason::SessionExpired);
        }
        if !session.window().mark(packet.counter) {
            return Err(DropReason::Replayed);
        }
        if role == Role::Next {
            let freed = active.sessions.confirm_next();
            active.timers.handshake_complete();
            known.last_handshake = Some(LastHandshake { at: now, wall });
            if !active.staged.is_empty() {
                active.timers.arm(Timer::Flush, now);
            }
            self.free_indices(freed);
            // Its answer would only rotate the session away that both sides have now.
            self.forget_initiation(slot);
            self.raise(Event::Established(peer));
        }
        Ok(slot)
    }

    /// What is in an authentic packet: trims the padding, and lets the peer speak only for its own addresses.
    fn inspect(&self, peer: PeerId, plaintext: &[u8], arrived: &mut Arrived) -> Verdict {
        if plaintext.is_empty() {
            return Verdict::Keepalive;
        }
        arrived.data = arrived.data.saturating_add(1);
        let Some(header) = IpHeader::parse(plaintext) else { return Verdict::Drop(DropReason::NotIp) };
        if self.route(header.source) != Some(peer) {
            return Verdict::Drop(DropReason::ForbiddenSource);
        }
        Verdict::Deliver(DATA_HEADER_LEN..DATA_HEADER_LEN.saturating_add(header.total_len))
    }

    fn note_arrivals(&mut self, slot: u32, arrived: &Arrived, source: SocketAddr, now: Instant) {
        self.note_authentic(slot, source, arrived.bytes, now);
        let Some(active) = self.active.get_mut(slot) else { return };
        if arrived.data > 0 {
            active.note_use(now);
        }
        for _ in 0..arrived.data.min(2) {
            active.timers.data_received(now);
        }
        let aged = active.sessions.get(Role::Current).is_some_and(|session| session.wants_rekey_on_receive(now));
        if aged && active.timers.take_last_minute_handshake() {
            self.want_initiation(slot, now, true);
        }
        self.active.reschedule(slot);
    }

    /// An authentic message came from `source`: the peer is there now.
    pub(super) fn note_authentic(&mut self, slot: u32, source: SocketAddr, bytes: u64, now: Instant) {
        let Some((peer, known, active)) = self.active_at(slot) else { return };
        known.received_bytes = known.received_bytes.saturating_add(bytes);
        active.timers.any_authenticated_packet_received();
        active.timers.any_authenticated_packet_traversal(now, known.persistent_keepalive());
        if known.endpoint.replace(source) != Some(source) {
            self.raise(Event::Roamed(peer));
        }
    }
}

/// What the authentic packets of a batch add up to.
#[derive(Debug, Default)]
struct Arrived {
    /// Active slot and source of the last one.
    last: Option<(u32, SocketAddr)>,
    bytes: u64,
    data: u32,
}

impl Arrived {
    fn note(&mut self, slot: u32, len: usize, source: SocketAddr) {
        self.last = Some((slot, source));
        self.bytes = self.bytes.saturating_add(len as u64);
    }
}
