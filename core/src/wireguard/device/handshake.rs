//! Handshake messages, both roles, in three phases; and cookies.

use core::net::SocketAddr;

use super::{Device, Event, Transmit, TransmitKind};
use crate::crypto::Crypto;
use crate::time::{Instant, UnixTime};
use crate::wireguard::constants::INITIATION_INTERVAL;
use crate::wireguard::counters::DropReason;
use crate::wireguard::handshake::{
    ConsumeInitiation, ConsumeResponse, CreateInitiation, CreateResponse, EphemeralSecret, Established,
};
use crate::wireguard::message::{
    COOKIE_REPLY_LEN, CookieReply, INITIATION_LEN, Initiation, MessageKind, RESPONSE_LEN, Response,
};
use crate::wireguard::peer::{LastHandshake, PeerId};
use crate::wireguard::rate_limit::Admission;
use crate::wireguard::session::Beginning;
use crate::wireguard::storage::Storage;
use crate::wireguard::tai64n::Tai64n;
use crate::wireguard::ticket::{Computation, HandshakeTicket, Identified, copy};
use crate::wireguard::timers::Timer;

/// What is to be done with a datagram that is not data.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is no heap to put the ticket on")]
pub enum HandshakeBegin {
    /// Step the ticket until it is done, then commit it.
    Ticket(HandshakeTicket),
    /// Send the first so many bytes of the datagram's buffer back to its source: a cookie reply, which is shorter
    /// than what it answers.
    Reply(usize),
    /// It was a cookie reply and the cookie is kept. Nothing is to be sent for it.
    CookieKept(PeerId),
    /// Dropped and counted.
    Drop(DropReason),
}

impl<S: Storage> Device<S> {
    /// Whether a datagram that is not data can be one for this device: its sender knows the device's public key, or
    /// answers one of its messages. For whoever has little room for messages that wait to be read.
    pub fn is_addressed(&self, datagram: &[u8]) -> bool {
        match MessageKind::of(datagram) {
            Some(MessageKind::Initiation | MessageKind::Response) => {
                self.identity.as_ref().is_some_and(|identity| identity.checker.check_mac1(datagram))
            }
            Some(MessageKind::CookieReply) => {
                CookieReply::parse(datagram).is_some_and(|reply| self.indices.get(reply.receiver).is_some())
            }
            Some(MessageKind::Data) | None => false,
        }
    }

    /// Begins to read a handshake message or cookie reply: everything up to the first Diffie-Hellman. `datagram` is
    /// overwritten only where the answer is [`HandshakeBegin::Reply`].
    ///
    /// Whoever sends garbage costs one keyed hash; whoever knows this device's public key, and under load has proven
    /// an address, one Diffie-Hellman.
    pub fn begin_handshake_receive<C: Crypto>(
        &mut self,
        datagram: &mut [u8],
        source: SocketAddr,
        now: Instant,
        unix: UnixTime,
        rng: &mut dyn rand_core::CryptoRng,
    ) -> HandshakeBegin {
        self.wall.set(now, unix);
        let begun = match MessageKind::of(datagram) {
            Some(MessageKind::CookieReply) => self.keep_cookie::<C>(datagram, now),
            Some(MessageKind::Initiation | MessageKind::Response) => {
                self.begin_handshake_message::<C>(datagram, source, now, rng)
            }
            Some(MessageKind::Data) | None => Err(DropReason::Malformed),
        };
        begun.unwrap_or_else(|reason| HandshakeBegin::Drop(self.counters.count(reason)))
    }

