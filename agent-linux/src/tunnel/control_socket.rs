//! The Unix socket that `wg(8)` configures a device through: `/var/run/wireguard/DEV.sock`.
//!
//! Connections are served by tasks of their own that read requests and write answers; the requests themselves go
//! through a channel to the one task that owns the device.

use std::{
    fs, io,
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Mode, inotify};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use zeroize::Zeroizing;

use super::uapi::{MAX_LINE, Request, RequestParser, UapiError, write_status};
use crate::polled_fd::PolledFd;

/// Where WireGuard's tools look for the sockets of devices.
pub(super) const DIRECTORY: &str = "/var/run/wireguard";

/// A request, and where its answer goes.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    /// Takes the lines of the report, wiped when they are written.
    pub(super) reply: oneshot::Sender<Result<Zeroizing<String>, UapiError>>,
}

/// The listening socket, and its file, which is removed on drop.
#[derive(Debug)]
pub(super) struct ControlSocket {
    path: PathBuf,
    /// Device and inode of the socket's file, to tell it from one that somebody else put in its place.
    identity: (u64, u64),
    deletions: PolledFd,
    calls: mpsc::Receiver<Call>,
    task: JoinHandle<()>,
}

impl ControlSocket {
    /// Listens for requests that concern `device`. Call it inside a tokio runtime.
    pub(super) fn bind(directory: &Path, device: &str) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        let path = directory.join(format!("{device}.sock"));
        let listener = listen(&path)?;
        let identity = identity(&path)?;

        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, &path, inotify::WatchFlags::ATTRIB | inotify::WatchFlags::DELETE_SELF)?;

        let (sender, calls) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream, sender.clone()))),
                    // Out of descriptors: some connection will end and give one back.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Self { path, identity, deletions: PolledFd::new(watch)?, calls, task })
    }

    /// The next request; `None` once the socket's file is removed, by which some tools end a device. Loses nothing
    /// where it is dropped.
    pub(super) async fn call(&mut self) -> io::Result<Option<Call>> {
        let Self { path, identity, deletions, calls, .. } = self;
        tokio::select! {
            call = calls.recv() => Ok(call),
            result = removed(path, *identity, deletions) => result.map(|()| None),
        }
    }
}

/// Waits until the file is not there any more, or is another one. The watch was set when it was there.
async fn removed(path: &Path, ours: (u64, u64), deletions: &PolledFd) -> io::Result<()> {
    let mut events = [0; 4_096];
    loop {
        deletions.readable().await?;
        while deletions.try_read(&mut events)?.is_some() {}
        if !identity(path).is_ok_and(|identity| identity == ours) {
            return Ok(());
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Listens under a name of its own first: `wg` removes a socket that it finds bound and not yet listening.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let unready = path.with_extension(std::process::id().to_string());
    let listener = listen_privately(&unready)?;
    let named = give_name(&unready, path);
    fs::remove_file(&unready)?;
    named.map(|()| listener)
}

fn give_name(unready: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unready, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Either somebody serves this device, or somebody was killed before he could clean up.
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            fs::remove_file(path)?;
            fs::hard_link(unready, path)
        }
        result => result,
    }
}

/// Listens with a mode that lets nobody else in, not even for a moment: what is said there are keys.
fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    // Linux gives the file the mode of the socket, less the umask.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        // Left behind by a process that had this number before.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        result => result?,
    }
    socket.listen(16)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))
}

/// Serves one connection until its end, or until it says something that is no request.
async fn serve(mut stream: UnixStream, calls: mpsc::Sender<Call>) {
    let mut parser = RequestParser::default();
    let mut lines = Lines::default();
    while let Ok(Some(line)) = lines.next(&mut stream).await {
        let began = parser.is_inside_request();
        let outcome = match parser.line(&line, &interface_index) {
            Ok(None) => continue,
            Ok(Some(request)) => {
                let (reply, answer) = oneshot::channel();
                if calls.send(Call { request, reply }).await.is_err() {
                    return;
                }
                match answer.await {
                    Ok(outcome) => outcome,
                    Err(_) => return,
                }
            }
            Err(_) if !began => return,
            Err(error) => Err(error),
        };
        let mut text = match &outcome {
            // Room for the status, so that no copy of the report is left behind by growing.
            Ok(report) => Zeroizing::new(String::with_capacity(report.len() + 32) + report.as_str()),
            Err(error) => {
                tracing::warn!("refused a request: {error}");
                Zeroizing::new(String::new())
            }
        };
        write_status(&mut text, outcome.as_ref().map(drop));
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn interface_index(name: &str) -> Option<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None).ok()?;
    rustix::net::netdevice::name_to_index(socket.as_fd(), name).ok()
}

