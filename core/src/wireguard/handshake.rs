//! The handshake (paper section 5.4): Noise IKpsk2, both roles, as steps of at most one Diffie-Hellman.
//!
//! | side | computation | made from | gives |
//! |---|---|---|---|
//! | initiator | [`CreateInitiation`] | own keys, the peer's key, a timestamp | [`Initiation`], [`SentInitiation`] |
//! | responder | [`ConsumeInitiation`] | own keys, the message | the peer's key, then [`ReceivedInitiation`] |
//! | responder | [`CreateResponse`] | [`ReceivedInitiation`], preshared key | [`Response`], [`Established`] |
//! | initiator | [`ConsumeResponse`] | [`SentInitiation`], preshared key, the message | [`Established`] |
//!
//! Each computation is an owned value that holds copies: it may go to another thread, a chip may do other work
//! between two steps, and whoever gave the copies changes nothing of its own before the result is there. A forged
//! or duplicate message therefore leaves no trace. All secrets are wiped on drop.
//!
//! A computation is driven by `step` until [`Progress::Done`], then taken apart by `finish`. Indices are given to
//! `finish`, since they are outside of the transcript: the index table need not be touched for a message that fails.
//! Macs, cookies, replayed timestamps and floods are the caller's.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    message::{Initiation, Response},
    tai64n::Tai64n,
};
use crate::{
    crypto::{
        Crypto, DiffieHellman, LowOrderPoint, OpenError, SharedSecret,
        noise::{KeylessState, SymmetricState, TransportKeys},
    },
    keys::{NodeKey, NodeSecret, PresharedKey},
};

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// The device's own static keys.
#[derive(Clone, Debug)]
pub struct StaticKeys {
    secret: NodeSecret,
    public: NodeKey,
}

impl StaticKeys {
    /// The pair of keys of a secret.
    pub fn new<D: DiffieHellman>(secret: NodeSecret) -> Self {
        let public = secret.public::<D>();
        Self { secret, public }
    }

    /// A secret and the public key that belongs to it.
    pub(crate) const fn of_pair(secret: NodeSecret, public: NodeKey) -> Self {
        Self { secret, public }
    }

    /// The secret key.
    pub const fn secret(&self) -> &NodeSecret {
        &self.secret
    }

    /// The public key.
    pub const fn public(&self) -> &NodeKey {
        &self.public
    }

    /// The static-static secret with a peer, which a device may keep to save one Diffie-Hellman a handshake.
    ///
    /// # Errors
    /// [`LowOrderPoint`] where no handshake with that key can ever succeed.
    pub fn agree<D: DiffieHellman>(&self, peer: &NodeKey) -> Result<SharedSecret, LowOrderPoint> {
        D::agree(self.secret.as_bytes(), peer.as_bytes())
    }
}

/// The secret of one side for one handshake.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EphemeralSecret([u8; 32]);

impl EphemeralSecret {
    /// A fresh secret.
    pub fn generate(rng: &mut dyn rand_core::CryptoRng) -> Self {
        let mut secret = Self([0; 32]);
        rng.fill_bytes(&mut secret.0);
        crate::keys::clamp(&mut secret.0);
        secret
    }

    fn public<D: DiffieHellman>(&self) -> [u8; 32] {
        D::public_key(&self.0)
    }

    fn agree<D: DiffieHellman>(&self, public: &[u8; 32]) -> Result<SharedSecret, HandshakeError> {
        Ok(D::agree(&self.0, public)?)
    }
}

impl fmt::Debug for EphemeralSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EphemeralSecret(..)")
    }
}

/// Whether a computation needs another step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// There is more to compute.
    Again,
    /// The result can be taken by `finish`.
    Done,
}

/// Why a handshake message was not created or not accepted. The computation is over then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other side's static or ephemeral key is a low-order point.
    LowOrderPoint,
    /// A tag of the message is wrong: it was altered, or meant for other keys.
    NotAuthentic,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LowOrderPoint => fmt::Display::fmt(&LowOrderPoint, f),
            Self::NotAuthentic => fmt::Display::fmt(&OpenError, f),
        }
    }
}

impl core::error::Error for HandshakeError {}

