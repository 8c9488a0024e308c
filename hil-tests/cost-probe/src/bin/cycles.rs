//! What an X25519 and a packet take on an RP2040, between breakpoints: `cycles.mjs` counts instructions and cycles from
//! each to the next. The subjects are in the order of its list.

#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m::asm::bkpt;
// A panic is reported by a breakpoint of another number.
use semihosting as _;
use weft_core::crypto::{Aead, DiffieHellman, aead::ChaCha20Poly1305, dh::X25519};
use weft_x25519::ChipX25519;

#[cortex_m_rt::entry]
fn main() -> ! {
    let secret = black_box([0x57; 32]);
    let public = X25519::public_key(&black_box([0x75; 32]));
    let mut text = [0x5a; 1_280];

    bkpt();
    let ours = ChipX25519::agree(&secret, &public);
    bkpt();
    bkpt();
    let dalek = X25519::agree(&secret, &public);
    bkpt();
    bkpt();
    let tag = ChaCha20Poly1305::seal(&secret, 7, &[], &mut text);
    bkpt();
    bkpt();
    let opened = ChaCha20Poly1305::open(&secret, 7, &[], &mut text, &tag);
    bkpt();
    assert!(opened.is_ok() && text == [0x5a; 1_280]);
    assert_eq!(ours.map(|shared| *shared.as_bytes()), dalek.map(|shared| *shared.as_bytes()));
    loop {
        bkpt();
    }
}
