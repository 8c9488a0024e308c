//! The channel's handshake: `Noise_IK_25519_ChaChaPoly_BLAKE2s` (Noise Protocol Framework, revision 34), both
//! roles, in steps of at most one Diffie-Hellman.
//!
//! ```text
//! <- s                 the node knows the server's key
//! -> e, es, s, ss      message 1, 96 bytes
//! <- e, ee, se         message 2, 48 bytes
//! ```
//!
//! Neither message has a payload. Whoever recorded message 1 can send it again, so it changes nothing at the
//! server; that the node is live is proven by the first record after the handshake.
//!
//! A step is slow on a chip, which yields between steps; a server may run them on a worker.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::channel::Direction;
use crate::{
    crypto::{Crypto, DiffieHellman, LowOrderPoint, OpenError, TAG_LEN, noise::SymmetricState},
    keys::{MachineKey, MachineSecret, ServerKey, ServerSecret, clamp},
};

/// Noise's name of the handshake.
pub const NOISE_NAME: &[u8] = b"Noise_IK_25519_ChaChaPoly_BLAKE2s";
/// Length of message 1 in bytes: ephemeral key, sealed machine key, seal over nothing.
pub const MESSAGE_1_LEN: usize = 32 + 32 + TAG_LEN + TAG_LEN;
/// Length of message 2 in bytes: ephemeral key, seal over nothing.
pub const MESSAGE_2_LEN: usize = 32 + TAG_LEN;

/// The other side's message is not authentic: altered, or made with other keys or another prologue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct HandshakeFailed;

impl fmt::Display for HandshakeFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the handshake message is not authentic")
    }
}

impl core::error::Error for HandshakeFailed {}

impl From<LowOrderPoint> for HandshakeFailed {
    fn from(_: LowOrderPoint) -> Self {
        Self
    }
}

impl From<OpenError> for HandshakeFailed {
    fn from(_: OpenError) -> Self {
        Self
    }
}

/// Whether a computation has more steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call `step` again.
    Again,
    /// This was the last step for now.
    Done,
}

/// What a handshake ends in.
#[derive(Debug)]
pub struct Established {
    /// This side's sending direction.
    pub send: Direction,
    /// This side's receiving direction.
    pub receive: Direction,
    /// The handshake hash, the same on both sides and in no other connection.
    pub handshake_hash: [u8; 32],
}

/// The node's side.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Initiator {
    symmetric: SymmetricState,
    machine: MachineSecret,
    #[zeroize(skip)]
    machine_key: MachineKey,
    #[zeroize(skip)]
    server: ServerKey,
    ephemeral: [u8; 32],
    #[zeroize(skip)]
    message: Message1,
    #[zeroize(skip)]
    response: Message2,
    #[zeroize(skip)]
    stage: InitiatorStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InitiatorStage {
    Ephemeral,
    EphemeralStatic,
    StaticStatic,
    AwaitResponse,
    EphemeralEphemeral,
    StaticEphemeral,
    Done,
    Failed,
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Initiator({:?})", self.stage)
    }
}

impl Initiator {
    /// A handshake with `server`, as the machine whose public key is `machine_key`. Three steps make message 1.
    pub fn new(
        prologue: &[u8],
        machine: &MachineSecret,
        machine_key: MachineKey,
        server: ServerKey,
        ephemeral: [u8; 32],
    ) -> Self {
        let mut this = Self {
            symmetric: start(prologue, &server),
            machine: machine.clone(),
            machine_key,
            server,
            ephemeral,
            message: Message1::EMPTY,
            response: Message2::EMPTY,
            stage: InitiatorStage::Ephemeral,
        };
        clamp(&mut this.ephemeral);
        this
    }

    /// Whether [`step`](Self::step) has something to do.
    pub const fn needs_step(&self) -> bool {
        !matches!(self.stage, InitiatorStage::AwaitResponse | InitiatorStage::Done | InitiatorStage::Failed)
    }

    /// One step.
    ///
    /// # Errors
    /// [`HandshakeFailed`]; the handshake is then over.
    pub fn step<C: Crypto>(&mut self) -> Result<Progress, HandshakeFailed> {
        let result = self.advance::<C>();
        match result {
            Ok(stage) => self.stage = stage,
            Err(_) => self.stage = InitiatorStage::Failed,
        }
        result.map(|_| if self.needs_step() { Progress::Again } else { Progress::Done })
    }

