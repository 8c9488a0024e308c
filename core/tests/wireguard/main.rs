//! The device's behaviour, seen from outside: nodes on a virtual clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "../harness/mod.rs"]
mod harness;

mod capacity;
mod cookies;
mod data_path;
mod pitfalls;
mod properties;
mod sessions;
mod sizes;
mod tickets;
mod timers;
mod wire;