/// Lines of a stream, in memory that is wiped, since some of them are keys.
#[derive(Default)]
struct Lines {
    buffer: Zeroizing<Vec<u8>>,
    /// Bytes of the buffer that were handed out.
    taken: usize,
}

impl Lines {
    async fn next(&mut self, stream: &mut UnixStream) -> io::Result<Option<Zeroizing<String>>> {
        loop {
            let rest = &self.buffer[self.taken..];
            if let Some(len) = rest.iter().position(|byte| *byte == b'\n') {
                let line = std::str::from_utf8(&rest[..len]).map_err(io::Error::other)?;
                let line = Zeroizing::new(line.to_owned());
                self.taken += len + 1;
                return Ok(Some(line));
            }
            if rest.len() > MAX_LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            // The buffer never grows past its first allocation, which would leave a copy behind.
            let rest_len = rest.len();
            self.buffer.copy_within(self.taken.., 0);
            self.taken = 0;
            self.buffer.resize(8 * MAX_LINE, 0);
            let read = stream.read(&mut self.buffer[rest_len..]).await?;
            self.buffer.truncate(rest_len + read);
            if read == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn ask(path: &Path, text: &str) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        let mut answer = String::new();
        // A connection that is refused may be reset before all was written or read.
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    /// Answers every request with a line that says what it was.
    async fn echo(mut socket: ControlSocket) {
        while let Some(call) = socket.call().await.unwrap() {
            let text = match call.request {
                Request::Get => "private_key=00\n".to_owned(),
                Request::Set(change) => format!("listen_port={:?}\n", change.listen_port),
            };
            call.reply.send(Ok(text.into())).unwrap();
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn requests_are_answered_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(dir.path(), "wg7").unwrap();
        let path = dir.path().join("wg7.sock");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let server = tokio::spawn(echo(socket));
        let answer = ask(&path, "set=1\nlisten_port=5\n\nget=1\n\nset=1\nlisten_port=x\n\n").await;
        assert_eq!(answer, "listen_port=Some(5)\nerrno=0\n\nprivate_key=00\nerrno=0\n\nerrno=-22\n\n");
        assert_eq!(ask(&path, "shutdown\n").await, "");
        assert_eq!(ask(&path, &"x".repeat(100_000)).await, "");
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        assert!(!path.exists(), "the socket's file is removed");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_long_request_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut socket = ControlSocket::bind(dir.path(), "wg7").unwrap();
        let path = dir.path().join("wg7.sock");
        let mut request = format!("set=1\npublic_key={}\n", "ab".repeat(32));
        (0..=u16::MAX).for_each(|i| request += &format!("allowed_ip=10.7.{}.{}/32\n", i >> 8, i & 0xff));
        request += "\n";
        let client = tokio::spawn(async move { ask(&path, &request).await });
        let call = socket.call().await.unwrap().unwrap();
        let Request::Set(change) = call.request else { panic!("not a set request") };
        assert_eq!(change.peers[0].allowed_ips.len(), 65_536);
        call.reply.send(Ok(String::new().into())).unwrap();
        assert_eq!(client.await.unwrap(), "errno=0\n\n");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_socket_in_use_is_refused_and_a_stale_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wg7.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = ControlSocket::bind(dir.path(), "wg7").unwrap();
        let error = ControlSocket::bind(dir.path(), "wg7").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the socket itself lies there");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn removing_the_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut socket = ControlSocket::bind(dir.path(), "wg7").unwrap();
        let (call, _) = tokio::join!(socket.call(), async { fs::remove_file(dir.path().join("wg7.sock")) });
        assert!(call.unwrap().is_none());
    }
}
