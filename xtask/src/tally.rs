//! Counts of what passed, failed and was skipped, and the summary at the end.
//!
//! Test targets are read from their output, which libtest and libtest-mimic print alike; checks of `xtask`
//! itself are counted one by one.

use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};

use crate::workspace::{describe, heading};

/// What passed, failed and was skipped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Tally {
    /// Counts one check by its outcome, and tells it.
    pub(crate) fn check(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => {
                println!("{name} ... ok");
                self.passed += 1;
            }
            Err(error) => {
                println!("{name} ... FAILED\n{error:#}");
                self.failed.push(name.into());
            }
        }
    }

    /// Counts a check that cannot be made here, and tells why.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        println!("{name} ... skipped ({reason})");
        self.skipped.push(format!("{name}: {reason}"));
    }

    /// Runs a command that prints tests, shows its output and counts them.
    pub(crate) fn tests(&mut self, command: &mut Command) -> Result<()> {
        let said = describe(command);
        println!("$ {said}");
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{said}`"))?;
        let mut counted = Self::default();
        for line in BufReader::new(child.stdout.take().context("no standard output")?).lines() {
            let line = line?;
            println!("{line}");
            counted.read(&line);
        }
        let status = child.wait()?;
        if !status.success() && counted.failed.is_empty() {
            counted.failed.push(format!("`{said}` ended early ({status})"));
        }
        self.passed += counted.passed;
        self.failed.append(&mut counted.failed);
        self.skipped.append(&mut counted.skipped);
        Ok(())
    }

    fn read(&mut self, line: &str) {
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) else {
            return;
        };
        let (name, outcome) = (name.trim_end(), outcome.trim());
        if outcome == "ok" {
            self.passed += 1;
        } else if outcome == "FAILED" {
            self.failed.push(name.into());
        } else if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches([',', ' ', '(']).trim_end_matches(')');
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            self.skipped.push(format!("{name}: {reason}"));
        }
    }

    /// Prints the names of the failed and the skipped and, last, the counts.
    pub(crate) fn finish(self) -> ExitCode {
        heading("Summary");
        for (what, names) in [("skipped", &self.skipped), ("failed", &self.failed)] {
            for name in names {
                println!("{what}  {name}");
            }
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len());
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.read(line));
        tally
    }

    #[test]
    fn both_runners_are_read() {
        let libtest = "running 3 tests\ntest a::b ... ok\ntest c - should panic ... ok\ntest d ... ignored, needs a moon\n\
                       test e ... FAILED\n\ntest result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n";
        let mimic = "test long_name ... ok\ntest short     ... ignored (wg is not installed)\ntest bare ... ignored\n";
        assert_eq!(
            read(libtest),
            Tally { passed: 2, failed: vec!["e".into()], skipped: vec!["d: needs a moon".into()] }
        );
        assert_eq!(
            read(mimic),
            Tally {
                passed: 1,
                failed: vec![],
                skipped: vec!["short: wg is not installed".into(), "bare: no reason given".into()]
            }
        );
    }

    #[test]
    fn a_target_that_dies_without_a_word_is_a_failure() {
        let mut tally = Tally::default();
        tally.tests(Command::new("sh").args(["-c", "echo 'test a ... ok'; exit 101"])).unwrap();
        assert_eq!((tally.passed, tally.failed.len()), (1, 1));
    }
}
