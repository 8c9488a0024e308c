//! X25519 (RFC 7748) for chips without a long multiply, such as the Cortex-M0+.
//!
//! ARMv6-M multiplies 32 by 32 bits and gives the low half of the product. X25519 libraries for 32-bit chips are
//! written for the whole product, and spend there most of their time in a helper function that puts it together.
//! The field arithmetic here needs no more than the low half.
//!
//! [`ChipX25519`] is the implementation behind core's seam. [`ChipCrypto`] bundles core's AEAD with it on a chip
//! without a long multiply, and with core's own X25519 elsewhere, RISC-V included, where that one is faster. There
//! is no heap, and 1.2 KB of stack are used (`cargo xtask bench cost`). No branch and no index depends on a secret,
//! and what is computed is wiped; the program in `hil-tests/cost-probe` counts instructions and checks that their
//! number is the same for any secret.
//!
//! | module | holds |
//! |---|---|
//! | `ladder` | the scalar multiplication |
//! | `element` | field elements: representation, encoding, sums, swap, inversion |
//! | `product` | multiplication, squaring and reduction |
//! | `half_product` | the inner products, for ARMv6-M in assembly |

#![no_std]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[cfg(test)]
extern crate std;

#[macro_use]
mod unroll;
mod element;
#[cfg(test)]
mod field_tests;
mod half_product;
mod ladder;
mod product;

use subtle::ConstantTimeEq;
use weft_core::crypto::{Crypto, DiffieHellman, LowOrderPoint, RustCrypto, SharedSecret};

use ladder::Base;

/// X25519 with 32-bit arithmetic. Constant time in the secret.
#[derive(Clone, Copy, Debug)]
pub struct ChipX25519;

impl DiffieHellman for ChipX25519 {
    fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        ladder::multiply(secret, Base::Generator)
    }

    fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<SharedSecret, LowOrderPoint> {
        let shared = SharedSecret::from_bytes(ladder::multiply(secret, Base::Point(public)));
        if shared.as_bytes().ct_eq(&[0; 32]).into() { Err(LowOrderPoint) } else { Ok(shared) }
    }
}

/// The primitives for a chip: core's AEAD, and the X25519 that is faster there.
#[derive(Clone, Copy, Debug)]
pub struct ChipCrypto;

impl Crypto for ChipCrypto {
    type Aead = <RustCrypto as Crypto>::Aead;
    #[cfg(short_multiply)]
    type Dh = ChipX25519;
    #[cfg(not(short_multiply))]
    type Dh = <RustCrypto as Crypto>::Dh;
}