impl From<LowOrderPoint> for HandshakeError {
    fn from(_: LowOrderPoint) -> Self {
        Self::LowOrderPoint
    }
}

impl From<OpenError> for HandshakeError {
    fn from(_: OpenError) -> Self {
        Self::NotAuthentic
    }
}

/// What a completed handshake leaves: the session's keys and both indices.
#[derive(Clone, Debug)]
pub struct Established {
    /// The keys; which of them this side sends with follows from its role.
    pub keys: TransportKeys,
    /// The index that this side chose.
    pub local: u32,
    /// The index that the other side chose.
    pub remote: u32,
}

/// The initiator's computation of an [`Initiation`]: three steps, or two where the static-static secret is known.
#[derive(Debug)]
pub struct CreateInitiation {
    stage: InitiationStage,
    state: SymmetricState,
    local: StaticKeys,
    remote: NodeKey,
    static_static: Option<SharedSecret>,
    ephemeral: EphemeralSecret,
    message: Initiation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InitiationStage {
    Ephemeral,
    EphemeralStatic,
    StaticStatic,
    Done,
    Failed(HandshakeError),
}

impl CreateInitiation {
    /// An initiation to `remote` that carries `timestamp`.
    pub fn new(
        local: &StaticKeys,
        remote: NodeKey,
        static_static: Option<SharedSecret>,
        timestamp: Tai64n,
        ephemeral: EphemeralSecret,
    ) -> Self {
        Self {
            stage: InitiationStage::Ephemeral,
            state: initial_state(&remote),
            local: local.clone(),
            remote,
            static_static,
            ephemeral,
            message: Initiation {
                sender: 0,
                ephemeral: [0; 32],
                sealed_static: *local.public.as_bytes(),
                static_tag: [0; 16],
                sealed_timestamp: *timestamp.as_bytes(),
                timestamp_tag: [0; 16],
            },
        }
    }

    /// Gives the static-static secret with the peer, so that the third step needs no Diffie-Hellman.
    pub fn set_static_static(&mut self, shared: SharedSecret) {
        self.static_static = Some(shared);
    }

    /// Computes up to the next Diffie-Hellman and through it.
    ///
    /// # Errors
    /// [`HandshakeError::LowOrderPoint`] for a peer's key that no handshake is possible with.
    pub fn step<C: Crypto>(&mut self) -> Result<Progress, HandshakeError> {
        let next = match self.stage {
            InitiationStage::Ephemeral => {
                self.message.ephemeral = self.ephemeral.public::<C::Dh>();
                mix_ephemeral(&mut self.state, &self.message.ephemeral);
                Ok(InitiationStage::EphemeralStatic)
            }
            InitiationStage::EphemeralStatic => self.seal_static::<C>(),
            InitiationStage::StaticStatic => self.agree_and_seal_timestamp::<C>(),
            InitiationStage::Done => return Ok(Progress::Done),
            InitiationStage::Failed(error) => Err(error),
        };
        self.stage = next.unwrap_or_else(InitiationStage::Failed);
        self.stage.progress()
    }

    fn seal_static<C: Crypto>(&mut self) -> Result<InitiationStage, HandshakeError> {
        let shared = self.ephemeral.agree::<C::Dh>(self.remote.as_bytes())?;
        self.state.mix_key(shared.as_bytes());
        self.message.static_tag = self.state.encrypt_and_hash::<C::Aead>(&mut self.message.sealed_static);
        match self.static_static.take() {
            Some(shared) => Ok(self.seal_timestamp::<C>(&shared)),
            None => Ok(InitiationStage::StaticStatic),
        }
    }

    fn agree_and_seal_timestamp<C: Crypto>(&mut self) -> Result<InitiationStage, HandshakeError> {
        let shared = self.local.agree::<C::Dh>(&self.remote)?;
        Ok(self.seal_timestamp::<C>(&shared))
    }

    fn seal_timestamp<C: Crypto>(&mut self, static_static: &SharedSecret) -> InitiationStage {
        self.state.mix_key(static_static.as_bytes());
        self.message.timestamp_tag = self.state.encrypt_and_hash::<C::Aead>(&mut self.message.sealed_timestamp);
        InitiationStage::Done
    }

