//! The checks that core needs no heap.
//!
//! 1. Core builds for the chips with no default features.
//! 2. A `no_std` library without a global allocator that uses core builds: the compiler refuses to finish one when
//!    anything in it needs `alloc`.
//! 3. No dependency of core is built with a feature named `alloc` or `std`, which would be the first step there.
//!
//! The second and the third are also run against a planted dependency and have to refuse it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

use crate::{
    setup::CHIP_TARGETS,
    tally::Tally,
    workspace::{cargo, root, run},
};

/// The library without an allocator; a workspace of its own.
const PROBE: &str = "hil-tests/no-alloc-probe/Cargo.toml";
/// The feature of the probe that brings in an allocating dependency.
const PLANT: &str = "plant-alloc";
/// What rustc says to a library that needs an allocator and has none.
const REFUSAL: &str = "no global memory allocator found";

/// Gets what the checks will need, for they run without a network.
pub(crate) fn fetch() -> Result<()> {
    // The probe is built with the versions that the workspace has; cargo drops the entries that it does not need.
    std::fs::copy(root().join("Cargo.lock"), root().join(PROBE).with_file_name("Cargo.lock"))?;
    for manifest in ["Cargo.toml", PROBE] {
        run(&mut cargo(&format!("fetch --manifest-path {manifest}")))?;
    }
    Ok(())
}

/// Runs all checks.
pub(crate) fn check(tally: &mut Tally) {
    for target in CHIP_TARGETS {
        tally.check(
            &format!("weft-core builds for {target}"),
            run(&mut cargo(&format!("build --offline --package weft-core --no-default-features --target {target}"))),
        );
        tally.check(
            &format!("a program without an allocator builds with weft-core for {target}"),
            run(&mut probe(target, "")),
        );
    }
    tally.check("the probe refuses a planted allocating dependency", planted_dependency_is_refused());
    tally.check("no dependency of weft-core turns on alloc or std", no_heap_features(""));
    tally.check("the feature check finds a planted alloc feature", planted_feature_is_found());
}

fn probe(target: &str, features: &str) -> Command {
    cargo(&format!("build --offline --locked --manifest-path {PROBE} --target {target} --features={features}"))
}

fn planted_dependency_is_refused() -> Result<()> {
    let built = probe(CHIP_TARGETS[0], PLANT).stdin(Stdio::null()).output()?;
    ensure!(!built.status.success(), "the probe built although a dependency of it needs an allocator");
    let said = String::from_utf8_lossy(&built.stderr);
    ensure!(said.contains(REFUSAL), "the probe failed for another reason than the allocator:\n{said}");
    Ok(())
}

fn planted_feature_is_found() -> Result<()> {
    match no_heap_features(PLANT) {
        Err(error) if error.to_string().contains("minicbor") => Ok(()),
        Err(error) => Err(error.context("another dependency than the planted one was named")),
        Ok(()) => bail!("the planted feature was not found"),
    }
}

/// Fails with the names of the dependencies that are built with a feature `alloc` or `std`.
fn no_heap_features(features: &str) -> Result<()> {
    // Procedural macros run on the host, where they may allocate.
    let listed = cargo(&format!(
        "tree --offline --locked --manifest-path {PROBE} --target {} --features={features} --edges normal,no-proc-macro --prefix none",
        CHIP_TARGETS[0]
    ))
    .args(["--format", "{p}|{f}"])
    .output()?;
    ensure!(listed.status.success(), "cargo tree failed:\n{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8_lossy(&listed.stdout);
    ensure!(listed.contains("weft-core"), "the probe does not depend on weft-core:\n{listed}");
    let found = heap_features(&listed);
    ensure!(found.is_empty(), "built with a heap: {}", found.join("; "));
    Ok(())
}

/// The lines of `package|feature,feature` that name a heap feature.
fn heap_features(tree: &str) -> Vec<String> {
    let uses_heap = |features: &str| features.split(',').any(|feature| matches!(feature.trim(), "alloc" | "std"));
    let mut found: Vec<String> = tree
        .lines()
        .filter_map(|line| line.split_once('|'))
        .filter(|(_, features)| uses_heap(features.trim_end_matches(" (*)")))
        .map(|(package, features)| format!("{package} with {features}"))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heap_feature_is_found_by_its_whole_name() {
        let tree = "weft-core v0.1.0 (/x)|\nminicbor v2.3.1|alloc,derive\nrand v1.0.0|std (*)\nzeroize v1|allocator-api,derive";
        assert_eq!(heap_features(tree), ["minicbor v2.3.1 with alloc,derive", "rand v1.0.0 with std (*)"]);
    }
}
