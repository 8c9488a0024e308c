//! A control server in a memory-limited control group, and how much memory a process has.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use weft_hil::{
    process::{Daemon, output},
    wait,
};

use super::memory_group::MemoryGroup;
use crate::workspace::target;

/// The server's memory, with the kernel's for its sockets, in bytes.
pub(super) const MEMORY_LIMIT: u64 = 1_000_000_000;
/// Where the server listens, inside the sandbox.
const ADDRESS: &str = "127.0.0.1:8080";

pub(super) fn release(binary: &str) -> PathBuf {
    target().join("release").join(binary)
}

/// The server under measurement.
#[derive(Debug)]
pub(super) struct Server {
    // Dropped in this order: a control group can be removed once it is empty.
    daemon: Daemon,
    pub(super) group: Option<MemoryGroup>,
    /// Why there is no group.
    pub(super) unlimited: String,
    data: PathBuf,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resident {
    pub(super) now: u64,
    pub(super) peak: u64,
}

impl Server {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let (group, unlimited) = match MemoryGroup::new(MEMORY_LIMIT) {
            Ok(group) => (Some(group), String::new()),
            Err(error) => (None, format!("{error:#}")),
        };
        let data = folder.join("data");
        // A shell moves itself into the group and then becomes the server.
        let mut command = Command::new("sh");
        let enter = group.as_ref().map(|group| format!("echo 0 > {} && ", group.processes().display()));
        command.arg("-c").arg(format!("{}exec \"$@\"", enter.unwrap_or_default())).arg("sh");
        command.arg(release("weft-control")).args(["serve", "--data"]).arg(&data);
        command.args(["--listen", ADDRESS, "--url", &format!("http://{ADDRESS}")]);
        let mut daemon = Daemon::spawn("weft-control", &mut command)?;
        wait::for_ok("the control server to listen", Duration::from_secs(20), || {
            if let Some(status) = daemon.exit_status()? {
                return Ok(Err(anyhow!("weft-control ended ({status}):\n{}", daemon.log())));
            }
            TcpStream::connect(ADDRESS)?;
            Ok(Ok(()))
        })??;
        Ok(Self { daemon, group, unlimited, data })
    }

    pub(super) fn admin(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new(release("weft-control")).arg("--data").arg(&self.data).args(arguments))
    }

    /// A file with a reusable join key of a new user.
    pub(super) fn join_key(&self, folder: &Path) -> Result<PathBuf> {
        let file = folder.join("join-key");
        self.admin(&["user", "create", "bench"])?;
        let printed = self.admin(&["key", "create", "--user", "bench", "--reusable"])?;
        let text = printed.split_whitespace().find(|word| word.starts_with("weft"));
        fs::write(&file, text.ok_or_else(|| anyhow!("key create printed no key:\n{printed}"))?)?;
        Ok(file)
    }

    pub(super) fn resident(&self) -> Result<Resident> {
        Resident::of(&self.daemon)
    }
}

impl Resident {
    /// The resident memory of a running process.
    pub(super) fn of(daemon: &Daemon) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))
            .with_context(|| format!("the process is gone; its log:\n{}", daemon.log()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
        };
        let (now, peak) =
            field("VmRSS:").zip(field("VmHWM:")).context("the kernel does not tell a process's memory")?;
        Ok(Self { now, peak })
    }
}
