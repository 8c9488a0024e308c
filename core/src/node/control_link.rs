//! The connection to the control server: which address and key to try, what comes in, what goes out.

use rand_core::CryptoRng;

use super::{
    Member, Node, NodeStorage,
    event::sentence,
    lookup::Subject,
    outbox::{BATCH, Ids, StatusWalk},
    reconnect::{Ending, Reconnect},
    steps::Proof,
};
use crate::{
    control::{
        ClientConfig, ClientConnection, ClientError, ClientRecord, MAX_NODE_OUTPUT, NetworkId, ServerAddress,
        record::{
            Address, Delivery, Endpoint, Endpoints, ErrorCode, Held, Logout, Lookup, Register, RenewNodeKey, Text,
            Watch,
        },
    },
    crypto::Crypto,
    time::{Instant, UnixTime},
};

/// How it stands with the control server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ControlState {
    /// No connection is wanted.
    Off,
    /// The next attempt waits for its time.
    Waiting,
    /// Connecting, or connected but not registered yet.
    Connecting,
    /// Registered.
    Registered,
}

/// The connection and what decides on the next one.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) reconnect: Reconnect,
    pub(super) connection: Option<ClientConnection>,
    /// The last proof over this connection.
    pub(super) proof: Option<Proof>,
    /// Which of the server's addresses is tried.
    address: usize,
    /// Whether the next attempt expects the key before the announced one, since the server did not answer to that.
    fall_back: bool,
    /// Whether the connection was made with the announced key.
    with_next_key: bool,
}

impl Link {
    pub(super) const fn new() -> Self {
        Self {
            reconnect: Reconnect::new(),
            connection: None,
            proof: None,
            address: 0,
            fall_back: false,
            with_next_key: false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.connection.as_ref()?.poll_timeout()
    }

    /// Cuts a wait for the next attempt short.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.reconnect.due().is_some() {
            self.reconnect.start(now);
        }
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub(super) fn is_registered(&self) -> bool {
        self.connection.as_ref().is_some_and(ClientConnection::is_registered)
    }
}

impl<S: NodeStorage, C: Crypto> Node<S, C> {
    /// When the agent is to open a TCP connection to the server (with TLS around it where the address says so), and to
    /// which address. `None` while it has one, tries, or none is wanted. Not part of
    /// [`poll_timeout`](Self::poll_timeout).
    pub fn next_connect(&self) -> Option<(Instant, &ServerAddress)> {
        let due = self.link.reconnect.due()?;
        let addresses = &self.member.identity.as_ref()?.addresses;
        let address = addresses.get(self.link.address % addresses.len().max(1))?;
        Some((due, address))
    }

    /// How it stands with the control server.
    pub fn control_state(&self) -> ControlState {
        match (self.link.is_registered(), self.link.reconnect.due()) {
            (true, _) => ControlState::Registered,
            (false, Some(_)) => ControlState::Waiting,
            (false, None) if self.link.reconnect.is_off() => ControlState::Off,
            (false, None) => ControlState::Connecting,
        }
    }

    /// The agent begins to connect to the address of [`next_connect`](Self::next_connect). Next comes
    /// [`control_connected`](Self::control_connected) or [`control_closed`](Self::control_closed).
    pub fn control_connecting(&mut self) {
        self.link.reconnect.connecting();
    }

    /// The TCP connection to the address of the last [`next_connect`](Self::next_connect) is open.
    pub fn control_connected(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        if self.link.reconnect.is_off() {
            self.member.events.close_control = true;
            return;
        }
        self.link.reconnect.connecting();
        self.finish_steps(now, rng);
        let (Some(identity), Some(machine_key)) = (&self.member.identity, self.member.keys.machine) else { return };
        let Some(address) = identity.addresses.get(self.link.address % identity.addresses.len().max(1)) else { return };
        let next_key = identity.next_server.filter(|_| !self.link.fall_back);
        self.link.with_next_key = next_key.is_some();
        let config = ClientConfig {
            address: address.clone(),
            server: next_key.unwrap_or(identity.server),
            machine: identity.machine.clone(),
            machine_key,
        };
        self.link.connection = Some(ClientConnection::new(config, now, rng));
        self.link.proof = None;
    }

