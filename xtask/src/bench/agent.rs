//! `cargo xtask bench agent`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_hil::{
    process::{Daemon, raise_open_files},
    wait,
};

use super::{
    control::{line, megabytes, within},
    daemon::{Agent, LIMIT, peers},
    server::{Server, release},
    swarm::Swarm,
};
use crate::{
    sandbox, setup,
    tally::Tally,
    workspace::{heading, target},
};

/// What `cargo xtask bench agent` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Peers that the agent knows
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(200..))]
    peers: u16,
    /// Those of them that it has sessions with
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(..=100))]
    active: u16,
}

/// Peers in the run of CI.
const CI_PEERS: u16 = 1_000;
/// Resident memory of the agent alone in its mesh, at its most, in bytes: what the design allows an idle agent. Measured
/// 7.2 to 7.4 MB, of which 6.8 MB are pages of the program and its libraries.
const ALONE_LIMIT: u64 = 8_000_000;
/// What each known peer may add to that at its most, in bytes. Measured 880 to 920 with 10,000 peers, 64 sessions
/// included: up to 760 that stay, for the most part the tables, and the netmap while it is written. The limit is 30 %
/// more.
const PEER_LIMIT: u64 = 1_200;
/// The peers' capacity; the agent itself holds all of them.
const CAPACITY: u32 = 64;

impl Options {
    /// What CI measures.
    pub(super) fn of_ci() -> Self {
        Self { peers: CI_PEERS, active: 64 }
    }
}

/// Builds, and goes on inside the sandbox.
pub(super) fn prepare(options: &Options) -> Result<ExitCode> {
    setup::c_compiler()?;
    setup::required_tools(&[setup::NAMESPACES, setup::PING].concat())?;
    super::build()?;
    let arguments = format!("bench agent --peers {} --active {}", options.peers, options.active);
    sandbox::reexec(arguments.split(' '))
}

/// Measures.
pub(super) fn measure(options: &Options) -> Result<ExitCode> {
    sandbox::prepare()?;
    raise_open_files()?;
    let folder = tempfile::tempdir_in(target()).context("cannot make a folder for the server")?;
    heading(&format!("An agent with {} known peers, {} of them active", options.peers, options.active));
    let server = Server::start(folder.path())?;
    let key = server.join_key(folder.path())?;

    let agent = Agent::start(&release("weft"), folder.path())?;
    line("resident memory, in no mesh", &megabytes(agent.resident()?.now));
    agent.join(&key)?;
    let alone = agent.resident()?;
    line("resident memory, alone in its mesh", &megabytes(alone.now));
    let (mut swarm, _) = Swarm::start(&key, options.peers, 0, CAPACITY)?;
    agent.wait_until_it_knows(options.peers.into())?;
    let knowing = agent.resident()?;
    line(&format!("resident memory, {} known peers", options.peers), &megabytes(knowing.now));

    let this = agent.status()?;
    let text = |pointer: &str| this.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let own = text("/Self/PublicKey").context("the status has no key")?;
    let address = text("/Self/TailscaleIPs/0").context("the status has no address")?;
    let answer = swarm.order(&format!("answer {} {own} {address}", options.active))?;
    let names: Vec<&str> =
        answer.get("names").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    // The peers take the packets and answer none of them; the handshakes are what counts.
    let mut pings = Vec::new();
    for peer in peers(&this).filter(|peer| names.contains(&name(peer))) {
        let address = peer.pointer("/TailscaleIPs/0").and_then(Value::as_str).context("a peer has no address")?;
        pings.push(Daemon::spawn("ping", Command::new("ping").args(["-n", "-w", "60", address]))?);
    }
    ensure!(pings.len() == usize::from(options.active), "the agent knows {} of the active peers", pings.len());
    wait::until("all sessions", LIMIT, || {
        agent.status().is_ok_and(|status| peers(&status).filter(|peer| has_session(peer)).count() >= pings.len())
    })?;
    agent.wait_until_it_keeps(options.peers.into())?;
    let resident = agent.resident()?;
    line(&format!("resident memory, {} of them with sessions", options.active), &megabytes(resident.now));
    line("resident memory at its most", &megabytes(resident.peak));

    heading("Limits");
    let mut tally = Tally::default();
    tally.check(
        &format!("alone, the agent stays within {}", megabytes(ALONE_LIMIT)),
        within(alone.peak, ALONE_LIMIT, "bytes"),
    );
    let limit = ALONE_LIMIT + PEER_LIMIT * u64::from(options.peers);
    tally.check(
        &format!("with {} known peers it stays within {} at its most", options.peers, megabytes(limit)),
        within(resident.peak, limit, "bytes"),
    );
    Ok(tally.finish())
}

fn name(peer: &Value) -> &str {
    peer.get("HostName").and_then(Value::as_str).unwrap_or_default()
}

fn has_session(peer: &Value) -> bool {
    peer.get("LastHandshake").and_then(Value::as_str).is_some_and(|time| !time.starts_with("0001-"))
}
