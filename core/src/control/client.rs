//! The node's side of one control connection.
//!
//! The caller opens a TCP connection (with TLS around it, where the address says so), makes a [`ClientConnection`], and
//! carries bytes both ways: what [`transmit`](ClientConnection::transmit) and [`send`](ClientConnection::send)
//! write goes out in that order, what comes in goes to [`receive`](ClientConnection::receive). Any error ends the connection;
//! when to try again is the caller's.
//!
//! ```text
//! new -> transmit (request) -> receive (answer) -> step x 3 -> transmit (message 1) -> receive (message 2) -> step x 2
//!     -> send Register -> receive Registered -> send and receive records
//! ```

use core::{fmt, time::Duration};

use zeroize::Zeroizing;

use super::{
    ServerAddress, VERSIONS,
    channel::{Direction, SendError},
    frame::{self, FrameReader},
    handshake::{Initiator, MESSAGE_2_LEN},
    proof::{Binding, NodeKeyProof},
    record::{ClientRecord, Delivery, NetworkId, Ping, Pong, Register, Revision, ServerRecord, Text, TooLarge, peek},
    upgrade::{Prologue, Refusal, Response, ResponseError, ResponseParser, write_request},
};
use crate::{
    crypto::{Crypto, DiffieHellman, LowOrderPoint},
    keys::{MachineKey, MachineSecret, NodeKey, NodeSecret, ServerKey},
    time::Instant,
};

/// From the start of a connection to the server's first record.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(30);
/// After so long without sending, or without receiving, the node sends a [`Ping`].
pub const PING_AFTER: Duration = Duration::from_secs(60);
/// So long after a [`Ping`] without a whole frame from the server, the connection is dead.
pub const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// Who connects to whom.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The address that the TCP connection goes to.
    pub address: ServerAddress,
    /// The key that the server has to prove.
    pub server: ServerKey,
    /// This machine's secret.
    pub machine: MachineSecret,
    /// The public key of `machine`, which the caller keeps so that it is not computed for each connection.
    pub machine_key: MachineKey,
}

/// One control connection, seen from the node.
#[derive(Debug)]
pub struct ClientConnection {
    state: State,
    server: ServerKey,
    machine_key: MachineKey,
    reader: FrameReader,
    order: Order,
    /// Until when the next thing has to have happened: the setup, or an answer to a ping.
    deadline: Option<Instant>,
    last_sent: Instant,
    last_received: Instant,
    ping_due: bool,
    pong_due: Option<u32>,
    skipped: u32,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is no heap to box a variant on")]
enum State {
    /// The upgrade request has to be sent.
    Request {
        config: ClientConfig,
        ephemeral: Zeroizing<[u8; 32]>,
    },
    /// The server's answer has to come.
    Upgrading {
        config: ClientConfig,
        ephemeral: Zeroizing<[u8; 32]>,
        parser: ResponseParser,
    },
    /// The server did not switch; the parser keeps its sentence.
    Refused(ResponseParser),
    Handshake {
        initiator: Initiator,
        message_sent: bool,
    },
    Open {
        send: Direction,
        receive: Direction,
        binding: Binding,
    },
    Closed,
}

impl ClientConnection {
    /// A connection whose TCP connection is open now.
    pub fn new(config: ClientConfig, now: Instant, rng: &mut dyn rand_core::CryptoRng) -> Self {
        let mut ephemeral = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *ephemeral);
        Self {
            server: config.server,
            machine_key: config.machine_key,
            state: State::Request { config, ephemeral },
            reader: FrameReader::new(),
            order: Order::default(),
            deadline: Some(now + SETUP_TIMEOUT),
            last_sent: now,
            last_received: now,
            ping_due: false,
            pong_due: None,
            skipped: 0,
        }
    }

