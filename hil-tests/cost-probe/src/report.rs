//! Measures a computation and prints the line that `cargo xtask bench cost` reads:
//! `cost|subject|implementation|instructions|stack in bytes`.

use core::hint::black_box;

use semihosting::println;

use crate::{counter, stack};

/// Measures `work`.
pub fn measure<T>(subject: &str, implementation: &str, work: impl FnOnce() -> T) -> T {
    let mut meter = Meter::default();
    let result = meter.run(work);
    meter.print(subject, implementation);
    result
}

/// Measures a computation that comes in several parts.
#[derive(Default)]
pub struct Meter {
    instructions: u32,
    depth: usize,
}

impl Meter {
    /// Runs one part: its instructions are added, and its stack counts where it is the deepest.
    pub fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let overhead = counter::now().until(counter::now());
        let painted = stack::paint();
        let start = counter::now();
        let result = black_box(work());
        let end = counter::now();
        self.depth = self.depth.max(painted.depth());
        self.instructions += start.until(end) - overhead;
        result
    }

    /// Prints what was measured.
    pub fn print(&self, subject: &str, implementation: &str) {
        println!("cost|{subject}|{implementation}|{}|{}", self.instructions, self.depth);
    }
}
