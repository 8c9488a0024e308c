//! One simulated node: a control connection, driven from registration on.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow, bail};
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, mpsc, watch},
};
use weft_core::{
    control::{
        ClientConfig, ClientConnection, ClientRecord, InstanceId, JoinKey, MAX_FRAME, ServerRecord,
        record::{Capacity, Delivery, Endpoint, Endpoints, Lookup, Register, Text},
    },
    crypto::{Crypto, RustCrypto},
    keys::{MachineSecret, NodeSecret},
    time::Instant,
};

use super::{Event, Order, Plan, node_name, responder::Responder};

/// How often a node tries to connect before it gives up; a server may refuse a few in a rush.
const ATTEMPTS: u32 = 8;

/// The first two bytes of the nodes' addresses. They have to be local, and they are not loopback's, since a node keeps
/// no peer's endpoint there.
pub const SOURCES: [u8; 2] = [10, 128];
/// Bytes that a node reads at once.
const INPUT: usize = 4 << 10;

/// What a node holds of the netmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Every peer.
    Everything,
    /// One peer, looked up by name.
    OnePeer,
    /// No peer.
    Nothing,
}

/// One simulated node.
#[derive(Debug)]
pub(super) struct Node {
    index: usize,
    /// The number of all nodes.
    of: usize,
    name: String,
    source: SocketAddr,
    key: JoinKey,
    holding: Holding,
    capacity: Option<u32>,
    machine: MachineSecret,
    node: NodeSecret,
    instance: InstanceId,
}

impl Node {
    /// The node of a number, with new keys.
    pub(super) fn new(index: usize, plan: &Plan) -> Self {
        let mut rng = UnwrapErr(SysRng);
        let [high, low] = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
        let holding = plan.holding(index);
        Self {
            index,
            of: plan.nodes,
            name: node_name(index),
            source: (Ipv4Addr::new(SOURCES[0], SOURCES[1], high, low), 0).into(),
            key: plan.key.clone(),
            holding,
            capacity: (holding != Holding::Everything).then_some(plan.capacity),
            machine: MachineSecret::generate(&mut rng),
            node: NodeSecret::generate(&mut rng),
            instance: InstanceId(rng.next_u64()),
        }
    }

    /// Joins when the gate opens, and stays connected until the swarm ends.
    pub(super) async fn run(
        self,
        gate: Arc<Semaphore>,
        orders: watch::Receiver<Order>,
        events: mpsc::UnboundedSender<Event>,
    ) {
        if let Err(error) = self.join_and_stay(gate, orders, &events).await {
            let _ = events.send(Event::Failed { node: self.index, reason: format!("{error:#}") });
        }
    }

    async fn join_and_stay(
        &self,
        gate: Arc<Semaphore>,
        mut orders: watch::Receiver<Order>,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<()> {
        let permit = gate.acquire().await?;
        let begin = std::time::Instant::now();
        let mut session = Session::open(self).await?;
        session.register(self).await?;
        drop(permit);
        let mut ready = false;
        let mut responder: Option<Responder> = None;
        loop {
            tokio::select! {
                served = serve(&mut responder) => served?,
                changed = orders.changed() => {
                    changed?;
                    let order = orders.borrow_and_update().clone();
                    match order {
                        Order::Hold(name) if self.holding == Holding::OnePeer => session.look_up(&name).await?,
                        Order::Answer { nodes, peer, address } if self.index + nodes >= self.of => {
                            let new = Responder::bind(self.source.ip(), &self.node, &peer, address).await?;
                            let local = [Endpoint(new.endpoint()?)];
                            session.send(&Endpoints { local: (&local).into() }.into()).await?;
                            responder = Some(new);
                            let _ = events.send(Event::Answers);
                        }
                        _ => {}
                    }
                }
                received = session.receive() => {
                    received?;
                    while let Some(Received { record, bytes }) = session.next()? {
                        let _ = events.send(Event::Bytes { node: self.index, count: bytes });
                        let now_ready = match record {
                            Said::Registered { whole } => !whole,
                            Said::NetmapComplete => true,
                            Said::Upsert(name) => {
                                let _ = events.send(Event::Upsert { name, at_micros: unix_micros() });
                                false
                            }
                            Said::Found => {
                                let _ = events.send(Event::Holds);
                                false
                            }
                            Said::Nothing => false,
                        };
                        if now_ready && !ready {
                            ready = true;
                            let _ = events.send(Event::Ready(begin.elapsed()));
                        }
                    }
                }
            }
            session.transmit().await?;
        }
    }
}

/// Serves the responder, for ever where there is none.
async fn serve(responder: &mut Option<Responder>) -> Result<()> {
    match responder {
        Some(responder) => responder.serve().await,
        None => std::future::pending().await,
    }
}

/// A record as the swarm needs it.
struct Received {
    record: Said,
    /// Bytes on the wire since the record before.
    bytes: u64,
}

enum Said {
    Registered { whole: bool },
    NetmapComplete,
    Upsert(Box<str>),
    Found,
    Nothing,
}

/// A control connection with its socket.
struct Session {
    stream: TcpStream,
    connection: ClientConnection,
    input: Vec<u8>,
    /// Bytes of `input` that the connection has taken.
    taken: usize,
    uncounted: u64,
}

impl Session {
    async fn open(node: &Node) -> Result<Self> {
        let address = node.key.addresses().next().context("the join key names no server")?;
        let target =
            SocketAddr::new(address.host().parse().context("the server's address is no IP address")?, address.port());
        let mut attempt = 0;
        let stream = loop {
            let socket = TcpSocket::new_v4()?;
            socket.bind(node.source)?;
            match socket.connect(target).await {
                Ok(stream) => break stream,
                Err(error) if attempt == ATTEMPTS => return Err(error).context("cannot connect to the server"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50 << attempt)).await,
            }
            attempt += 1;
        };
        stream.set_nodelay(true)?;
        let config = ClientConfig {
            address,
            server: *node.key.server_key(),
            machine: node.machine.clone(),
            machine_key: node.machine.public::<<RustCrypto as Crypto>::Dh>(),
        };
        let connection = ClientConnection::new(config, now(), &mut UnwrapErr(SysRng));
        let mut session = Self { stream, connection, input: Vec::with_capacity(INPUT), taken: 0, uncounted: 0 };
        session.transmit().await?;
        while !session.connection.is_open() {
            session.receive().await?;
            if session.next()?.is_some() {
                bail!("the server sent a record before the node registered");
            }
            session.transmit().await?;
        }
        Ok(session)
    }

