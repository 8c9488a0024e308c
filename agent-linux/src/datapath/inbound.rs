//! From the network to the TUN device: receive a batch, open it by runs of one session, write what is delivered.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use weft_core::{
    crypto::Crypto,
    ip::ecn::{self, Ecn},
    time::UnixTime,
    wireguard::{Device, Incoming, PeerId, Received, Verdict},
};

use super::{DataPath, Dropped, Engine, SystemRng, sources::SourceAddresses};
use crate::{
    clock,
    crypto_ring::RingCrypto,
    tun_device::{self, TunDevice},
    udp::{Arrival, UdpSockets},
};

impl DataPath {
    /// Moves a batch from the network to the TUN device.
    pub(super) fn receive<E: Engine>(&mut self, engine: &mut E) -> io::Result<()> {
        let Some(sockets) = &mut self.sockets else { return Ok(()) };
        if !sockets.try_receive(&mut self.inbound)? {
            return Ok(());
        }
        let mut work = Inbound {
            unix: engine.unix(),
            engine,
            tun: &self.tun,
            sockets,
            sources: &mut self.sources,
            dropped: &mut self.dropped,
            rng: &mut self.rng,
        };
        for arrival in self.inbound.arrivals() {
            work.arrival(arrival)?;
        }
        let Inbound { engine, sources, .. } = work;
        let device = engine.device_mut();
        // Removed peers leave their entries behind; they are swept when they may be the larger part.
        if sources.len() > 2 * device.peer_counts().0 + 16 {
            sources.retain(|peer| device.preshared_key(peer).is_some());
        }
        sources.take_moved().for_each(|source| engine.moved(source));
        Ok(())
    }

    /// Takes in a message that is no data and had waited, as if it came only now.
    pub fn receive_late<E: Engine>(&mut self, engine: &mut E, message: &mut [u8], source: SocketAddr) {
        let Some(sockets) = &mut self.sockets else { return };
        let unix = engine.unix();
        let (tun, sources, dropped, rng) = (&self.tun, &mut self.sources, &mut self.dropped, &mut self.rng);
        Inbound { unix, engine, tun, sockets, sources, dropped, rng }.message(message, source, None);
    }
}

/// What the datagrams of a batch go through.
struct Inbound<'a, E> {
    unix: UnixTime,
    engine: &'a mut E,
    tun: &'a TunDevice,
    sockets: &'a mut UdpSockets,
    sources: &'a mut SourceAddresses,
    dropped: &'a mut Dropped,
    rng: &'a mut SystemRng,
}

impl<E: Engine> Inbound<'_, E> {
    fn arrival(&mut self, arrival: Arrival<'_>) -> io::Result<()> {
        let Arrival { source, local, ecn, datagrams, segment } = arrival;
        let mut run: Vec<Incoming<'_>> = Vec::new();
        let mut session = None;
        for datagram in datagrams.chunks_mut(segment) {
            let receiver = Device::<E::Storage>::data_receiver(datagram);
            if receiver != session {
                self.open(session, &mut run, local, ecn)?;
                session = receiver;
            }
            match receiver {
                Some(_) => run.push(Incoming::new(datagram, source)),
                None => self.message(datagram, source, local),
            }
        }
        self.open(session, &mut run, local, ecn)
    }

    /// Opens a run of data messages of one session, delivers what is in them, and empties it.
    fn open(
        &mut self,
        session: Option<u32>,
        run: &mut Vec<Incoming<'_>>,
        local: Option<IpAddr>,
        outer: Ecn,
    ) -> io::Result<()> {
        let Some(receiver) = session.filter(|_| !run.is_empty()) else { return Ok(()) };
        // A refusal is in the device's counters.
        if let Ok(ticket) = self.engine.device_mut().begin_open(receiver, clock::now()) {
            let peer = ticket.peer();
            ticket.open::<<RingCrypto as Crypto>::Aead>(run);
            self.engine.device_mut().commit_open(ticket, run, clock::now(), self.unix);
            let authentic = run.iter().rfind(|incoming| !matches!(incoming.verdict(), Verdict::Drop(_)));
            if let Some(authentic) = authentic {
                self.sources.learn(peer, authentic.source(), local);
            }
            for packet in run.iter_mut().filter_map(Incoming::packet) {
                self.deliver(packet, outer)?;
            }
        }
        run.clear();
        Ok(())
    }

    fn deliver(&mut self, packet: &mut [u8], outer: Ecn) -> io::Result<()> {
        if !ecn::decapsulate(packet, outer) {
            self.dropped.congested += 1;
            return Ok(());
        }
        match self.tun.write(packet) {
            Ok(()) => Ok(()),
            Err(error) if tun_device::is_gone(&error) => Err(error),
            Err(_) => {
                self.dropped.not_delivered += 1;
                Ok(())
            }
        }
    }

    /// Takes in what is not data, and sends the answer back the way it came.
    fn message(&mut self, datagram: &mut [u8], source: SocketAddr, local: Option<IpAddr>) {
        let device = self.engine.device_mut();
        match device.receive::<RingCrypto>(datagram, source, clock::now(), self.unix, self.rng) {
            Received::Transmit(answer) => {
                let message = datagram.get(..answer.len).unwrap_or_default();
                if let Err(error) = self.sockets.send_handshake(message, answer.endpoint, local) {
                    self.dropped.not_sent += 1;
                    tracing::trace!("cannot answer the handshake of {source}: {error}");
                }
                self.learn(answer.peer, source, local);
            }
            Received::Taken(peer) => self.learn(Some(peer), source, local),
            Received::Stranger(key) => self.engine.stranger(key, datagram, source),
            // Dropped and counted; a packet does not come of what is not data.
            Received::Drop(_) | Received::Packet { .. } => {}
        }
    }

    fn learn(&mut self, peer: Option<PeerId>, source: SocketAddr, local: Option<IpAddr>) {
        if let Some(peer) = peer {
            self.sources.learn(peer, source, local);
        }
    }
}
