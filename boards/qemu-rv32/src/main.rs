//! Weft's example firmware on QEMU's riscv32 machine `virt`, built for the instructions of an ESP32-C3.
//!
//! This crate has the machine's drivers; what the firmware does is in `weft-firmware`.

#![no_std]
#![no_main]

mod interrupts;
mod mmio;
mod timer;
mod virtio_net;

use core::{panic::PanicInfo, pin::pin};

use defmt::{error, info, unwrap};
use defmt_semihosting as _;
use embassy_executor::{Executor, Spawner};
use embassy_net_driver::Driver as _;
use static_cell::StaticCell;
use weft_firmware::{Hardware, Settings, apart, stack};
use weft_qemu_host::{Host, HostEntropy, HostFlash, Thermometer, exit};

use virtio_net::VirtioNet;

/// What this machine has.
type Machine = Hardware<VirtioNet, HostFlash, HostEntropy, Thermometer>;

#[riscv_rt::entry]
fn main() -> ! {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    stack::paint();
    timer::start();
    EXECUTOR.init(Executor::new()).run(start)
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
    let (driver, slot) = unwrap!(VirtioNet::start());
    interrupts::enable(slot);
    info!("started on riscv32 virt, address {}", driver.hardware_address());
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
