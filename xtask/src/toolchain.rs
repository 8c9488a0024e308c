//! Which Rust compiler builds for a target that is not this machine.
//!
//! The toolchain that runs this program where it has the target's standard library or rustup can add it. Otherwise that
//! of Debian (`rustc-web`), which builds the standard library from its source; the two are never mixed, since each
//! knows its own library only.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};
use weft_hil::requirement::find_program;

use crate::{
    setup,
    workspace::{cargo, heading, root},
};

/// Files of Debian's toolchain and the packages that have them.
const DEBIAN: [(&str, &str); 3] = [
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/std/Cargo.toml", "rust-web-src"),
];

/// A Rust compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The one that runs this program; it has the target's standard library.
    Own,
    /// Debian's; it builds the target's standard library.
    Debian,
}

impl Toolchain {
    /// The toolchain for a target. Sets up what it needs, or fails with the command that does.
    pub(crate) fn for_target(target: &str) -> Result<Self> {
        if has_library(target)? || (add_target(target) && has_library(target)?) {
            return Ok(Self::Own);
        }
        let missing: Vec<&str> =
            DEBIAN.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, package)| *package).collect();
        match setup::packages(&missing)? {
            None => Ok(Self::Debian),
            Some(command) => bail!(
                "rustup has no standard library for {target}, and Debian's Rust, which can build one, is not complete; run \
                 this first:\n\n    {command}\n"
            ),
        }
    }

    /// `program`, which calls cargo, in the root folder and set up for this toolchain; `parts` are those of the standard
    /// library, for instance `core,alloc`, where it has to be built.
    pub(crate) fn command(self, program: &Path, parts: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(root()).env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
        match self {
            Self::Own => command.env("CARGO", cargo("").get_program()),
            Self::Debian => command
                .env("CARGO", "/usr/bin/cargo")
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_UNSTABLE_BUILD_STD", parts),
        };
        command
    }
}

/// Whether the toolchain that runs this program has the target's standard library.
fn has_library(target: &str) -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(rustc).args(["--print", "sysroot"]).output().context("cannot start rustc")?;
    let sysroot = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
    Ok(Path::new(&sysroot).join("lib/rustlib").join(target).join("lib").is_dir())
}

/// Has rustup add a target; it has some only.
fn add_target(target: &str) -> bool {
    if find_program("rustup").is_none() {
        return false;
    }
    heading(&format!("Adding the Rust target {target}"));
    let added = Command::new("rustup").args(["target", "add", target]).output();
    let added = added.is_ok_and(|output| output.status.success());
    if !added {
        println!("rustup cannot get it here; Debian's Rust will build the standard library from its source.");
    }
    added
}
