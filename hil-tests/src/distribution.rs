//! The binaries of `cargo xtask dist`, and programs that an emulator runs.

use std::{fmt, path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::binaries::directory;

/// A processor that `cargo xtask dist` builds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// PCs and servers.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM with hardware floating point.
    Armv7,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Aarch64, Self::Armv7];

    /// Its name, which is also that of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
        }
    }

    /// The program that runs its binaries on a PC.
    pub fn emulator(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-x86_64-static",
            Self::Aarch64 => "qemu-aarch64-static",
            Self::Armv7 => "qemu-arm-static",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A program under test, and what runs it.
#[derive(Clone, Debug)]
pub struct Program {
    file: PathBuf,
    emulator: Option<&'static str>,
}

impl Program {
    /// The agent that `cargo xtask dist` built for this processor, emulated.
    pub fn weft_of(architecture: Architecture) -> Result<Self> {
        Ok(Self { file: distributed(architecture, "weft")?, emulator: Some(architecture.emulator()) })
    }

    /// The control server of this processor, emulated.
    pub fn weft_control_of(architecture: Architecture) -> Result<Self> {
        Ok(Self { file: distributed(architecture, "weft-control")?, emulator: Some(architecture.emulator()) })
    }

    /// What is started: the binary, or its emulator.
    pub fn started(&self) -> PathBuf {
        self.emulator.map_or_else(|| self.file.clone(), PathBuf::from)
    }

    /// Adds what stands between the name of what is started and the binary's own arguments.
    pub fn complete<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if self.emulator.is_some() {
            command.arg(&self.file);
        }
        command
    }
}

impl From<PathBuf> for Program {
    /// A binary for this machine.
    fn from(file: PathBuf) -> Self {
        Self { file, emulator: None }
    }
}

/// A binary of `cargo xtask dist`.
pub fn distributed(architecture: Architecture, name: &str) -> Result<PathBuf> {
    let built = directory()?;
    let path = built.parent().unwrap_or(&built).join("dist").join(architecture.name()).join(name);
    if !path.is_file() {
        bail!("there is no {}: build it with `cargo xtask dist --target {architecture}`", path.display());
    }
    Ok(path)
}
