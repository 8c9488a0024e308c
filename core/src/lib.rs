//! The protocol core of Weft, a private WireGuard mesh that reaches down to a microcontroller.
//!
//! Everything here is a state machine: time, randomness, datagrams and bytes are arguments, and what has to
//! happen next is a return value. There is no heap, no socket, no clock and no `unsafe`. Two agents drive it,
//! one on Linux (`weft-agent`) and one on microcontrollers, and the control server uses the server half of
//! [`control`].
//!
//! | module | holds |
//! |---|---|
//! | [`time`] | instants and wall-clock time as arguments |
//! | [`keys`] | the key types: node, machine, server, preshared |
//! | [`crypto`] | the seams for AEAD and Diffie-Hellman, BLAKE2s, the Noise symmetric state |
//! | [`ip`] | addresses, prefixes and header views of inner packets |
//! | [`wireguard`] | the whole WireGuard protocol for many peers in one device |
//! | [`control`] | the control protocol: join key, secure channel, records, both halves |
//! | [`node`] | the composition that both agents drive |

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[cfg(test)]
extern crate std;

mod fmt;
mod limits;

pub mod control;
pub mod crypto;
pub mod ip;
pub mod keys;
pub mod node;
pub mod time;
pub mod wireguard;