    /// Writes what the protocol itself has to send next to `out` and returns its length; zero where that is nothing.
    /// Called until it returns zero, after `new` and after every other call. `out` has room for
    /// [`MAX_FRAME`](super::MAX_FRAME) bytes.
    pub fn transmit<C: Crypto>(&mut self, out: &mut [u8], now: Instant) -> usize {
        if matches!(self.state, State::Request { .. }) {
            return self.transmit_request(out);
        }
        if let State::Handshake { initiator, message_sent } = &mut self.state {
            let Some(message) = initiator.message().filter(|_| !*message_sent) else { return 0 };
            let frame = frame::length(message.len()).into_iter().chain(message);
            *message_sent = true;
            return out.iter_mut().zip(frame).map(|(to, from)| *to = from).count();
        }
        let record = if let Some(token) = self.pong_due.take() {
            ClientRecord::Pong(Pong { token })
        } else if core::mem::take(&mut self.ping_due) {
            ClientRecord::Ping(Ping { token: 0 })
        } else {
            return 0;
        };
        self.seal::<C>(&record, out, now).unwrap_or_default()
    }

    fn transmit_request(&mut self, out: &mut [u8]) -> usize {
        let State::Request { config, ephemeral } = core::mem::replace(&mut self.state, State::Closed) else { return 0 };
        let written = write_request(out, &config.address, VERSIONS, &config.server);
        self.state = match written {
            Ok(_) => State::Upgrading { config, ephemeral, parser: ResponseParser::new() },
            Err(TooLarge) => State::Request { config, ephemeral },
        };
        written.unwrap_or_default()
    }

    /// Whether [`step`](Self::step) has something to compute.
    pub const fn needs_step(&self) -> bool {
        matches!(&self.state, State::Handshake { initiator, .. } if initiator.needs_step())
    }

    /// Computes the next step of the handshake, at most one Diffie-Hellman.
    ///
    /// # Errors
    /// [`ClientError::ServerNotAuthentic`] where the server did not prove its key.
    pub fn step<C: Crypto>(&mut self) -> Result<(), ClientError> {
        let State::Handshake { initiator, .. } = &mut self.state else { return Ok(()) };
        if initiator.step::<C>().is_err() {
            return Err(self.close(ClientError::ServerNotAuthentic));
        }
        if let Some(established) = initiator.established() {
            let binding = Binding { handshake_hash: established.handshake_hash, machine: self.machine_key };
            self.state = State::Open { send: established.send, receive: established.receive, binding };
        }
        Ok(())
    }