    /// The TCP connection failed, or was closed by either side. The next attempt is planned.
    pub fn control_closed(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        self.end_connection(Ending::Broken, now, rng);
    }

    /// Ends what is left of a connection and plans the next one; does nothing after the first time.
    fn end_connection(&mut self, ending: Ending, now: Instant, rng: &mut dyn CryptoRng) {
        if self.link.connection.is_some() {
            // Not taken out, which would move it over the stack.
            self.link.connection = None;
            self.member.disconnected();
        }
        if self.link.reconnect.is_connecting() {
            self.link.address = self.link.address.wrapping_add(1);
        }
        self.link.reconnect.ended(ending, now, rng);
    }

    /// Bytes came from the server. After this, [`control_transmit`](Self::control_transmit) may have an answer, and
    /// [`NodeEvent::CloseControl`](super::NodeEvent::CloseControl) says where the connection is over.
    pub fn control_receive(&mut self, mut bytes: &[u8], now: Instant, wall: UnixTime, rng: &mut dyn CryptoRng) {
        while let Some(connection) = &mut self.link.connection {
            // A step is due only after message 1 and 2, and neither side may send more before it is computed.
            match connection.receive::<C>(&mut bytes, now) {
                Ok(Some(record)) => {
                    let next = self.member.apply(record, now, wall, rng);
                    self.after_record(next, now, rng);
                }
                Ok(None) => return,
                Err(error) => return self.connection_failed(error, now, rng),
            }
        }
    }

    fn after_record(&mut self, next: Applied, now: Instant, rng: &mut dyn CryptoRng) {
        match next {
            Applied::Go => {}
            Applied::Registered => {
                if let Some(network) = self.link.connection.as_ref().and_then(ClientConnection::network) {
                    self.member.network_known(network);
                }
                self.link.reconnect.established(now);
                self.link.fall_back = false;
                if core::mem::take(&mut self.link.with_next_key) {
                    self.member.server_key_replaced();
                }
            }
            Applied::Ended { ending, retry_after } => {
                self.member.events.close_control = true;
                self.end_connection(ending, now, rng);
                if let Some(wait) = retry_after {
                    self.link.reconnect.not_before(now + wait);
                }
            }
            Applied::Left => {
                self.member.events.close_control = true;
                self.end_connection(Ending::Refused, now, rng);
                self.link.reconnect.stop();
            }
        }
    }

    pub(super) fn connection_failed(&mut self, error: ClientError, now: Instant, rng: &mut dyn CryptoRng) {
        let refusal = self.link.connection.as_ref().and_then(ClientConnection::refusal).map(sentence);
        let code = match error {
            ClientError::Refused(refusal) => refusal.code,
            _ => None,
        };
        self.member.last_error = Some((code, refusal.unwrap_or_else(|| sentence(error))));
        self.member.events.connection_failed = true;
        self.member.events.close_control = true;
        let wrong_key = match error {
            ClientError::ServerNotAuthentic => true,
            ClientError::Refused(refusal) => refusal.code == Some(ErrorCode::UnknownServerKey),
            _ => false,
        };
        let other_key =
            wrong_key && self.member.identity.as_ref().is_some_and(|identity| identity.next_server.is_some());
        if other_key {
            self.link.fall_back = self.link.with_next_key;
        }
        // What is said outside of the authentic channel is no reason to stay away for long, and less where there is
        // another key to try.
        let ending = match error {
            ClientError::Refused(_) if !other_key => Ending::Busy,
            _ => Ending::Broken,
        };
        self.end_connection(ending, now, rng);
    }

    pub(super) fn link_timeout(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        if let Some(connection) = &mut self.link.connection
            && let Err(error) = connection.handle_timeout(now)
        {
            self.connection_failed(error, now, rng);
        }
    }

