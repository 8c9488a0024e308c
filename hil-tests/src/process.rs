//! Processes: one that runs to its end ([`output`]), and a [`Daemon`] that runs until it is dropped.
//!
//! Which namespace a process runs in is said by its [`Command`]; see [`Netns::command`](crate::netns::Netns::command).

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};

use crate::{evidence, wait};

/// Lines of each daemon's log that a failure prints.
const LOG_TAIL: usize = 200;

/// Runs a command to its end and returns its standard output; fails with its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let said = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {said}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{said} failed ({}):\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Runs a command that has to fail within `limit`, and returns what it printed.
pub fn refusal(command: &mut Command, limit: Duration) -> Result<String> {
    let mut process = Daemon::spawn("a command that should be refused", command)?;
    let status = process.wait(limit)?;
    let printed = process.log().lines().skip(1).collect::<Vec<_>>().join("\n");
    ensure!(!status.success(), "{command:?} should have been refused and was not; it printed:\n{printed}");
    ensure!(status.code().is_some_and(|code| code != 101), "{command:?} panicked or was killed ({status}):\n{printed}");
    Ok(printed)
}

/// Raises the limit of open files, for this process and those that it starts, as far as it may.
pub fn raise_open_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

/// A running process: its log is captured, and it is killed and waited for when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Log {
    name: String,
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Daemon {
    /// Starts `command` under a name for messages. Standard input is empty; both outputs are captured.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        Self::spawn_decoded(name, command, lines)
    }

    /// The same where standard output is no text: `decode` reads it to its end and hands on each line of the log.
    pub(crate) fn spawn_decoded(
        name: &str,
        command: &mut Command,
        decode: impl FnOnce(ChildStdout, &mut dyn FnMut(String)) + Send + 'static,
    ) -> Result<Self> {
        let said = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {said}"))?;
        let log =
            Arc::new(Log { name: name.into(), lines: Mutex::new(vec![format!("$ {said}")]), grown: Condvar::new() });
        let shown = log.clone();
        evidence::register(move || shown.tail());
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|pipe| read_into(&log, move |push| decode(pipe, push))));
        readers.extend(child.stderr.take().map(|pipe| read_into(&log, move |push| lines(pipe, push))));
        Ok(Self { child, log, readers })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A command that will run where the daemon does: in its network namespace, and with what it sees mounted.
    pub fn command_beside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid().to_string(), "--mount", "--net", "--root", "--"]).arg(program);
        command
    }

    /// Everything that it printed so far, both outputs interleaved by line.
    pub fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    /// Waits until it prints a line that holds `text`, and returns the line; fails early when it ends first.
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let ended = self.exit_status()?;
            if ended.is_some() {
                self.join_readers();
            }
            if let Some(line) = self.log.wait_for(text, end.min(Instant::now() + Duration::from_millis(100))) {
                return Ok(line);
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) before it printed {text:?}", self.log.name);
            }
            if Instant::now() >= end {
                bail!("{} did not print {text:?} within {limit:?}", self.log.name);
            }
        }
    }

    /// Its exit status, `None` while it runs.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.log.name))
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.log.name);
        let child = &mut self.child;
        let status = wait::for_some(&what, limit, || child.try_wait().ok().flatten())?;
        self.join_readers();
        Ok(status)
    }

    /// Sends a signal; one to a process that has ended is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match kill_process(Pid::from_child(&self.child), signal) {
            Err(error) if error != rustix::io::Errno::SRCH => {
                Err(error).with_context(|| format!("cannot signal {}", self.log.name))
            }
            _ => Ok(()),
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).with_context(|| format!("cannot kill {}", self.log.name))?;
        self.join_readers();
        Ok(())
    }

    fn join_readers(&mut self) {
        // A grandchild that still holds the pipe would make the join last for ever; such a reader is left alone.
        for reader in self.readers.drain(..) {
            let waited = wait::until("the end of the log", Duration::from_millis(500), || reader.is_finished());
            if waited.is_ok() {
                let _ = reader.join();
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

impl Log {
    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its end, as a failing test prints it.
    fn tail(&self) -> String {
        let lines = self.lines();
        let skipped = lines.len().saturating_sub(LOG_TAIL);
        let mut text = format!("--- log of {} ({skipped} lines before)\n", self.name);
        for line in lines.iter().skip(skipped) {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn wait_for(&self, text: &str, end: Instant) -> Option<String> {
        let mut lines = self.lines();
        loop {
            // The first line is the command itself.
            if let Some(line) = lines.iter().skip(1).find(|line| line.contains(text)) {
                return Some(line.clone());
            }
            let left = end.checked_duration_since(Instant::now())?;
            lines = self.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Runs a reader on a thread of its own; what it hands on goes into the log.
fn read_into(log: &Arc<Log>, read: impl FnOnce(&mut dyn FnMut(String)) + Send + 'static) -> JoinHandle<()> {
    let log = log.clone();
    std::thread::spawn(move || {
        read(&mut |line| {
            log.lines().push(line);
            log.grown.notify_all();
        });
    })
}

fn lines(pipe: impl Read, push: &mut dyn FnMut(String)) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        push(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_line_of_either_output_is_waited_for() {
        let mut daemon = Daemon::spawn("talker", &mut shell("echo out; echo err >&2; exec sleep 60")).unwrap();
        daemon.wait_for_line("err", Duration::from_secs(10)).unwrap();
        assert_eq!(daemon.wait_for_line("ou", Duration::from_secs(10)).unwrap(), "out");
        assert_eq!(daemon.exit_status().unwrap(), None);
    }

    #[test]
    fn a_daemon_that_ends_early_fails_the_wait_at_once() {
        let mut daemon = Daemon::spawn("quitter", &mut shell("echo gone; exit 3")).unwrap();
        let error = daemon.wait_for_line("ready", Duration::from_secs(60)).unwrap_err();
        assert!(error.to_string().contains("ended"), "{error}");
    }

    #[test]
    fn a_dropped_daemon_is_gone() {
        let daemon = Daemon::spawn("sleeper", &mut shell("exec sleep 60")).unwrap();
        let pid = Pid::from_child(&daemon.child);
        drop(daemon);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn a_failed_command_says_what_it_printed() {
        let error = output(&mut shell("echo why >&2; exit 1")).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
