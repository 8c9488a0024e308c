//! What a test needs of the machine. What is missing makes the test a skip that says what to do about it.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::distribution::{Architecture, distributed};

/// One thing that a test needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Network namespaces may be made, by root or in the namespaces of `cargo xtask test`.
    Netns,
    /// `/dev/net/tun` can be opened.
    Tun,
    /// A program on the search path, and the Debian package that has it.
    Program {
        /// Its name, for instance `wg`.
        name: &'static str,
        /// The Debian package, for instance `wireguard-tools`.
        package: &'static str,
    },
    /// The binaries `weft` and `weft-control` are built.
    WeftBinaries,
    /// `cargo xtask dist` built these binaries for a processor.
    Distributed {
        /// The processor.
        architecture: Architecture,
        /// The binaries.
        names: &'static [&'static str],
    },
    /// The firmware image of an emulated board is built.
    Firmware {
        /// The folder in `boards/`.
        board: &'static str,
        /// The target that it is built for.
        target: &'static str,
    },
    /// A package of PyPI, installed in a virtual environment below the build folder.
    PythonPackage {
        /// The package.
        package: &'static str,
    },
    /// A package of npm, installed beside the scripts that use it.
    NodePackage {
        /// The folder in `hil-tests/`.
        folder: &'static str,
        /// The package.
        package: &'static str,
    },
}

/// `wg`, which configures WireGuard devices.
pub const WG: Requirement = Requirement::Program { name: "wg", package: "wireguard-tools" };
/// `wireguard-go`, the foreign peer.
pub const WIREGUARD_GO: Requirement = Requirement::Program { name: "wireguard-go", package: "wireguard-go" };
/// `tshark`, which names packets.
pub const TSHARK: Requirement = Requirement::Program { name: "tshark", package: "tshark" };
/// `ping`.
pub const PING: Requirement = Requirement::Program { name: "ping", package: "iputils-ping" };
/// `curl`.
pub const CURL: Requirement = Requirement::Program { name: "curl", package: "curl" };
/// Node, which runs the emulator of the RP2040.
pub const NODE: Requirement = Requirement::Program { name: "node", package: "nodejs" };
/// QEMU's Cortex-M machines.
pub const QEMU_ARM: Requirement = Requirement::Program { name: "qemu-system-arm", package: "qemu-system-arm" };
/// QEMU's 32-bit RISC-V machines.
pub const QEMU_RISCV32: Requirement = Requirement::Program { name: "qemu-system-riscv32", package: "qemu-system-misc" };

impl Requirement {
    /// What is missing and what to do about it; `None` where the requirement is met.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Netns => {
                static ANSWER: OnceLock<Option<String>> = OnceLock::new();
                ANSWER.get_or_init(missing_netns).clone()
            }
            Self::Tun => {
                let error = OpenOptions::new().read(true).write(true).open("/dev/net/tun").err()?;
                Some(format!("/dev/net/tun cannot be opened ({error}); run as root or load the module tun"))
            }
            Self::Program { name, package } => match find_program(name) {
                Some(_) => None,
                None => Some(format!("{name} is not installed; apt-get install {package}")),
            },
            Self::WeftBinaries => crate::binaries::weft()
                .and_then(|_| crate::binaries::weft_control())
                .err()
                .map(|error| error.to_string()),
            Self::Distributed { architecture, names } => {
                names.iter().find_map(|name| distributed(architecture, name).err()).map(|error| error.to_string())
            }
            Self::PythonPackage { package } => crate::binaries::python(package).err().map(|error| error.to_string()),
            Self::NodePackage { folder, package } => {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
                let missing = !folder.join("node_modules").join(package).is_dir();
                missing.then(|| {
                    format!("{package} is not installed; apt-get install npm, then `npm ci` in {}", folder.display())
                })
            }
            Self::Firmware { board, target } => {
                crate::binaries::firmware(board, target).err().map(|error| error.to_string())
            }
        }
    }
}

fn missing_netns() -> Option<String> {
    if find_program("ip").is_none() {
        return Some("ip is not installed; apt-get install iproute2".into());
    }
    let name = format!("weft-probe-{}", std::process::id());
    let ip = |verb: &str| {
        let run = Command::new("ip").args(["netns", verb, &name]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    if ip("add") {
        ip("del");
        return None;
    }
    Some("network namespaces cannot be made here; run it as root or with `cargo xtask test`".into())
}

/// A program on the search path, the system administrator's folders included.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(admin).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let missing = Requirement::Program { name: "no-such-program", package: "no-such-package" }.missing();
        assert_eq!(missing.as_deref(), Some("no-such-program is not installed; apt-get install no-such-package"));
        assert_eq!(Requirement::Program { name: "sh", package: "dash" }.missing(), None);
    }
}
