//! `cargo xtask test`.
//!
//! Outside the sandbox: set-up, all builds, and the checks that need none of it. Inside: the tests themselves,
//! offline, since the sandbox has no network.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    dist, firmware, no_alloc, sandbox, setup,
    tally::Tally,
    workspace::{cargo, heading, run as step},
};

/// What `cargo xtask test` takes.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Run the slow tests too, for instance a rekey after more than two minutes
    #[arg(long)]
    full: bool,
}

/// Runs all tests.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if sandbox::inside() { run_tests(options) } else { prepare(options) }
}

fn prepare(options: &Options) -> Result<ExitCode> {
    setup::c_compiler()?;
    setup::required_tools(setup::NAMESPACES)?;
    if let Some(command) = setup::tools(setup::TEST)? {
        heading("Some tests will be skipped");
        println!("They need programs that are not installed. This installs them:\n\n    {command}");
    }
    setup::rp2040_emulators(options.full);
    setup::chip_targets()?;
    heading("Building");
    step(&mut cargo("build --workspace"))?;
    step(&mut cargo("test --workspace --no-run"))?;
    no_alloc::fetch()?;
    firmware::test_images(options.full)?;
    dist::test_binaries(options.full)?;
    let full = options.full.then_some("--full");
    sandbox::reexec(["test"].into_iter().chain(full))
}

fn run_tests(options: &Options) -> Result<ExitCode> {
    sandbox::prepare()?;
    let mut tally = Tally::default();
    heading("Core without a heap");
    no_alloc::check(&mut tally);
    heading("Tests");
    let mut tests = cargo("test --workspace --no-fail-fast --offline");
    if options.full {
        tests.env(weft_hil::suite::FULL, "1");
    }
    tally.tests(&mut tests)?;
    Ok(tally.finish())
}
