//! `weft tunnel DEV`: the core's WireGuard and the agent's data path standing alone, as a userspace WireGuard.
//!
//! It creates `DEV` and obeys `wg(8)` through the cross-platform socket. Knows nothing of the mesh.

pub mod uapi;

/// The command line of `weft tunnel`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Stay in the foreground instead of going to the background once the device is ready
    #[arg(short, long)]
    pub foreground: bool,
    /// The name of the network device to create, for instance wg0
    #[arg(value_name = "DEV")]
    pub device: String,
}

/// Runs `weft tunnel` until the device is deleted, its socket removed, or a signal to end arrives.
///
/// Without [`Args::foreground`] it returns as soon as a process in the background has the device ready.
///
/// # Errors
/// Where the device cannot be created, a socket not be bound, or the process in the background did not come up.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("`weft tunnel {}` does not run yet: the WireGuard device is not built in", args.device)
}
