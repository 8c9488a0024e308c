//! Noise from the RP2040's ring oscillator.
//!
//! The RP2040 has no true random number generator. Its ring oscillator (ROSC) has a bit, `RANDOMBIT`, that samples the
//! oscillator with the system clock; the data sheet (section 2.17.5) says that it does not meet the requirements of
//! randomness for security systems. So:
//!
//! * a bit is read every [`SPACING`], about 1,600 periods of the oscillator, so that jitter can add up between two readings;
//! * every raw bit goes through health tests; after an alarm nothing is vouched for until the next reset;
//! * one eighth of a bit of entropy is vouched for a raw bit. This is an assumption, not a measurement: nobody has run this
//!   on hardware. A board that is provisioned with a seed does not depend on it.

use embassy_rp::pac;
use embassy_time::{Duration, Timer};
use weft_embassy::NoiseHealth;

/// The time between two raw bits.
const SPACING: Duration = Duration::from_micros(250);

/// The raw bits of one sample: all of `noise`.
const RAW_BITS: u32 = 256;

/// What an RP2040 board has to make randomness from.
#[derive(Debug)]
pub struct Rosc {
    unique_id: [u8; 16],
    health: NoiseHealth,
}

impl Rosc {
    /// Noise of this chip, whose flash has this number. The ring oscillator must run, as it does after `embassy_rp::init` with
    /// the default configuration.
    #[must_use]
    pub const fn new(unique_id: [u8; 16]) -> Self {
        Self { unique_id, health: NoiseHealth::new() }
    }

    async fn bit(&mut self) -> bool {
        Timer::after(SPACING).await;
        let bit = pac::ROSC.randombit().read().randombit();
        self.health.take(bit);
        bit
    }
}

impl weft_embassy::Entropy for Rosc {
    fn unique_id(&mut self) -> [u8; 16] {
        self.unique_id
    }

    /// Takes 64 ms, the first time 320 ms.
    async fn sample(&mut self, noise: &mut [u8; 32]) -> u32 {
        while self.health.start_up_left() > 0 {
            self.bit().await;
        }
        for byte in noise.iter_mut() {
            for _ in 0..u8::BITS {
                *byte = *byte << 1 | u8::from(self.bit().await);
            }
        }
        self.health.vouched(RAW_BITS)
    }
}
