//! The vector table: which interrupt of the machine goes to which driver.

#![allow(unsafe_code)]

use cortex_m::{interrupt::InterruptNumber, peripheral::NVIC};

use crate::{lan9118, timer};

const TIMER0: Irq = Irq(8);
const TIMER1: Irq = Irq(9);
const ETHERNET: Irq = Irq(13);

#[derive(Clone, Copy)]
struct Irq(u16);

// SAFETY: the number is the interrupt's own, and below the 32 that the machine has.
unsafe impl InterruptNumber for Irq {
    fn number(self) -> u16 {
        self.0
    }
}

// SAFETY: the section is where cortex-m-rt expects the table, and the name that it looks for; all 32 entries are functions that take
// nothing and return.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
#[used]
static __INTERRUPTS: [extern "C" fn(); 32] = {
    let mut table: [extern "C" fn(); 32] = [on_unexpected; 32];
    table[TIMER0.0 as usize] = on_timer0;
    table[TIMER1.0 as usize] = on_timer1;
    table[ETHERNET.0 as usize] = on_ethernet;
    table
};

extern "C" fn on_timer0() {
    timer::on_wrap();
}

extern "C" fn on_timer1() {
    timer::on_alarm();
}

extern "C" fn on_ethernet() {
    lan9118::on_interrupt();
}

extern "C" fn on_unexpected() {
    panic!("an interrupt that nobody enabled");
}

/// Lets the interrupts of the timers and of the Ethernet controller in.
pub(crate) fn enable() {
    for irq in [TIMER0, TIMER1, ETHERNET] {
        // SAFETY: no code of this board relies on an interrupt being masked by the NVIC; critical sections mask them all.
        unsafe { NVIC::unmask(irq) };
    }
}
