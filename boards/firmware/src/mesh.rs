//! What the firmware says of its mesh: in the log, and on the status page.

use core::net::Ipv4Addr;

use defmt::{error, info, warn};
use heapless::String;
use weft_embassy::{Event, Node, Problem, Server};

use crate::{
    http::{Answer, Gone},
    stack,
};

/// Tells every event in the log, for ever.
pub(crate) async fn log(node: Node) -> ! {
    let mut first = true;
    loop {
        match node.next_event().await {
            Event::Joined(address) => info!("joined as {}, stack {=usize} bytes deep", address, stack::high_water()),
            Event::AddressChanged(address) => info!("the mesh address is {} now", address),
            Event::PeerUp(address) if first => {
                first = false;
                info!("first session, with {}, stack {=usize} bytes deep", address, stack::high_water());
            }
            Event::PeerUp(address) => info!("session with {}", address),
            Event::ServerAway => warn!("the control server does not answer; known peers stay reachable"),
            Event::ServerBack => info!("registered with the control server"),
            Event::Refused(code) => {
                let told =
                    node.last_error(|_, sentence| warn!("the control server refused ({}): {=str}", code, sentence));
                if told.is_none() {
                    warn!("the control server refused ({})", code);
                }
            }
            Event::Left => warn!("no member of the mesh any more"),
            Event::Problem(None) => info!("what was in the way is so no more"),
            Event::Problem(Some(problem)) => error!("{=str}", sentence(problem)),
            _ => {}
        }
    }
}

fn sentence(problem: Problem) -> &'static str {
    match problem {
        Problem::NoJoinKey => "no join key: write one to the provisioning page, or build the image with WEFT_JOIN_KEY",
        Problem::JoinKeyUnreadable => "the join key is not one: copy the whole line that the server printed",
        Problem::NoEntropy => "no seed in flash and too little noise: provision a seed; no keys are made from nothing",
        Problem::Flash => "the flash cannot be used; nothing is begun that would not outlast a reset",
        Problem::KeyExpired => "this node's key expired: give it a new join key, or renew it on the control server",
        _ => "a problem that this firmware has no words for",
    }
}

/// The rows of the mesh in the status page's table.
pub(crate) async fn rows(node: &Node, answer: &mut Answer<'_, '_>) -> Result<(), Gone> {
    let status = node.status();
    if let Some(address) = status.address {
        answer.write(format_args!("<tr><th>Mesh address<td>{address}\n")).await?;
    }
    let server = match status.server {
        Server::Off => "not wanted",
        Server::Waiting => "away",
        Server::Connecting => "connecting",
        Server::Registered => "registered",
    };
    let counters = node.counters();
    answer.write(format_args!("<tr><th>Control server<td>{server}\n")).await?;
    answer.write(format_args!("<tr><th>Packets<td>{} in, {} out\n", counters.received, counters.sent)).await?;
    if let Some(problem) = status.problem {
        answer.write(format_args!("<tr><th>Problem<td>{}\n", sentence(problem))).await?;
    }
    answer.write(format_args!("<tr><th>Peers<td>{}, {} active\n", status.peers, status.active)).await?;
    for number in 0..usize::from(status.peers) {
        let Some(Row { name, address, connected, bytes }) = row(node, number) else { break };
        let connected = if connected { "connected" } else { "idle" };
        answer.write(format_args!("<tr><th>{name}<td>{address}, {connected}, {bytes} bytes received\n")).await?;
    }
    Ok(())
}

/// The peer of this number. One at a time: a list of all would be the largest thing in the server's memory.
fn row(node: &Node, number: usize) -> Option<Row> {
    let (mut row, mut seen) = (None, 0);
    node.peers(|peer| {
        if seen == number {
            // A name has at most 63 bytes.
            let name = String::try_from(peer.name).unwrap_or_default();
            let address = peer.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            row = Some(Row { name, address, connected: peer.connected, bytes: peer.received_bytes });
        }
        seen += 1;
    });
    row
}

struct Row {
    name: String<63>,
    address: Ipv4Addr,
    connected: bool,
    bytes: u64,
}