    fn begin_handshake_message<C: Crypto>(
        &mut self,
        datagram: &mut [u8],
        source: SocketAddr,
        now: Instant,
        rng: &mut dyn rand_core::CryptoRng,
    ) -> Result<HandshakeBegin, DropReason> {
        let identity = self.identity.as_mut().ok_or(DropReason::NoPrivateKey)?;
        if !identity.checker.check_mac1(datagram) {
            return Err(DropReason::WrongMac1);
        }
        self.load.note_message(now);
        if self.load.is_loaded(now) {
            if !identity.checker.check_mac2(datagram, source, now) {
                let reply = identity.checker.reply::<C::Aead>(datagram, source, now, rng);
                let room = datagram.first_chunk_mut::<COOKIE_REPLY_LEN>();
                let (reply, room) = reply.zip(room).ok_or(DropReason::Malformed)?;
                *room = reply.emit();
                self.counters.count(DropReason::CookieRequired);
                return Ok(HandshakeBegin::Reply(COOKIE_REPLY_LEN));
            }
            match self.limiter.admit(source.ip(), now) {
                Admission::Admitted => {}
                Admission::TooMany | Admission::TableFull => return Err(DropReason::RateLimited),
            }
        }
        let keys = identity.keys.clone();
        let (computation, peer) = if let Some(message) = Initiation::parse(datagram) {
            let consume = ConsumeInitiation::new(&keys, message);
            let ephemeral = EphemeralSecret::generate(rng);
            (Computation::Received { consume, ephemeral, identified: None }, None)
        } else {
            let message = Response::parse(datagram).ok_or(DropReason::Malformed)?;
            let receiver_index = message.receiver;
            let slot = self.indices.get(receiver_index).ok_or(DropReason::UnknownIndex)?;
            let (peer, known, active) = self.active_at(slot).ok_or(DropReason::UnknownIndex)?;
            let sent = active.sent_initiation.as_ref().filter(|sent| sent.sender() == receiver_index);
            let sent = sent.ok_or(DropReason::UnknownIndex)?;
            let consume = ConsumeResponse::new(&keys, sent, known.preshared_key.clone(), message);
            (Computation::Answered { consume, receiver_index }, Some(peer))
        };
        let source = Some(source);
        let reads_initiation = peer.is_none();
        let ticket =
            HandshakeTicket { computation, keys, peer, source, reads_initiation, static_static: None, attempt: 0 };
        Ok(HandshakeBegin::Ticket(ticket))
    }

    fn keep_cookie<C: Crypto>(&mut self, datagram: &[u8], now: Instant) -> Result<HandshakeBegin, DropReason> {
        let reply = CookieReply::parse(datagram).ok_or(DropReason::Malformed)?;
        let slot = self.indices.get(reply.receiver).ok_or(DropReason::UnknownIndex)?;
        let (peer, known, active) = self.active_at(slot).ok_or(DropReason::UnknownIndex)?;
        match active.cookie.consume::<C::Aead>(known.key(), &reply, now) {
            true => Ok(HandshakeBegin::CookieKept(peer)),
            false => Err(DropReason::InvalidCookie),
        }
    }

    /// Tells a ticket whose initiation it reads, once [`HandshakeTicket::step`] asks. Checks what can be checked
    /// before more is computed.
    ///
    /// # Errors
    /// [`DropReason::UnknownPeer`] where no peer has this key: the caller may add the peer and ask again, or drop the
    /// ticket. Others mean that the ticket is to be dropped. Counted.
    pub fn identify_initiator(&mut self, ticket: &mut HandshakeTicket, now: Instant) -> Result<PeerId, DropReason> {
        self.try_identify(ticket, now).map_err(|reason| self.counters.count(reason))
    }

    fn try_identify(&mut self, ticket: &mut HandshakeTicket, now: Instant) -> Result<PeerId, DropReason> {
        let Computation::Received { consume, identified, .. } = &mut ticket.computation else {
            return Err(DropReason::TicketStale);
        };
        let key = consume.initiator().ok_or(DropReason::TicketStale)?;
        let peer = self.known.find(&key).ok_or(DropReason::UnknownPeer)?;
        let known = self.known.get(peer).ok_or(DropReason::UnknownPeer)?;
        if known.is_expired(self.wall.at(now)) {
            return Err(DropReason::PeerExpired);
        }
        let same_keys = self.identity.as_ref().is_some_and(|own| own.keys.public() == ticket.keys.public());
        let active = known.active().and_then(|slot| self.active.get(slot)).filter(|_| same_keys);
        if let Some(active) = active {
            if is_flood(active.last_consumed_initiation, now) {
                return Err(DropReason::InitiationFlood);
            }
            if let Some(shared) = &active.static_static {
                consume.set_static_static(copy(shared));
                ticket.static_static = Some(copy(shared));
            }
        }
        *identified = Some(Identified {
            preshared_key: known.preshared_key.clone(),
            greatest_timestamp: known.greatest_timestamp,
        });
        ticket.peer = Some(peer);
        Ok(peer)
    }

    /// An initiation that is due: everything up to the first Diffie-Hellman. `None` where it cannot be.
    pub(super) fn begin_initiation(
        &mut self,
        slot: u32,
        unix: UnixTime,
        rng: &mut dyn rand_core::CryptoRng,
    ) -> Option<HandshakeTicket> {
        let keys = self.identity.as_ref()?.keys.clone();
        let stamp = unix.max(self.timestamp_floor);
        let (peer, known, active) = self.active_at(slot)?;
        known.last_sent_timestamp = Tai64n::after(known.last_sent_timestamp, stamp);
        active.attempt = active.attempt.wrapping_add(1);
        let create = CreateInitiation::new(
            &keys,
            *known.key(),
            active.static_static.as_ref().map(copy),
            known.last_sent_timestamp,
            EphemeralSecret::generate(rng),
        );
        Some(HandshakeTicket {
            computation: Computation::Initiation { create, remote: *known.key() },
            keys,
            peer: Some(peer),
            source: None,
            reads_initiation: false,
            static_static: active.static_static.as_ref().map(copy),
            attempt: active.attempt,
        })
    }