    /// Writes the next bytes for the server to `out`, which has room for at least
    /// [`MAX_NODE_OUTPUT`] bytes, and returns their number; zero where there is nothing to send. Called until it returns
    /// zero.
    pub fn control_transmit(&mut self, out: &mut [u8], now: Instant, rng: &mut dyn CryptoRng) -> usize {
        self.finish_steps(now, rng);
        let proof = self.link.proof;
        let mut written = 0;
        while let Some(room) = out.get_mut(written..).filter(|room| room.len() >= MAX_NODE_OUTPUT) {
            let Some(connection) = &mut self.link.connection else { break };
            let own = connection.transmit::<C>(room, now);
            let len = if own > 0 { own } else { self.member.write_record(connection, proof, room, now) };
            if len == 0 {
                break;
            }
            written += len;
        }
        written
    }
}

/// What the connection does after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Go,
    Registered,
    Ended {
        ending: Ending,
        retry_after: Option<core::time::Duration>,
    },
    /// This node is no member any more.
    Left,
}

impl<S: NodeStorage, C: Crypto> Member<S, C> {
    /// Writes the next record that this node has to send; zero for none.
    fn write_record(
        &mut self,
        connection: &mut ClientConnection,
        proof: Option<Proof>,
        out: &mut [u8],
        now: Instant,
    ) -> usize {
        if !connection.is_open() {
            return 0;
        }
        if !connection.is_registered() {
            return self.write_register(connection, proof, out, now).unwrap_or_default();
        }
        if self.outbox.logout {
            self.outbox.logout = false;
            return send::<C>(connection, &Logout {}.into(), out, now);
        }
        if let Some(Proof { node_key, proof }) = self.proof_to_renew(proof) {
            self.outbox.renew = false;
            return send::<C>(connection, &RenewNodeKey { node_key, proof, join_secret: None }.into(), out, now);
        }
        if self.outbox.endpoints {
            self.outbox.endpoints = false;
            let local: heapless::Vec<Endpoint, { super::MAX_CANDIDATES }> =
                self.local_endpoints.iter().map(Endpoint).collect();
            return send::<C>(connection, &Endpoints { local: local.as_slice().into() }.into(), out, now);
        }
        if let Some(question) = self.lookups.next_question() {
            let mut lookup = Lookup { request: question.request, address: None, node_key: None, name: None };
            match &question.subject {
                Subject::Address(address) => lookup.address = Some(Address(*address)),
                Subject::Key(key) => lookup.node_key = Some(*key),
                Subject::Name(name) => lookup.name = Some(Text::cut(name)),
            }
            return send::<C>(connection, &lookup.into(), out, now);
        }
        if self.contacts.unwatched || !self.outbox.unwatch.is_empty() {
            let add = self.contacts.take_unwatched();
            let remove = core::mem::take(&mut self.outbox.unwatch);
            if !add.is_empty() || !remove.is_empty() {
                return send::<C>(connection, &watch(&add, &remove).into(), out, now);
            }
        }
        if let Some(from) = self.outbox.held_from {
            let (ids, next) = self.ids_from(from);
            self.outbox.held_from = next;
            // Sent also where it is empty: only then does the server say how far this node is.
            let (since, more) = (self.netmap.revision(), next.is_some());
            let held = Held { add: ids.as_slice().into(), remove: [].as_slice().into(), since, more };
            return send::<C>(connection, &held.into(), out, now);
        }
        if !self.outbox.unheld.is_empty() {
            let ids = core::mem::take(&mut self.outbox.unheld);
            let held = Held { add: [].as_slice().into(), remove: ids.as_slice().into(), since: None, more: false };
            return send::<C>(connection, &held.into(), out, now);
        }
        self.write_status_walk(connection, out, now)
    }

