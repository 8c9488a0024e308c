//! The verbs that ask the daemon: one function each, from the arguments to what is printed.

use std::{
    io::Write as _,
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, anyhow, bail};

use super::{join, table};
use crate::{
    local_api::{self, Reply, Request, client::Client},
    status::{BackendState, NodeStatus, Status, VERSION, unknown_node},
};

pub(super) fn up(socket: &Path, up: super::Up) -> anyhow::Result<()> {
    let join = up.join.map(join::read).transpose()?;
    let request = Request::Up(local_api::Up { join, hostname: up.hostname, operator: up.operator });
    let asked = block_on(async { tokio::time::timeout(up.timeout, ask(socket, &request)).await })?;
    let Ok(reply) = asked else {
        // The daemon knows what stands in the way; where it does not answer either, the plain sentence has to do.
        let why =
            block_on(async { tokio::time::timeout(Duration::from_secs(2), ask(socket, &Request::Status)).await })?;
        let health = match why {
            Ok(Ok(Reply::Status(status))) => status.health.join(" "),
            _ => String::new(),
        };
        let waited = humantime::format_duration(up.timeout);
        bail!(
            "the control server did not answer within {waited}; the daemon goes on trying, `weft down` stops it. {health}"
        );
    };
    done(reply?)
}

pub(super) fn down(socket: &Path) -> anyhow::Result<()> {
    done(block_on(ask(socket, &Request::Down))??)
}

pub(super) fn logout(socket: &Path) -> anyhow::Result<()> {
    done(block_on(ask(socket, &Request::Logout))??)
}

pub(super) fn status(socket: &Path, json: bool) -> anyhow::Result<()> {
    let status = block_on(fetch_status(socket))??;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&status)?));
    }
    print(&table::render(&status, SystemTime::now()))?;
    match status.backend_state {
        BackendState::Running | BackendState::Starting => Ok(()),
        BackendState::Stopped | BackendState::NeedsLogin => bail!("not running"),
    }
}

pub(super) fn ip(socket: &Path, ip: &super::Ip) -> anyhow::Result<()> {
    let status = block_on(fetch_status(socket))??;
    let node = match &ip.node {
        Some(text) => status.find(text).with_context(|| unknown_node(text))?,
        None => status.this.as_ref().context("this machine is in no mesh; `weft up --join KEY` joins one")?,
    };
    let wanted = |address: &&IpAddr| !(ip.v4 && address.is_ipv6() || ip.v6 && address.is_ipv4());
    let lines: String = node.tailscale_ips.iter().filter(wanted).map(|address| format!("{address}\n")).collect();
    if lines.is_empty() {
        bail!("{} has no such address", node.host_name);
    }
    print(&lines)
}

pub(super) fn ping(socket: &Path, ping: &super::Ping) -> anyhow::Result<()> {
    /// Between two requests, so that a person can read along.
    const PAUSE: Duration = Duration::from_secs(1);
    let timeout_ms = u32::try_from(ping.timeout.as_millis()).unwrap_or(u32::MAX);
    let (sent, answered) = block_on(async {
        let mut client = Client::connect(socket).await?;
        let mut answered = 0;
        let limit = ping.count.unwrap_or(10);
        for sequence in 1..=limit {
            let request = local_api::Ping { node: ping.node.clone(), sequence, timeout_ms };
            let started = tokio::time::Instant::now();
            match client.ask(&Request::Ping(request)).await? {
                Reply::Pong(pong) => {
                    answered += 1;
                    print(&format!("{}\n", pong_line(&pong)))?;
                    if ping.count.is_none() {
                        return Ok((sequence, answered));
                    }
                }
                Reply::Error(refusal) if refusal.kind == local_api::RefusalKind::Timeout => {
                    print(&format!("{}\n", refusal.sentence))?;
                }
                other => return Err(unexpected(other)),
            }
            if sequence < limit {
                tokio::time::sleep_until(started + PAUSE).await;
            }
        }
        anyhow::Ok((limit, answered))
    })??;
    if answered == 0 {
        bail!("no answer from {} to {sent} requests", ping.node);
    }
    Ok(())
}