    /// The message with its sender index and without macs, and what to keep for the response. `None` before
    /// [`Progress::Done`].
    pub fn finish(&mut self, sender: u32) -> Option<(Initiation, SentInitiation)> {
        if self.stage != InitiationStage::Done {
            return None;
        }
        self.message.sender = sender;
        let sent = SentInitiation { state: self.state.keyless(), ephemeral: self.ephemeral.clone(), sender };
        Some((self.message.clone(), sent))
    }
}

impl InitiationStage {
    fn progress(self) -> Result<Progress, HandshakeError> {
        match self {
            Self::Done => Ok(Progress::Done),
            Self::Failed(error) => Err(error),
            Self::Ephemeral | Self::EphemeralStatic | Self::StaticStatic => Ok(Progress::Again),
        }
    }
}

/// What the initiator keeps until the response comes. Wiped on drop.
#[derive(Clone, Debug)]
pub struct SentInitiation {
    state: KeylessState,
    ephemeral: EphemeralSecret,
    sender: u32,
}

impl SentInitiation {
    /// The index that the initiation carried as its sender, and that the response must name.
    pub const fn sender(&self) -> u32 {
        self.sender
    }
}

/// The responder's reading of an [`Initiation`]: two steps. After the first, [`initiator`](Self::initiator) says
/// whose it claims to be; only after the second is that proven.
#[derive(Debug)]
pub struct ConsumeInitiation {
    stage: InitiationStage,
    state: SymmetricState,
    local: StaticKeys,
    static_static: Option<SharedSecret>,
    message: Initiation,
}

impl ConsumeInitiation {
    /// Reads an initiation that came for `local`.
    pub fn new(local: &StaticKeys, message: Initiation) -> Self {
        let mut state = initial_state(&local.public);
        mix_ephemeral(&mut state, &message.ephemeral);
        Self { stage: InitiationStage::EphemeralStatic, state, local: local.clone(), static_static: None, message }
    }

    /// The initiator's static key, from the first step on. Not proven before [`Progress::Done`]: whoever knows this
    /// device's public key can name any.
    pub fn initiator(&self) -> Option<NodeKey> {
        match self.stage {
            InitiationStage::StaticStatic | InitiationStage::Done => {
                Some(NodeKey::from_bytes(self.message.sealed_static))
            }
            InitiationStage::Ephemeral | InitiationStage::EphemeralStatic | InitiationStage::Failed(_) => None,
        }
    }

    /// Gives the static-static secret with [`initiator`](Self::initiator), so that the second step needs no
    /// Diffie-Hellman.
    pub fn set_static_static(&mut self, shared: SharedSecret) {
        self.static_static = Some(shared);
    }

    /// Computes up to the next Diffie-Hellman and through it.
    ///
    /// # Errors
    /// [`HandshakeError`]: the message must be dropped, and nothing has changed.
    pub fn step<C: Crypto>(&mut self) -> Result<Progress, HandshakeError> {
        let next = match self.stage {
            InitiationStage::Ephemeral | InitiationStage::EphemeralStatic => self.open_static::<C>(),
            InitiationStage::StaticStatic => self.open_timestamp::<C>(),
            InitiationStage::Done => return Ok(Progress::Done),
            InitiationStage::Failed(error) => Err(error),
        };
        self.stage = next.unwrap_or_else(InitiationStage::Failed);
        self.stage.progress()
    }

    fn open_static<C: Crypto>(&mut self) -> Result<InitiationStage, HandshakeError> {
        let shared = C::Dh::agree(self.local.secret.as_bytes(), &self.message.ephemeral)?;
        self.state.mix_key(shared.as_bytes());
        let Initiation { sealed_static, static_tag, .. } = &mut self.message;
        self.state.decrypt_and_hash::<C::Aead>(sealed_static, static_tag)?;
        Ok(InitiationStage::StaticStatic)
    }

