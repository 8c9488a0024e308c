//! The daemon's end of the local API: the socket, who is asking, and the lines.
//!
//! Anybody on the machine may connect and read; root, the daemon's own user and the operator may change things. The
//! caller's user comes from the kernel (`SO_PEERCRED`), never from what the caller says. What a request does is the
//! daemon's business: it gets each as a [`Call`].

use std::{
    cell::Cell,
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use zeroize::Zeroizing;

use super::{MAX_REQUEST, Refusal, RefusalKind, Reply, Request};

/// How many connections of those who may change things are served at a time, and how many of all others. Apart, so
/// that nobody keeps the owner of the machine out.
const MAX_CONNECTIONS: usize = 32;

/// A request and where its answer goes. A dropped `reply` tells the caller that the daemon went away.
#[derive(Debug)]
pub struct Call {
    /// What is asked; the caller was allowed to.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another daemon answers at the socket.
    #[error("another weft daemon already serves {path}; stop it first, or give this one another --socket and --state")]
    Occupied {
        /// The socket.
        path: PathBuf,
    },
    /// There is something at the path that is no socket.
    #[error("{path} is not a socket; give another --socket, or move that file away")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot listen on {path}: {cause}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        cause: io::Error,
    },
}

/// The listening socket; the file goes when this is dropped.
#[derive(Debug)]
pub struct LocalApi {
    listener: UnixListener,
    path: PathBuf,
    operator: Rc<Cell<Option<u32>>>,
}

impl LocalApi {
    /// Listens on `path`. A socket that a killed daemon left is replaced, one that answers is not.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |cause| BindError::Io { path: path.into(), cause };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket { path: path.into() }),
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(BindError::Occupied { path: path.into() });
            }
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Reading is for everybody; what changes things is decided by the caller's user.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
        Ok(Self { listener, path: path.into(), operator: Rc::default() })
    }

    /// The user who, besides root and the daemon's own user, may change things. The cell may be set at any time.
    pub fn operator(&self) -> Rc<Cell<Option<u32>>> {
        Rc::clone(&self.operator)
    }

    /// Serves connections until `calls` is closed. Has to run inside a `LocalSet`.
    pub async fn serve(&self, calls: mpsc::Sender<Call>) {
        let places = Places::new();
        while !calls.is_closed() {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("cannot accept a local connection: {error}");
                    // Out of file descriptors: accepting again at once would only spin.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(caller) = stream.peer_cred().map(|caller| caller.uid()) else { continue };
            let owner = may_change(caller, own_user(), self.operator.get());
            let Some(place) = places.take(owner) else {
                tracing::debug!("user {caller} is turned away: too many local connections");
                continue;
            };
            let (calls, operator) = (calls.clone(), self.operator());
            tokio::task::spawn_local(async move {
                if let Err(error) = converse(stream, caller, &calls, &operator).await {
                    tracing::debug!("a local connection ended: {error}");
                }
                drop(place);
            });
        }
    }
}

/// Room for connections, for the owners of the machine apart from all others.
#[derive(Debug)]
struct Places {
    owners: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Places {
    fn new() -> Self {
        let room = || Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { owners: room(), others: room() }
    }

    /// A place until it is dropped; `None` where there is none.
    fn take(&self, owner: bool) -> Option<OwnedSemaphorePermit> {
        Arc::clone(if owner { &self.owners } else { &self.others }).try_acquire_owned().ok()
    }
}

impl Drop for LocalApi {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Whether the user `caller` may change things.
fn may_change(caller: u32, daemon: u32, operator: Option<u32>) -> bool {
    caller == 0 || caller == daemon || operator == Some(caller)
}

async fn converse(
    mut stream: UnixStream,
    caller: u32,
    calls: &mpsc::Sender<Call>,
    operator: &Cell<Option<u32>>,
) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    // A line may hold a join key.
    let mut line = Zeroizing::new(Vec::new());
    loop {
        line.clear();
        let read = (&mut reading).take(MAX_REQUEST as u64).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        if read == MAX_REQUEST && line.last() != Some(&b'\n') {
            let refusal = Refusal::new(RefusalKind::BadRequest, "the request is too long");
            return write(&mut writing, &Reply::Error(refusal)).await;
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Err(error) => Reply::Error(Refusal::new(
                RefusalKind::BadRequest,
                format!(
                    "the daemon does not understand the request ({error}); is it another version than this command?"
                ),
            )),
            Ok(request) if request.changes() && !may_change(caller, own_user(), operator.get()) => {
                Reply::Error(Refusal::new(
                    RefusalKind::Denied,
                    "only root and the operator may do that; use sudo, or let root run `weft up --operator USER` once",
                ))
            }
            Ok(request) => {
                let (reply, answer) = oneshot::channel();
                let gone = || io::Error::other("the daemon is stopping");
                calls.send(Call { request, reply }).await.map_err(|_| gone())?;
                // A caller that hangs up while it waits must not hold its place.
                tokio::select! {
                    answer = answer => answer.map_err(|_| gone())?,
                    read = reading.fill_buf() => match read {
                        Ok([]) | Err(_) => return Ok(()),
                        Ok(_) => {
                            let refusal = Refusal::new(RefusalKind::BadRequest, "one request at a time");
                            return write(&mut writing, &Reply::Error(refusal)).await;
                        }
                    },
                }
            }
        };
        write(&mut writing, &reply).await?;
    }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

async fn write(stream: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tokio::task::LocalSet;

    use super::*;
    use crate::local_api::client;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test)
    }

