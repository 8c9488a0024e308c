//! Simulated nodes: thousands of control connections from one process, each with keys of its own.
//!
//! They are core's client half on real TCP and have no WireGuard device. Each connects from an address of its own, in
//! 10.128.0.0/16, so that a server sees as many hosts as there are nodes; the machine has to hold that range as local. The first `full` of them hold every peer, the others a
//! few, and of those the first `holders` hold one peer that a change will be made to.
//!
//! This is the load of `cargo xtask bench control`; the binary `weft-swarm` runs it.

mod node;
mod responder;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use weft_core::{control::JoinKey, keys::NodeKey};

pub use node::SOURCES;
pub(crate) use node::now;
pub(crate) use responder::unix_now;

use node::{Holding, Node};

/// So long without an event means that everything sent has arrived.
const QUIET: Duration = Duration::from_millis(300);

/// How many nodes and of which kinds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The reusable join key that they all use.
    pub key: JoinKey,
    /// All nodes.
    pub nodes: usize,
    /// Those of them that hold every peer.
    pub full: usize,
    /// Those of the others that hold the peer that will change.
    pub holders: usize,
    /// How many peers the others declare that they can hold.
    pub capacity: u32,
    /// How many join at the same time.
    pub parallel: usize,
}

/// How the nodes joined.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    /// From the first connection to the last node with its netmap.
    pub total: Duration,
    /// From a node's connection to its netmap, the median.
    pub median: Duration,
    /// The same for the slowest of a hundred.
    pub slowest_percent: Duration,
}

/// How one change arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrived {
    /// When the last of those concerned had it, in microseconds since 1970.
    pub last_micros: u64,
    /// Nodes concerned: the full ones and the holders.
    pub concerned: usize,
    /// Bytes that the full nodes received, together.
    pub full_bytes: u64,
    /// Bytes that the holders received, together.
    pub holder_bytes: u64,
    /// Bytes that all others received, together, without the changed node itself.
    pub other_bytes: u64,
}

/// What a node does beside staying connected; every node sees every order.
#[derive(Clone, Debug, Default)]
enum Order {
    #[default]
    Join,
    /// Holders look up the peer of this name.
    Hold(Arc<str>),
    /// So many nodes, the last ones, answer the handshakes of one peer.
    Answer { nodes: usize, peer: NodeKey, address: IpAddr },
}

/// What a node tells.
#[derive(Debug)]
enum Event {
    /// It has its netmap.
    Ready(Duration),
    /// It holds the peer that it looked up.
    Holds,
    /// It answers handshakes, and told the server where.
    Answers,
    /// A peer upsert with this name came.
    Upsert { name: Box<str>, at_micros: u64 },
    /// A record of so many bytes on the wire came.
    Bytes { node: usize, count: u64 },
    /// Its connection ended.
    Failed { node: usize, reason: String },
}

/// A running swarm.
#[derive(Debug)]
pub struct Swarm {
    plan: Plan,
    orders: watch::Sender<Order>,
    events: mpsc::UnboundedReceiver<Event>,
    _nodes: JoinSet<()>,
}

impl Swarm {
    /// Starts all nodes and waits until each has its netmap.
    pub async fn join(plan: Plan, limit: Duration) -> Result<(Self, Joined)> {
        ensure!(plan.nodes < 1 << 16, "a swarm has at most 65,535 nodes");
        ensure!(
            plan.nodes > plan.capacity as usize,
            "the nodes' capacity holds the whole mesh, so all of them are full"
        );
        ensure!(plan.full + plan.holders < plan.nodes, "there are fewer nodes than full nodes and holders");
        let begin = Instant::now();
        let (sender, events) = mpsc::unbounded_channel();
        let (orders, order) = watch::channel(Order::Join);
        let gate = Arc::new(Semaphore::new(plan.parallel));
        let mut nodes = JoinSet::new();
        for index in 0..plan.nodes {
            nodes.spawn(Node::new(index, &plan).run(gate.clone(), order.clone(), sender.clone()));
        }
        let mut swarm = Self { plan, orders, events, _nodes: nodes };
        let mut times = Vec::with_capacity(swarm.plan.nodes);
        let end = Instant::now() + limit;
        while times.len() < swarm.plan.nodes {
            match swarm.event(end).await {
                Ok(Event::Ready(time)) => times.push(time),
                Ok(_) => {}
                Err(error) => {
                    return Err(error.context(format!("{} of {} nodes joined", times.len(), swarm.plan.nodes)));
                }
            }
        }
        let total = begin.elapsed();
        times.sort();
        let slower_than = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        Ok((swarm, Joined { total, median: slower_than(50), slowest_percent: slower_than(99) }))
    }

