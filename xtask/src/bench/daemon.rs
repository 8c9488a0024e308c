//! The agent under measurement, in a mesh of its own.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;
use weft_hil::{
    process::{Daemon, output},
    wait,
};

use super::server::Resident;

/// How long the agent may take to start, to learn all peers, or to keep them.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// What a kept peer takes on the disk at least, in bytes: its key and its addresses.
const KEPT_PEER: u64 = 32 + 4 + 16;

/// A running `weft daemon`.
#[derive(Debug)]
pub(super) struct Agent {
    daemon: Daemon,
    program: PathBuf,
    socket: PathBuf,
    state: PathBuf,
}

impl Agent {
    /// Starts `program` with its files in `folder`, and waits until it answers.
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let (socket, state) = (folder.join("weft.sock"), folder.join("state"));
        let mut command = Command::new(program);
        command.arg("daemon").arg("--state").arg(&state).arg("--socket").arg(&socket);
        let daemon = Daemon::spawn("weft daemon", &mut command)?;
        wait::until("the agent to answer", LIMIT, || UnixStream::connect(&socket).is_ok())?;
        Ok(Self { daemon, program: program.into(), socket, state })
    }

    /// Joins with the key in a file.
    pub(super) fn join(&self, key: &Path) -> Result<()> {
        self.weft(&["up", "--hostname", "agent", "--join", &format!("file:{}", key.display())]).map(drop)
    }

    fn weft(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new(&self.program).arg("--socket").arg(&self.socket).args(arguments))
    }

    /// `weft status --json`.
    pub(super) fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.weft(&["status", "--json"])?)?)
    }

    /// Waits until it knows so many peers.
    pub(super) fn wait_until_it_knows(&self, count: usize) -> Result<()> {
        wait::until("the agent to know all peers", LIMIT, || {
            self.status().is_ok_and(|status| peers(&status).count() >= count)
        })
    }

    /// Waits until so many peers are on its disk: to keep the netmap takes memory too.
    pub(super) fn wait_until_it_keeps(&self, count: usize) -> Result<()> {
        let kept = self.state.join("netmap");
        wait::until("the netmap to be kept", LIMIT, || {
            kept.metadata().is_ok_and(|file| file.len() >= KEPT_PEER * count as u64)
        })
    }

    pub(super) fn resident(&self) -> Result<Resident> {
        Resident::of(&self.daemon)
    }
}

/// The peers in a status.
pub(super) fn peers(status: &Value) -> impl Iterator<Item = &Value> {
    status.get("Peer").and_then(Value::as_object).into_iter().flatten().map(|(_, peer)| peer)
}
