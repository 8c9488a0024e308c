//! Weft's example firmware on an ESP32-C3.
//!
//! This crate has the chip's drivers; what the firmware does is in `weft-firmware`. The radio's driver needs a heap and a
//! scheduler, and gets both here; weft uses neither.

#![no_std]
#![no_main]

mod chip;
#[cfg(feature = "weft")]
mod noise;
mod region;
mod wifi;

use core::pin::pin;

use defmt::{info, unwrap};
use embassy_executor::Spawner;
use embassy_net::ConfigV4;
use esp_backtrace as _;
use esp_hal::{clock::CpuClock, ram, timer::timg::TimerGroup};
use esp_println as _;
use esp_storage::FlashStorage;
use weft_firmware::{Hardware, Settings, apart, stack};

use chip::Thermometer;
use region::Region;

esp_bootloader_esp_idf::esp_app_desc!();

#[esp_rtos::main]
async fn main(spawner: Spawner) -> ! {
    stack::paint();
    let board = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    // The radio's heap, as its examples have it: memory that the boot loader gave back, and some more.
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: 64 * 1024);
    esp_alloc::heap_allocator!(size: 36 * 1024);
    let timers = TimerGroup::new(board.TIMG0);
    esp_rtos::start(timers.timer0, board.FROM_CPU_INTR0);

    let mut flash = match Region::find(FlashStorage::new(board.FLASH)) {
        Ok(region) => region,
        Err(reason) => region::unusable(reason).await,
    };
    let settings = apart(pin!(Settings::load(&mut flash))).await;
    let driver = wifi::start(spawner, board.WIFI, settings);
    info!("started on esp32c3, address {:02x}", driver.mac_address());

    let hardware = Hardware {
        driver,
        network: ConfigV4::Dhcp(Default::default()),
        network_seed: chip::network_seed(),
        flash,
        #[cfg(feature = "weft")]
        entropy: noise::Noise,
        #[cfg(not(feature = "weft"))]
        entropy: (),
        sensor: unwrap!(Thermometer::new(board.TSENS)),
    };
    pin!(weft_firmware::run(spawner, hardware, settings)).await
}
