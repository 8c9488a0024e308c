//! Whether our X25519 takes the same instructions for every secret and every point.

use semihosting::println;
use weft_core::crypto::DiffieHellman;
use weft_x25519::ChipX25519;

use crate::{counter, random::Repeatable};

/// Random secrets and points.
const RANDOM: usize = 20;

/// Counts over extreme and random inputs. Prints `constant|subject|inputs|least|greatest`.
pub fn run() {
    let mut random = Repeatable(25_519);
    let extremes = [[0; 32], [0xff; 32], [0xaa; 32], [0x01; 32]];
    let (mut agreements, mut keys) = (Range::new(), Range::new());
    for index in 0..RANDOM + extremes.len() {
        let secret = extremes.get(index).copied().unwrap_or_else(|| random.bytes());
        // A secret at an extreme meets a point at an extreme too, but never a low-order one, which is refused
        // at once.
        let mut point = extremes.get(index).copied().unwrap_or_else(|| random.bytes());
        point[0] |= 2;
        agreements.add(|| assert!(ChipX25519::agree(&secret, &point).is_ok()));
        keys.add(|| {
            core::hint::black_box(ChipX25519::public_key(&secret));
        });
    }
    agreements.print("X25519");
    keys.print("X25519, public key");
}

struct Range {
    inputs: u32,
    least: u32,
    greatest: u32,
}

impl Range {
    const fn new() -> Self {
        Self { inputs: 0, least: u32::MAX, greatest: 0 }
    }

    fn add(&mut self, work: impl FnOnce()) {
        let start = counter::now();
        work();
        let taken = start.until(counter::now());
        self.inputs += 1;
        self.least = self.least.min(taken);
        self.greatest = self.greatest.max(taken);
    }

    fn print(&self, subject: &str) {
        println!("constant|{subject}|{}|{}|{}", self.inputs, self.least, self.greatest);
    }
}
