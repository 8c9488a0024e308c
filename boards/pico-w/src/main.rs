//! Weft's example firmware on a Raspberry Pi Pico W: an RP2040 with a CYW43439 radio.
//!
//! This crate has the board's pins and drivers; what the firmware does is in `weft-firmware`.

#![no_std]
#![no_main]

mod link;
mod radio;

use core::pin::pin;

use defmt::{info, unwrap};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::ConfigV4;
use panic_probe as _;
use weft_firmware::{Hardware, Settings, apart, stack};
use weft_rp2040::{Region, Thermometer, network_seed};

use radio::Parts;

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    stack::paint();
    let board = embassy_rp::init(Default::default());
    let mut flash = Region::new(board.FLASH);
    let unique_id = unwrap!(flash.unique_id());
    let settings = apart(pin!(Settings::load(&mut flash))).await;

    let parts = Parts {
        power: board.PIN_23,
        select: board.PIN_25,
        data: board.PIN_24,
        clock: board.PIN_29,
        pio: board.PIO0,
        dma: board.DMA_CH0,
    };
    let driver = apart(pin!(radio::start(spawner, parts, settings))).await;
    info!("started on pico-w");

    let hardware = Hardware {
        driver,
        network: ConfigV4::Dhcp(Default::default()),
        network_seed: network_seed(),
        flash,
        #[cfg(feature = "weft")]
        entropy: weft_rp2040::Rosc::new(unique_id),
        #[cfg(not(feature = "weft"))]
        entropy: unique_id,
        sensor: Thermometer::new(board.ADC, board.ADC_TEMP_SENSOR),
    };
    pin!(weft_firmware::run(spawner, hardware, settings)).await
}
