//! What Weft's cryptography costs on a chip: instructions and stack, counted in QEMU, beside other public
//! implementations that build for it. `cargo xtask bench cost` builds, runs and reads it.
//!
//! | module | holds |
//! |---|---|
//! | [`counter`] | exact counts of instructions |
//! | [`stack`] | how deep the stack went |
//! | [`report`] | what a line of the report is |
//! | [`diffie_hellman`] [`packet`] [`wireguard`] [`other_wireguard`] [`control`] | what is measured |
//! | [`constant_time`] | the check that X25519 takes the same time for all secrets |

#![no_std]
#![no_main]

mod constant_time;
mod control;
mod counter;
mod diffie_hellman;
mod other_wireguard;
mod packet;
mod random;
mod report;
mod stack;
mod wireguard;

use core::any::TypeId;

use weft_core::crypto::{Crypto, RustCrypto};
use weft_x25519::{ChipCrypto, ChipX25519};

/// Core's AEAD with our X25519, also on a chip that has a long multiply.
struct Ours;

impl Crypto for Ours {
    type Aead = <RustCrypto as Crypto>::Aead;
    type Dh = ChipX25519;
}

/// The X25519 that nodes use on this chip is the faster one.
fn check_choice() {
    let ours = TypeId::of::<<ChipCrypto as Crypto>::Dh>() == TypeId::of::<ChipX25519>();
    assert_eq!(ours, cfg!(target_arch = "arm"));
}

fn run() -> ! {
    check_choice();
    counter::start();
    diffie_hellman::run();
    packet::run();
    wireguard::run::<Ours>("weft, weft-x25519");
    wireguard::run::<RustCrypto>("weft, x25519-dalek");
    other_wireguard::run();
    control::run::<Ours>("weft, weft-x25519");
    control::run::<RustCrypto>("weft, x25519-dalek");
    constant_time::run();
    semihosting::process::exit(0)
}

#[cfg(target_arch = "arm")]
#[cortex_m_rt::entry]
fn main() -> ! {
    run()
}

#[cfg(target_arch = "riscv32")]
#[riscv_rt::entry]
fn main() -> ! {
    run()
}
