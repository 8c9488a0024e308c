//! The control protocol as a node and a server see it: both halves joined in memory, with whatever lies between
//! them in the test's hands.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod connection;
mod join_key;
mod liveness;
mod netmap_order;
mod pair;
mod records;
#[path = "../harness/rng.rs"]
mod rng;
mod rogue;
mod samples;
mod threats;
mod upgrade;
mod vectors;
