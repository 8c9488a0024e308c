//! The thermometer inside the chip: coarse, and of the chip rather than the room.

use embassy_rp::{
    Peri,
    adc::{Adc, Blocking, Channel, Config},
    peripherals::{ADC, ADC_TEMP_SENSOR},
};
use weft_firmware::Sensor;

/// Full scale of the converter in microvolts, and its steps.
const REFERENCE: i32 = 3_300_000;
const STEPS: i32 = 4_096;
/// The sensor's voltage at 27 degrees in microvolts, and how much less it is a degree more (data sheet, section 4.9.5).
const AT_27: i32 = 706_000;
const SLOPE: i32 = 1_721;

/// The chip's thermometer.
pub struct Thermometer {
    adc: Adc<'static, Blocking>,
    channel: Channel<'static>,
}

impl Thermometer {
    /// Takes the converter.
    #[must_use]
    pub fn new(adc: Peri<'static, ADC>, sensor: Peri<'static, ADC_TEMP_SENSOR>) -> Self {
        Self { adc: Adc::new_blocking(adc, Config::default()), channel: Channel::new_temp_sensor(sensor) }
    }
}

impl core::fmt::Debug for Thermometer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Thermometer")
    }
}

/// Thousandths of a degree for a value of the converter.
const fn temperature(value: i32) -> i32 {
    let microvolts = (value as i64 * REFERENCE as i64 / STEPS as i64) as i32;
    27_000 + ((AT_27 - microvolts) as i64 * 1_000 / SLOPE as i64) as i32
}

// 0.706 V is value 876.3 of 4096.
const _: () = assert!(temperature(876) > 27_000 && temperature(877) < 27_000);

impl Sensor for Thermometer {
    async fn temperature(&mut self) -> i32 {
        // A conversion takes 2 microseconds. One that failed, which the converter can tell, is measured again a second later.
        self.adc.blocking_read(&mut self.channel).map_or(0, |value| temperature(value.into()))
    }
}
