//! `cargo xtask lint`: formatting, clippy, documentation, licences, and the rules that cargo has no lint for.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};

use crate::{
    guide, setup,
    tally::Tally,
    workspace::{cargo, heading, root, run as step},
};

/// The length that no source file exceeds, in lines.
const MAX_LINES: usize = 900;

/// The only files that may hold `unsafe`, each a small leaf around a system call.
const UNSAFE_FILES: &[&str] = &[
    "agent-embassy/x25519/src/half_product.rs",
    "agent-linux/src/polled_fd.rs",
    "agent-linux/src/socket_option.rs",
    "agent-linux/src/tun_device.rs",
    "boards/firmware/src/stack.rs",
    "boards/qemu-mps2/src/executor.rs",
    "boards/qemu-mps2/src/fault.rs",
    "boards/qemu-mps2/src/interrupts.rs",
    "boards/qemu-mps2/src/mmio.rs",
    "boards/qemu-rv32/src/interrupts.rs",
    "boards/qemu-rv32/src/mmio.rs",
    "boards/qemu-rv32/src/virtio_net.rs",
    "hil-tests/cost-probe/src/counter.rs",
    "hil-tests/cost-probe/src/stack.rs",
];

/// Manifests of the workspaces beside the main one.
const OTHER_WORKSPACES: &[&str] = &[
    "boards/esp32c3/Cargo.toml",
    "boards/firmware/Cargo.toml",
    "boards/guide/Cargo.toml",
    "boards/pico-w/Cargo.toml",
    "boards/pico-w5500/Cargo.toml",
    "boards/qemu-host/Cargo.toml",
    "boards/qemu-mps2/Cargo.toml",
    "boards/qemu-rv32/Cargo.toml",
    "boards/rp2040/Cargo.toml",
    "core/fuzz/Cargo.toml",
    "hil-tests/cost-probe/Cargo.toml",
    "hil-tests/no-alloc-probe/Cargo.toml",
];

/// Folders of boards, and what clippy looks at from there; the target is of the folder's own configuration.
const BOARDS: &[(&str, &str)] = &[
    // The chip has a crate of its name, too.
    ("boards/esp32c3", "--bin esp32c3"),
    ("boards/guide", "--package guide"),
    ("boards/pico-w", "--package pico-w"),
    ("boards/pico-w5500", "--package pico-w5500 --package weft-rp2040"),
    ("boards/qemu-mps2", "--package qemu-mps2 --package weft-firmware --package weft-qemu-host"),
    ("boards/qemu-rv32", "--package qemu-rv32"),
];

/// Runs all lints and tells the outcome of each.
pub(crate) fn run() -> Result<ExitCode> {
    setup::cargo_deny()?;
    let mut tally = Tally::default();
    heading("Formatting");
    tally.check("cargo fmt", step(&mut cargo("fmt --all --check")));
    for manifest in OTHER_WORKSPACES.iter().filter(|manifest| root().join(manifest).exists()) {
        tally.check(
            &format!("cargo fmt of {manifest}"),
            step(&mut cargo(&format!("fmt --check --manifest-path {manifest}"))),
        );
    }
    heading("Rules of the tree");
    let sources = rust_sources()?;
    tally.check(&format!("no source file over {MAX_LINES} lines"), no_long_files(&sources));
    tally.check("unsafe code in named files only", unsafe_in_named_files(&sources));
    tally.check("the program of the firmware guide", guide::check());
    heading("Clippy");
    tally.check("cargo clippy", step(&mut cargo("clippy --workspace --all-targets -- -D warnings")));
    tally.check(
        "cargo clippy of core with defmt",
        step(&mut cargo("clippy --package weft-core --no-default-features --features defmt -- -D warnings")),
    );
    for (board, packages) in BOARDS {
        for features in ["", "--no-default-features", "--all-features"] {
            let arguments = format!("clippy --locked --release {packages} {features} -- -D warnings");
            tally.check(
                &format!("cargo clippy of {board} {features}"),
                step(cargo(&arguments).current_dir(root().join(board))),
            );
        }
    }
    for (target, features) in setup::CHIP_TARGETS.into_iter().zip(["rp2040", ""]) {
        let manifest = "hil-tests/cost-probe/Cargo.toml";
        let arguments =
            format!("clippy --locked --release --manifest-path {manifest} --target {target} --features={features}");
        tally.check(
            &format!("cargo clippy of {manifest} for {target}"),
            step(cargo(&arguments).args(["--", "-D", "warnings"])),
        );
    }
    heading("Documentation");
    tally.check(
        "cargo doc",
        step(cargo("doc --workspace --no-deps --document-private-items").env("RUSTDOCFLAGS", "-D warnings")),
    );
    heading("Dependencies");
    tally.check("cargo deny", step(&mut cargo("deny check licenses bans sources")));
    for (board, _) in BOARDS {
        let arguments =
            format!("deny --config deny.toml --manifest-path {board}/Cargo.toml check licenses bans sources");
        tally.check(&format!("cargo deny of {board}"), step(&mut cargo(&arguments)));
    }
    Ok(tally.finish())
}

/// Every Rust file that is tracked or would be.
fn rust_sources() -> Result<Vec<(PathBuf, String)>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]).current_dir(root());
    let listed = weft_hil::process::output(&mut git)?;
    let mut sources = Vec::new();
    for name in listed.lines() {
        let path = root().join(name);
        // A file that was deleted and not yet committed is still listed.
        if path.exists() {
            sources.push((name.into(), std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?));
        }
    }
    Ok(sources)
}

fn no_long_files(sources: &[(PathBuf, String)]) -> Result<()> {
    let long: Vec<String> = sources
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    ensure!(long.is_empty(), "{}", long.join("\n"));
    Ok(())
}

fn unsafe_in_named_files(sources: &[(PathBuf, String)]) -> Result<()> {
    let named = |path: &Path| UNSAFE_FILES.iter().any(|name| path == Path::new(name));
    let found: Vec<String> = sources
        .iter()
        .filter(|(path, _)| !named(path))
        .flat_map(|(path, text)| unsafe_lines(text).map(move |line| format!("{}:{line}", path.display())))
        .collect();
    ensure!(found.is_empty(), "unsafe code outside the files that xtask/src/lint.rs names:\n{}", found.join("\n"));
    Ok(())
}

/// The numbers of the lines whose code, comments and strings aside, has the keyword or lifts the lint against it.
fn unsafe_lines(text: &str) -> impl Iterator<Item = usize> {
    text.lines().enumerate().filter(|(_, line)| has_unsafe(line)).map(|(index, _)| index + 1)
}

fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    // Every second piece is inside a string.
    let code: String = code.split('"').step_by(2).collect();
    let lifts = ["allow(", "expect(", "warn("].iter().any(|level| code.contains(level)) && code.contains("unsafe_code");
    let keyword = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
    lifts || keyword
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyword_is_found_in_code_only() {
        let text = "// unsafe here\nlet x = unsafe { f() };\n#![allow(unsafe_code)]\n#![forbid(unsafe_code)]\nlet s = \"unsafe\";";
        assert_eq!(unsafe_lines(text).collect::<Vec<_>>(), [2, 3]);
        assert!(has_unsafe("unsafe impl Send for X {}"));
        assert!(!has_unsafe("deny(unsafe_code)"));
    }

    #[test]
    fn a_long_file_is_named_with_its_length() {
        let sources = [("a.rs".into(), "\n".repeat(900)), ("b.rs".into(), "\n".repeat(901))];
        assert_eq!(no_long_files(&sources).unwrap_err().to_string(), "b.rs has 901 lines");
    }
}
