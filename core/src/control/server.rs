//! The server's side of one control connection.
//!
//! The HTTP server answers the upgrade request as [`negotiate`](super::upgrade::negotiate) says, makes a
//! [`ServerConnection`] and carries bytes both ways, as the node's side does. All it holds is what one connection needs:
//! one frame being received, and keys. Frames to send are written to the caller's buffer.
//!
//! ```text
//! new -> receive (message 1) -> step x 5 -> transmit (message 2) -> receive Register -> send Registered
//!     -> send and receive records
//! ```
//!
//! Until the first record opened, nothing proves that the machine is there: message 1 may be a replay. So there
//! is no way to learn the machine key before.

use core::{fmt, time::Duration};

use super::{
    channel::{Direction, SendError},
    frame::{self, FrameReader},
    handshake::Responder,
    proof::{Binding, NodeKeyProof},
    record::{ClientRecord, ErrorCode, NetworkId, Ping, Pong, ServerRecord, TooLarge, peek},
    upgrade::{Accepted, Prologue},
};
use crate::{
    crypto::{Crypto, DiffieHellman},
    keys::{MachineKey, NodeKey, ServerKey, ServerSecret},
    time::Instant,
};

/// From the upgrade to a whole `Register`, however the bytes drip.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Without a whole frame for so long, however the bytes drip, a node is gone: it would have sent two pings.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(150);
/// Content length of the frame that stands for message 2 where message 1 did not open: one byte, [`REFUSED`].
pub const REFUSAL_LEN: usize = 1;
/// The content of that frame.
pub const REFUSED: u8 = 1;

/// One control connection, seen from the server.
#[derive(Debug)]
pub struct ServerConnection {
    state: State,
    server: ServerKey,
    reader: FrameReader,
    phase: Phase,
    setup_deadline: Instant,
    last_received: Instant,
    pong_due: Option<u32>,
    skipped: u32,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is no heap to box a variant on")]
enum State {
    Handshake(Responder),
    /// Message 1 did not open; the refusal has to be sent.
    Refusing,
    Open {
        send: Direction,
        receive: Direction,
        binding: Binding,
        message: Option<[u8; super::handshake::MESSAGE_2_LEN]>,
    },
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitRegister,
    /// The caller decides on the registration.
    Registering,
    Registered(NetworkId),
    /// Nothing more is read; the node may be told why.
    Failed,
}

impl ServerConnection {
    /// A connection whose upgrade was just accepted.
    pub fn new(accepted: &Accepted, now: Instant, rng: &mut dyn rand_core::CryptoRng) -> Self {
        let mut ephemeral = zeroize::Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *ephemeral);
        let prologue = Prologue::new(accepted.offered, accepted.version);
        Self {
            state: State::Handshake(Responder::new(prologue.as_bytes(), accepted.server, *ephemeral)),
            server: accepted.server,
            reader: FrameReader::new(),
            phase: Phase::AwaitRegister,
            setup_deadline: now + SETUP_TIMEOUT,
            last_received: now,
            pong_due: None,
            skipped: 0,
        }
    }

    /// Which of the server's keys this connection is for: [`step`](Self::step) and
    /// [`verify_node_key`](Self::verify_node_key) take its secret.
    pub const fn server_key(&self) -> &ServerKey {
        &self.server
    }

    /// Whether [`step`](Self::step) has something to compute.
    pub const fn needs_step(&self) -> bool {
        matches!(&self.state, State::Handshake(responder) if responder.needs_step())
    }

    /// Computes the next step of the handshake, at most one Diffie-Hellman. Bytes that are no message 1 cost one step.
    ///
    /// # Errors
    /// [`ServerError::HandshakeFailed`]; [`transmit`](Self::transmit) has the refusal to send before the TCP
    /// connection is closed.
    pub fn step<C: Crypto>(&mut self, secret: &ServerSecret) -> Result<(), ServerError> {
        let State::Handshake(responder) = &mut self.state else { return Ok(()) };
        if responder.step::<C>(secret).is_err() {
            self.state = State::Refusing;
            return Err(ServerError::HandshakeFailed);
        }
        if let Some((established, machine)) = responder.established() {
            self.state = State::Open {
                message: responder.message(),
                binding: Binding { handshake_hash: established.handshake_hash, machine },
                send: established.send,
                receive: established.receive,
            };
        }
        Ok(())
    }

    /// Writes what the protocol itself has to send next to `out` and returns its length; zero where that is nothing.
    /// Called until it returns zero, after every other call. `out` has room for 64 bytes.
    pub fn transmit<C: Crypto>(&mut self, out: &mut [u8]) -> usize {
        match &mut self.state {
            State::Refusing => {
                self.state = State::Closed;
                write_frame(out, &[REFUSED])
            }
            State::Open { message, .. } if message.is_some() => {
                message.take().map_or(0, |message| write_frame(out, &message))
            }
            State::Open { .. } => {
                let Some(token) = self.pong_due.take() else { return 0 };
                let Phase::Registered(network) = self.phase else { return 0 };
                self.send::<C>(network, &ServerRecord::Pong(Pong { token }), out).unwrap_or_default()
            }
            State::Handshake(_) | State::Closed => 0,
        }
    }