    fn open_timestamp<C: Crypto>(&mut self) -> Result<InitiationStage, HandshakeError> {
        let shared = match self.static_static.take() {
            Some(shared) => shared,
            None => self.local.agree::<C::Dh>(&NodeKey::from_bytes(self.message.sealed_static))?,
        };
        self.state.mix_key(shared.as_bytes());
        let Initiation { sealed_timestamp, timestamp_tag, .. } = &mut self.message;
        self.state.decrypt_and_hash::<C::Aead>(sealed_timestamp, timestamp_tag)?;
        Ok(InitiationStage::Done)
    }

    /// The authenticated initiation. `None` before [`Progress::Done`].
    pub fn finish(&self) -> Option<ReceivedInitiation> {
        if self.stage != InitiationStage::Done {
            return None;
        }
        Some(ReceivedInitiation {
            initiator: NodeKey::from_bytes(self.message.sealed_static),
            timestamp: Tai64n::from_bytes(self.message.sealed_timestamp),
            sender: self.message.sender,
            ephemeral: self.message.ephemeral,
            state: self.state.clone(),
        })
    }
}

/// An authenticated initiation: what the caller checks (timestamp, flood) before it answers with a
/// [`CreateResponse`]. Wiped on drop.
#[derive(Clone, Debug)]
pub struct ReceivedInitiation {
    /// Whose it is; proven.
    pub initiator: NodeKey,
    /// Must be greater than every earlier one of this initiator.
    pub timestamp: Tai64n,
    /// The index that the initiator chose.
    pub sender: u32,
    ephemeral: [u8; 32],
    state: SymmetricState,
}

/// The responder's computation of a [`Response`]: three steps.
#[derive(Debug)]
pub struct CreateResponse {
    stage: ResponseStage,
    state: SymmetricState,
    received: ReceivedInitiation,
    psk: PresharedKey,
    ephemeral: EphemeralSecret,
    message: Response,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseStage {
    Ephemeral,
    EphemeralEphemeral,
    StaticEphemeral,
    Done,
    Failed(HandshakeError),
}

impl ResponseStage {
    fn progress(self) -> Result<Progress, HandshakeError> {
        match self {
            Self::Done => Ok(Progress::Done),
            Self::Failed(error) => Err(error),
            Self::Ephemeral | Self::EphemeralEphemeral | Self::StaticEphemeral => Ok(Progress::Again),
        }
    }
}

impl CreateResponse {
    /// The answer to an initiation. [`PresharedKey::NONE`] where the pair has none.
    pub fn new(received: ReceivedInitiation, psk: PresharedKey, ephemeral: EphemeralSecret) -> Self {
        Self {
            stage: ResponseStage::Ephemeral,
            state: received.state.clone(),
            psk,
            ephemeral,
            message: Response { sender: 0, receiver: received.sender, ephemeral: [0; 32], empty_tag: [0; 16] },
            received,
        }
    }

    /// Computes up to the next Diffie-Hellman and through it.
    ///
    /// # Errors
    /// [`HandshakeError::LowOrderPoint`] for an initiator's key that no session may be built on.
    pub fn step<C: Crypto>(&mut self) -> Result<Progress, HandshakeError> {
        let next = match self.stage {
            ResponseStage::Ephemeral => {
                self.message.ephemeral = self.ephemeral.public::<C::Dh>();
                mix_ephemeral(&mut self.state, &self.message.ephemeral);
                Ok(ResponseStage::EphemeralEphemeral)
            }
            ResponseStage::EphemeralEphemeral => self.agree_ephemeral::<C>(),
            ResponseStage::StaticEphemeral => self.seal_empty::<C>(),
            ResponseStage::Done => return Ok(Progress::Done),
            ResponseStage::Failed(error) => Err(error),
        };
        self.stage = next.unwrap_or_else(ResponseStage::Failed);
        self.stage.progress()
    }

    fn agree_ephemeral<C: Crypto>(&mut self) -> Result<ResponseStage, HandshakeError> {
        let shared = self.ephemeral.agree::<C::Dh>(&self.received.ephemeral)?;
        self.state.mix_chaining_key(shared.as_bytes());
        Ok(ResponseStage::StaticEphemeral)
    }

