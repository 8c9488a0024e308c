//! The executor of the one thread: polls what was woken, then sleeps until an interrupt.
//!
//! embassy's own sleeps with WFE, which QEMU does not stop for: a test machine with a few boards would spin.

#![allow(unsafe_code)]

use core::{
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use embassy_executor::{Spawner, raw};
use static_cell::StaticCell;

/// Some task was woken since the last poll.
static WOKEN: AtomicBool = AtomicBool::new(true);

// SAFETY: the symbol that embassy-executor calls when a task was woken, with its signature; there is no other executor.
#[unsafe(export_name = "__pender")]
fn pender(_: *mut ()) {
    WOKEN.store(true, Ordering::Relaxed);
}

/// Spawns by `start`, then runs the tasks for ever. To be called once.
pub(crate) fn run(start: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    let executor = EXECUTOR.init(raw::Executor::new(ptr::null_mut()));
    start(executor.spawner());
    loop {
        WOKEN.store(false, Ordering::Relaxed);
        // SAFETY: this is the only place that polls, in the only thread, so that `poll` is not reentered.
        unsafe { executor.poll() };
        // With interrupts masked none can come between the look and the sleep; a pending one ends the sleep all the same.
        cortex_m::interrupt::disable();
        if !WOKEN.load(Ordering::Relaxed) {
            cortex_m::asm::wfi();
        }
        // SAFETY: no critical section is open here.
        unsafe { cortex_m::interrupt::enable() };
    }
}