    /// Takes bytes from the server, up to the end of one record that is for the caller, and returns that record;
    /// `None` once `input` is used up or a [`step`](Self::step) is due. Called again until then.
    ///
    /// A returned [`ServerRecord::Error`] is the last record; the caller then closes the TCP connection.
    ///
    /// # Errors
    /// [`ClientError`]; the connection is then closed, and so is the TCP connection to be.
    pub fn receive<C: Crypto>(
        &mut self,
        input: &mut &[u8],
        now: Instant,
    ) -> Result<Option<ServerRecord<'_>>, ClientError> {
        let len = match self.receive_frame::<C>(input, now) {
            Ok(Some(len)) => len,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.close(error)),
        };
        let Self { state, reader, order, deadline, .. } = self;
        let checked = ServerRecord::decode(reader.content(len))
            .map_err(|_| ClientError::Malformed)
            .and_then(|(network, record)| Ok((network, record.ok_or(ClientError::Malformed)?)))
            .and_then(|(network, record)| order.check(network, &record).map(|()| record));
        match &checked {
            Ok(ServerRecord::Registered(_)) => *deadline = None,
            Ok(ServerRecord::Error(_)) | Err(_) => *state = State::Closed,
            Ok(_) => {}
        }
        checked.map(Some)
    }

    /// Reads until a record came that is for the caller, and returns its length in the reader.
    // These are not inlined, for the sake of a chip's stack: what each needs would stay under all that follows.
    #[inline(never)]
    fn receive_frame<C: Crypto>(&mut self, input: &mut &[u8], now: Instant) -> Result<Option<usize>, ClientError> {
        loop {
            match &mut self.state {
                State::Upgrading { .. } => self.receive_answer(input)?,
                State::Handshake { initiator, message_sent } => {
                    if initiator.needs_step() || input.is_empty() {
                        return Ok(None);
                    }
                    let Some(content) = self.reader.read(input).map_err(|_| ClientError::BadFrame)? else {
                        return Ok(None);
                    };
                    if !*message_sent {
                        return Err(ClientError::OutOfOrder);
                    }
                    match content.len() {
                        MESSAGE_2_LEN => initiator.receive(content).map_err(|_| ClientError::ServerNotAuthentic)?,
                        super::server::REFUSAL_LEN => return Err(ClientError::HandshakeRefused),
                        _ => return Err(ClientError::BadFrame),
                    }
                    return Ok(None);
                }
                State::Open { receive, .. } => {
                    let Some(content) = self.reader.read(input).map_err(|_| ClientError::BadFrame)? else {
                        return Ok(None);
                    };
                    let text = receive.open::<C::Aead>(content).map_err(|_| ClientError::NotAuthentic)?;
                    // Only what is authentic shows that the server is there.
                    self.last_received = now;
                    if self.order.network.is_some() {
                        self.deadline = None;
                    }
                    let number = peek(text).map_err(|_| ClientError::Malformed)?;
                    if number != Ping::NUMBER && number != Pong::NUMBER && ServerRecord::is_known(number) {
                        return Ok(Some(text.len()));
                    }
                    match ServerRecord::decode(text).map_err(|_| ClientError::Malformed)? {
                        (network, Some(record)) => {
                            self.order.check(network, &record)?;
                            if let ServerRecord::Ping(ping) = record {
                                self.pong_due = Some(ping.token);
                            }
                        }
                        (network, None) => {
                            self.order.check_unknown(network)?;
                            self.skipped = self.skipped.saturating_add(1);
                        }
                    }
                }
                State::Request { .. } if input.is_empty() => return Ok(None),
                State::Request { .. } => return Err(ClientError::OutOfOrder),
                State::Refused(_) | State::Closed => return Err(ClientError::Closed),
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
    }

    #[inline(never)]
    fn receive_answer(&mut self, input: &mut &[u8]) -> Result<(), ClientError> {
        let State::Upgrading { config, ephemeral, parser } = &mut self.state else { return Ok(()) };
        let Some(response) = parser.read(input).map_err(ClientError::Answer)? else { return Ok(()) };
        match response {
            Response::Switched(version) if VERSIONS.contains(version) => {
                let prologue = Prologue::new(VERSIONS, version);
                let (machine, key) = (&config.machine, config.machine_key);
                let initiator = Initiator::new(prologue.as_bytes(), machine, key, config.server, **ephemeral);
                self.state = State::Handshake { initiator, message_sent: false };
                Ok(())
            }
            Response::Switched(_) => Err(ClientError::VersionNotOffered),
            Response::Refused(refusal) => {
                self.state = State::Refused(core::mem::take(parser));
                Err(ClientError::Refused(refusal))
            }
        }
    }

    /// Writes a record as the next frame to `out` and returns its length. `out` has room for
    /// [`MAX_FRAME`](super::MAX_FRAME) bytes, unless the record is known to be smaller.
    ///
    /// # Errors
    /// [`SendError`], with nothing to send.
    pub fn send<C: Crypto>(
        &mut self,
        record: &ClientRecord<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<usize, SendError> {
        let is_register = matches!(record, ClientRecord::Register(_));
        if !self.is_open() || is_register == self.order.register_sent || (!is_register && !self.is_registered()) {
            return Err(SendError::NotNow);
        }
        let len = self.seal::<C>(record, out, now)?;
        if let ClientRecord::Register(Register { resume, .. }) = record {
            self.order.register_sent = true;
            self.order.revision = *resume;
        }
        Ok(len)
    }

    fn seal<C: Crypto>(&mut self, record: &ClientRecord<'_>, out: &mut [u8], now: Instant) -> Result<usize, SendError> {
        let State::Open { send, .. } = &mut self.state else { return Err(SendError::NotNow) };
        let network = self.order.network.unwrap_or(NetworkId::UNKNOWN);
        let len = send.seal::<C::Aead>(out, |text| record.encode(network, text))?;
        self.last_sent = now;
        Ok(len)
    }

    /// Whether the channel is open: now [`Register`](ClientRecord::Register) is sent.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether the server registered this node.
    pub const fn is_registered(&self) -> bool {
        self.is_open() && self.order.network.is_some()
    }

    /// Whether the channel is open and [`Register`](ClientRecord::Register) was not sent yet.
    pub const fn awaits_register(&self) -> bool {
        self.is_open() && !self.order.register_sent
    }

    /// The network that this connection belongs to; `None` before the server registered this node.
    pub const fn network(&self) -> Option<NetworkId> {
        self.order.network
    }

    /// Proves in this connection that the node holds `secret`, for `Register` and `RenewNodeKey`; `node` is its
    /// public key. One Diffie-Hellman. `None` before the channel is open.
    ///
    /// # Errors
    /// [`LowOrderPoint`] where the server's key is one.
    pub fn prove_node_key<D: DiffieHellman>(
        &self,
        secret: &NodeSecret,
        node: &NodeKey,
    ) -> Result<Option<NodeKeyProof>, LowOrderPoint> {
        let State::Open { binding, .. } = &self.state else { return Ok(None) };
        NodeKeyProof::prove::<D>(binding, secret, node, &self.server).map(Some)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; `None` when never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if matches!(self.state, State::Refused(_) | State::Closed) {
            return None;
        }
        self.deadline.or_else(|| Some(self.last_sent.min(self.last_received) + PING_AFTER))
    }

    /// Does what is due: makes [`transmit`](Self::transmit) send a ping, or ends the connection.
    ///
    /// # Errors
    /// [`ClientError::SetupTimeout`] or [`ClientError::ServerSilent`]; the connection is then closed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return Ok(());
        }
        if self.deadline.is_some() {
            let error = if self.is_registered() { ClientError::ServerSilent } else { ClientError::SetupTimeout };
            return Err(self.close(error));
        }
        self.ping_due = true;
        self.deadline = Some(now + PONG_TIMEOUT);
        Ok(())
    }

    /// The sentence that came with [`ClientError::Refused`]. Not authentic.
    pub fn refusal(&self) -> Option<Text<'_>> {
        match &self.state {
            State::Refused(parser) => parser.sentence(),
            _ => None,
        }
    }

    /// How many records were of a type that this version does not know.
    pub const fn skipped_records(&self) -> u32 {
        self.skipped
    }

    fn close(&mut self, error: ClientError) -> ClientError {
        if !matches!(self.state, State::Refused(_)) {
            self.state = State::Closed;
        }
        error
    }
}