    fn seal_empty<C: Crypto>(&mut self) -> Result<ResponseStage, HandshakeError> {
        let shared = self.ephemeral.agree::<C::Dh>(self.received.initiator.as_bytes())?;
        self.state.mix_chaining_key(shared.as_bytes());
        self.state.mix_key_and_hash(self.psk.as_bytes());
        self.message.empty_tag = self.state.encrypt_and_hash::<C::Aead>(&mut []);
        Ok(ResponseStage::Done)
    }

    /// The message with its sender index and without macs, and the session. `None` before [`Progress::Done`].
    pub fn finish(&mut self, sender: u32) -> Option<(Response, Established)> {
        if self.stage != ResponseStage::Done {
            return None;
        }
        self.message.sender = sender;
        let established = Established { keys: self.state.split(), local: sender, remote: self.received.sender };
        Some((self.message.clone(), established))
    }
}

/// The initiator's reading of a [`Response`]: two steps.
#[derive(Debug)]
pub struct ConsumeResponse {
    stage: ResponseStage,
    state: SymmetricState,
    local: StaticKeys,
    sent: SentInitiation,
    psk: PresharedKey,
    message: Response,
}

impl ConsumeResponse {
    /// Reads a response whose receiver index is that of `sent`.
    pub fn new(local: &StaticKeys, sent: &SentInitiation, psk: PresharedKey, message: Response) -> Self {
        let mut state = SymmetricState::from_keyless(&sent.state);
        mix_ephemeral(&mut state, &message.ephemeral);
        let stage = ResponseStage::EphemeralEphemeral;
        Self { stage, state, local: local.clone(), sent: sent.clone(), psk, message }
    }

    /// Computes up to the next Diffie-Hellman and through it.
    ///
    /// # Errors
    /// [`HandshakeError`]: the message must be dropped; the handshake still waits for its response.
    pub fn step<C: Crypto>(&mut self) -> Result<Progress, HandshakeError> {
        let next = match self.stage {
            ResponseStage::Ephemeral | ResponseStage::EphemeralEphemeral => self.agree_ephemeral::<C>(),
            ResponseStage::StaticEphemeral => self.open_empty::<C>(),
            ResponseStage::Done => return Ok(Progress::Done),
            ResponseStage::Failed(error) => Err(error),
        };
        self.stage = next.unwrap_or_else(ResponseStage::Failed);
        self.stage.progress()
    }

    fn agree_ephemeral<C: Crypto>(&mut self) -> Result<ResponseStage, HandshakeError> {
        let shared = self.sent.ephemeral.agree::<C::Dh>(&self.message.ephemeral)?;
        self.state.mix_chaining_key(shared.as_bytes());
        Ok(ResponseStage::StaticEphemeral)
    }

    fn open_empty<C: Crypto>(&mut self) -> Result<ResponseStage, HandshakeError> {
        let shared = C::Dh::agree(self.local.secret.as_bytes(), &self.message.ephemeral)?;
        self.state.mix_chaining_key(shared.as_bytes());
        self.state.mix_key_and_hash(self.psk.as_bytes());
        self.state.decrypt_and_hash::<C::Aead>(&mut [], &self.message.empty_tag)?;
        Ok(ResponseStage::Done)
    }