    /// Makes the holders look up the peer of this name and waits until each holds it.
    pub async fn hold(&mut self, name: &str, limit: Duration) -> Result<()> {
        self.orders.send_replace(Order::Hold(name.into()));
        let end = Instant::now() + limit;
        let mut holders = 0;
        while holders < self.plan.holders {
            match self.event(end).await {
                Ok(Event::Holds) => holders += 1,
                Ok(_) => {}
                Err(error) => {
                    return Err(error.context(format!("{holders} of {} nodes hold {name}", self.plan.holders)));
                }
            }
        }
        self.forget().await
    }

    /// Makes so many nodes, the last ones, answer the handshakes of one peer; returns their names.
    pub async fn answer(
        &mut self,
        nodes: usize,
        peer: NodeKey,
        address: IpAddr,
        limit: Duration,
    ) -> Result<Vec<String>> {
        self.orders.send_replace(Order::Answer { nodes, peer, address });
        let end = Instant::now() + limit;
        let mut answering = 0;
        while answering < nodes {
            match self.event(end).await {
                Ok(Event::Answers) => answering += 1,
                Ok(_) => {}
                Err(error) => return Err(error.context(format!("{answering} of {nodes} nodes answer handshakes"))),
            }
        }
        Ok((self.plan.nodes.saturating_sub(nodes)..self.plan.nodes).map(node_name).collect())
    }

    /// Waits until nothing has arrived for a while, and forgets what did.
    async fn forget(&mut self) -> Result<()> {
        loop {
            match timeout(QUIET, self.events.recv()).await {
                Err(_) => return Ok(()),
                Ok(Some(Event::Failed { node, reason })) => bail!("node {node} lost its connection: {reason}"),
                Ok(_) => {}
            }
        }
    }

    /// Waits until every node concerned received the peer under its new name, and then a little longer, so that what
    /// was sent to others is counted too.
    pub async fn change(&mut self, name: &str, limit: Duration) -> Result<Arrived> {
        let mut arrived = Arrived { concerned: self.plan.full + self.plan.holders, ..Arrived::default() };
        let end = Instant::now() + limit;
        let mut have = 0;
        while have < arrived.concerned {
            match self.event(end).await {
                Ok(event) => have += usize::from(self.count(event, name, &mut arrived)),
                Err(error) => {
                    return Err(error.context(format!("{have} of {} nodes learned of {name}", arrived.concerned)));
                }
            }
        }
        while let Ok(event) = timeout(QUIET, self.events.recv()).await {
            self.count(event.context("no node is left")?, name, &mut arrived);
        }
        Ok(arrived)
    }

    /// Adds what an event says; whether it is the change at a node concerned.
    fn count(&self, event: Event, name: &str, arrived: &mut Arrived) -> bool {
        match event {
            Event::Upsert { name: new, at_micros } if *new == *name => {
                arrived.last_micros = arrived.last_micros.max(at_micros);
                true
            }
            Event::Bytes { node, count } => {
                match self.plan.holding(node) {
                    Holding::Everything => arrived.full_bytes += count,
                    Holding::OnePeer => arrived.holder_bytes += count,
                    Holding::Nothing if node + 1 == self.plan.nodes => {}
                    Holding::Nothing => arrived.other_bytes += count,
                }
                false
            }
            _ => false,
        }
    }

    async fn event(&mut self, end: Instant) -> Result<Event> {
        match timeout(end.saturating_duration_since(Instant::now()), self.events.recv()).await {
            Ok(Some(Event::Failed { node, reason })) => bail!("node {node} lost its connection: {reason}"),
            Ok(Some(event)) => Ok(event),
            Ok(None) => bail!("no node is left"),
            Err(_) => bail!("the time is over"),
        }
    }
}

impl Plan {
    /// What a node of this number holds.
    fn holding(&self, index: usize) -> Holding {
        if index < self.full {
            Holding::Everything
        } else if index < self.full + self.holders {
            Holding::OnePeer
        } else {
            Holding::Nothing
        }
    }

    /// The name of the node that changes are made to: the last one.
    pub fn target(&self) -> String {
        node_name(self.nodes.saturating_sub(1))
    }
}

fn node_name(index: usize) -> String {
    format!("node-{index:05}")
}
