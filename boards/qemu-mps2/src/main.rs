//! Weft's example firmware on QEMU's Cortex-M machine mps2-an385, built for the instructions of an RP2040.
//!
//! This crate has the machine's drivers; what the firmware does is in `weft-firmware`.

#![no_std]
#![no_main]

mod executor;
mod fault;
mod interrupts;
mod lan9118;
mod mmio;
mod timer;

use core::{panic::PanicInfo, pin::pin};

use defmt::{error, info, unwrap};
use defmt_semihosting as _;
use embassy_executor::Spawner;
use embassy_net_driver::Driver as _;
use weft_firmware::{Hardware, Settings, apart, stack};
use weft_qemu_host::{Host, HostEntropy, HostFlash, Thermometer, exit};

use lan9118::Lan9118;

/// What this machine has.
type Machine = Hardware<Lan9118, HostFlash, HostEntropy, Thermometer>;

#[cortex_m_rt::entry]
fn main() -> ! {
    stack::paint();
    timer::start();
    executor::run(start)
}

/// Starts the drivers and the firmware. A call of its own, so that nothing of it stays on the stack.
#[inline(never)]
fn start(spawner: Spawner) {
    spawner.spawn(unwrap!(firmware(spawner, hardware())));
}

/// Starts the drivers.
#[inline(never)]
fn hardware() -> Machine {
    let Host { flash, entropy, network, network_seed } = Host::open();
    let driver = unwrap!(Lan9118::start());
    // Not before the controller was told the polarity of its interrupt line.
    interrupts::enable();
    info!("started on mps2-an385, address {}", driver.hardware_address());
    Hardware { driver, network, network_seed, flash, entropy, sensor: Thermometer }
}

#[embassy_executor::task]
async fn firmware(spawner: Spawner, mut machine: Machine) -> ! {
    let settings = apart(pin!(Settings::load(&mut machine.flash))).await;
    apart(pin!(weft_firmware::run(spawner, machine, settings))).await
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    error!("{}", defmt::Display2Format(info));
    exit(exit::PANIC)
}
