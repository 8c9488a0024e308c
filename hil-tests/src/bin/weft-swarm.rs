//! Simulated nodes in a process of their own, for `cargo xtask bench control`.
//!
//! It joins all nodes, prints how that went, and then obeys one order a line on standard input: `hold NAME` makes the
//! holders look up a peer, `change NAME` awaits that a peer gets this name, `answer COUNT KEY ADDRESS` makes so many nodes
//! answer a peer's handshakes. Each answer is one line of JSON.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use weft_hil::swarm::{Plan, Swarm};

/// How long one order may take.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
struct Arguments {
    /// A file with a reusable join key
    #[arg(long)]
    key: std::path::PathBuf,
    #[arg(long)]
    nodes: usize,
    #[arg(long)]
    full: usize,
    #[arg(long)]
    holders: usize,
    #[arg(long)]
    capacity: u32,
    #[arg(long, default_value_t = 64)]
    parallel: usize,
    /// How long all joins together may take, in seconds
    #[arg(long, default_value_t = 600)]
    limit: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { key, nodes, full, holders, capacity, parallel, limit } = Arguments::parse();
    weft_hil::process::raise_open_files()?;
    let text = std::fs::read_to_string(&key).with_context(|| format!("cannot read {}", key.display()))?;
    let key = text.trim().parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let plan = Plan { key, nodes, full, holders, capacity, parallel };
    let target = plan.target();
    let (mut swarm, joined) = Swarm::join(plan, Duration::from_secs(limit)).await?;
    answer(&json!({
        "target": target,
        "total_micros": joined.total.as_micros() as u64,
        "median_micros": joined.median.as_micros() as u64,
        "slowest_percent_micros": joined.slowest_percent.as_micros() as u64,
    }));
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        match order.split_once(' ') {
            Some(("hold", name)) => {
                swarm.hold(name, LIMIT).await?;
                answer(&json!({}));
            }
            Some(("change", name)) => {
                let arrived = swarm.change(name, LIMIT).await?;
                answer(&json!({
                    "last_micros": arrived.last_micros,
                    "concerned": arrived.concerned,
                    "full_bytes": arrived.full_bytes,
                    "holder_bytes": arrived.holder_bytes,
                    "other_bytes": arrived.other_bytes,
                }));
            }
            Some(("answer", peer)) => {
                let mut words = peer.split_whitespace();
                let (Some(nodes), Some(key), Some(address)) = (words.next(), words.next(), words.next()) else {
                    bail!("an order to answer has a number, a node key and an address");
                };
                let key = key.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
                let names = swarm.answer(nodes.parse()?, key, address.parse()?, LIMIT).await?;
                answer(&json!({ "names": names }));
            }
            _ => bail!("unknown order {order:?}"),
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answers are this program's output")]
fn answer(value: &Value) {
    println!("{value}");
}
