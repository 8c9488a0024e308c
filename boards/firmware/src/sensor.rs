//! The sensor: what it measures, and the latest reading for all who serve it.

use core::cell::Cell;

use embassy_time::{Duration, Instant, Timer};

/// How often the sensor is read.
const PERIOD: Duration = Duration::from_secs(1);

/// A board's thermometer.
pub trait Sensor {
    /// The temperature in thousandths of a degree Celsius.
    fn temperature(&mut self) -> impl Future<Output = i32>;
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// In thousandths of a degree Celsius.
    pub temperature: i32,
    /// Measurements since the start, this one included.
    pub number: u32,
    /// When it was taken.
    pub at: Instant,
}

impl core::fmt::Display for Reading {
    /// The one line that is pushed and served: JSON, of numbers only.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { number, at, .. } = self;
        write!(
            f,
            "{{\"temperature_c\":{},\"number\":{number},\"uptime_ms\":{}}}",
            Degrees(self.temperature),
            at.as_millis()
        )
    }
}

/// Thousandths of a degree, written as degrees.
#[derive(Debug, Clone, Copy)]
pub struct Degrees(pub i32);

impl core::fmt::Display for Degrees {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let thousandths = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:03}", thousandths / 1_000, thousandths % 1_000)
    }
}

/// The latest reading. For one executor: it is no more than a cell.
#[derive(Debug)]
pub struct Latest(Cell<Reading>);

impl Latest {
    /// Before the first measurement.
    pub const fn new() -> Self {
        Self(Cell::new(Reading { temperature: 0, number: 0, at: Instant::MIN }))
    }

    /// The latest reading; its number is zero where there is none yet.
    pub fn get(&self) -> Reading {
        self.0.get()
    }

    /// Reads the sensor for ever.
    pub async fn follow(&self, mut sensor: impl Sensor) -> ! {
        loop {
            let temperature = sensor.temperature().await;
            let number = self.get().number.wrapping_add(1);
            self.0.set(Reading { temperature, number, at: Instant::now() });
            Timer::after(PERIOD).await;
        }
    }
}

impl Default for Latest {
    fn default() -> Self {
        Self::new()
    }
}