    /// Takes a ticket back. Where it leads to a message, that is written to `out` (148 bytes are enough) and has to be
    /// sent. Where the computation failed, or the device has moved on meanwhile, nothing changes.
    ///
    /// # Errors
    /// Why nothing came of it. Counted.
    pub fn commit_handshake(
        &mut self,
        mut ticket: HandshakeTicket,
        now: Instant,
        unix: UnixTime,
        rng: &mut dyn rand_core::CryptoRng,
        out: &mut [u8],
    ) -> Result<Option<Transmit>, DropReason> {
        self.wall.set(now, unix);
        let initiator = ticket.peer.filter(|_| ticket.reads_initiation);
        let committed = self.try_commit(&mut ticket, now, rng, out).map_err(|reason| self.counters.count(reason));
        let unproven = matches!(committed, Err(DropReason::NotAuthentic | DropReason::StaleTimestamp));
        if let Some(initiator) = initiator.filter(|_| unproven) {
            self.raise(Event::Impersonated(initiator));
        }
        committed
    }

    // By reference, and its parts too: each move would take half a kilobyte of a chip's stack.
    fn try_commit(
        &mut self,
        ticket: &mut HandshakeTicket,
        now: Instant,
        rng: &mut dyn rand_core::CryptoRng,
        out: &mut [u8],
    ) -> Result<Option<Transmit>, DropReason> {
        let HandshakeTicket { computation, keys, peer, source, static_static, attempt, .. } = ticket;
        if let Computation::Failed(reason) = computation {
            return Err(*reason);
        }
        if self.public_key() != Some(keys.public()) {
            return Err(DropReason::TicketStale);
        }
        let peer = peer.ok_or(DropReason::UnknownPeer)?;
        let known = self.known.get(peer).ok_or(DropReason::TicketStale)?;
        if known.is_expired(self.wall.at(now)) {
            return Err(DropReason::PeerExpired);
        }
        let transmit = match computation {
            Computation::Initiation { create, .. } => {
                self.commit_initiation(peer, create, *attempt, now, rng, out).map(Some)
            }
            Computation::Response { create, timestamp } => {
                let source = source.ok_or(DropReason::TicketStale)?;
                self.commit_response(peer, create, *timestamp, source, now, rng, out).map(Some)
            }
            Computation::Answered { consume, receiver_index } => {
                let source = source.ok_or(DropReason::TicketStale)?;
                let established = consume.finish().ok_or(DropReason::TicketStale)?;
                self.commit_answer(peer, &established, *receiver_index, source, now).map(|()| None)
            }
            Computation::Received { .. } | Computation::Failed(_) => Err(DropReason::TicketStale),
        }?;
        if let Some(active) = self.slot_of(peer).and_then(|slot| self.active.get_mut(slot))
            && active.static_static.is_none()
        {
            active.static_static = static_static.take();
        }
        Ok(transmit)
    }

    fn commit_initiation(
        &mut self,
        peer: PeerId,
        create: &mut CreateInitiation,
        attempt: u64,
        now: Instant,
        rng: &mut dyn rand_core::CryptoRng,
        out: &mut [u8],
    ) -> Result<Transmit, DropReason> {
        let out = out.first_chunk_mut::<INITIATION_LEN>().ok_or(DropReason::BufferTooSmall)?;
        let known = self.known.get(peer).ok_or(DropReason::TicketStale)?;
        let endpoint = known.endpoint.ok_or(DropReason::TicketStale)?;
        let slot = known.active().ok_or(DropReason::TicketStale)?;
        if self.active.get(slot).is_none_or(|active| active.attempt != attempt) {
            return Err(DropReason::TicketStale);
        }
        self.forget_initiation(slot);
        let index = self.indices.insert(slot, rng).map_err(|_| DropReason::NoIndex)?;
        let Some((message, sent)) = create.finish(index) else {
            self.indices.remove(index);
            return Err(DropReason::TicketStale);
        };
        let (_, known, active) = self.active_at(slot).ok_or(DropReason::TicketStale)?;
        *out = message.emit();
        active.cookie.stamp(known.key(), out, now);
        active.sent_initiation = Some(sent);
        self.note_handshake_sent(slot, INITIATION_LEN, now);
        Ok(Transmit { peer: Some(peer), endpoint, len: INITIATION_LEN, kind: TransmitKind::Initiation })
    }

