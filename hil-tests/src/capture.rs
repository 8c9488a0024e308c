//! A packet capture in a namespace, and what is in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::{
    netns::Netns,
    process::{Daemon, output},
};

/// A running `tcpdump`.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Daemon,
    file: PathBuf,
}

/// A finished capture.
#[derive(Debug)]
pub struct Recording {
    file: PathBuf,
}

impl Capture {
    /// Starts to capture whole packets on a device of `netns` into `file`; returns once packets are being caught.
    pub fn start(netns: &Netns, device: &str, file: PathBuf) -> Result<Self> {
        let mut command = netns.command("tcpdump");
        // Inside a user namespace there is no other user whose rights tcpdump could take on.
        command.args(["-Z", "root", "-n", "-U", "--immediate-mode", "-s", "0", "-i", device, "-w"]).arg(&file);
        let mut tcpdump = Daemon::spawn(&format!("tcpdump on {device}"), &mut command)?;
        tcpdump.wait_for_line("listening on", Duration::from_secs(20))?;
        Ok(Self { tcpdump, file })
    }

    /// Stops the capture.
    pub fn stop(mut self) -> Result<Recording> {
        self.tcpdump.signal(Signal::INT)?;
        self.tcpdump.wait(Duration::from_secs(20))?;
        Ok(Recording { file: self.file })
    }
}

impl Recording {
    /// The file, in pcap format.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The packets that pass a display filter, counted by the protocol that tshark names them.
    pub fn protocols(&self, filter: &str) -> Result<BTreeMap<String, usize>> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&self.file).args(["-Y", filter, "-T", "fields", "-e", "_ws.col.Protocol"]);
        let mut counts = BTreeMap::new();
        for protocol in output(&mut tshark)?.lines() {
            *counts.entry(protocol.to_owned()).or_default() += 1;
        }
        Ok(counts)
    }

    /// How often a text stands in the packets.
    pub fn occurrences(&self, text: &str) -> Result<usize> {
        let bytes = std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        Ok(bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count())
    }
}
