//! A server on loopback, and nodes that are core's client half over real TCP.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "shared by test programs that each use a part"
)]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant as Monotonic},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use weft_control::{
    Clock, DataLock, Directory, Server, ServerConfig,
    admin::{Command, KeyCreated, Outcome},
    random,
};
use weft_core::{
    control::{
        ClientConfig, ClientConnection, ClientError, ClientRecord, ErrorCode, InstanceId, JoinKey, JoinSecret,
        MAX_FRAME, NodeId, Revision, ServerRecord,
        record::{Capacity, Register, Text},
    },
    crypto::{Crypto, RustCrypto},
    keys::{MachineSecret, NodeKey, NodeSecret},
    time::Instant,
};

pub type Dh = <RustCrypto as Crypto>::Dh;

/// Longer than anything takes that happens at all.
pub const LIMIT: Duration = Duration::from_secs(20);
/// A time that the tests begin at.
pub const START: u64 = 1_800_000_000;

/// A server in a folder of its own, on a clock that the test sets.
pub struct TestServer {
    pub server: Option<Server>,
    pub clock: Arc<AtomicU64>,
    pub folder: TempDir,
    pub address: SocketAddr,
    change: fn(&mut ServerConfig),
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: fn(&mut ServerConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let mut server = Self { server: None, clock, folder, address, change };
        server.run().await;
        server.command(Command::UserCreate { name: "ada".to_owned() }).await.unwrap();
        server
    }

    /// Starts it in its folder, at the address that it had before.
    pub async fn run(&mut self) {
        let url = format!(
            "http://{}",
            if self.address.port() == 0 { "127.0.0.1:1".to_owned() } else { self.address.to_string() }
        );
        let mut config = ServerConfig::new(self.address, vec![url.parse().unwrap()]);
        config.directory.clock = Clock::Manual(self.clock.clone());
        config.housekeeping_interval = Duration::from_millis(50);
        (self.change)(&mut config);
        let server = Server::start(DataLock::take(self.folder.path()).unwrap(), config).await.unwrap();
        self.address = server.address();
        self.server = Some(server);
    }