    /// Takes bytes from the node, up to the end of one record that is for the caller, and returns that record; `None`
    /// once `input` is used up or a [`step`](Self::step) is due. Called again until then.
    ///
    /// The first record is always [`ClientRecord::Register`], and only the first. The caller sends
    /// [`ServerRecord::Registered`] or [`ServerRecord::Error`] before it takes another.
    ///
    /// # Errors
    /// [`ServerError`]. Where [`ServerError::code`] has a code, the caller may send it in a last record.
    pub fn receive<C: Crypto>(
        &mut self,
        input: &mut &[u8],
        now: Instant,
    ) -> Result<Option<ClientRecord<'_>>, ServerError> {
        let len = match self.receive_frame::<C>(input, now) {
            Ok(Some(len)) => len,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.fail(error)),
        };
        let Self { reader, phase, .. } = self;
        let checked = ClientRecord::decode(reader.content(len))
            .map_err(|_| ServerError::Malformed)
            .and_then(|(network, record)| Ok((network, record.ok_or(ServerError::Malformed)?)))
            .and_then(|(network, record)| phase.check(network, &record).map(|()| record));
        if checked.is_err() {
            *phase = Phase::Failed;
        }
        checked.map(Some)
    }

    /// Reads until a record came that is for the caller, and returns its length in the reader.
    fn receive_frame<C: Crypto>(&mut self, input: &mut &[u8], now: Instant) -> Result<Option<usize>, ServerError> {
        while !input.is_empty() {
            match &mut self.state {
                _ if self.phase == Phase::Failed => return Err(ServerError::Closed),
                State::Handshake(responder) => {
                    if responder.needs_step() {
                        return Err(ServerError::OutOfOrder);
                    }
                    let Some(content) = self.reader.read(input).map_err(|_| ServerError::BadFrame)? else {
                        return Ok(None);
                    };
                    responder.receive(content).map_err(|_| ServerError::BadFrame)?;
                    return Ok(None);
                }
                State::Open { receive, .. } => {
                    let Some(content) = self.reader.read(input).map_err(|_| ServerError::BadFrame)? else {
                        return Ok(None);
                    };
                    let text = receive.open::<C::Aead>(content).map_err(|_| ServerError::NotAuthentic)?;
                    self.last_received = now;
                    let number = peek(text).map_err(|_| ServerError::Malformed)?;
                    if number != Ping::NUMBER && ClientRecord::is_known(number) {
                        return Ok(Some(text.len()));
                    }
                    match ClientRecord::decode(text).map_err(|_| ServerError::Malformed)? {
                        (network, Some(record)) => {
                            self.phase.check(network, &record)?;
                            if let ClientRecord::Ping(ping) = record {
                                self.pong_due = Some(ping.token);
                            }
                        }
                        (network, None) => {
                            self.phase.check_network(network)?;
                            self.skipped = self.skipped.saturating_add(1);
                        }
                    }
                }
                State::Refusing | State::Closed => return Err(ServerError::Closed),
            }
        }
        Ok(None)
    }

    /// Writes a record as the next frame to `out` and returns its length. Frames go out in the order in which they
    /// were made. The first is [`ServerRecord::Registered`], whose `network` the connection then belongs to, or
    /// [`ServerRecord::Error`], which is always the last.
    ///
    /// # Errors
    /// [`SendError`], with nothing to send.
    pub fn send<C: Crypto>(
        &mut self,
        network: NetworkId,
        record: &ServerRecord<'_>,
        out: &mut [u8],
    ) -> Result<usize, SendError> {
        let allowed = match (self.phase, record) {
            (_, ServerRecord::Error(_)) => true,
            (Phase::Registering, ServerRecord::Registered(_)) => network != NetworkId::UNKNOWN,
            (Phase::Registered(own), record) => own == network && !matches!(record, ServerRecord::Registered(_)),
            _ => false,
        };
        if !allowed {
            return Err(SendError::NotNow);
        }
        let len = self.seal::<C>(out, |text| record.encode(network, text))?;
        match record {
            ServerRecord::Registered(_) => self.phase = Phase::Registered(network),
            ServerRecord::Error(_) => self.state = State::Closed,
            _ => {}
        }
        Ok(len)
    }

    /// Writes a record that was encoded before, for instance once for many connections, as the next frame to `out`.
    /// Only for a registered node, and only records other than [`ServerRecord::Registered`] and [`ServerRecord::Error`].
    ///
    /// # Errors
    /// [`SendError`], with nothing to send.
    pub fn send_encoded<C: Crypto>(&mut self, record: &[u8], out: &mut [u8]) -> Result<usize, SendError> {
        if !self.is_registered() {
            return Err(SendError::NotNow);
        }
        self.seal::<C>(out, |text| {
            text.get_mut(..record.len()).ok_or(TooLarge)?.copy_from_slice(record);
            Ok(record.len())
        })
    }

    fn seal<C: Crypto>(
        &mut self,
        out: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> Result<usize, TooLarge>,
    ) -> Result<usize, SendError> {
        let State::Open { send, message: None, .. } = &mut self.state else {
            return Err(SendError::NotNow);
        };
        Ok(send.seal::<C::Aead>(out, write)?)
    }

    /// Whether the channel is open and `Registered` was sent.
    pub const fn is_registered(&self) -> bool {
        matches!((&self.state, self.phase), (State::Open { .. }, Phase::Registered(_)))
    }

    /// The machine on the other side, proven to be there. `None` before its first record.
    pub const fn machine_key(&self) -> Option<&MachineKey> {
        match (&self.state, self.phase) {
            (State::Open { binding, .. }, Phase::Registering | Phase::Registered(_)) => Some(&binding.machine),
            _ => None,
        }
    }

    /// Whether `proof`, received in this connection, proves that the node holds the secret of `node`. One
    /// Diffie-Hellman. `secret` is that of [`server_key`](Self::server_key).
    pub fn verify_node_key<D: DiffieHellman>(
        &self,
        proof: &NodeKeyProof,
        node: &NodeKey,
        secret: &ServerSecret,
    ) -> bool {
        match &self.state {
            State::Open { binding, .. } => proof.verify::<D>(binding, secret, node),
            _ => false,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) ends the connection, unless a frame comes before.
    pub fn poll_timeout(&self) -> Instant {
        if self.phase == Phase::AwaitRegister {
            return self.setup_deadline;
        }
        self.last_received + SILENCE_TIMEOUT
    }

    /// Checks the time.
    ///
    /// # Errors
    /// [`ServerError::TooSlow`]; the connection is then over.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ServerError> {
        if now < self.poll_timeout() { Ok(()) } else { Err(self.fail(ServerError::TooSlow)) }
    }

    /// How many records were of a type that this version does not know.
    pub const fn skipped_records(&self) -> u32 {
        self.skipped
    }

    /// Ends the reading. After an error that the node may be told of, that can still be sent; after others nothing.
    fn fail(&mut self, error: ServerError) -> ServerError {
        match error {
            ServerError::Closed | ServerError::HandshakeFailed => {}
            _ if error.code().is_some() => self.phase = Phase::Failed,
            _ => self.state = State::Closed,
        }
        error
    }
}

