//! Flashing an attached board by the tools that people have for it: probe-rs or picotool, espflash.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use weft_hil::requirement::find_program;

use super::board::{Board, Hardware};
use crate::workspace::{root, run as step};

/// Flashes the image, then the provisioning page where there is one.
pub(super) fn flash(board: &Board, image: &Path, page: Option<&Path>) -> Result<()> {
    match board.hardware {
        Hardware::Emulator => bail!("{} is an emulator: its README tells how to run it", board.name),
        Hardware::Rp2040 { .. } => rp2040(image, page),
        Hardware::Esp32 { page: offset } => esp32(board, image, page.map(|page| (offset, page))),
    }
}

fn rp2040(image: &Path, page: Option<&Path>) -> Result<()> {
    // By USB: the chip's own boot loader takes both files.
    if let Some(picotool) = find_program("picotool").filter(|picotool| answers(picotool, &["info"])) {
        let load = |file: &Path, kind: &str| step(Command::new(&picotool).arg("load").arg(file).args(["-t", kind]));
        load(image, "elf")?;
        page.map_or(Ok(()), |page| load(page, "uf2"))?;
        return step(Command::new(&picotool).arg("reboot"));
    }
    if let Some(probe) = find_program("probe-rs").filter(|probe| has_probe(probe)) {
        let download = |file: &Path, format: &str| {
            step(Command::new(&probe).args(["download", "--chip", "RP2040", "--binary-format", format]).arg(file))
        };
        download(image, "elf")?;
        page.map_or(Ok(()), |page| download(page, "uf2"))?;
        return step(Command::new(&probe).args(["reset", "--chip", "RP2040"]));
    }
    bail!(
        "no board was found. Either attach a debug probe and install probe-rs (`cargo install probe-rs-tools`), or hold BOOTSEL \
         while you plug the board in and install picotool"
    )
}

fn esp32(board: &Board, image: &Path, page: Option<(u32, &Path)>) -> Result<()> {
    let Some(espflash) = find_program("espflash") else {
        bail!("espflash is not installed: `cargo install espflash` does it; then attach the board by USB")
    };
    if !answers(&espflash, &["board-info", "--non-interactive"]) {
        bail!(
            "no ESP32-C3 was found: attach the board by USB; where it has two ports, the one named USB rather than UART"
        )
    }
    let partitions: PathBuf = root().join("boards").join(board.name).join("partitions.csv");
    if let Some((offset, page)) = page {
        step(Command::new(&espflash).args(["write-bin", &format!("{offset:#x}")]).arg(page))?;
    }
    step(Command::new(&espflash).arg("flash").arg("--partition-table").arg(partitions).arg(image))
}

/// Whether a program, asked for what is attached, says that something is.
fn answers(program: &Path, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn has_probe(probe_rs: &Path) -> bool {
    let listed = Command::new(probe_rs).arg("list").output();
    listed.is_ok_and(|output| {
        output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("No debug probes")
    })
}
