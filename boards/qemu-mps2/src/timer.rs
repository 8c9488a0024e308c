//! The clock of embassy-time: one 32-bit timer runs freely at 25 MHz, the other is the alarm. Exact to a microsecond.

use core::{
    cell::{Cell, RefCell},
    task::Waker,
};

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

use crate::mmio::{TIMER0, TIMER1};

/// Cycles of the timers in a microsecond.
const CYCLES: u64 = 25;

const CTRL: usize = 0x00;
const VALUE: usize = 0x04;
const RELOAD: usize = 0x08;
/// Reads whether the interrupt is pending; a one clears it.
const INTERRUPT: usize = 0x0c;
const CTRL_RUN: u32 = 1;
const CTRL_INTERRUPT: u32 = 1 << 3;

struct Timers {
    /// How often the free timer came to zero.
    wraps: Mutex<Cell<u32>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static DRIVER: Timers = Timers {
    wraps: Mutex::new(Cell::new(0)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

impl Timers {
    fn now_in(&self, cs: CriticalSection<'_>) -> u64 {
        let before = !TIMER0.read(VALUE);
        let wrapped = TIMER0.read(INTERRUPT) != 0;
        // A timer that counts down, read as one that counts up. Where the interrupt is still to come, it came between the
        // two reads or before both; a second read tells.
        let cycles = if wrapped { !TIMER0.read(VALUE) } else { before };
        let wraps = u64::from(self.wraps.borrow(cs).get()) + u64::from(wrapped);
        (wraps << 32 | u64::from(cycles)) / CYCLES
    }

    fn set_alarm(&self, cs: CriticalSection<'_>) {
        loop {
            let now = self.now_in(cs);
            let next = self.queue.borrow_ref_mut(cs).next_expiration(now);
            // What is due within the call below is due now: the queue is looked at again.
            let Some(wait) = next.checked_sub(now).filter(|wait| *wait > 0) else { continue };
            let cycles = wait.saturating_mul(CYCLES).min(u32::MAX.into()) as u32;
            TIMER1.write(CTRL, 0);
            TIMER1.write(INTERRUPT, 1);
            TIMER1.write(VALUE, cycles);
            TIMER1.write(CTRL, CTRL_RUN | CTRL_INTERRUPT);
            return;
        }
    }
}

impl Driver for Timers {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.now_in(cs))
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            if self.queue.borrow_ref_mut(cs).schedule_wake(at, waker) {
                self.set_alarm(cs);
            }
        });
    }
}

/// Starts the clock.
pub(crate) fn start() {
    TIMER0.write(RELOAD, u32::MAX);
    TIMER0.write(VALUE, u32::MAX);
    TIMER0.write(CTRL, CTRL_RUN | CTRL_INTERRUPT);
    // The alarm stops at zero.
    TIMER1.write(RELOAD, 0);
}

/// The free timer came to zero.
pub(crate) fn on_wrap() {
    critical_section::with(|cs| {
        TIMER0.write(INTERRUPT, 1);
        let wraps = DRIVER.wraps.borrow(cs);
        wraps.set(wraps.get().wrapping_add(1));
    });
}

/// The alarm came to zero.
pub(crate) fn on_alarm() {
    critical_section::with(|cs| {
        TIMER1.write(INTERRUPT, 1);
        DRIVER.set_alarm(cs);
    });
}
