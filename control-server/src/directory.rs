//! The one place where changes of the network happen: it commits them to the store and then tells the network.
//!
//! Changes come from sessions and from administrators. One task owns the store and runs what waits in one
//! transaction, each change in a savepoint of its own, so that many nodes can join at the price of one flush to
//! disk. Nobody gets an answer, and nobody is told of a change, before the transaction is committed.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use sqlx::Connection;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use weft_core::{control::ServerAddress, keys::ServerKey};

use crate::{
    lock::DataLock,
    network::{Initial, Network},
    refusal::Refusal,
    store::{
        Change, Effect, FILE_NAME, NETWORK, Policy, Store, Transaction, backup, server_keys, server_keys::ServerKeys,
    },
};

/// How many changes one transaction takes at most.
const BATCH: usize = 256;
/// How many changes may wait; whoever comes then waits too.
const QUEUE: usize = 4_096;
/// The domain of a new network.
const DOMAIN: &str = "weft.internal";

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that a test sets, in seconds since 1970.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// Now, in seconds since 1970.
    pub fn now(&self) -> u64 {
        match self {
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            Self::Manual(seconds) => seconds.load(Ordering::Relaxed),
        }
    }
}

/// What a directory is opened with.
#[derive(Clone, Debug, Default)]
pub struct DirectoryConfig {
    /// Rules of the store.
    pub policy: Policy,
    /// Where the time comes from.
    pub clock: Clock,
}

/// The network, its store and its rules.
#[derive(Debug)]
pub struct Directory {
    network: Mutex<Network>,
    keys: RwLock<ServerKeys>,
    jobs: mpsc::Sender<Message>,
    clock: Clock,
    session_ids: AtomicU64,
    urls: RwLock<Vec<ServerAddress>>,
    data: PathBuf,
}

impl Directory {
    /// Opens the data directory. The returned task ends after [`close`](Self::close).
    ///
    /// # Errors
    /// [`Refusal::Storage`] and [`Refusal::DiskFull`].
    pub async fn open(lock: DataLock, config: DirectoryConfig) -> Result<(Arc<Self>, JoinHandle<()>), Refusal> {
        let now = config.clock.now();
        let mut store = Store::open(&lock.directory().join(FILE_NAME)).await?;
        let row = store.network(NETWORK, DOMAIN, now).await?;
        let keys = store.server_keys(NETWORK, now).await?;
        let urls = store.urls(NETWORK).await?.iter().filter_map(|url| url.parse().ok()).collect();
        let nodes = store.nodes(NETWORK).await?;
        let tombstones = store.tombstones(NETWORK).await?;
        let network = Network::new(Initial { id: NETWORK, row, nodes, tombstones, now });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let directory = Arc::new(Self {
            network: Mutex::new(network),
            keys: RwLock::new(keys),
            jobs,
            clock: config.clock,
            session_ids: AtomicU64::new(1),
            urls: RwLock::new(urls),
            data: lock.directory().to_owned(),
        });
        let writer = Writer { store, directory: directory.clone(), policy: config.policy, broken: false, _lock: lock };
        Ok((directory, tokio::spawn(writer.run(queue))))
    }

    /// The network as it is now. Held for moments, never across an `await`.
    pub fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, in seconds since 1970.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The keys that the server answers to.
    pub fn keys(&self) -> ServerKeys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The public halves of the keys that the server answers to.
    pub fn public_keys(&self) -> Vec<ServerKey> {
        self.keys().all().map(server_keys::public).collect()
    }

    /// The addresses that join keys name.
    pub fn urls(&self) -> Vec<ServerAddress> {
        self.urls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Sets the addresses that join keys name, and keeps them.
    ///
    /// # Errors
    /// [`Refusal::Storage`] and [`Refusal::DiskFull`].
    pub async fn set_urls(&self, urls: Vec<ServerAddress>) -> Result<(), Refusal> {
        let texts = urls.iter().map(|url| url.as_str().to_owned()).collect();
        self.change(crate::store::networks::SetUrls { urls: texts }).await?;
        *self.urls.write().unwrap_or_else(PoisonError::into_inner) = urls;
        Ok(())
    }

    /// An id for a session.
    pub fn next_session_id(&self) -> u64 {
        self.session_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a change. When this returns, the change is on disk and those it concerns are being told.
    ///
    /// # Errors
    /// Why it was not made, and then nothing of it was.
    pub async fn change<C: Change>(&self, change: C) -> Result<C::Output, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.submit(Message::Job(Box::new(Pending { change: Some(change), outcome: None, reply }))).await?;
        answer.await.map_err(|_| Refusal::ShuttingDown)?
    }

    /// Writes a copy of the database to `file`, which must not be there yet.
    ///
    /// # Errors
    /// [`Refusal::Backup`], [`Refusal::Storage`] and [`Refusal::DiskFull`].
    pub async fn backup(&self, file: PathBuf) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.submit(Message::Backup(file, reply)).await?;
        answer.await.map_err(|_| Refusal::ShuttingDown)?
    }