    fn advance<C: Crypto>(&mut self) -> Result<InitiatorStage, HandshakeFailed> {
        use InitiatorStage as Stage;

        let Message1 { ephemeral, key, key_tag, tag } = &mut self.message;
        let Message2 { ephemeral: their_ephemeral, tag: response_tag } = &self.response;
        Ok(match self.stage {
            Stage::Ephemeral => {
                *ephemeral = C::Dh::public_key(&self.ephemeral);
                self.symmetric.mix_hash(ephemeral);
                Stage::EphemeralStatic
            }
            Stage::EphemeralStatic => {
                self.symmetric.mix_key(C::Dh::agree(&self.ephemeral, self.server.as_bytes())?.as_bytes());
                *key = *self.machine_key.as_bytes();
                *key_tag = self.symmetric.encrypt_and_hash::<C::Aead>(key);
                Stage::StaticStatic
            }
            Stage::StaticStatic => {
                self.symmetric.mix_key(C::Dh::agree(self.machine.as_bytes(), self.server.as_bytes())?.as_bytes());
                *tag = self.symmetric.encrypt_and_hash::<C::Aead>(&mut []);
                Stage::AwaitResponse
            }
            Stage::EphemeralEphemeral => {
                self.symmetric.mix_hash(their_ephemeral);
                self.symmetric.mix_key(C::Dh::agree(&self.ephemeral, their_ephemeral)?.as_bytes());
                Stage::StaticEphemeral
            }
            Stage::StaticEphemeral => {
                self.symmetric.mix_key(C::Dh::agree(self.machine.as_bytes(), their_ephemeral)?.as_bytes());
                self.symmetric.decrypt_and_hash::<C::Aead>(&mut [], response_tag)?;
                Stage::Done
            }
            stage @ (Stage::AwaitResponse | Stage::Done | Stage::Failed) => stage,
        })
    }

    /// Message 1, once its steps are done.
    pub fn message(&self) -> Option<[u8; MESSAGE_1_LEN]> {
        (self.stage == InitiatorStage::AwaitResponse).then(|| self.message.bytes())
    }

    /// Takes message 2. Two steps check it.
    ///
    /// # Errors
    /// [`HandshakeFailed`] where it has not [`MESSAGE_2_LEN`] bytes or is not expected now.
    pub fn receive(&mut self, message: &[u8]) -> Result<(), HandshakeFailed> {
        if self.stage != InitiatorStage::AwaitResponse {
            return Err(HandshakeFailed);
        }
        self.response = Message2::parse(message).ok_or(HandshakeFailed)?;
        self.stage = InitiatorStage::EphemeralEphemeral;
        Ok(())
    }

    /// The result, once all steps are done.
    pub fn established(&self) -> Option<Established> {
        if self.stage != InitiatorStage::Done {
            return None;
        }
        let keys = self.symmetric.split();
        Some(Established {
            send: Direction::new(keys.initiator),
            receive: Direction::new(keys.responder),
            handshake_hash: *self.symmetric.handshake_hash(),
        })
    }
}

/// The server's side.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Responder {
    symmetric: SymmetricState,
    ephemeral: [u8; 32],
    #[zeroize(skip)]
    machine: Option<MachineKey>,
    #[zeroize(skip)]
    message: Message1,
    #[zeroize(skip)]
    response: Message2,
    #[zeroize(skip)]
    stage: ResponderStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponderStage {
    AwaitMessage,
    EphemeralStatic,
    StaticStatic,
    Ephemeral,
    EphemeralEphemeral,
    StaticEphemeral,
    Done,
    Failed,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Responder({:?})", self.stage)
    }
}

impl Responder {
    /// A handshake as the server whose public key is `server`.
    pub fn new(prologue: &[u8], server: ServerKey, ephemeral: [u8; 32]) -> Self {
        let mut this = Self {
            symmetric: start(prologue, &server),
            ephemeral,
            machine: None,
            message: Message1::EMPTY,
            response: Message2::EMPTY,
            stage: ResponderStage::AwaitMessage,
        };
        clamp(&mut this.ephemeral);
        this
    }

    /// Takes message 1. Five steps check it and make message 2; bytes that are no message 1 cost one step.
    ///
    /// # Errors
    /// [`HandshakeFailed`] where it has not [`MESSAGE_1_LEN`] bytes or is not expected now.
    pub fn receive(&mut self, message: &[u8]) -> Result<(), HandshakeFailed> {
        if self.stage != ResponderStage::AwaitMessage {
            return Err(HandshakeFailed);
        }
        self.message = Message1::parse(message).ok_or(HandshakeFailed)?;
        self.stage = ResponderStage::EphemeralStatic;
        Ok(())
    }

    /// Whether [`step`](Self::step) has something to do.
    pub const fn needs_step(&self) -> bool {
        !matches!(self.stage, ResponderStage::AwaitMessage | ResponderStage::Done | ResponderStage::Failed)
    }

    /// One step, with the secret of the key that the handshake was begun for.
    ///
    /// # Errors
    /// [`HandshakeFailed`]; the handshake is then over.
    pub fn step<C: Crypto>(&mut self, server: &ServerSecret) -> Result<Progress, HandshakeFailed> {
        let result = self.advance::<C>(server);
        match result {
            Ok(stage) => self.stage = stage,
            Err(_) => self.stage = ResponderStage::Failed,
        }
        result.map(|_| if self.needs_step() { Progress::Again } else { Progress::Done })
    }