    /// A daemon that answers every call with its version.
    fn daemon(path: &Path) {
        let api = LocalApi::bind(path).unwrap();
        let (calls, mut queue) = mpsc::channel::<Call>(1);
        tokio::task::spawn_local(async move { api.serve(calls).await });
        tokio::task::spawn_local(async move {
            while let Some(call) = queue.recv().await {
                let _ = call.reply.send(Reply::Version("test".into()));
            }
        });
    }

    async fn ask(path: &Path, line: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(line).await.unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn a_line_is_answered_by_a_line() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("run/weft.sock");
            daemon(&path);
            assert_eq!(ask(&path, b"{\"method\":\"version\"}\n").await, "{\"version\":\"test\"}\n");
            let reply = client::Client::connect(&path).await.unwrap().ask(&Request::Version).await.unwrap();
            assert!(matches!(reply, Reply::Version(version) if version == "test"));
        });
    }

    #[test]
    fn garbage_and_endless_lines_get_a_refusal() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("weft.sock");
            daemon(&path);
            for line in [&b"\xff\xfe\n"[..], b"{}\n", b"{\"method\":\"frobnicate\"}\n", &[b'a'; MAX_REQUEST]] {
                assert!(ask(&path, line).await.contains("bad-request"));
            }
        });
    }

    #[test]
    fn the_socket_is_open_to_read_and_a_second_daemon_is_refused() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("weft.sock");
            daemon(&path);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
            assert!(matches!(LocalApi::bind(&path), Err(BindError::Occupied { .. })));
        });
    }

    #[test]
    fn the_socket_of_a_killed_daemon_is_replaced_and_a_file_is_not() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("weft.sock");
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            assert!(path.exists());
            drop(LocalApi::bind(&path).unwrap());
            assert!(!path.exists());
            fs::write(&path, "precious").unwrap();
            assert!(matches!(LocalApi::bind(&path), Err(BindError::NotASocket { .. })));
            assert_eq!(fs::read(&path).unwrap(), b"precious");
        });
    }

    #[test]
    fn connections_that_idle_keep_no_owner_out() {
        let places = Places::new();
        let mut idle: Vec<_> = (0..MAX_CONNECTIONS).map(|_| places.take(false).unwrap()).collect();
        assert!(places.take(false).is_none());
        assert!(places.take(true).is_some());
        idle.pop();
        assert!(places.take(false).is_some());
    }

    #[test]
    fn one_connection_too_many_is_turned_away_and_the_next_is_served() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("weft.sock");
            daemon(&path);
            let mut served = Vec::new();
            for _ in 0..MAX_CONNECTIONS {
                let mut client = client::Client::connect(&path).await.unwrap();
                client.ask(&Request::Version).await.unwrap();
                served.push(client);
            }
            let mut one_more = client::Client::connect(&path).await.unwrap();
            let refused = one_more.ask(&Request::Version).await.unwrap_err();
            assert!(matches!(refused, client::ClientError::Closed), "{refused}");
            drop(served);
            // The daemon sees the ends in its own time.
            while client::Client::connect(&path).await.unwrap().ask(&Request::Version).await.is_err() {}
        });
    }

    #[test]
    fn root_the_daemons_user_and_the_operator_may_change_things() {
        assert!(may_change(0, 990, None));
        assert!(may_change(990, 990, None));
        assert!(may_change(1000, 0, Some(1000)));
        assert!(!may_change(1000, 0, None));
        assert!(!may_change(1001, 0, Some(1000)));
    }
}
