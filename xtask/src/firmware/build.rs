//! Cargo for a chip: by rustup's target where it is installed, else by Debian's compiler, which builds `core` itself.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use weft_hil::requirement::find_program;

use super::board::Board;
use crate::workspace::{cargo, root, run as step};

/// What an image is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Features {
    /// The image that is flashed.
    Default,
    /// The same firmware without weft.
    Baseline,
    /// With the services that tests talk to.
    SelfTest,
}

/// Builds the image of a board; its path. The next build of the board replaces it.
pub(super) fn image(board: &Board, features: Features) -> Result<PathBuf> {
    let mut command = cargo_for(board.target)?;
    let folder = root().join("boards").join(board.name);
    // In the board's folder, since its .cargo/config.toml counts.
    command.current_dir(&folder).args(["build", "--release", "--locked", "--target", board.target, "--target-dir"]);
    command.arg(target_dir());
    let chosen: Vec<&str> =
        board.further_feature.into_iter().chain((features == Features::SelfTest).then_some("selftest")).collect();
    if features == Features::Baseline {
        command.arg("--no-default-features");
    }
    if !chosen.is_empty() {
        command.args(["--features", &chosen.join(",")]);
    }
    step(&mut command).with_context(|| format!("{} does not build", board.name))?;
    Ok(target_dir().join(board.target).join("release").join(board.name))
}

/// The folder that all boards share, so that each crate is built once a target. The tests look for images there.
pub(super) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("firmware")
}

/// A cargo that can build for `target`; an error where none is installed.
pub(super) fn cargo_for(target: &str) -> Result<Command> {
    let has = |rustc: &str, below: &str| sysroot(rustc).is_some_and(|sysroot| sysroot.join(below).is_dir());
    if has("rustc", &format!("lib/rustlib/{target}/lib")) {
        return Ok(cargo(""));
    }
    const DEBIAN: &str = "/usr/bin/rustc";
    if !has(DEBIAN, "lib/rustlib/src/rust/library/core") {
        bail!(
            "this Rust cannot build for {target}. Install the target with `rustup target add {target}`, or Debian's compiler with \
             `apt-get install rustc-web cargo-web rust-web-src lld`"
        );
    }
    println!("The target {target} is not installed: Debian's compiler builds it with its own core library.");
    let linker = find_program("ld.lld").context("ld.lld is not installed; `apt-get install lld` has it")?;
    let mut command = cargo("");
    let environment: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    command = Command::new("/usr/bin/cargo");
    environment.iter().for_each(|name| _ = command.env_remove(name));
    let variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    command.env("RUSTC", DEBIAN).env("RUSTC_BOOTSTRAP", "1").env("CARGO_UNSTABLE_BUILD_STD", "core,alloc");
    command.env(variable, linker).env_remove("RUSTUP_TOOLCHAIN");
    Ok(command)
}

fn sysroot(rustc: &str) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| Path::new(path.trim()).to_path_buf())
}
