//! The runner of a test target: tests by name, what each needs, and the slow set.
//!
//! A target is declared with `harness = false` and has this `main`:
//!
//! ```no_run
//! use weft_hil::{requirement::{Requirement, WG}, suite::Suite};
//!
//! fn a_host_reaches_its_router() -> anyhow::Result<()> {
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Suite::new()
//!         .test("a_host_reaches_its_router", &[Requirement::Netns, WG], a_host_reaches_its_router)
//!         .run()
//! }
//! ```
//!
//! A test fails by returning an error or by panicking; the logs of the daemons that it started are printed with
//! the failure. A test whose requirement is missing is counted as ignored, with the reason behind its name. Slow
//! tests run with `--full` or with `WEFT_FULL=1`.

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{evidence, requirement::Requirement};

/// The environment variable that adds the slow tests.
pub const FULL: &str = "WEFT_FULL";

/// The tests of one target.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
    full: bool,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.trials.iter().map(Trial::name)).finish()
    }
}

impl Suite {
    /// No tests yet.
    pub fn new() -> Self {
        let full =
            std::env::var_os(FULL).is_some_and(|value| value == "1") || std::env::args_os().any(|arg| arg == "--full");
        Self { trials: Vec::new(), full }
    }

    /// Adds a test.
    pub fn test(self, name: &str, needs: &'static [Requirement], test: fn() -> Result<()>) -> Self {
        self.add(name, needs, None, test)
    }

    /// Adds a test that takes long and runs in the full set only.
    pub fn slow(self, name: &str, needs: &'static [Requirement], test: fn() -> Result<()>) -> Self {
        let skip = (!self.full).then_some("slow; run it with --full");
        self.add(name, needs, skip, test)
    }

    fn add(
        mut self,
        name: &str,
        needs: &'static [Requirement],
        skip: Option<&'static str>,
        test: fn() -> Result<()>,
    ) -> Self {
        self.trials.push(Trial::ignorable_test(name, move || {
            if let Some(reason) = skip {
                return Ok(Completion::ignored_with(reason));
            }
            if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
                return Ok(Completion::ignored_with(reason));
            }
            run(test).map(|()| Completion::Completed)
        }));
        self
    }

    /// Runs the tests that the command line selects.
    pub fn run(self) -> ExitCode {
        let arguments = std::env::args_os().filter(|arg| arg != "--full").collect::<Vec<OsString>>();
        libtest_mimic::run(&Arguments::from_iter(arguments), self.trials).exit_code()
    }
}

fn run(test: fn() -> Result<()>) -> Result<(), Failed> {
    evidence::forget();
    let outcome = catch_unwind(AssertUnwindSafe(test));
    let reason = match outcome {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_else(|| "the test panicked".into()),
    };
    Err(format!("{reason}\n{}", evidence::text()).into())
}
