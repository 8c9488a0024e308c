//! Randomness of a chip: what the board gives, and the generator that all of a node's secrets come from.
//!
//! A chip has no randomness that outlives a reset, and many have no source of it. So the generator lives on a seed in flash:
//!
//! - at every start, before its first byte is used, the next seed is in flash and read back. It is made of the present
//!   seed, the unique id of the chip, the number of the start and the board's noise; so is, under another label, the
//!   generator's key. No cut of power lets a seed serve for two starts, and two chips with the same flash content part at
//!   once;
//! - an image carries no seed. The first comes with the [provisioning page](crate::provision), or from noise of which the
//!   board vouches for 256 bits. Where there is neither, no key is made: [`StartError::NoEntropy`];
//! - each output replaces the key (fast key erasure), so that what was given out cannot be found from the memory of the
//!   chip later;
//! - noise is mixed in from time to time by [`Random::reseed`]. It can only help.
//!
//! What this assumes: on a board that vouches for nothing, all rests on the seed of the provisioning page, which has to be
//! fresh from a good source for every chip and every time the region is erased. And whoever reads the flash learns the
//! seeds whose pages were not erased yet, and with them, on such a board, what was generated in the starts since.

use core::{convert::Infallible, fmt};

use embedded_storage_async::nor_flash::NorFlash;
use rand_core::{TryCryptoRng, TryRng};
use weft_core::crypto::hash;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    flash::{FlashError, Seed, Store},
    noise_health::NoiseHealth,
};

/// What a board has to make a node's randomness from.
pub trait Entropy {
    /// What no other chip has: the serial number of the flash or of the chip. Not a secret.
    fn unique_id(&mut self) -> [u8; 16];

    /// Fills `noise` from whatever noise the board has, and returns how many bits of it the board vouches for. Zero
    /// where it has no source that it trusts; the bytes are mixed in all the same.
    fn sample(&mut self, noise: &mut [u8; 32]) -> impl Future<Output = u32>;
}

/// Bits that the board has to vouch for where there is no seed.
const ENOUGH: u32 = 256;
/// Samples that are mixed in at a start with a seed.
const SAMPLES: usize = 2;
/// Samples that are asked for at most where there is no seed: the start-up of the health test and then 256 bits at 4 a
/// sample.
const MAX_SAMPLES: usize = 72;
/// A sample that is the same as one of so many before it shows that the source is stuck or goes in circles.
const REMEMBERED: usize = 4;
/// The health test takes a source for broken that gives less than an eighth of a bit of entropy a bit; of one that vouches for less
/// than that it says nothing, and repetition alone is looked for.
const TESTABLE: u32 = 32;

/// Why there is no randomness yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StartError {
    /// There is no seed in flash, and the board's noise is not enough to make one.
    NoEntropy {
        /// The bits that the board vouched for, of 256.
        bits: u32,
    },
    /// The next seed could not be kept.
    Flash(FlashError),
}

impl From<FlashError> for StartError {
    fn from(error: FlashError) -> Self {
        Self::Flash(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEntropy { bits } => write!(
                f,
                "there is no seed in flash and the board vouches for {bits} bits of noise of {ENOUGH}, so no key is made; \
                 write a provisioning page with a seed"
            ),
            Self::Flash(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

/// The node's random source.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Random {
    key: [u8; 32],
    #[zeroize(skip)]
    boots: u32,
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

impl Random {
    /// Begins the randomness of this start. Called once a start, since every call uses up a seed.
    ///
    /// # Errors
    /// [`StartError`]; it may be tried again.
    pub async fn start<F: NorFlash, E: Entropy>(store: &mut Store<F>, entropy: &mut E) -> Result<Self, StartError> {
        let id = entropy.unique_id();
        let mut pool = Pool::new();
        let seed = match store.seed().await? {
            Some(seed) => {
                for _ in 0..SAMPLES {
                    pool.take(entropy).await;
                }
                seed
            }
            None => {
                for _ in 0..MAX_SAMPLES {
                    pool.take(entropy).await;
                    if pool.bits >= ENOUGH {
                        break;
                    }
                }
                if pool.bits < ENOUGH {
                    return Err(StartError::NoEntropy { bits: pool.bits });
                }
                Seed { boots: 0, bytes: [0; 32] }
            }
        };
        let boots = seed.boots.wrapping_add(1);
        let derive =
            |label: &[u8]| hash::hash(&[label, &seed.bytes, &id, &boots.to_le_bytes(), pool.content.as_slice()]);
        store.keep_seed(&Seed { boots, bytes: derive(b"weft next seed..") }).await?;
        Ok(Self { key: derive(b"weft generator.."), boots })
    }

    /// The number of this start, as far as the flash knows.
    pub const fn boots(&self) -> u32 {
        self.boots
    }

    /// Mixes noise of the board in. Every ten minutes or so is often enough.
    pub async fn reseed<E: Entropy>(&mut self, entropy: &mut E) {
        let mut noise = Zeroizing::new([0; 32]);
        entropy.sample(&mut noise).await;
        self.mix(&noise);
    }

    /// Mixes in what was sampled elsewhere.
    pub fn mix(&mut self, noise: &[u8; 32]) {
        self.key = hash::hash(&[b"weft reseed.....", &self.key, noise]);
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for (block, number) in out.chunks_mut(32).zip(0u32..) {
            let bytes = Zeroizing::new(hash::hash(&[b"weft output.....", &self.key, &number.to_le_bytes()]));
            block.iter_mut().zip(bytes.iter()).for_each(|(out, byte)| *out = *byte);
        }
        self.key = hash::hash(&[b"weft next key...", &self.key]);
        Ok(())
    }
}

impl TryCryptoRng for Random {}

/// Noise, hashed together, and how much of it counts.
struct Pool {
    content: Zeroizing<[u8; 32]>,
    health: NoiseHealth,
    /// Hashes of the last samples.
    last: [[u8; 8]; REMEMBERED],
    taken: usize,
    stuck: bool,
    bits: u32,
}

impl Pool {
    fn new() -> Self {
        Self {
            content: Zeroizing::default(),
            health: NoiseHealth::new(),
            last: [[0; 8]; REMEMBERED],
            taken: 0,
            stuck: false,
            bits: 0,
        }
    }

    async fn take<E: Entropy>(&mut self, entropy: &mut E) {
        let mut noise = Zeroizing::new([0; 32]);
        let vouched = entropy.sample(&mut noise).await.min(8 * noise.len() as u32);
        *self.content = hash::hash(&[b"weft noise......", self.content.as_slice(), noise.as_slice()]);
        // A source that gives the same again and again is broken, whatever its board believes.
        let [a, b, c, d, e, f, g, h, ..] = hash::hash(&[noise.as_slice()]);
        let sample = [a, b, c, d, e, f, g, h];
        self.stuck |= self.last.contains(&sample);
        self.taken += 1;
        if let Some(place) = self.last.get_mut(self.taken % REMEMBERED) {
            *place = sample;
        }
        for byte in noise.iter() {
            (0..8).for_each(|bit| self.health.take(byte >> bit & 1 != 0));
        }
        let sound = !self.stuck && (vouched < TESTABLE || self.health.is_good());
        // What was counted before the source broke counts no more.
        self.bits = if sound { self.bits + vouched } else { 0 };
    }
}
