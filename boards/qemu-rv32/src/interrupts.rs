//! Interrupts and traps: which goes to which driver.

#![allow(unsafe_code)]

use riscv::interrupt::Interrupt;
use riscv_rt::TrapFrame;
use weft_qemu_host::exit;

use crate::{mmio::PLIC, timer, virtio_net};

/// Enable bits of the first 32 devices for the machine mode of the only hart.
const PLIC_ENABLE: usize = 0x2000;
const PLIC_THRESHOLD: usize = 0x20_0000;
/// Reads the device whose interrupt is pending, and is written when it was served.
const PLIC_CLAIM: usize = 0x20_0004;

#[riscv_rt::core_interrupt(Interrupt::MachineTimer)]
fn machine_timer() {
    timer::on_alarm();
}

#[riscv_rt::core_interrupt(Interrupt::MachineExternal)]
fn machine_external() {
    let device = PLIC.read(PLIC_CLAIM);
    if device != 0 {
        virtio_net::on_interrupt();
        PLIC.write(PLIC_CLAIM, device);
    }
}

// SAFETY: the name that riscv-rt calls at an exception, with its signature; it does not return.
#[unsafe(export_name = "ExceptionHandler")]
fn on_exception(frame: &TrapFrame) -> ! {
    let cause = riscv::register::mcause::read().bits();
    defmt::error!(
        "trap {=usize} at {=usize:#x}, called from {=usize:#x}",
        cause,
        riscv::register::mepc::read(),
        frame.ra
    );
    exit(exit::FAULT)
}

/// Lets the interrupts of the timer and of the virtio device in `slot` in.
pub(crate) fn enable(slot: usize) {
    let device = 1 + slot;
    PLIC.write(4 * device, 1);
    PLIC.write(PLIC_ENABLE, 1 << device);
    PLIC.write(PLIC_THRESHOLD, 0);
    // SAFETY: the handlers above are in place, and no critical section is open: `main` is just beginning.
    unsafe {
        riscv::register::mie::set_mtimer();
        riscv::register::mie::set_mext();
        riscv::interrupt::enable();
    }
}