    async fn register(&mut self, node: &Node) -> Result<()> {
        let node_key = node.node.public::<<RustCrypto as Crypto>::Dh>();
        let proof = self
            .connection
            .prove_node_key::<<RustCrypto as Crypto>::Dh>(&node.node, &node_key)
            .map_err(|_| anyhow!("the server's key is of low order"))?
            .context("the channel is not open")?;
        let register = Register {
            node_key,
            proof,
            join_secret: Some(node.key.secret().clone()),
            instance: node.instance,
            hostname: Text::cut(&node.name),
            os: Text::cut("linux"),
            agent: Text::cut(env!("CARGO_PKG_VERSION")),
            capacity: node.capacity.map(|peers| Capacity { peers: Some(peers), routes: None }),
            resume: None,
            network: None,
        };
        self.send(&register.into()).await
    }

    async fn look_up(&mut self, name: &str) -> Result<()> {
        let lookup = Lookup { request: 1, address: None, node_key: None, name: Some(Text::cut(name)) };
        self.send(&lookup.into()).await
    }

    async fn send(&mut self, record: &ClientRecord<'_>) -> Result<()> {
        let mut frame = [0; MAX_FRAME];
        let len = self.connection.send::<RustCrypto>(record, &mut frame, now()).map_err(|error| anyhow!("{error}"))?;
        Ok(self.stream.write_all(frame.get(..len).unwrap_or_default()).await?)
    }

    /// Sends what the protocol itself has to say.
    async fn transmit(&mut self) -> Result<()> {
        let mut frame = [0; MAX_FRAME];
        loop {
            while self.connection.needs_step() {
                self.connection.step::<RustCrypto>().map_err(|error| anyhow!("{error}"))?;
            }
            let len = self.connection.transmit::<RustCrypto>(&mut frame, now());
            if len == 0 {
                return Ok(());
            }
            self.stream.write_all(frame.get(..len).unwrap_or_default()).await?;
        }
    }

    /// Waits for bytes from the server, or for a deadline of the connection. May be dropped at any time.
    async fn receive(&mut self) -> Result<()> {
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
        let due = self.connection.poll_timeout().map(|at| at.saturating_since(now()));
        tokio::select! {
            read = self.stream.read_buf(&mut self.input) => {
                if read? == 0 {
                    bail!("the server closed the connection");
                }
            }
            () = tokio::time::sleep(due.unwrap_or(Duration::MAX)) => {
                self.connection.handle_timeout(now()).map_err(|error| anyhow!("{error}"))?;
            }
        }
        Ok(())
    }

    /// The next record among the bytes received.
    fn next(&mut self) -> Result<Option<Received>> {
        loop {
            let mut rest = self.input.get(self.taken..).unwrap_or_default();
            let before = rest.len();
            let record = self.connection.receive::<RustCrypto>(&mut rest, now()).map_err(|error| anyhow!("{error}"))?;
            let taken = before - rest.len();
            self.taken += taken;
            self.uncounted += taken as u64;
            let Some(record) = record else {
                // A step of the handshake may be due before the rest can be read.
                if self.connection.needs_step() {
                    self.connection.step::<RustCrypto>().map_err(|error| anyhow!("{error}"))?;
                    continue;
                }
                return Ok(None);
            };
            let record = match record {
                ServerRecord::Registered(registered) => {
                    Said::Registered { whole: registered.node.delivery == Delivery::Whole }
                }
                ServerRecord::SnapshotEnd(_) => Said::NetmapComplete,
                ServerRecord::PeerUpsert(peer) => Said::Upsert(peer.name.as_str().into()),
                ServerRecord::LookupResult(result) if result.id.is_some() => Said::Found,
                ServerRecord::LookupResult(_) => bail!("the server does not know the peer that was looked up"),
                ServerRecord::Error(error) => bail!("the server says: {}", error.sentence),
                _ => Said::Nothing,
            };
            return Ok(Some(Received { record, bytes: std::mem::take(&mut self.uncounted) }));
        }
    }
}

pub(crate) fn now() -> Instant {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    Instant::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

fn unix_micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
