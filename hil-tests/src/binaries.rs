//! Where the binaries and firmware images under test are: `$WEFT_BIN_DIR`, else the folder that cargo built this program
//! in, and beside it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The environment variable that names the folder of the binaries.
pub const BIN_DIR: &str = "WEFT_BIN_DIR";

/// The environment variable that names cargo's target folder of the firmware.
pub const FIRMWARE_DIR: &str = "WEFT_FIRMWARE_DIR";

/// The Linux agent, `weft`.
pub fn weft() -> Result<PathBuf> {
    find("weft", "weft-agent")
}

/// The control server, `weft-control`.
pub fn weft_control() -> Result<PathBuf> {
    find("weft-control", "weft-control")
}

/// The firmware image of a board, an ELF file: in `$WEFT_FIRMWARE_DIR`, else in `firmware/` beside the folder of the
/// binaries. `cargo xtask test` builds it.
pub fn firmware(board: &str, target: &str) -> Result<PathBuf> {
    let folder = firmware_folder()?;
    let path = folder.join(target).join("release").join(board);
    if !path.is_file() {
        bail!(
            "there is no {}: build it in boards/{board} with `cargo build --release --features selftest --target-dir {}`, \
             or name the folder in ${FIRMWARE_DIR}",
            path.display(),
            folder.display()
        );
    }
    Ok(path)
}

/// Cargo's target folder of the firmware under test.
pub fn firmware_folder() -> Result<PathBuf> {
    match std::env::var_os(FIRMWARE_DIR) {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(directory()?.with_file_name("firmware")),
    }
}

/// The interpreter of the virtual environment that has a package of PyPI: in `python/` beside the folder of the binaries.
/// `cargo xtask test --full` makes it.
pub fn python(package: &str) -> Result<PathBuf> {
    let path = directory()?.with_file_name("python").join(package).join("bin/python");
    if !path.is_file() {
        bail!("{package} of PyPI is not installed in {}: `cargo xtask test --full` does it", path.display());
    }
    Ok(path)
}

fn find(name: &str, package: &str) -> Result<PathBuf> {
    let dir = directory()?;
    let path = dir.join(name);
    if !path.is_file() {
        bail!(
            "there is no {}: build it with `cargo build -p {package}`, or name its folder in ${BIN_DIR}",
            path.display()
        );
    }
    Ok(path)
}

/// The folder of the binaries.
pub fn directory() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(BIN_DIR) {
        return Ok(PathBuf::from(dir));
    }
    let exe = std::env::current_exe().context("cannot find out where this program lies")?;
    // A test target lies in `deps/`, one below the binaries.
    let dir = exe.parent().context("this program lies in no folder")?;
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_path_buf())
}
