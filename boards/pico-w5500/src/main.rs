//! Weft's example firmware on a Raspberry Pi Pico with a W5500 Ethernet chip, such as WIZnet's W5500-EVB-Pico.
//!
//! This crate has the board's pins and drivers; what the firmware does is in `weft-firmware`.

#![no_std]
#![no_main]

use core::pin::pin;

use defmt::{error, info, unwrap};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::ConfigV4;
use embassy_net_wiznet::{Runner, State, chip::W5500};
use embassy_rp::{
    bind_interrupts, dma,
    gpio::{Input, Level, Output, Pull},
    peripherals::{DMA_CH0, DMA_CH1, SPI0},
    spi::{self, Spi},
};
use embassy_time::{Delay, Duration, Timer};
use embedded_hal_bus::spi::ExclusiveDevice;
use panic_probe as _;
use static_cell::StaticCell;
use weft_firmware::{Hardware, Settings, apart, stack};
use weft_rp2040::{Region, Thermometer, mac_address, network_seed};

bind_interrupts!(struct Interrupts {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
});

/// The bus clock. The chip's data sheet guarantees 33 MHz.
const SPI_HZ: u32 = 20_000_000;
/// Frames that wait in memory, each way.
const FRAMES: usize = 4;

type Bus = ExclusiveDevice<Spi<'static, SPI0, spi::Async>, Output<'static>, Delay>;

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    stack::paint();
    let board = embassy_rp::init(Default::default());
    let mut flash = Region::new(board.FLASH);
    let unique_id = unwrap!(flash.unique_id());
    let settings = apart(pin!(Settings::load(&mut flash))).await;

    let mut config = spi::Config::default();
    config.frequency = SPI_HZ;
    let spi = Spi::new(
        board.SPI0,
        board.PIN_18,
        board.PIN_19,
        board.PIN_16,
        board.DMA_CH0,
        board.DMA_CH1,
        Interrupts,
        config,
    );
    let select = Output::new(board.PIN_17, Level::High);
    let reset = Output::new(board.PIN_20, Level::High);
    let interrupt = Input::new(board.PIN_21, Pull::Up);

    static STATE: StaticCell<State<FRAMES, FRAMES>> = StaticCell::new();
    let Ok(bus) = ExclusiveDevice::new(spi, select, Delay);
    let mac = mac_address(&unique_id);
    let (driver, runner) = match embassy_net_wiznet::new(mac, STATE.init(State::new()), bus, interrupt, reset).await {
        Ok(chip) => chip,
        Err(_) => no_ethernet().await,
    };
    info!("started on pico-w5500, address {:02x}", mac);
    spawner.spawn(unwrap!(ethernet(runner)));

    let hardware = Hardware {
        driver,
        network: ConfigV4::Dhcp(Default::default()),
        network_seed: network_seed(),
        flash,
        #[cfg(feature = "weft")]
        entropy: weft_rp2040::Rosc::new(unique_id),
        #[cfg(not(feature = "weft"))]
        entropy: (),
        sensor: Thermometer::new(board.ADC, board.ADC_TEMP_SENSOR),
    };
    pin!(weft_firmware::run(spawner, hardware, settings)).await
}

#[embassy_executor::task]
async fn ethernet(runner: Runner<'static, W5500, Bus, Input<'static>, Output<'static>>) -> ! {
    runner.run().await
}

/// Says so again and again: whoever attaches a probe later wants to know, too.
async fn no_ethernet() -> ! {
    loop {
        error!("no W5500 answers on SPI0: check its wiring and its power, then reset");
        Timer::after(Duration::from_secs(10)).await;
    }
}