    /// The session. `None` before [`Progress::Done`].
    pub fn finish(&self) -> Option<Established> {
        if self.stage != ResponseStage::Done {
            return None;
        }
        Some(Established { keys: self.state.split(), local: self.sent.sender, remote: self.message.sender })
    }
}

/// The state that both sides start from: the protocol's names and the responder's public key.
fn initial_state(responder: &NodeKey) -> SymmetricState {
    let mut state = SymmetricState::new(CONSTRUCTION);
    state.mix_hash(IDENTIFIER);
    state.mix_hash(responder.as_bytes());
    state
}

/// Noise's `e` token in a pattern with a preshared key: the key goes into the chaining key as well as the hash.
fn mix_ephemeral(state: &mut SymmetricState, ephemeral: &[u8; 32]) {
    state.mix_hash(ephemeral);
    state.mix_chaining_key(ephemeral);
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{crypto::RustCrypto, time::UnixTime};

    type Dh = <RustCrypto as Crypto>::Dh;

    struct Pair {
        rng: StdRng,
        alice: StaticKeys,
        bob: StaticKeys,
        psk: PresharedKey,
    }

    impl Pair {
        fn new() -> Self {
            let mut rng = StdRng::seed_from_u64(1);
            let alice = StaticKeys::new::<Dh>(NodeSecret::generate(&mut rng));
            let bob = StaticKeys::new::<Dh>(NodeSecret::generate(&mut rng));
            Self { rng, alice, bob, psk: PresharedKey::from_bytes([9; 32]) }
        }

        fn initiation(&mut self) -> (Initiation, SentInitiation) {
            let stamp = Tai64n::from_unix(UnixTime::new(1_700_000_000, 0));
            let ephemeral = EphemeralSecret::generate(&mut self.rng);
            let mut create = CreateInitiation::new(&self.alice, self.bob.public, None, stamp, ephemeral);
            while create.step::<RustCrypto>().unwrap() == Progress::Again {}
            create.finish(11).unwrap()
        }

        fn received(&self, message: Initiation) -> Result<ReceivedInitiation, HandshakeError> {
            let mut consume = ConsumeInitiation::new(&self.bob, message);
            while consume.step::<RustCrypto>()? == Progress::Again {}
            Ok(consume.finish().unwrap())
        }

        fn response(&mut self, received: ReceivedInitiation, psk: &PresharedKey) -> (Response, Established) {
            let ephemeral = EphemeralSecret::generate(&mut self.rng);
            let mut create = CreateResponse::new(received, psk.clone(), ephemeral);
            while create.step::<RustCrypto>().unwrap() == Progress::Again {}
            create.finish(22).unwrap()
        }

        fn established(&self, sent: &SentInitiation, response: Response) -> Result<Established, HandshakeError> {
            let mut consume = ConsumeResponse::new(&self.alice, sent, self.psk.clone(), response);
            while consume.step::<RustCrypto>()? == Progress::Again {}
            Ok(consume.finish().unwrap())
        }
    }

    #[test]
    fn both_sides_end_with_the_same_keys_and_each_others_index() {
        let mut pair = Pair::new();
        let (initiation, sent) = pair.initiation();
        let received = pair.received(Initiation::parse(&initiation.emit()).unwrap()).unwrap();
        assert_eq!((received.initiator, received.sender), (*pair.alice.public(), 11));
        assert_eq!(received.timestamp, Tai64n::from_unix(UnixTime::new(1_700_000_000, 0)));
        let psk = pair.psk.clone();
        let (response, bobs) = pair.response(received, &psk);
        let alices = pair.established(&sent, Response::parse(&response.emit()).unwrap()).unwrap();
        assert_eq!((alices.local, alices.remote, bobs.local, bobs.remote), (11, 22, 22, 11));
        assert_eq!(alices.keys.initiator, bobs.keys.initiator);
        assert_eq!(alices.keys.responder, bobs.keys.responder);
        assert_ne!(alices.keys.initiator, alices.keys.responder);
    }

    #[test]
    fn a_known_static_static_secret_saves_a_step_and_changes_nothing() {
        let mut pair = Pair::new();
        let shared = pair.alice.agree::<Dh>(pair.bob.public()).unwrap();
        let ephemeral = EphemeralSecret::generate(&mut pair.rng);
        let build = |shared, steps| {
            let mut create =
                CreateInitiation::new(&pair.alice, pair.bob.public, shared, Tai64n::ZERO, ephemeral.clone());
            for _ in 1..steps {
                assert_eq!(create.step::<RustCrypto>(), Ok(Progress::Again));
            }
            assert_eq!(create.step::<RustCrypto>(), Ok(Progress::Done));
            create.finish(1).unwrap().0
        };
        let message = build(Some(shared.clone()), 2);
        assert_eq!(message, build(None, 3));

        let mut consume = ConsumeInitiation::new(&pair.bob, message);
        assert_eq!(consume.initiator(), None);
        assert_eq!(consume.step::<RustCrypto>(), Ok(Progress::Again));
        assert_eq!(consume.initiator(), Some(*pair.alice.public()));
        consume.set_static_static(shared);
        assert_eq!(consume.step::<RustCrypto>(), Ok(Progress::Done));
        assert_eq!(consume.finish().unwrap().initiator, *pair.alice.public());
    }

    #[test]
    fn a_forged_response_leaves_the_sent_initiation_usable() {
        let mut pair = Pair::new();
        let (initiation, sent) = pair.initiation();
        let received = pair.received(initiation).unwrap();
        let psk = pair.psk.clone();
        let (response, _) = pair.response(received, &psk);
        let mut forged = response.clone();
        forged.empty_tag[0] ^= 1;
        assert_eq!(pair.established(&sent, forged).unwrap_err(), HandshakeError::NotAuthentic);
        let mut forged = response.clone();
        forged.ephemeral = [0; 32];
        assert_eq!(pair.established(&sent, forged).unwrap_err(), HandshakeError::LowOrderPoint);
        assert!(pair.established(&sent, response).is_ok());
    }

    #[test]
    fn every_sealed_byte_of_an_initiation_is_authenticated() {
        let mut pair = Pair::new();
        let (initiation, _) = pair.initiation();
        let datagram = initiation.emit();
        for position in 8..116 {
            let mut altered = datagram;
            altered[position] ^= 1;
            assert!(pair.received(Initiation::parse(&altered).unwrap()).is_err(), "byte {position}");
        }
        assert!(pair.received(initiation).is_ok());
    }

    #[test]
    fn another_or_a_missing_preshared_key_is_refused() {
        let mut pair = Pair::new();
        for psk in [PresharedKey::NONE, PresharedKey::from_bytes([8; 32])] {
            let (initiation, sent) = pair.initiation();
            let received = pair.received(initiation).unwrap();
            let (response, _) = pair.response(received, &psk);
            assert_eq!(pair.established(&sent, response).unwrap_err(), HandshakeError::NotAuthentic);
        }
    }

    #[test]
    fn low_order_static_and_ephemeral_keys_give_no_message() {
        let mut pair = Pair::new();
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            let remote = NodeKey::from_bytes(point);
            let ephemeral = EphemeralSecret::generate(&mut pair.rng);
            let mut create = CreateInitiation::new(&pair.alice, remote, None, Tai64n::ZERO, ephemeral);
            assert_eq!(create.step::<RustCrypto>(), Ok(Progress::Again));
            assert_eq!(create.step::<RustCrypto>(), Err(HandshakeError::LowOrderPoint));
            assert_eq!(create.step::<RustCrypto>(), Err(HandshakeError::LowOrderPoint), "a failure is final");
            assert!(create.finish(1).is_none());

            let (mut initiation, _) = pair.initiation();
            initiation.ephemeral = point;
            assert_eq!(pair.received(initiation).unwrap_err(), HandshakeError::LowOrderPoint);
        }
    }

