//! A Raspberry Pi Pico with a W5500 in the emulator rp2040js, which runs the very image that is flashed.
//!
//! The scripts are in `hil-tests/rp2040js`. What of the chip the emulator lacks, they add: the boot ROM's flash functions, the
//! flash chip, the ring oscillator's bit, the W5500.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use weft_embassy::provision::{self, Field};

use crate::{
    binaries,
    board::{FLASH_LEN, Line, PAGE_LEN},
    defmt_log::Dictionary,
    ethernet::{Cable, Switch},
    process::Daemon,
    requirement::Requirement,
};

/// The board in `boards/`.
const BOARD: &str = "pico-w5500";
/// The target of its image.
const TARGET: &str = "thumbv6m-none-eabi";
/// The emulator's package and the folder of the scripts.
const EMULATOR: Requirement = Requirement::NodePackage { folder: "rp2040js", package: "rp2040js" };
/// The exit code of an emulator whose flash was told to lose its power.
const POWER_CUT: i32 = 77;

/// What a test needs that joins a Pico to a mesh of daemons.
pub const NEEDS: &[Requirement] = &[
    Requirement::WeftBinaries,
    Requirement::Netns,
    Requirement::Tun,
    crate::requirement::PING,
    crate::requirement::CURL,
    crate::requirement::NODE,
    EMULATOR,
    Requirement::Firmware { board: BOARD, target: TARGET },
];

/// A Pico. It is off until it is started, and dies when it is dropped.
#[derive(Debug)]
pub struct Pico {
    /// Its cable to the switch.
    pub cable: Cable,
    name: String,
    switch: SocketAddr,
    flash: PathBuf,
    emulator: Option<Daemon>,
}

impl Pico {
    /// A Pico at `switch` whose flash, a file in `folder`, holds a provisioning page with `fields`.
    pub fn new(switch: &Switch, folder: &Path, name: &str, fields: &[Field<'_>]) -> Result<Self> {
        let (address, cable) = switch.plug_udp()?;
        let flash = folder.join(format!("{name}.flash"));
        let mut content = vec![0xff; FLASH_LEN];
        let page = content.get_mut(..PAGE_LEN).context("the flash is shorter than a page")?;
        provision::encode(fields, page).map_err(|error| anyhow!("{error}"))?;
        std::fs::write(&flash, content).with_context(|| format!("cannot write {}", flash.display()))?;
        Ok(Self { cable, name: name.into(), switch: address, flash, emulator: None })
    }

    /// Switches it on. `arguments` are those of `run.mjs`, for instance `--cut-after 7`.
    pub fn start(&mut self, arguments: &[&str]) -> Result<()> {
        ensure!(self.emulator.is_none(), "{} is on", self.name);
        let image = binaries::firmware(BOARD, TARGET)?;
        let dictionary = Dictionary::of_image(&image)?;
        let mut command = Command::new("node");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("rp2040js/run.mjs"));
        command.arg("--elf").arg(image).args(["--switch", &self.switch.to_string()]).arg("--flash").arg(&self.flash);
        command.args(arguments);
        let name = format!("{} on {BOARD}", self.name);
        let emulator = Daemon::spawn_decoded(&name, &mut command, move |log, push| dictionary.decode(log, push))?;
        self.emulator = Some(emulator);
        Ok(())
    }

    /// Takes its power away at this very instant, whatever it is at.
    pub fn cut_power(&mut self) -> Result<()> {
        self.emulator()?.kill()?;
        self.emulator = None;
        Ok(())
    }

    /// Waits until the power fails in the midst of the write to flash that `--cut-after` said.
    pub fn wait_for_cut(&mut self, limit: Duration) -> Result<()> {
        let status = self.emulator()?.wait(limit)?;
        self.emulator = None;
        ensure!(status.code() == Some(POWER_CUT), "{} ended ({status}) before its power was cut", self.name);
        Ok(())
    }

    /// Waits for a line of its log since the last start that holds `text`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<Line> {
        self.emulator()?.wait_for_line(text, limit).and_then(Line::new)
    }

    fn emulator(&mut self) -> Result<&mut Daemon> {
        self.emulator.as_mut().with_context(|| format!("{} is off", self.name))
    }
}