    pub async fn stop(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    pub fn directory(&self) -> &Directory {
        self.server.as_ref().unwrap().directory()
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// What an administrator asks for, over the socket.
    pub async fn command(&self, command: Command) -> Result<Outcome, String> {
        weft_control::admin::client::run(self.data(), command).await.map_err(|error| error.to_string())
    }

    pub async fn key(&self) -> JoinKey {
        self.key_with(false, false, &[], None).await.0
    }

    pub async fn reusable_key(&self) -> JoinKey {
        self.key_with(true, false, &[], None).await.0
    }

    pub async fn key_with(
        &self,
        reusable: bool,
        ephemeral: bool,
        tags: &[&str],
        valid_for: Option<u64>,
    ) -> (JoinKey, u64) {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let create = Command::KeyCreate { user: "ada".to_owned(), reusable, ephemeral, tags, valid_for };
        match self.command(create).await.unwrap() {
            Outcome::KeyCreated(KeyCreated { key, entry }) => (key.parse().unwrap(), entry.id),
            other => panic!("{other:?}"),
        }
    }

    /// A machine that has joined with a key of its own.
    pub async fn node(&self, name: &str) -> Connected {
        let key = self.key().await;
        Machine::new(name).join(self, &key).await.unwrap()
    }

    pub async fn rename(&self, node: &str, name: &str) -> Result<Outcome, String> {
        self.command(Command::NodeRename { node: node.to_owned(), name: name.to_owned() }).await
    }

    pub async fn remove(&self, node: &str) -> Result<Outcome, String> {
        self.command(Command::NodeRemove { node: node.to_owned() }).await
    }

    pub async fn nodes(&self) -> Vec<weft_control::admin::NodeView> {
        match self.command(Command::NodeList).await.unwrap() {
            Outcome::Nodes(nodes) => nodes,
            other => panic!("{other:?}"),
        }
    }
}

/// What a machine keeps.
#[derive(Clone)]
pub struct Machine {
    pub machine: MachineSecret,
    pub node: NodeSecret,
    pub hostname: String,
    pub instance: InstanceId,
    pub capacity: Option<u32>,
    pub resume: Option<Revision>,
    /// Changes the node key that is registered, not the proof.
    pub claimed_node_key: Option<NodeKey>,
}

/// Why a machine is not connected.
#[derive(Debug, PartialEq, Eq)]
pub enum Failed {
    /// The server said so.
    Refused(ErrorCode, String),
    /// The connection failed.
    Broken(ClientError),
    /// The server closed it.
    Closed,
}

impl Failed {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(code, sentence) => {
                assert!(sentence.len() > 20, "a sentence for a person: {sentence}");
                *code
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Machine {
    pub fn new(hostname: &str) -> Self {
        let mut rng = random::system();
        Self {
            machine: MachineSecret::generate(&mut rng),
            node: NodeSecret::generate(&mut rng),
            hostname: hostname.to_owned(),
            instance: InstanceId(random::number()),
            capacity: None,
            resume: None,
            claimed_node_key: None,
        }
    }

    pub fn node_key(&self) -> NodeKey {
        self.node.public::<Dh>()
    }

    pub async fn join(&self, server: &TestServer, key: &JoinKey) -> Result<Connected, Failed> {
        self.connect(server.address, key, Some(key.secret().clone())).await
    }

    /// Connects as a machine that the server knows.
    pub async fn come_back(&self, server: &TestServer) -> Result<Connected, Failed> {
        let keys = server.directory().keys();
        let key = JoinKey::new(keys.public(), JoinSecret::from_bytes([0; 16]), &server.directory().urls()).unwrap();
        self.connect(server.address, &key, None).await
    }

    pub async fn connect(
        &self,
        address: SocketAddr,
        key: &JoinKey,
        join_secret: Option<JoinSecret>,
    ) -> Result<Connected, Failed> {
        let mut link = Link::open(address, key, &self.machine).await?;
        let node_key = self.node_key();
        let proof = link.client.prove_node_key::<Dh>(&self.node, &node_key).unwrap().unwrap();
        let hostname = self.hostname.clone();
        link.send(
            &Register {
                node_key: self.claimed_node_key.unwrap_or(node_key),
                proof,
                join_secret,
                instance: self.instance,
                hostname: Text::cut(&hostname),
                os: Text::cut("linux"),
                agent: Text::cut("0.1.0"),
                capacity: self.capacity.map(|peers| Capacity { peers: Some(peers), ..Capacity::default() }),
                resume: self.resume,
                network: self.resume.map(|_| weft_control::store::NETWORK),
            }
            .into(),
        )
        .await;
        let mut connected = Connected { machine: self.clone(), link, log: Vec::new(), netmap: Netmap::default() };
        while connected.netmap.me.is_none() {
            connected.next().await?;
        }
        Ok(connected)
    }
}

/// One control connection of a node.
pub struct Link {
    pub client: ClientConnection,
    pub stream: TcpStream,
    began: Monotonic,
    input: Vec<u8>,
}

impl Link {
    pub async fn open(address: SocketAddr, key: &JoinKey, machine: &MachineSecret) -> Result<Self, Failed> {
        let stream = TcpStream::connect(address).await.unwrap();
        let config = ClientConfig {
            address: key.addresses().next().unwrap(),
            server: *key.server_key(),
            machine: machine.clone(),
            machine_key: machine.public::<Dh>(),
        };
        let client = ClientConnection::new(config, Instant::ZERO, &mut random::system());
        let mut link = Self { client, stream, began: Monotonic::now(), input: Vec::new() };
        while !link.client.is_open() {
            while link.client.needs_step() {
                link.client.step::<RustCrypto>().map_err(Failed::Broken)?;
            }
            link.pump().await;
            if !link.client.is_open() && !link.client.needs_step() {
                link.advance(|_| ()).await?;
            }
        }
        Ok(link)
    }

    pub fn now(&self) -> Instant {
        Instant::from_micros(self.began.elapsed().as_micros() as u64)
    }

    pub async fn pump(&mut self) {
        let mut out = [0; MAX_FRAME];
        loop {
            let now = self.now();
            let len = self.client.transmit::<RustCrypto>(&mut out, now);
            if len == 0 {
                return;
            }
            // A server that is gone is noticed when reading.
            let _ = self.stream.write_all(&out[..len]).await;
        }
    }

    pub async fn send(&mut self, record: &ClientRecord<'_>) {
        let mut out = [0; MAX_FRAME];
        let now = self.now();
        let len = self.client.send::<RustCrypto>(record, &mut out, now).unwrap();
        let _ = self.stream.write_all(&out[..len]).await;
    }

    /// Reads until one record came or, where the connection is not open yet, something happened.
    pub async fn advance<R>(&mut self, take: impl FnOnce(ServerRecord<'_>) -> R) -> Result<Option<R>, Failed> {
        let mut take = Some(take);
        loop {
            let now = self.now();
            let mut rest = &self.input[..];
            let before = rest.len();
            let received = self.client.receive::<RustCrypto>(&mut rest, now).map_err(Failed::Broken)?;
            let consumed = before - rest.len();
            let got = received.map(|record| (take.take().unwrap())(record));
            self.input.drain(..consumed);
            self.pump().await;
            if got.is_some() || !self.client.is_open() && self.client.needs_step() {
                return Ok(got);
            }
            if !self.input.is_empty() {
                continue;
            }
            let mut buffer = [0; 4_096];
            match timeout(LIMIT, self.stream.read(&mut buffer)).await.expect("the server says something") {
                Ok(0) | Err(_) => return Err(Failed::Closed),
                Ok(len) => self.input.extend_from_slice(&buffer[..len]),
            }
        }
    }
}

/// A peer, as a node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    pub id: NodeId,
    pub name: String,
    pub node_key: NodeKey,
    pub addresses: Vec<String>,
    pub user: Option<String>,
    pub tags: Vec<String>,
    pub key_expiry: Option<u64>,
}

/// A node, as it knows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfView {
    pub id: NodeId,
    pub name: String,
    pub node_key: NodeKey,
    pub addresses: Vec<String>,
    pub on_demand: bool,
    pub key_expiry: Option<u64>,
    pub user: Option<String>,
    pub tags: Vec<String>,
}

/// What a node holds, kept as the protocol says.
#[derive(Clone, Debug, Default)]
pub struct Netmap {
    pub me: Option<SelfView>,
    pub peers: BTreeMap<u32, PeerView>,
    marked: Option<Vec<u32>>,
    pub revision: Option<Revision>,
    pub snapshots: usize,
    pub removals: usize,
}

/// Something else that a node was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Netmap,
    UpTo,
    Status { id: NodeId, online: bool, last_seen: Option<u64>, endpoints: Vec<SocketAddr> },
    Found { request: u32, id: Option<NodeId> },
    Health { subject: u16, sentence: String },
    ServerNext { key: Option<weft_core::keys::ServerKey>, addresses: Vec<String> },
    Other,
}

/// A registered node.
pub struct Connected {
    pub machine: Machine,
    pub link: Link,
    pub log: Vec<Told>,
    pub netmap: Netmap,
}

impl Connected {
    /// Takes the next record.
    pub async fn next(&mut self) -> Result<Told, Failed> {
        let netmap = &mut self.netmap;
        let told = self.link.advance(|record| netmap.apply(record)).await?.expect("a record")?;
        self.log.push(told.clone());
        Ok(told)
    }

    /// Takes records until `done`.
    pub async fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let taken = async {
            while !done(self) {
                if let Err(error) = self.next().await {
                    panic!("waiting for {what}: {error:?}");
                }
            }
        };
        timeout(LIMIT, taken).await.unwrap_or_else(|_| panic!("{what} did not happen"));
    }

    /// Takes records until the connection ends, and returns why.
    pub async fn ended(&mut self) -> Failed {
        let end = async {
            loop {
                if let Err(end) = self.next().await {
                    return end;
                }
            }
        };
        timeout(LIMIT, end).await.expect("the server ends the connection")
    }

    /// Takes records until the netmap is whole.
    pub async fn synced(mut self) -> Self {
        self.until("a netmap", |node| node.netmap.revision.is_some()).await;
        self
    }

    pub async fn sees(&mut self, names: &[&str]) {
        let mut names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        self.until(&format!("peers {names:?}"), |node| node.peer_names() == names).await;
    }

    pub fn me(&self) -> &SelfView {
        self.netmap.me.as_ref().unwrap()
    }

    pub fn peer_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.netmap.peers.values().map(|peer| peer.name.clone()).collect();
        names.sort();
        names
    }

