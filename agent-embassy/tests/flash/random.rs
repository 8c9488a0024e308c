//! The generator: no two starts and no two chips alike, and no key from nothing.

use std::collections::HashSet;

use embassy_futures::block_on;
use rand_core::Rng as _;
use weft_embassy::{
    Entropy, Random, StartError,
    flash::Store,
    provision::{self, Field},
};

use crate::{
    chip::{Chip, PAGE},
    device::{Board, Device},
};

type Bytes = Chip<1, 1>;

fn with_seed(seed: u8) -> Bytes {
    let (chip, mut page) = (Bytes::blank(), [0; PAGE]);
    provision::encode(&[Field::Seed(&[seed; 32])], &mut page).unwrap();
    chip.program(0, &page);
    chip
}

fn start<E: Entropy>(chip: &Bytes, board: &mut E) -> Result<[u8; 32], StartError> {
    let mut store = block_on(Store::open(chip.clone())).unwrap();
    let mut output = [0; 32];
    block_on(Random::start(&mut store, board))?.fill_bytes(&mut output);
    Ok(output)
}

#[test]
fn two_chips_with_one_image_and_one_flash_content_differ() {
    let chip = with_seed(1);
    let copy = chip.copy();
    assert_ne!(start(&chip, &mut Board::numb(1)).unwrap(), start(&copy, &mut Board::numb(2)).unwrap());
}

#[test]
fn two_seeds_in_the_same_chip_differ() {
    assert_ne!(start(&with_seed(1), &mut Board::numb(1)), start(&with_seed(2), &mut Board::numb(1)));
}

#[test]
fn the_boards_noise_counts_though_it_vouches_for_nothing() {
    let chip = with_seed(1);
    let copy = chip.copy();
    let mut noisy = Board { noise: [3; 32], ..Board::numb(1) };
    assert_ne!(start(&chip, &mut Board::numb(1)), start(&copy, &mut noisy));
}

#[test]
fn no_two_starts_are_alike_and_each_is_counted() {
    let mut device = Device::<4, 4>::provisioned(1);
    let first = device.boot().unwrap().rng.boots();
    for boot in 1..=100 {
        assert_eq!(device.boot().unwrap().rng.boots(), first + boot);
    }
}

#[test]
fn a_seed_from_a_second_provisioning_page_is_mixed_into_the_first() {
    let (chip, mut page) = (with_seed(1), [0; PAGE]);
    let first = start(&chip, &mut Board::numb(1)).unwrap();
    provision::encode(&[Field::Seed(&[1; 32])], &mut page).unwrap();
    chip.program(0, &page);
    assert_ne!(start(&chip, &mut Board::numb(1)).unwrap(), first, "the same page again is no step back");
}

#[test]
fn without_a_seed_and_noise_there_is_no_randomness() {
    let chip = Bytes::blank();
    assert_eq!(start(&chip, &mut Board::numb(1)), Err(StartError::NoEntropy { bits: 0 }));
}

/// A source that is good, but for what it is told to do wrong.
struct Source {
    state: u64,
    vouched: u32,
    samples: u32,
    stuck_from: u32,
    period: u32,
}

impl Source {
    fn good(vouched: u32) -> Self {
        Self { state: 1, vouched, samples: 0, stuck_from: u32::MAX, period: u32::MAX }
    }
}

impl Entropy for Source {
    fn unique_id(&mut self) -> [u8; 16] {
        [1; 16]
    }

    async fn sample(&mut self, noise: &mut [u8; 32]) -> u32 {
        self.samples += 1;
        if self.samples % self.period == 1 {
            self.state = 1;
        }
        if self.samples < self.stuck_from {
            for byte in noise.iter_mut() {
                self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (self.state >> 56) as u8;
            }
        } else {
            noise.fill(0xa5);
        }
        self.vouched
    }
}

#[test]
fn a_board_that_vouches_for_enough_needs_no_seed() {
    for vouched in [4, 32, 256] {
        start(&Bytes::blank(), &mut Source::good(vouched)).unwrap();
    }
}

#[test]
fn a_board_that_vouches_for_too_little_is_not_enough() {
    let refused = start(&Bytes::blank(), &mut Source::good(3));
    assert!(matches!(refused, Err(StartError::NoEntropy { bits: 1..256 })), "{refused:?}");
}

#[test]
fn a_stuck_source_vouches_for_nothing_whatever_its_board_believes() {
    for stuck_from in [1, 3, 6] {
        let mut source = Source { stuck_from, ..Source::good(64) };
        assert_eq!(start(&Bytes::blank(), &mut source), Err(StartError::NoEntropy { bits: 0 }), "from {stuck_from}");
    }
}

#[test]
fn a_source_that_goes_in_circles_vouches_for_nothing() {
    for period in [2, 3, 4] {
        let mut source = Source { period, ..Source::good(8) };
        assert_eq!(start(&Bytes::blank(), &mut source), Err(StartError::NoEntropy { bits: 0 }), "period {period}");
    }
}

#[test]
fn a_million_bytes_have_no_block_twice() {
    let mut store = block_on(Store::open(with_seed(1))).unwrap();
    let mut rng = block_on(Random::start(&mut store, &mut Board::numb(1))).unwrap();
    let mut blocks = HashSet::new();
    let mut bytes = [0; 500];
    for _ in 0..2_000 {
        rng.fill_bytes(&mut bytes);
        assert!(bytes.chunks_exact(20).all(|block| blocks.insert(<[u8; 20]>::try_from(block).unwrap())));
    }
    let ones: u32 = blocks.iter().flatten().map(|byte| byte.count_ones()).sum();
    let bits = 2_000 * 500 * 8;
    assert!(ones.abs_diff(bits / 2) < 10_000, "{ones} ones of {bits} bits");
}

#[test]
fn reseeding_changes_what_follows() {
    let chip = with_seed(1);
    let outputs = [false, true].map(|reseed| {
        let mut store = block_on(Store::open(chip.copy())).unwrap();
        let mut rng = block_on(Random::start(&mut store, &mut Board::numb(1))).unwrap();
        if reseed {
            block_on(rng.reseed(&mut Board::numb(1)));
        }
        rng.next_u64()
    });
    assert_ne!(outputs[0], outputs[1]);
}
