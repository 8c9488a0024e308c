//! A trap of the processor ends the machine, so that a test sees it at once.

#![allow(unsafe_code)]

use cortex_m_rt::{ExceptionFrame, exception};
use weft_qemu_host::exit;

// SAFETY: the handler touches nothing of the interrupted code and does not return to it.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    defmt::error!("hard fault at {=u32:#x}, called from {=u32:#x}", frame.pc(), frame.lr());
    exit(exit::FAULT)
}
