//! What the RP2040 boards of weft share: the place of the kept state in flash, noise, and the chip's thermometer.
//!
//! It knows the chip and nothing of a board's pins, its network or the protocol.

#![no_std]

mod address;
mod region;
#[cfg(feature = "weft")]
mod rosc;
mod thermometer;

pub use address::{mac_address, network_seed};
pub use region::{FLASH_SIZE, LENGTH, Region, START};
#[cfg(feature = "weft")]
pub use rosc::Rosc;
pub use thermometer::Thermometer;
