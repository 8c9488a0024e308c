//! Noise from the chip's random number generator.
//!
//! It is fed by the radio's noise. While the radio is off it gives numbers that are no more than pseudo-random (ESP32-C3
//! technical reference manual, chapter "Random Number Generator"), so nothing is vouched for then.

use esp_hal::{
    efuse,
    rng::{Rng, Trng},
};

/// The bits vouched for in 256 that were read while the radio was on: half of what its maker claims.
const VOUCHED: u32 = 128;

/// What the chip has to make randomness from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noise;

impl weft_firmware::Entropy for Noise {
    /// The chip's Ethernet address, which its maker burnt in.
    fn unique_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        let address = efuse::base_mac_address();
        for (byte, given) in id.iter_mut().zip(address.as_bytes()) {
            *byte = *given;
        }
        id
    }

    async fn sample(&mut self, noise: &mut [u8; 32]) -> u32 {
        if let Ok(trng) = Trng::try_new() {
            trng.read(noise);
            return VOUCHED;
        }
        Rng::new().read(noise);
        0
    }
}
