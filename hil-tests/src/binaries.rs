//! Where the binaries under test are: `$WEFT_BIN_DIR`, else the folder that cargo built this program in.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The environment variable that names the folder of the binaries.
pub const BIN_DIR: &str = "WEFT_BIN_DIR";

/// The Linux agent, `weft`.
pub fn weft() -> Result<PathBuf> {
    find("weft", "weft-agent")
}

/// The control server, `weft-control`.
pub fn weft_control() -> Result<PathBuf> {
    find("weft-control", "weft-control")
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
