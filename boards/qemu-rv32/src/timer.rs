//! The clock of embassy-time: the machine's 10 MHz counter and its comparator.

use core::{cell::RefCell, task::Waker};

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

use crate::mmio::CLINT;

const COMPARE_LOW: usize = 0x4000;
const COMPARE_HIGH: usize = 0x4004;
const NOW_LOW: usize = 0xbff8;
const NOW_HIGH: usize = 0xbffc;

struct Counter {
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static DRIVER: Counter = Counter { queue: Mutex::new(RefCell::new(Queue::new())) });

impl Counter {
    fn set_alarm(&self, cs: CriticalSection<'_>) {
        let next = self.queue.borrow_ref_mut(cs).next_expiration(self.now());
        // A comparator that is past raises its interrupt at once, so that nothing is missed here.
        compare(next);
    }
}

impl Driver for Counter {
    fn now(&self) -> u64 {
        loop {
            let (high, low) = (CLINT.read(NOW_HIGH), CLINT.read(NOW_LOW));
            if high == CLINT.read(NOW_HIGH) {
                return u64::from(high) << 32 | u64::from(low);
            }
        }
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            if self.queue.borrow_ref_mut(cs).schedule_wake(at, waker) {
                self.set_alarm(cs);
            }
        });
    }
}

fn compare(at: u64) {
    // In between the comparator is never earlier than it was or will be.
    CLINT.write(COMPARE_HIGH, u32::MAX);
    CLINT.write(COMPARE_LOW, at as u32);
    CLINT.write(COMPARE_HIGH, (at >> 32) as u32);
}

/// Sets the alarm to never.
pub(crate) fn start() {
    compare(u64::MAX);
}

/// The comparator is due.
pub(crate) fn on_alarm() {
    critical_section::with(|cs| DRIVER.set_alarm(cs));
}
