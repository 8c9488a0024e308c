//! The emulated machines that firmware runs on: QEMU, and how it is told of a board's network and arguments.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    binaries,
    requirement::{self, Requirement},
};

/// A machine that tests are generic over.
pub trait Machine: 'static {
    /// The folder of the board in `boards/`, which is the name of its image too.
    const BOARD: &'static str;
    /// The target that the image is built for.
    const TARGET: &'static str;
    /// What a test needs that joins such a board to a mesh of daemons.
    const NEEDS: &'static [Requirement];

    /// QEMU with the machine's processor and its network interface, which is on the network `net0`.
    fn qemu(hardware_address: &str) -> Command;

    /// The image, built with the services that tests talk to.
    fn image() -> Result<PathBuf> {
        binaries::firmware(Self::BOARD, Self::TARGET)
    }
}

/// A Cortex-M, run with the instructions that an RP2040 has, with LAN9118 Ethernet.
#[derive(Debug)]
pub struct Mps2;

/// A RISC-V with the instructions of an ESP32-C3, with virtio Ethernet.
#[derive(Debug)]
pub struct Rv32;

/// What each machine's tests need beside its QEMU.
macro_rules! needs {
    ($qemu:expr, $board:expr, $target:expr) => {
        &[
            Requirement::WeftBinaries,
            Requirement::Netns,
            Requirement::Tun,
            requirement::PING,
            $qemu,
            Requirement::Firmware { board: $board, target: $target },
        ]
    };
}

impl Machine for Mps2 {
    const BOARD: &'static str = "qemu-mps2";
    const TARGET: &'static str = "thumbv6m-none-eabi";
    const NEEDS: &'static [Requirement] = needs!(requirement::QEMU_ARM, Self::BOARD, Self::TARGET);

    fn qemu(hardware_address: &str) -> Command {
        let mut command = Command::new("qemu-system-arm");
        command.args([
            "-M",
            "mps2-an385",
            "-net",
            &format!("nic,model=lan9118,netdev=net0,macaddr={hardware_address}"),
        ]);
        command
    }
}

impl Machine for Rv32 {
    const BOARD: &'static str = "qemu-rv32";
    const TARGET: &'static str = "riscv32imc-unknown-none-elf";
    const NEEDS: &'static [Requirement] = needs!(requirement::QEMU_RISCV32, Self::BOARD, Self::TARGET);

    fn qemu(hardware_address: &str) -> Command {
        let mut command = Command::new("qemu-system-riscv32");
        // Without the instructions that an ESP32-C3 does not have.
        command.args(["-M", "virt", "-cpu", "rv32,a=off,f=off,d=off", "-m", "8M", "-bios", "none"]);
        command.args(["-global", "virtio-mmio.force-legacy=false"]);
        command.args(["-device", &format!("virtio-net-device,netdev=net0,mac={hardware_address}")]);
        command
    }
}

/// QEMU's exponent of two for the nanoseconds of an instruction: 8 ns, as an RP2040 at 125 MHz that takes a cycle for each.
const CHIP_PACE: &str = "shift=3";

/// How fast a board computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As fast as this machine can; the board's clock is this machine's.
    #[default]
    Host,
    /// 125 million instructions in a second of the board's clock, which waits where this machine is slower. So what the
    /// board measures does not depend on what else this machine is doing.
    Chip,
}

/// Adds to QEMU what all machines have alike: the image, its arguments, no window, and a network of datagrams between
/// two Unix sockets.
pub(crate) fn complete(
    command: &mut Command,
    image: &Path,
    arguments: &[String],
    pace: Pace,
    [board_end, switch_end]: [&Path; 2],
) {
    command.args(["-display", "none", "-monitor", "none", "-serial", "null"]);
    if pace == Pace::Chip {
        command.args(["-icount", CHIP_PACE]);
    }
    let words: String = arguments.iter().map(|word| format!(",arg={word}")).collect();
    command.args(["-semihosting-config", &format!("enable=on,target=native,arg=weft{words}")]);
    command.arg("-kernel").arg(image);
    let ends = [("local", board_end), ("remote", switch_end)]
        .map(|(end, path)| format!("{end}.type=unix,{end}.path={}", path.display()))
        .join(",");
    command.args(["-netdev", &format!("dgram,id=net0,{ends}")]);
}
