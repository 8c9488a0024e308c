//! The process of the simulated nodes, seen from the benchmark.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use weft_hil::{process::output, swarm::SOURCES};

use super::server::release;

/// On-demand nodes that hold the node that is changed.
pub(super) const HOLDERS: u16 = 20;

/// The process of the simulated nodes.
#[derive(Debug)]
pub(super) struct Swarm {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// How a change arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) time: Duration,
    pub(super) full_bytes: u64,
    pub(super) holder_bytes: u64,
    pub(super) other_bytes: u64,
}

impl Swarm {
    /// Starts the nodes; returns how they joined.
    pub(super) fn start(key: &Path, nodes: u16, full: u16, capacity: u32) -> Result<(Self, serde_json::Value)> {
        // Every address of theirs is one of this machine.
        let [high, low] = SOURCES;
        output(Command::new("ip").args(["route", "replace", "local", &format!("{high}.{low}.0.0/16"), "dev", "lo"]))?;
        let holders = HOLDERS.min(nodes.saturating_sub(full + 1));
        let mut command = Command::new(release("weft-swarm"));
        command.arg("--key").arg(key).args(["--nodes", &nodes.to_string(), "--full", &full.to_string()]);
        command.args(["--holders", &holders.to_string(), "--capacity", &capacity.to_string()]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start weft-swarm")?;
        let orders = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let mut swarm = Self { child, orders, answers };
        let joined = swarm.answer()?;
        Ok((swarm, joined))
    }

    pub(super) fn order(&mut self, order: &str) -> Result<serde_json::Value> {
        writeln!(self.orders, "{order}").context("the simulated nodes are gone")?;
        self.answer()
    }

    /// Awaits a change to `name` that `make` makes.
    pub(super) fn change(&mut self, name: &str, make: impl FnOnce() -> Result<()>) -> Result<Arrived> {
        writeln!(self.orders, "change {name}").context("the simulated nodes are gone")?;
        let begin = SystemTime::now().duration_since(UNIX_EPOCH)?;
        make()?;
        let arrived = self.answer()?;
        Ok(Arrived {
            time: micros(&arrived, "last_micros")?.saturating_sub(begin),
            full_bytes: number(&arrived, "full_bytes")?,
            holder_bytes: number(&arrived, "holder_bytes")?,
            other_bytes: number(&arrived, "other_bytes")?,
        })
    }

    fn answer(&mut self) -> Result<serde_json::Value> {
        let line = self.answers.next().context("the simulated nodes ended; what they said is above")??;
        serde_json::from_str(&line).with_context(|| format!("the simulated nodes said {line:?}"))
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn micros(value: &serde_json::Value, name: &str) -> Result<Duration> {
    number(value, name).map(Duration::from_micros)
}

pub(super) fn number(value: &serde_json::Value, name: &str) -> Result<u64> {
    value.get(name).and_then(serde_json::Value::as_u64).with_context(|| format!("the answer has no {name}: {value}"))
}
