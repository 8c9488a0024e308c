//! A device: a chip, a board without noise, and all that its generator ever gave.

use std::collections::HashSet;

use embassy_futures::block_on;
use rand_core::Rng as _;
use weft_core::{
    control::{JoinKey, JoinSecret, NetworkId},
    keys::ServerKey,
    node::{Identity, KeptTime},
    time::UnixTime,
};
use weft_embassy::{
    Entropy, Random, StartError,
    flash::{OpenError, Store},
    provision::{self, Field},
};

use crate::chip::{Chip, PAGE};

pub(crate) const SECRET: [u8; 16] = *b"the-join-secret!";

/// A board that vouches for nothing, and whose noise is always the same.
pub(crate) struct Board {
    pub(crate) id: [u8; 16],
    pub(crate) noise: [u8; 32],
    pub(crate) vouched: u32,
}

impl Board {
    pub(crate) const fn numb(id: u8) -> Self {
        Self { id: [id; 16], noise: [0x5a; 32], vouched: 0 }
    }
}

impl Entropy for Board {
    fn unique_id(&mut self) -> [u8; 16] {
        self.id
    }

    async fn sample(&mut self, noise: &mut [u8; 32]) -> u32 {
        *noise = self.noise;
        self.vouched
    }
}

/// Why a start did not come to its end.
#[derive(Debug)]
#[expect(dead_code, reason = "a failing test prints what is in it")]
pub(crate) enum Stop {
    Open(OpenError),
    Start(StartError),
    Flash(weft_embassy::flash::FlashError),
}

impl From<weft_embassy::flash::FlashError> for Stop {
    fn from(error: weft_embassy::flash::FlashError) -> Self {
        Self::Flash(error)
    }
}

#[derive(Clone)]
pub(crate) struct Device<const WRITE: usize, const READ: usize> {
    pub(crate) chip: Chip<WRITE, READ>,
    id: u8,
    outputs: HashSet<[u8; 16]>,
}

/// A device between its start and its next reset.
pub(crate) struct Running<const WRITE: usize, const READ: usize> {
    pub(crate) store: Store<Chip<WRITE, READ>>,
    pub(crate) rng: Random,
}

impl<const WRITE: usize, const READ: usize> Device<WRITE, READ> {
    pub(crate) fn blank(id: u8) -> Self {
        Self { chip: Chip::blank(), id, outputs: HashSet::new() }
    }

    /// A device that somebody wrote a provisioning page for.
    pub(crate) fn provisioned(id: u8) -> Self {
        let device = Self::blank(id);
        device.provision();
        device
    }

    pub(crate) fn provision(&self) {
        let (key, mut page) = (join_key().to_text(), [0; PAGE]);
        let fields = [
            Field::JoinKey(key.as_str()),
            Field::Seed(&[0x77; 32]),
            Field::Hostname("sensor"),
            Field::Ssid("attic"),
            Field::Password("correct horse"),
            Field::App(2, b"laptop:9000"),
        ];
        provision::encode(&fields, &mut page).unwrap();
        self.chip.program(0, &page);
    }

    /// Another device in the same state.
    pub(crate) fn copy(&self) -> Self {
        Self { chip: self.chip.copy(), ..self.clone() }
    }

    /// The power is on, or comes back: opens the store, begins the randomness, and uses some of it.
    ///
    /// # Panics
    /// Where a random output was there before.
    pub(crate) fn boot(&mut self) -> Result<Running<WRITE, READ>, Stop> {
        let mut store = block_on(Store::open(self.chip.clone())).map_err(Stop::Open)?;
        let mut rng = block_on(Random::start(&mut store, &mut Board::numb(self.id))).map_err(Stop::Start)?;
        for _ in 0..3 {
            let mut output = [0; 16];
            rng.fill_bytes(&mut output);
            assert!(self.outputs.insert(output), "a random output came twice");
        }
        Ok(Running { store, rng })
    }
}

pub(crate) fn join_key() -> JoinKey {
    let address = "http://192.0.2.1:8080".parse().unwrap();
    JoinKey::new(ServerKey::from_bytes([4; 32]), JoinSecret::from_bytes(SECRET), [&address]).unwrap()
}

/// The identity of a node that the server has registered.
pub(crate) fn registered(identity: &Identity) -> Identity {
    Identity { join_secret: None, network: NetworkId(7), ..identity.clone() }
}

/// The same with another floor of stamps.
pub(crate) fn later(identity: &Identity, seconds: u64) -> Identity {
    let floor = UnixTime::new(1_800_000_000 + seconds, 0);
    Identity { time: KeptTime { stamp_floor: floor, server_time: floor }, ..identity.clone() }
}
