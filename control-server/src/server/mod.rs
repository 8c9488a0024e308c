//! The running server: its port, its administrators' socket, its housekeeping, and how it stops.

mod housekeeping;
mod http;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use weft_core::control::{JoinKey, JoinSecret, ServerAddress};

use crate::{
    admin,
    admission::Admission,
    directory::{Directory, DirectoryConfig},
    lock::DataLock,
    refusal::Refusal,
};

/// How long an accept that failed for want of descriptors or memory waits before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long data may stay unacknowledged before the kernel gives a connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that wait in the kernel.
const BACKLOG: i32 = 4_096;
/// How long sessions have to say goodbye when the server stops.
const GOODBYE: Duration = Duration::from_secs(4);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// The addresses that nodes reach the server at, for join keys.
    pub urls: Vec<ServerAddress>,
    /// How many connections there may be that have not proven who they are.
    pub unproven_connections: usize,
    /// How long an ephemeral node stays after it went offline.
    pub ephemeral_grace: Duration,
    /// How often housekeeping looks around.
    pub housekeeping_interval: Duration,
    /// Rules of the store, and the clock.
    pub directory: DirectoryConfig,
}

impl ServerConfig {
    /// The defaults for a server that listens on `listen`.
    pub fn new(listen: SocketAddr, urls: Vec<ServerAddress>) -> Self {
        Self {
            listen,
            urls,
            unproven_connections: 2_048,
            ephemeral_grace: Duration::from_secs(5 * 60),
            housekeeping_interval: Duration::from_secs(5),
            directory: DirectoryConfig::default(),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] Refusal),
    /// The port cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The addresses for join keys do not fit into one.
    #[error(
        "the --url addresses do not fit into a join key: give fewer or shorter ones (about 200 characters together)"
    )]
    Urls,
    /// The administrators' socket cannot be made.
    #[error("cannot make the socket for administrators in the data directory: {0}")]
    AdminSocket(io::Error),
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    directory: Arc<Directory>,
    address: SocketAddr,
    admission: Arc<Admission>,
    tasks: Vec<JoinHandle<()>>,
    writer: JoinHandle<()>,
}

impl Server {
    /// Starts a server in a data directory.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(lock: DataLock, config: ServerConfig) -> Result<Self, StartError> {
        let listener = listen(config.listen).map_err(|error| StartError::Listen(config.listen, error))?;
        let address = listener.local_addr().map_err(|error| StartError::Listen(config.listen, error))?;
        let (directory, writer) = Directory::open(lock, config.directory.clone()).await?;
        if JoinKey::new(directory.keys().public(), JoinSecret::from_bytes([0; 16]), &config.urls).is_err() {
            return Err(StartError::Urls);
        }
        if directory.urls() != config.urls {
            directory.set_urls(config.urls.clone()).await?;
        }
        let admission = Admission::new(config.unproven_connections);
        let tasks = vec![
            admin::socket::listen(directory.clone()).map_err(StartError::AdminSocket)?,
            tokio::spawn(housekeeping::run(directory.clone(), config)),
            tokio::spawn(accept(listener, directory.clone(), admission.clone())),
        ];
        Ok(Self { directory, address, admission, tasks, writer })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The network.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// How many connections have not proven who they are.
    pub fn unproven_connections(&self) -> usize {
        self.admission.count()
    }

    /// Waits until the server cannot go on: its store is gone, which is a fault in this program.
    pub async fn failed(&mut self) {
        if let Err(error) = (&mut self.writer).await {
            tracing::error!("the writer of the store failed: {error}");
        }
    }

    /// Stops: says goodbye to the nodes, makes what was asked for, and closes the store.
    pub async fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        admin::socket::remove(self.directory.data());
        self.directory.network().end_all(&Refusal::ShuttingDown);
        let goodbye = tokio::time::Instant::now() + GOODBYE;
        while self.directory.network().online_count() > 0 && tokio::time::Instant::now() < goodbye {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        housekeeping::save_last_seen(&self.directory).await;
        self.directory.close().await;
        if let Err(error) = self.writer.await {
            tracing::error!("the writer of the store failed: {error}");
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections as long as the server runs. Nothing that one connection does ends it.
async fn accept(listener: TcpListener, directory: Arc<Directory>, admission: Arc<Admission>) {
    let router = http::router(directory);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory, or the connection was gone already.
                tracing::warn!("cannot take a connection: {error}");
                admission.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A socket for both kinds of addresses shows IPv4 ones inside IPv6.
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%from, "cannot set up a connection: {error}");
            continue;
        }
        let slot = admission.admit(from.ip()).await;
        connections.spawn(http::serve(router.clone(), stream, from, slot));
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(600)))?;
    Ok(())
}