    pub fn peer(&self, name: &str) -> &PeerView {
        self.netmap.peers.values().find(|peer| peer.name == name).unwrap_or_else(|| panic!("no peer {name}"))
    }

    pub async fn send(&mut self, record: impl Into<ClientRecord<'_>>) {
        self.link.send(&record.into()).await;
    }

    /// The machine as it is after this connection, with what it keeps.
    pub fn kept(&self) -> Machine {
        Machine { resume: self.netmap.revision, ..self.machine.clone() }
    }
}

impl Netmap {
    fn apply(&mut self, record: ServerRecord<'_>) -> Result<Told, Failed> {
        let strings = |list: weft_core::control::record::List<'_, Text<'_>>| -> Vec<String> {
            list.iter().map(|text| text.as_str().to_owned()).collect()
        };
        let me = |info: weft_core::control::record::SelfInfo<'_>| SelfView {
            id: info.id,
            name: info.name.as_str().to_owned(),
            node_key: info.node_key,
            addresses: info.addresses.iter().map(|address| address.0.to_string()).collect(),
            on_demand: info.delivery == weft_core::control::Delivery::OnDemand,
            key_expiry: info.key_expiry.map(|expiry| expiry.secs()),
            user: info.user.map(|user| user.as_str().to_owned()),
            tags: strings(info.tags),
        };
        Ok(match record {
            ServerRecord::Registered(registered) => {
                self.me = Some(me(registered.node));
                Told::Other
            }
            ServerRecord::SelfChanged(info) => {
                self.me = Some(me(info));
                Told::Netmap
            }
            ServerRecord::PeerUpsert(peer) => {
                if let Some(marked) = &mut self.marked {
                    marked.push(peer.id.0);
                }
                let view = PeerView {
                    id: peer.id,
                    name: peer.name.as_str().to_owned(),
                    node_key: peer.node_key,
                    addresses: peer.addresses.iter().map(|address| address.0.to_string()).collect(),
                    user: peer.user.map(|user| user.as_str().to_owned()),
                    tags: strings(peer.tags),
                    key_expiry: peer.key_expiry.map(|expiry| expiry.secs()),
                };
                self.peers.insert(peer.id.0, view);
                Told::Netmap
            }
            ServerRecord::PeerRemove(removal) => {
                self.peers.remove(&removal.id.0);
                self.removals += 1;
                Told::Netmap
            }
            ServerRecord::SnapshotBegin(_) => {
                self.marked = Some(Vec::new());
                Told::Netmap
            }
            ServerRecord::SnapshotEnd(end) => {
                let marked = self.marked.take().unwrap();
                self.peers.retain(|id, _| marked.contains(id));
                self.revision = Some(end.revision);
                self.snapshots += 1;
                Told::Netmap
            }
            ServerRecord::UpTo(up_to) => {
                self.revision = Some(up_to.revision);
                Told::UpTo
            }
            ServerRecord::PeerStatus(status) => Told::Status {
                id: status.id,
                online: status.online,
                last_seen: status.last_seen.map(|at| at.secs()),
                endpoints: status.endpoints.iter().map(|endpoint| endpoint.0).collect(),
            },
            ServerRecord::LookupResult(result) => Told::Found { request: result.request, id: result.id },
            ServerRecord::Health(health) => {
                Told::Health { subject: health.subject, sentence: health.sentence.as_str().to_owned() }
            }
            ServerRecord::ServerNext(next) => Told::ServerNext { key: next.key, addresses: strings(next.addresses) },
            ServerRecord::Error(error) => {
                return Err(Failed::Refused(error.code, error.sentence.as_str().to_owned()));
            }
            ServerRecord::Ping(_) | ServerRecord::Pong(_) | ServerRecord::Time(_) => Told::Other,
        })
    }
}

/// Waits until `done`, looking again and again: for what nothing announces.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}