    /// A connection sends `Register` once; it says so itself the second time.
    fn write_register(
        &self,
        connection: &mut ClientConnection,
        proof: Option<Proof>,
        out: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        let identity = self.identity.as_ref().filter(|_| connection.awaits_register())?;
        let (_, node_key) = self.key_to_register()?;
        let Proof { proof, .. } = proof.filter(|proof| proof.node_key == node_key)?;
        let kept = self.netmap.own().is_some();
        // Peers that came on demand are no netmap to resume from, should all of them fit this time.
        let whole = self.netmap.own().is_some_and(|own| own.delivery() == Delivery::Whole);
        let register = Register {
            node_key,
            proof,
            join_secret: identity.join_secret.clone(),
            instance: self.instance,
            hostname: Text::cut(&self.config.hostname),
            os: Text::cut(self.config.os),
            agent: Text::cut(self.config.agent),
            capacity: self.config.capacity,
            resume: self.netmap.revision().filter(|_| whole),
            network: Some(identity.network).filter(|network| kept && *network != NetworkId::UNKNOWN),
        };
        Some(send::<C>(connection, &register.into(), out, now))
    }

    /// The proof of the next key, where that is to be sent.
    fn proof_to_renew(&self, proof: Option<Proof>) -> Option<Proof> {
        let (_, next) = self.key_to_renew().filter(|_| self.outbox.renew)?;
        proof.filter(|proof| proof.node_key == next)
    }

    /// Asks for the status of a batch of peers: watches them, and right after that no more, since the server sends a
    /// status at once for each that is added.
    fn write_status_walk(&mut self, connection: &mut ClientConnection, out: &mut [u8], now: Instant) -> usize {
        match self.outbox.status {
            StatusWalk::Idle => 0,
            StatusWalk::Add { from } => {
                let (ids, next) = self.ids_from(from);
                let ids = self.without_contacts(&ids);
                if ids.is_empty() {
                    self.outbox.status = next.map_or(StatusWalk::Idle, |from| StatusWalk::Add { from });
                    return match next {
                        Some(_) => self.write_status_walk(connection, out, now),
                        None => {
                            self.events.status_done |= self.status_waiting == 0;
                            0
                        }
                    };
                }
                self.expect_status(&ids);
                self.outbox.status = StatusWalk::Remove { from };
                send::<C>(connection, &watch(&ids, &Ids::new()).into(), out, now)
            }
            StatusWalk::Remove { from } => {
                let (ids, next) = self.ids_from(from);
                let ids = self.without_contacts(&ids);
                self.outbox.status = next.map_or(StatusWalk::Idle, |from| StatusWalk::Add { from });
                send::<C>(connection, &watch(&Ids::new(), &ids).into(), out, now)
            }
        }
    }

    fn expect_status(&mut self, ids: &Ids) {
        for id in ids {
            let record = self.netmap.slot_of(*id).and_then(|slot| self.netmap.at_mut(slot));
            if let Some(record) = record.filter(|record| !record.status_asked) {
                record.status_asked = true;
                self.status_waiting = self.status_waiting.saturating_add(1);
            }
        }
    }

    fn without_contacts(&self, ids: &Ids) -> Ids {
        ids.iter().copied().filter(|id| self.contacts.get(*id).is_none()).collect()
    }

    /// Up to a batch of ids of peers from a slot on, and the slot behind them where there are more.
    fn ids_from(&self, from: usize) -> (Ids, Option<usize>) {
        let mut ids = Ids::new();
        for slot in from..self.netmap.capacity() {
            if ids.len() == BATCH {
                return (ids, Some(slot));
            }
            if let Some(peer) = self.netmap.at(slot) {
                let _ = ids.push(peer.id());
            }
        }
        (ids, None)
    }
}

fn watch<'a>(add: &'a Ids, remove: &'a Ids) -> Watch<'a> {
    Watch { add: add.as_slice().into(), remove: remove.as_slice().into() }
}

/// The record's frame in `out`. Records of a node are bounded well below the largest, so they are never too large.
fn send<C: Crypto>(
    connection: &mut ClientConnection,
    record: &ClientRecord<'_>,
    out: &mut [u8],
    now: Instant,
) -> usize {
    connection.send::<C>(record, out, now).unwrap_or_default()
}