pub(super) fn whois(socket: &Path, address: IpAddr, json: bool) -> anyhow::Result<()> {
    match block_on(ask(socket, &Request::Whois { address }))?? {
        Reply::Whois(whois) if json => print(&format!("{}\n", serde_json::to_string_pretty(&whois)?)),
        Reply::Whois(whois) => {
            let NodeStatus { host_name, dns_name, id, tailscale_ips, tags, os, .. } = &whois.node;
            let name = if dns_name.is_empty() { host_name } else { dns_name };
            let addresses: Vec<_> = tailscale_ips.iter().map(ToString::to_string).collect();
            let mut text = format!("Machine:\n  Name:       {name}\n  ID:         {id}\n  OS:         {os}\n");
            text.push_str(&format!("  Addresses:  {}\n", addresses.join(", ")));
            if !tags.is_empty() {
                text.push_str(&format!("  Tags:       {}\n", tags.join(", ")));
            }
            if let Some(user) = &whois.user_profile {
                text.push_str(&format!("User:\n  Name:       {}\n  ID:         {}\n", user.login_name, user.id));
            }
            print(&text)
        }
        other => done(other),
    }
}

pub(super) fn version(socket: &Path, json: bool) -> anyhow::Result<()> {
    let daemon = match block_on(ask(socket, &Request::Version))? {
        Ok(Reply::Version(version)) => Some(version),
        Ok(_) | Err(_) => None,
    };
    if json {
        let versions = serde_json::json!({ "version": VERSION, "daemon": daemon });
        return print(&format!("{versions:#}\n"));
    }
    print(&format!("weft {VERSION}\ndaemon {}\n", daemon.as_deref().unwrap_or("not running")))
}

/// `pong from nas (100.64.0.2) via 10.0.1.2:41641 in 2ms`
fn pong_line(pong: &local_api::Pong) -> String {
    let way = pong.endpoint.map_or_else(|| "the mesh".into(), |endpoint| endpoint.to_string());
    let time = match pong.micros {
        micros @ 0..1_000 => format!("{micros}us"),
        micros @ 1_000..10_000 => format!("{:.1}ms", micros as f64 / 1_000.0),
        micros => format!("{}ms", micros / 1_000),
    };
    format!("pong from {} ({}) via {way} in {time}", pong.node, pong.address)
}

/// Prints the notices of what was done.
#[expect(clippy::print_stderr, reason = "notices must not mix with what scripts read")]
fn done(reply: Reply) -> anyhow::Result<()> {
    match reply {
        Reply::Done { notices } => {
            notices.iter().for_each(|notice| eprintln!("weft: {notice}"));
            Ok(())
        }
        other => Err(unexpected(other)),
    }
}

async fn ask(socket: &Path, request: &Request) -> anyhow::Result<Reply> {
    Ok(Client::connect(socket).await?.ask(request).await?)
}

/// The whole status document, page by page.
async fn fetch_status(socket: &Path) -> anyhow::Result<Status> {
    let mut client = Client::connect(socket).await?;
    let mut status = match client.ask(&Request::Status).await? {
        Reply::Status(status) => *status,
        other => return Err(unexpected(other)),
    };
    let mut next = Some(0);
    while let Some(from) = next {
        match client.ask(&Request::Peers { from }).await? {
            Reply::Peers(page) => {
                status.peer.extend(page.peer);
                status.user.extend(page.user);
                next = page.next;
            }
            other => return Err(unexpected(other)),
        }
    }
    Ok(status)
}

fn unexpected(reply: Reply) -> anyhow::Error {
    match reply {
        Reply::Error(refusal) => refusal.into(),
        _ => anyhow!("the daemon answered something else than was asked"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// Prints to standard output; a reader that went away (`weft status | head -1`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_reads_at_sight() {
        let mut pong = local_api::Pong {
            node: "nas".into(),
            address: "100.64.0.2".parse().unwrap(),
            endpoint: Some("10.0.1.2:41641".parse().unwrap()),
            micros: 2_300,
        };
        assert_eq!(pong_line(&pong), "pong from nas (100.64.0.2) via 10.0.1.2:41641 in 2.3ms");
        (pong.endpoint, pong.micros) = (None, 64_800);
        assert_eq!(pong_line(&pong), "pong from nas (100.64.0.2) via the mesh in 64ms");
    }
}
