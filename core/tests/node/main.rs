//! A mesh on a virtual clock: real nodes, real devices, and a control server in memory that is the server half of
//! `control` with just enough behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod capacity;
mod crowd;
mod large_mesh;
mod membership;
mod netmap;
mod reach;
mod restart;
#[path = "../harness/rng.rs"]
mod rng;
mod server;
mod soak;
mod steps;
mod world;