    #[test]
    fn an_unfinished_computation_gives_nothing() {
        let mut pair = Pair::new();
        let (initiation, sent) = pair.initiation();
        let mut consume = ConsumeInitiation::new(&pair.bob, initiation.clone());
        assert_eq!(consume.step::<RustCrypto>(), Ok(Progress::Again));
        assert!(consume.finish().is_none());
        let received = pair.received(initiation).unwrap();
        let psk = pair.psk.clone();
        let (response, _) = pair.response(received, &psk);
        assert!(ConsumeResponse::new(&pair.alice, &sent, psk, response).finish().is_none());
    }

    #[test]
    fn computations_can_move_to_another_thread() {
        fn owned_and_send<T: Send + 'static>() {}
        owned_and_send::<CreateInitiation>();
        owned_and_send::<ConsumeInitiation>();
        owned_and_send::<CreateResponse>();
        owned_and_send::<ConsumeResponse>();
    }
    /// A chip holds what is sent for each peer, and a computation on its stack.
    #[test]
    fn sizes_are_those_a_chip_was_planned_with() {
        assert_eq!(size_of::<SentInitiation>(), 100);
        for size in [
            size_of::<CreateInitiation>(),
            size_of::<ConsumeInitiation>(),
            size_of::<CreateResponse>(),
            size_of::<ConsumeResponse>(),
        ] {
            assert!(size <= 512, "{size} bytes");
        }
    }
}
