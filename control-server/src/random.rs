//! Random numbers from the operating system.

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};

/// The operating system's generator, as core takes it. It fails only where the system has none, and then nothing here
/// can go on.
pub fn system() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// A random number.
pub fn number() -> u64 {
    system().next_u64()
}
