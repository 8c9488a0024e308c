//! The radio: it gets its program over a wire of its own, then joins the Wi-Fi network of the settings, again and again.

use cyw43::{A4, Aligned, Control, JoinOptions, NetDriver, PowerManagementMode, SpiBus, State};
use cyw43_pio::{DEFAULT_CLOCK_DIVIDER, PioSpi};
use defmt::{error, info, unwrap, warn};
use embassy_executor::Spawner;
use embassy_rp::{
    Peri, bind_interrupts, dma,
    gpio::{Level, Output},
    peripherals::{DMA_CH0, PIN_23, PIN_24, PIN_25, PIN_29, PIO0},
    pio::{self, Pio},
};
use embassy_time::{Duration, Timer};
use static_cell::StaticCell;
use weft_firmware::Settings;

use crate::link::{Lost, Watched};

bind_interrupts!(struct Interrupts {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>;
});

/// How often a network that cannot be joined is tried.
const RETRY: Duration = Duration::from_secs(10);

static LOST: Lost = Lost::new();

static NVRAM: &Aligned<A4, [u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/nvram.bin")));

/// What the radio is wired to on a Pico W.
pub(crate) struct Parts {
    pub(crate) power: Peri<'static, PIN_23>,
    pub(crate) select: Peri<'static, PIN_25>,
    pub(crate) data: Peri<'static, PIN_24>,
    pub(crate) clock: Peri<'static, PIN_29>,
    pub(crate) pio: Peri<'static, PIO0>,
    pub(crate) dma: Peri<'static, DMA_CH0>,
}

type Bus = SpiBus<Output<'static>, PioSpi<'static, PIO0, 0>>;

/// What the radio's own processor runs, and its table of countries.
struct Firmware {
    program: &'static Aligned<A4, [u8]>,
    countries: &'static [u8],
}

#[cfg(feature = "radio")]
fn firmware() -> Option<Firmware> {
    static PROGRAM: &Aligned<A4, [u8]> = &Aligned(*cyw43_firmware::CYW43_43439A0);
    Some(Firmware { program: PROGRAM, countries: cyw43_firmware::CYW43_43439A0_CLM })
}

/// This image was built without it.
#[cfg(not(feature = "radio"))]
fn firmware() -> Option<Firmware> {
    None
}

/// Starts the radio and the tasks that keep it going.
pub(crate) async fn start(spawner: Spawner, parts: Parts, settings: &'static Settings) -> Watched<NetDriver<'static>> {
    static STATE: StaticCell<State> = StaticCell::new();

    let Some(Firmware { program, countries }) = firmware() else { no_firmware().await };
    let power = Output::new(parts.power, Level::Low);
    let select = Output::new(parts.select, Level::High);
    let mut pio = Pio::new(parts.pio, Interrupts);
    let spi = PioSpi::new(
        &mut pio.common,
        pio.sm0,
        DEFAULT_CLOCK_DIVIDER,
        pio.irq0,
        select,
        parts.data,
        parts.clock,
        dma::Channel::new(parts.dma, Interrupts),
    );
    let (driver, mut control, runner) = cyw43::new(STATE.init(State::new()), power, spi, program, NVRAM).await;
    spawner.spawn(unwrap!(radio(runner)));
    control.init(countries).await;
    control.set_power_management(PowerManagementMode::PowerSave).await;
    spawner.spawn(unwrap!(keep_joined(control, settings)));
    Watched::new(driver, &LOST)
}

#[embassy_executor::task]
async fn radio(runner: cyw43::Runner<'static, Bus>) -> ! {
    runner.run().await
}

/// Joins the network whenever the radio has none.
#[embassy_executor::task]
async fn keep_joined(mut control: Control<'static>, settings: &'static Settings) -> ! {
    let Settings { ssid, password, .. } = settings;
    while ssid.is_empty() {
        error!("no Wi-Fi network is set: give its name in the provisioning page, or build with WEFT_WIFI_SSID");
        Timer::after(RETRY).await;
    }
    loop {
        LOST.reset();
        let options = if password.is_empty() { JoinOptions::new_open() } else { JoinOptions::new(password.as_bytes()) };
        match control.join(ssid, options).await {
            Ok(()) => {
                info!("joined the Wi-Fi network {=str}", ssid);
                LOST.wait().await;
                warn!("the Wi-Fi network {=str} is gone", ssid);
            }
            Err(reason) => {
                warn!("cannot join the Wi-Fi network {=str}: {}; it is tried again", ssid, reason);
                Timer::after(RETRY).await;
            }
        }
    }
}

/// Says so again and again: whoever attaches a probe later wants to know, too.
async fn no_firmware() -> ! {
    loop {
        error!(
            "this image has no firmware for the radio: read its licence in the README, then build with --features radio"
        );
        Timer::after(RETRY).await;
    }
}
