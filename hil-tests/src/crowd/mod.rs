//! A crowd: thousands of nodes in one network namespace, each of them core's node with keys, a UDP port and a control
//! connection of its own, and room for two peers, which it looks up when it needs them.
//!
//! All of them share one thread. They answer pings, and send them when told to.

mod echo;
mod member;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::LocalSet,
};
use weft_core::{control::JoinKey, keys::NodeKey};

use crate::{lab::Host, process::raise_open_files};

use member::Member;

/// How many join at the same time.
const PARALLEL: usize = 32;
/// The first node's UDP port; each further node has the next one.
const FIRST_PORT: u16 = 20_000;

/// Nodes that live until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    nodes: Vec<Handle>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// One node, seen from outside.
#[derive(Debug)]
struct Handle {
    card: Card,
    orders: mpsc::UnboundedSender<Order>,
    initiations: Arc<AtomicU64>,
}

/// Who a node is, once it is a member.
#[derive(Clone, Copy, Debug)]
struct Card {
    key: NodeKey,
    address: Ipv4Addr,
}

/// What a node is told to do.
#[derive(Debug)]
enum Order {
    /// To send echo requests until one is answered.
    Ping { to: Ipv4Addr, limit: Duration, answered: oneshot::Sender<bool> },
}

/// What a node is made of.
struct Plan {
    name: String,
    key: JoinKey,
    local: SocketAddr,
    orders: mpsc::UnboundedReceiver<Order>,
    initiations: Arc<AtomicU64>,
    joined: oneshot::Sender<Card>,
    gate: Arc<Semaphore>,
}

impl Crowd {
    /// Joins `count` nodes on `host` with a reusable key, and waits until all are members.
    pub fn join(host: &Host, key: &str, count: u16, limit: Duration) -> Result<Self> {
        raise_open_files()?;
        let key: JoinKey = key.parse().map_err(|error| anyhow!("{error}"))?;
        let gate = Arc::new(Semaphore::new(PARALLEL));
        let (mut plans, mut nodes) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (orders, taken) = mpsc::unbounded_channel();
            let (joined, card) = oneshot::channel();
            let initiations = Arc::new(AtomicU64::new(0));
            plans.push(Plan {
                name: format!("crowd-{number}"),
                key: key.clone(),
                local: (host.ipv4(), FIRST_PORT + number).into(),
                orders: taken,
                initiations: initiations.clone(),
                joined,
                gate: gate.clone(),
            });
            nodes.push((orders, card, initiations));
        }
        let namespace = host.namespace();
        let thread = std::thread::spawn(move || namespace.enter(move || run(plans))?);
        let mut crowd = Self { nodes: Vec::new(), thread: Some(thread) };
        let end = Instant::now() + limit;
        for (number, (orders, mut card, initiations)) in nodes.into_iter().enumerate() {
            let card = loop {
                match card.try_recv() {
                    Ok(card) => break card,
                    Err(oneshot::error::TryRecvError::Closed) => return Err(crowd.failure(number)),
                    Err(_) => ensure!(Instant::now() < end, "node {number} of the crowd did not join within {limit:?}"),
                }
                std::thread::sleep(crate::wait::INTERVAL);
            };
            crowd.nodes.push(Handle { card, orders, initiations });
        }
        Ok(crowd)
    }

    /// A node's mesh address.
    pub fn address(&self, number: usize) -> Result<Ipv4Addr> {
        Ok(self.node(number)?.card.address)
    }

    /// A node's public key.
    pub fn key(&self, number: usize) -> Result<NodeKey> {
        Ok(self.node(number)?.card.key)
    }

    /// Initiations that a node has sent so far; one that goes to several endpoints counts once.
    pub fn initiations(&self, number: usize) -> Result<u64> {
        Ok(self.node(number)?.initiations.load(Ordering::Acquire))
    }

    /// Lets a node send echo requests until one is answered; says whether that came within `limit`.
    pub fn ping(&self, number: usize, to: Ipv4Addr, limit: Duration) -> Result<bool> {
        let (answered, answer) = oneshot::channel();
        let order = Order::Ping { to, limit, answered };
        self.node(number)?.orders.send(order).map_err(|_| anyhow!("node {number} of the crowd has ended"))?;
        answer.blocking_recv().with_context(|| format!("node {number} of the crowd ended while it pinged"))
    }

    /// Why a node has ended.
    fn failure(&mut self, number: usize) -> anyhow::Error {
        let why = self.thread.take().and_then(|thread| thread.join().ok()).and_then(Result::err);
        why.unwrap_or_else(|| anyhow!("nobody needs it")).context(format!("node {number} of the crowd ended"))
    }

    fn node(&self, number: usize) -> Result<&Handle> {
        self.nodes.get(number).with_context(|| format!("the crowd has no node {number}"))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Nobody can give orders any more: the nodes end.
        self.nodes.clear();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs all nodes until nobody can give them orders any more.
fn run(plans: Vec<Plan>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut tasks = tokio::task::JoinSet::new();
        for plan in plans {
            let socket = StdUdpSocket::bind(plan.local).with_context(|| format!("cannot bind {}", plan.local))?;
            tasks.spawn_local(async move { Member::new(plan, socket)?.run().await });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    })
}
