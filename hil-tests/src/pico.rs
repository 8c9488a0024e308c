//! A Raspberry Pi Pico in an emulator that runs the very image which is flashed: one with a W5500 in rp2040js, a Pico W in
//! rp2040py.
//!
//! The scripts are in `hil-tests/rp2040js` and `hil-tests/rp2040py`. What of the chip the emulators lack, they add: the boot ROM's
//! flash functions, the flash chip, the ring oscillator's bit, the W5500, the radio as embassy's driver uses it.

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
    requirement::{self, Requirement},
};

/// The target of the images.
const TARGET: &str = "thumbv6m-none-eabi";
/// The exit code of an emulator whose flash was told to lose its power.
const POWER_CUT: i32 = 77;

/// The Wi-Fi network that the emulated radio finds; any password is right.
pub const NETWORK: &str = "RP2040PY-GUEST";

/// Which Pico it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One with a W5500, in rp2040js.
    W5500,
    /// A Pico W, in rp2040py.
    Wireless,
}

impl Kind {
    /// The folder in `boards/`, which is the name of the image too.
    const fn board(self) -> &'static str {
        match self {
            Self::W5500 => "pico-w5500",
            Self::Wireless => "pico-w",
        }
    }

    fn emulator(self) -> Result<Command> {
        let script = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let (program, script) = match self {
            Self::W5500 => ("node".into(), script("rp2040js/run.mjs")),
            Self::Wireless => (binaries::python("rp2040py")?, script("rp2040py/run.py")),
        };
        let mut command = Command::new(program);
        command.arg(script);
        Ok(command)
    }
}

/// What a test needs that joins a Pico with a W5500 to a mesh of daemons.
pub const NEEDS: &[Requirement] = &[
    Requirement::WeftBinaries,
    Requirement::Netns,
    Requirement::Tun,
    requirement::PING,
    requirement::CURL,
    requirement::NODE,
    Requirement::NodePackage { folder: "rp2040js", package: "rp2040js" },
    Requirement::Firmware { board: Kind::W5500.board(), target: TARGET },
];

/// What a test needs that joins a Pico W.
pub const WIRELESS_NEEDS: &[Requirement] = &[
    Requirement::WeftBinaries,
    Requirement::Netns,
    Requirement::Tun,
    requirement::PING,
    Requirement::PythonPackage { package: "rp2040py" },
    Requirement::Firmware { board: Kind::Wireless.board(), target: TARGET },
];

/// A Pico. It is off until it is started, and dies when it is dropped.
#[derive(Debug)]
pub struct Pico {
    /// Its cable to the switch.
    pub cable: Cable,
    kind: Kind,
    name: String,
    switch: SocketAddr,
    flash: PathBuf,
    emulator: Option<Daemon>,
}

impl Pico {
    /// A Pico at `switch` whose flash, a file in `folder`, holds a provisioning page with `fields`.
    pub fn new(kind: Kind, switch: &Switch, folder: &Path, name: &str, fields: &[Field<'_>]) -> Result<Self> {
        let (address, cable) = switch.plug_udp()?;
        let flash = folder.join(format!("{name}.flash"));
        let mut content = vec![0xff; FLASH_LEN];
        let page = content.get_mut(..PAGE_LEN).context("the flash is shorter than a page")?;
        provision::encode(fields, page).map_err(|error| anyhow!("{error}"))?;
        std::fs::write(&flash, content).with_context(|| format!("cannot write {}", flash.display()))?;
        Ok(Self { cable, kind, name: name.into(), switch: address, flash, emulator: None })
    }

    /// Switches it on. `arguments` are those of `run.mjs`, for instance `--cut-after 7`.
    pub fn start(&mut self, arguments: &[&str]) -> Result<()> {
        ensure!(self.emulator.is_none(), "{} is on", self.name);
        let image = binaries::firmware(self.kind.board(), TARGET)?;
        let dictionary = Dictionary::of_image(&image)?;
        let mut command = self.kind.emulator()?;
        command.arg("--elf").arg(image).args(["--switch", &self.switch.to_string()]).arg("--flash").arg(&self.flash);
        command.args(arguments);
        let name = format!("{} on {}", self.name, self.kind.board());
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