impl Phase {
    fn check(&mut self, network: NetworkId, record: &ClientRecord<'_>) -> Result<(), ServerError> {
        match (*self, record) {
            (Self::AwaitRegister, ClientRecord::Register(_)) if network == NetworkId::UNKNOWN => {
                *self = Self::Registering;
                Ok(())
            }
            (Self::Registered(_), ClientRecord::Register(_)) => Err(ServerError::OutOfOrder),
            _ => self.check_network(network),
        }
    }

    /// Whether a record of this network, other than `Register`, may come now.
    fn check_network(self, network: NetworkId) -> Result<(), ServerError> {
        match self {
            Self::Registered(own) if own == network => Ok(()),
            Self::Registered(_) => Err(ServerError::ForeignNetwork),
            Self::AwaitRegister | Self::Registering | Self::Failed => Err(ServerError::OutOfOrder),
        }
    }
}

fn write_frame(out: &mut [u8], content: &[u8]) -> usize {
    let bytes = frame::length(content.len()).into_iter().chain(content.iter().copied());
    out.iter_mut().zip(bytes).map(|(to, from)| *to = from).count()
}

/// Why the server ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ServerError {
    /// Message 1 did not open: altered on the way, or made with other keys or another prologue.
    HandshakeFailed,
    /// A frame has a length that is not allowed.
    BadFrame,
    /// A frame was altered, left out, repeated or moved, or is not by the machine of message 1.
    NotAuthentic,
    /// A record is malformed.
    Malformed,
    /// A record, or bytes of the handshake, came where they are not allowed.
    OutOfOrder,
    /// A record is of another network.
    ForeignNetwork,
    /// The node was too slow.
    TooSlow,
    /// The connection was closed before.
    Closed,
}

impl ServerError {
    /// What to tell the node in a last [`ServerRecord::Error`]; `None` where it could not trust or read it.
    pub const fn code(self) -> Option<ErrorCode> {
        match self {
            Self::Malformed | Self::OutOfOrder | Self::ForeignNetwork => Some(ErrorCode::Protocol),
            Self::TooSlow => Some(ErrorCode::TooSlow),
            Self::HandshakeFailed | Self::BadFrame | Self::NotAuthentic | Self::Closed => None,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HandshakeFailed => "the first message does not open",
            Self::BadFrame => "a frame has a length that is not allowed",
            Self::NotAuthentic => "a frame is not authentic",
            Self::Malformed => "a record is malformed",
            Self::OutOfOrder => "a record is not allowed where it came",
            Self::ForeignNetwork => "a record is of another network",
            Self::TooSlow => "the node sent nothing, or not enough, in the time that it has",
            Self::Closed => "the connection is closed",
        })
    }
}

impl core::error::Error for ServerError {}
