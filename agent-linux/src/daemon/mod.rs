//! `weft daemon`: the node itself.

#![allow(dead_code)]
mod control_link;
mod keeper;

use std::path::Path;

/// Runs the node until it is told to stop.
pub fn run(_settings: &crate::cli::Daemon, _socket: &Path) -> anyhow::Result<()> {
    anyhow::bail!("the daemon is not part of this build")
}