    /// Makes what waits, closes the store, and refuses all that comes later.
    pub async fn close(&self) {
        // Closed already where this fails.
        let _ = self.jobs.send(Message::Close).await;
    }

    async fn submit(&self, message: Message) -> Result<(), Refusal> {
        self.jobs.send(message).await.map_err(|_| Refusal::ShuttingDown)
    }
}

enum Message {
    Job(Box<dyn Job>),
    Backup(PathBuf, oneshot::Sender<Result<(), Refusal>>),
    Close,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Job(_) => "Job",
            Self::Backup(..) => "Backup",
            Self::Close => "Close",
        })
    }
}

/// A change that waits, whatever its type.
trait Job: Send {
    /// Makes the change; the outcome is kept until the commit. An error is a failure of the store.
    fn run<'a>(
        &'a mut self,
        tx: &'a mut Transaction<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;

    /// Gives the outcome to who asked, or the failure of the commit.
    fn answer(self: Box<Self>, commit: Result<(), Refusal>);
}

struct Pending<C: Change> {
    change: Option<C>,
    outcome: Option<Result<C::Output, Refusal>>,
    reply: oneshot::Sender<Result<C::Output, Refusal>>,
}

impl<C: Change> Job for Pending<C> {
    fn run<'a>(
        &'a mut self,
        tx: &'a mut Transaction<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>> {
        Box::pin(async move {
            let Some(change) = self.change.take() else { return Ok(()) };
            let outcome = change.apply(tx).await;
            let refused = outcome.as_ref().err().cloned().map_or(Ok(()), Err);
            self.outcome = Some(outcome);
            refused
        })
    }

    fn answer(self: Box<Self>, commit: Result<(), Refusal>) {
        let outcome = match (self.outcome, commit) {
            (Some(Ok(output)), Ok(())) => Ok(output),
            (Some(Err(refusal)), _) => Err(refusal),
            (_, Err(failure)) => Err(failure),
            (None, Ok(())) => Err(Refusal::ShuttingDown),
        };
        // Who asked may be gone; the change stands.
        let _ = self.reply.send(outcome);
    }
}

/// The one who writes.
struct Writer {
    store: Store,
    directory: Arc<Directory>,
    policy: Policy,
    broken: bool,
    _lock: DataLock,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut waiting = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut waiting, BATCH).await > 0 {
            let mut jobs = Vec::new();
            let mut closing = false;
            for message in waiting.drain(..) {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Backup(file, reply) => {
                        let done = backup::write(self.store.connection(), &file).await;
                        let _ = reply.send(done);
                    }
                    Message::Close => closing = true,
                }
            }
            if !jobs.is_empty() {
                self.commit(jobs).await;
            }
            if closing {
                break;
            }
        }
        queue.close();
        if let Err(error) = self.store.close().await {
            tracing::warn!("closing the database: {error}");
        }
    }

    async fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let committed = self.try_commit(&mut jobs).await;
        if let Err(failure) = &committed {
            tracing::error!("{failure}");
            self.broken = true;
        }
        let done = committed.map(|effects| self.publish(effects));
        for job in jobs {
            job.answer(done.clone());
        }
    }

    async fn try_commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Vec<Effect>, Refusal> {
        if self.broken {
            self.store.reconnect().await?;
            self.broken = false;
        }
        let now = self.directory.now();
        let mut outer = self.store.connection().begin().await?;
        let mut effects = Vec::new();
        for job in jobs {
            let mut savepoint = outer.begin().await?;
            let mut tx = Transaction {
                connection: &mut savepoint,
                network: NETWORK,
                now,
                policy: &self.policy,
                effects: Vec::new(),
            };
            match job.run(&mut tx).await {
                Ok(()) => {
                    effects.append(&mut tx.effects);
                    savepoint.commit().await?;
                }
                Err(failure) if failure.is_storage_failure() => return Err(failure),
                Err(_) => savepoint.rollback().await?,
            }
        }
        outer.commit().await?;
        Ok(effects)
    }

    fn publish(&self, effects: Vec<Effect>) {
        for effect in &effects {
            if let Effect::ServerKeys(keys) = effect {
                *self.directory.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.clone();
            }
        }
        if !effects.is_empty() {
            self.directory.network().apply(effects);
        }
    }
}