/// Which record may come now.
#[derive(Debug, Default)]
struct Order {
    register_sent: bool,
    /// Known once registered.
    network: Option<NetworkId>,
    on_demand: bool,
    snapshot: Option<Revision>,
    revision: Option<Revision>,
}

impl Order {
    fn check(&mut self, network: NetworkId, record: &ServerRecord<'_>) -> Result<(), ClientError> {
        let Some(own) = self.network else {
            return match record {
                ServerRecord::Error(_) => Ok(()),
                ServerRecord::Registered(registered) if self.register_sent && network != NetworkId::UNKNOWN => {
                    self.network = Some(network);
                    self.on_demand = registered.node.delivery == Delivery::OnDemand;
                    Ok(())
                }
                _ => Err(ClientError::OutOfOrder),
            };
        };
        if network != own {
            return Err(ClientError::ForeignNetwork);
        }
        self.check_netmap(record)
    }

    /// A record of a type that this version does not know.
    fn check_unknown(&self, network: NetworkId) -> Result<(), ClientError> {
        match self.network {
            Some(own) if own == network => Ok(()),
            Some(_) => Err(ClientError::ForeignNetwork),
            None => Err(ClientError::OutOfOrder),
        }
    }

    fn check_netmap(&mut self, record: &ServerRecord<'_>) -> Result<(), ClientError> {
        match record {
            ServerRecord::Registered(_) => Err(ClientError::OutOfOrder),
            ServerRecord::SelfChanged(node) => {
                self.on_demand = node.delivery == Delivery::OnDemand;
                Ok(())
            }
            ServerRecord::SnapshotBegin(begin) if self.snapshot.is_none() => {
                self.snapshot = Some(begin.revision);
                Ok(())
            }
            ServerRecord::SnapshotBegin(_) => Err(ClientError::OutOfOrder),
            ServerRecord::SnapshotEnd(end) => match self.snapshot.take() {
                Some(begin) if follows(begin, end.revision) => {
                    self.revision = Some(end.revision);
                    Ok(())
                }
                _ => Err(ClientError::OutOfOrder),
            },
            ServerRecord::UpTo(up_to) => {
                let fits = match self.revision {
                    Some(revision) if revision.epoch == up_to.revision.epoch => follows(revision, up_to.revision),
                    // Another history without a snapshot: only where the node names each peer that it holds.
                    _ => self.on_demand,
                };
                if !fits || self.snapshot.is_some() {
                    return Err(ClientError::OutOfOrder);
                }
                self.revision = Some(up_to.revision);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn follows(earlier: Revision, later: Revision) -> bool {
    earlier.epoch == later.epoch && earlier.number <= later.number
}

/// Why a connection ended.
///
/// None of these was said by the authentic server, so none of them is a reason to give up: the node tries again
/// later. What the server itself says is [`ServerRecord::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ClientError {
    /// The HTTP answer is a refusal.
    Refused(Refusal),
    /// The HTTP answer is none of a control server.
    Answer(ResponseError),
    /// The server chose a version that was not offered.
    VersionNotOffered,
    /// The server could not open message 1: it, the offered versions or the chosen one were altered on the way.
    HandshakeRefused,
    /// Whoever answered did not prove the key that this node expects.
    ServerNotAuthentic,
    /// A frame has a length that is not allowed.
    BadFrame,
    /// A frame was altered, left out, repeated or moved.
    NotAuthentic,
    /// A record is malformed.
    Malformed,
    /// A record came where it is not allowed.
    OutOfOrder,
    /// A record is of another network.
    ForeignNetwork,
    /// The server did not register the node within [`SETUP_TIMEOUT`].
    SetupTimeout,
    /// The server did not answer a ping within [`PONG_TIMEOUT`].
    ServerSilent,
    /// The connection was closed before.
    Closed,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(refusal) => return write!(f, "the server refused the connection (HTTP {})", refusal.status),
            Self::Answer(_) => "what answers at the server's address is no control server",
            Self::VersionNotOffered => "the server chose a protocol version that was not offered",
            Self::HandshakeRefused => {
                "the handshake was altered on the way: something between this machine and the server changes the request"
            }
            Self::ServerNotAuthentic => {
                "whatever answers at the server's address does not hold the key that this machine expects"
            }
            Self::BadFrame | Self::NotAuthentic => "the connection to the server was damaged or tampered with",
            Self::Malformed => "the server sent a malformed record",
            Self::OutOfOrder => "the server sent a record that is not allowed there",
            Self::ForeignNetwork => "the server sent a record of another network",
            Self::SetupTimeout => "the server did not complete the connection in time",
            Self::ServerSilent => "the server does not answer any more",
            Self::Closed => "the connection is closed",
        })
    }
}

impl core::error::Error for ClientError {}
