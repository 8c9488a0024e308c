//! Going to the background: the same program again, in a session of its own, which says when it is ready.

use std::{
    io::{self, Read},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// What the process in the background writes on its standard output once the device is ready. Anything else is the
/// reason why it is not.
const READY: &str = "ready\n";

/// Starts this program again with `arguments`, and waits until it is ready.
///
/// Its standard error is kept where the environment asks for log lines, as with wireguard-go.
pub(super) fn start(arguments: &[&str]) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let log_wanted = std::env::var_os("RUST_LOG").is_some();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(if log_wanted { Stdio::inherit() } else { Stdio::null() })
        .spawn()
        .context("cannot start a process in the background")?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).context("the process in the background says nothing readable")?;
    }
    if said == READY {
        return Ok(());
    }
    let status = child.wait().context("cannot wait for the process in the background")?;
    match said.trim() {
        "" => bail!("the process in the background ended ({status})"),
        reason => bail!("{reason}"),
    }
}

/// Leaves the session of the terminal. Call it first in the process in the background.
pub(super) fn leave_session() {
    // Fails only where this process leads a session already.
    let _ = rustix::process::setsid();
    let _ = std::env::set_current_dir("/");
}

/// Tells the process in the foreground that the device is ready.
pub(super) fn report_ready() -> io::Result<()> {
    report(READY)
}

/// Tells the process in the foreground why the device will not be ready.
pub(super) fn report_failure(error: &anyhow::Error) -> io::Result<()> {
    report(&format!("{error:#}\n"))
}

/// Writes to standard output and closes it, which is what the other process waits for.
fn report(text: &str) -> io::Result<()> {
    rustix::io::write(rustix::stdio::stdout(), text.as_bytes())?;
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null)?;
    Ok(())
}