    fn advance<C: Crypto>(&mut self, server: &ServerSecret) -> Result<ResponderStage, HandshakeFailed> {
        use ResponderStage as Stage;

        let Message1 { ephemeral: their_ephemeral, key, key_tag, tag } = &mut self.message;
        let Message2 { ephemeral, tag: response_tag } = &mut self.response;
        Ok(match self.stage {
            Stage::EphemeralStatic => {
                self.symmetric.mix_hash(their_ephemeral);
                self.symmetric.mix_key(C::Dh::agree(server.as_bytes(), their_ephemeral)?.as_bytes());
                self.symmetric.decrypt_and_hash::<C::Aead>(key, key_tag)?;
                Stage::StaticStatic
            }
            Stage::StaticStatic => {
                self.symmetric.mix_key(C::Dh::agree(server.as_bytes(), key)?.as_bytes());
                self.symmetric.decrypt_and_hash::<C::Aead>(&mut [], tag)?;
                self.machine = Some(MachineKey::from_bytes(*key));
                Stage::Ephemeral
            }
            Stage::Ephemeral => {
                *ephemeral = C::Dh::public_key(&self.ephemeral);
                self.symmetric.mix_hash(ephemeral);
                Stage::EphemeralEphemeral
            }
            Stage::EphemeralEphemeral => {
                self.symmetric.mix_key(C::Dh::agree(&self.ephemeral, their_ephemeral)?.as_bytes());
                Stage::StaticEphemeral
            }
            Stage::StaticEphemeral => {
                self.symmetric.mix_key(C::Dh::agree(&self.ephemeral, key)?.as_bytes());
                *response_tag = self.symmetric.encrypt_and_hash::<C::Aead>(&mut []);
                Stage::Done
            }
            stage @ (Stage::AwaitMessage | Stage::Done | Stage::Failed) => stage,
        })
    }

    /// Message 2, once all steps are done.
    pub fn message(&self) -> Option<[u8; MESSAGE_2_LEN]> {
        (self.stage == ResponderStage::Done).then(|| self.response.bytes())
    }

    /// The result and the machine key that message 1 proved, once all steps are done.
    ///
    /// Message 1 may be a replay: only a record that opens proves that the machine is there.
    pub fn established(&self) -> Option<(Established, MachineKey)> {
        let machine = self.machine.filter(|_| self.stage == ResponderStage::Done)?;
        let keys = self.symmetric.split();
        let established = Established {
            send: Direction::new(keys.responder),
            receive: Direction::new(keys.initiator),
            handshake_hash: *self.symmetric.handshake_hash(),
        };
        Some((established, machine))
    }
}

fn start(prologue: &[u8], server: &ServerKey) -> SymmetricState {
    let mut symmetric = SymmetricState::new(NOISE_NAME);
    symmetric.mix_hash(prologue);
    symmetric.mix_hash(server.as_bytes());
    symmetric
}

/// Message 1, taken apart.
#[derive(Clone, Copy)]
struct Message1 {
    ephemeral: [u8; 32],
    /// The machine key, sealed once its step is done.
    key: [u8; 32],
    key_tag: [u8; TAG_LEN],
    tag: [u8; TAG_LEN],
}

impl Message1 {
    const EMPTY: Self = Self { ephemeral: [0; 32], key: [0; 32], key_tag: [0; TAG_LEN], tag: [0; TAG_LEN] };

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (ephemeral, rest) = bytes.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (key_tag, rest) = rest.split_first_chunk()?;
        let tag = rest.try_into().ok()?;
        Some(Self { ephemeral: *ephemeral, key: *key, key_tag: *key_tag, tag })
    }

    fn bytes(&self) -> [u8; MESSAGE_1_LEN] {
        let mut bytes = [0; MESSAGE_1_LEN];
        let parts = self.ephemeral.iter().chain(&self.key).chain(&self.key_tag).chain(&self.tag);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// Message 2, taken apart.
#[derive(Clone, Copy)]
struct Message2 {
    ephemeral: [u8; 32],
    tag: [u8; TAG_LEN],
}

impl Message2 {
    const EMPTY: Self = Self { ephemeral: [0; 32], tag: [0; TAG_LEN] };

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (ephemeral, rest) = bytes.split_first_chunk()?;
        Some(Self { ephemeral: *ephemeral, tag: rest.try_into().ok()? })
    }

    fn bytes(&self) -> [u8; MESSAGE_2_LEN] {
        let mut bytes = [0; MESSAGE_2_LEN];
        bytes.iter_mut().zip(self.ephemeral.iter().chain(&self.tag)).for_each(|(to, from)| *to = *from);
        bytes
    }
}
