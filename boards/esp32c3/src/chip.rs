//! The chip's own thermometer, and a number for the ports of its own network.

use esp_hal::{
    peripherals::TSENS,
    rng::Rng,
    tsens::{Config, TemperatureSensor},
};
use weft_firmware::Sensor;

/// The thermometer inside the chip: coarse, and of the chip rather than the room.
pub(crate) struct Thermometer(TemperatureSensor<'static>);

impl Thermometer {
    /// Takes the sensor; `None` where it cannot be set up.
    pub(crate) fn new(sensor: TSENS<'static>) -> Option<Self> {
        TemperatureSensor::new(sensor, Config::default()).ok().map(Self)
    }
}

impl Sensor for Thermometer {
    async fn temperature(&mut self) -> i32 {
        let measured = self.0.get_temperature();
        // The formula of esp-hal, in tenths of a thousandth of a degree.
        (i32::from(measured.raw_value) * 4_386 - i32::from(measured.offset) * 278_800 - 205_200) / 10
    }
}

/// A number for the ports and sequence numbers of the board's own network. Not for keys.
pub(crate) fn network_seed() -> u64 {
    let rng = Rng::new();
    u64::from(rng.random()) << 32 | u64::from(rng.random())
}
