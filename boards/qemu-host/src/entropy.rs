//! The unique id, and noise from the host in place of a chip's oscillator or radio.

use semihosting::{fs::File, io::Read as _};

/// The id of a machine, and the host's random generator.
#[derive(Debug)]
pub struct HostEntropy {
    #[cfg_attr(not(feature = "weft"), expect(dead_code, reason = "only the mesh asks for it"))]
    id: [u8; 16],
    /// Bits that are vouched for in each sample.
    #[cfg_attr(not(feature = "weft"), expect(dead_code, reason = "only the mesh asks for it"))]
    bits: u32,
}

impl HostEntropy {
    /// A machine of this unique id. It vouches for `bits` of each sample; with none, as a chip without a true source,
    /// its samples are the same each time.
    pub const fn new(id: [u8; 16], bits: u32) -> Self {
        Self { id, bits }
    }

    pub(crate) fn network_seed(&self) -> u64 {
        let mut seed = [0; 8];
        noise(&mut seed);
        u64::from_le_bytes(seed)
    }
}

/// Fills `bytes` from the host's random generator, and tells whether there is one.
fn noise(bytes: &mut [u8]) -> bool {
    File::open(c"/dev/urandom").and_then(|mut file| file.read_exact(bytes)).is_ok()
}

#[cfg(feature = "weft")]
impl weft_firmware::Entropy for HostEntropy {
    fn unique_id(&mut self) -> [u8; 16] {
        self.id
    }

    async fn sample(&mut self, sample: &mut [u8; 32]) -> u32 {
        if self.bits > 0 && noise(sample) { self.bits } else { 0 }
    }
}
