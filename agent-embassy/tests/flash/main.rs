//! What a node keeps in flash, and its randomness, on a chip whose power fails at every access.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

mod chip;
mod damage;
mod device;
mod netmap;
mod power_cut;
mod random;
mod scrub;
mod wear;