    #[expect(clippy::too_many_arguments, reason = "what a response is made from and where it goes")]
    fn commit_response(
        &mut self,
        peer: PeerId,
        create: &mut CreateResponse,
        timestamp: Tai64n,
        source: SocketAddr,
        now: Instant,
        rng: &mut dyn rand_core::CryptoRng,
        out: &mut [u8],
    ) -> Result<Transmit, DropReason> {
        let out = out.first_chunk_mut::<RESPONSE_LEN>().ok_or(DropReason::BufferTooSmall)?;
        let known = self.known.get_mut(peer).ok_or(DropReason::TicketStale)?;
        if timestamp <= known.greatest_timestamp {
            return Err(DropReason::StaleTimestamp);
        }
        if let Some(active) = known.active().and_then(|slot| self.active.get(slot))
            && is_flood(active.last_consumed_initiation, now)
        {
            return Err(DropReason::InitiationFlood);
        }
        // From here on the initiation counts as consumed, also where there is no room for its session.
        known.greatest_timestamp = timestamp;
        let slot = self.activate(peer, now)?;
        if let Some(active) = self.active.get_mut(slot) {
            active.last_consumed_initiation = Some(now);
        }
        let index = self.indices.insert(slot, rng).map_err(|_| DropReason::NoIndex)?;
        let Some((message, established)) = create.finish(index) else {
            self.indices.remove(index);
            return Err(DropReason::TicketStale);
        };
        let (_, known, active) = self.active_at(slot).ok_or(DropReason::TicketStale)?;
        *out = message.emit();
        active.cookie.stamp(known.key(), out, now);
        self.begin_session(slot, &established, false, now);
        self.note_authentic(slot, source, INITIATION_LEN as u64, now);
        self.note_handshake_sent(slot, RESPONSE_LEN, now);
        Ok(Transmit { peer: Some(peer), endpoint: source, len: RESPONSE_LEN, kind: TransmitKind::Response })
    }

    /// The response to our initiation is authentic: the session is current, and a packet at once confirms it.
    fn commit_answer(
        &mut self,
        peer: PeerId,
        established: &Established,
        receiver_index: u32,
        source: SocketAddr,
        now: Instant,
    ) -> Result<(), DropReason> {
        let slot = self.slot_of(peer).ok_or(DropReason::TicketStale)?;
        let wall = self.wall.at(now);
        let (_, known, active) = self.active_at(slot).ok_or(DropReason::TicketStale)?;
        if active.sent_initiation.as_ref().is_none_or(|sent| sent.sender() != receiver_index) {
            return Err(DropReason::TicketStale);
        }
        active.sent_initiation = None;
        active.owes_confirmation = true;
        active.timers.handshake_complete();
        active.timers.arm(Timer::Flush, now);
        known.last_handshake = Some(LastHandshake { at: now, wall });
        self.begin_session(slot, established, true, now);
        self.note_authentic(slot, source, RESPONSE_LEN as u64, now);
        self.active.reschedule(slot);
        self.raise(Event::Established(peer));
        Ok(())
    }

    fn begin_session(&mut self, slot: u32, established: &Established, initiator: bool, now: Instant) {
        self.last_serial = self.last_serial.saturating_add(1);
        let Some(active) = self.active.get_mut(slot) else { return };
        let keys = &established.keys;
        let (sending_key, receiving_key) =
            if initiator { (&keys.initiator, &keys.responder) } else { (&keys.responder, &keys.initiator) };
        let beginning = Beginning {
            serial: self.last_serial,
            sending_key,
            receiving_key,
            local_index: established.local,
            remote_index: established.remote,
            initiator,
            now,
        };
        let stale = active.sessions.end_stale(now);
        let freed = match initiator {
            true => active.sessions.begin_as_initiator(&beginning),
            false => active.sessions.begin_as_responder(&beginning),
        };
        active.timers.session_derived(now);
        self.free_indices(stale);
        self.free_indices(freed);
    }

    fn note_handshake_sent(&mut self, slot: u32, len: usize, now: Instant) {
        let Some((_, known, active)) = self.active_at(slot) else { return };
        known.sent_bytes = known.sent_bytes.saturating_add(len as u64);
        active.timers.handshake_message_sent(now);
        active.timers.any_authenticated_packet_sent(now);
        active.timers.any_authenticated_packet_traversal(now, known.persistent_keepalive());
        self.active.reschedule(slot);
    }
}

/// Whether an initiation comes too soon after the last one.
fn is_flood(last: Option<Instant>, now: Instant) -> bool {
    last.is_some_and(|last| last <= now && now.saturating_since(last) < INITIATION_INTERVAL)
}
