//! The boards: their targets, where their memory lies, and what can be done with them.

use super::build::Features;

/// A board that the example firmware is built for.
#[derive(Debug)]
pub(super) struct Board {
    /// The folder in `boards/`, which is the name of the package and of the image too.
    pub(super) name: &'static str,
    /// The Rust target.
    pub(super) target: &'static str,
    /// A feature that the image which is flashed needs besides the default ones.
    pub(super) further_feature: Option<&'static str>,
    /// Whether the same firmware without weft is built beside it, for the difference.
    pub(super) baseline: bool,
    /// What the tests' image is built with; `None` where no emulator runs it.
    pub(super) tested_with: Option<Features>,
    /// Whether only the slow tests run it.
    pub(super) slow: bool,
    /// Addresses of flash.
    pub(super) flash: &'static [Span],
    /// Addresses of RAM.
    pub(super) ram: &'static [Span],
    /// How it is flashed.
    pub(super) hardware: Hardware,
}

/// Addresses from the first to the one behind the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(u64, u64);

impl Span {
    /// Whether an address is one of them.
    pub(super) const fn contains(self, address: u64) -> bool {
        self.0 <= address && address < self.1
    }
}

/// How a board is provisioned and flashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hardware {
    /// There is none: an emulator, whose flash is a file.
    Emulator,
    /// A chip with a USB boot loader that takes UF2 files. The address of the kept state's first page.
    Rp2040 { page: u32 },
    /// Flashed by espflash. The offset in flash of the partition for the kept state.
    Esp32 { page: u32 },
}

const RP2040: Hardware = Hardware::Rp2040 { page: 0x1000_0000 + 2048 * 1024 - 64 * 1024 };
const RP2040_FLASH: &[Span] = &[Span(0x1000_0000, 0x1020_0000)];
const RP2040_RAM: &[Span] = &[Span(0x2000_0000, 0x2004_2000)];

/// The program of the firmware guide, which has no row in the table.
pub(super) const GUIDE: &Board = &Board {
    name: "guide",
    target: "thumbv6m-none-eabi",
    further_feature: None,
    baseline: false,
    tested_with: None,
    slow: false,
    flash: RP2040_FLASH,
    ram: RP2040_RAM,
    hardware: RP2040,
};

/// All boards.
pub(super) const BOARDS: &[Board] = &[
    Board {
        name: "pico-w5500",
        target: "thumbv6m-none-eabi",
        further_feature: None,
        baseline: true,
        // The very image that would be flashed.
        tested_with: Some(Features::Default),
        slow: false,
        flash: RP2040_FLASH,
        ram: RP2040_RAM,
        hardware: RP2040,
    },
    Board {
        name: "pico-w",
        target: "thumbv6m-none-eabi",
        // Without it the image has no firmware for the radio. Its licence is told in the README.
        further_feature: Some("radio"),
        baseline: false,
        tested_with: Some(Features::Default),
        slow: true,
        flash: RP2040_FLASH,
        ram: RP2040_RAM,
        hardware: RP2040,
    },
    Board {
        name: "esp32c3",
        target: "riscv32imc-unknown-none-elf",
        further_feature: None,
        baseline: false,
        tested_with: None,
        slow: false,
        flash: &[Span(0x3c00_0000, 0x3c80_0000), Span(0x4200_0000, 0x4280_0000)],
        ram: &[Span(0x3fc8_0000, 0x3fce_0000), Span(0x4037_c000, 0x403e_0000)],
        hardware: Hardware::Esp32 { page: 0x003f_0000 },
    },
    Board {
        name: "qemu-mps2",
        target: "thumbv6m-none-eabi",
        further_feature: None,
        baseline: false,
        tested_with: Some(Features::SelfTest),
        slow: false,
        flash: &[Span(0, 0x20_0000)],
        ram: RP2040_RAM,
        hardware: Hardware::Emulator,
    },
    Board {
        name: "qemu-rv32",
        target: "riscv32imc-unknown-none-elf",
        further_feature: None,
        baseline: false,
        tested_with: Some(Features::SelfTest),
        slow: false,
        flash: &[Span(0x8000_0000, 0x8040_0000)],
        ram: &[Span(0x8040_0000, 0x8046_4000)],
        hardware: Hardware::Emulator,
    },
];
