//! The TCP connection to the control server: connects, carries bytes both ways, says why it ended.
//!
//! When to connect and what the bytes mean is `weft-core`'s business.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use tokio::{
    io::Interest,
    net::{TcpStream, lookup_host},
    time::timeout,
};
use weft_core::control::ServerAddress;

/// For one address of the server; it may have several.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the whole way from a name to a connection.
const SETUP_TIMEOUT: Duration = Duration::from_secs(15);
/// After so long without an acknowledgement for what was sent, the connection is dead.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// How much may wait for a slow server, in bytes.
const MAX_QUEUED: usize = 64 * 1024;

/// What happened to the connection.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// It is open, to this address.
    Connected(SocketAddr),
    /// So many bytes came, at the start of the buffer.
    Received(usize),
    /// It could not be made, or ended. The sentence is for the owner of the machine.
    Closed(String),
}

type Connecting = Pin<Box<dyn Future<Output = Result<TcpStream, String>>>>;

enum State {
    Idle,
    Connecting(Connecting),
    Open { stream: TcpStream, queue: VecDeque<u8> },
}

/// At most one TCP connection to a control server.
pub(super) struct ControlLink {
    state: State,
}

impl fmt::Debug for ControlLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Idle => "ControlLink(idle)",
            State::Connecting(_) => "ControlLink(connecting)",
            State::Open { .. } => "ControlLink(open)",
        })
    }
}

impl ControlLink {
    pub(super) const fn new() -> Self {
        Self { state: State::Idle }
    }

    /// Begins to connect to `address`, in place of whatever was there.
    pub(super) fn connect(&mut self, address: &ServerAddress) {
        let address = address.clone();
        self.state = State::Connecting(Box::pin(async move {
            match timeout(SETUP_TIMEOUT, connect(&address)).await {
                Ok(connected) => connected,
                Err(_) => Err(format!("the control server {address} does not answer")),
            }
        }));
    }

    /// Closes the connection without an event.
    pub(super) fn close(&mut self) {
        self.state = State::Idle;
    }

    /// Whether there is neither a connection nor an attempt at one.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether [`send`](Self::send) takes more now. What it does not take stays with the caller.
    pub(super) fn has_room(&self) -> bool {
        matches!(&self.state, State::Open { queue, .. } if queue.len() < MAX_QUEUED)
    }

    /// Whether everything that was sent is with the kernel.
    #[cfg(test)]
    pub(super) fn is_flushed(&self) -> bool {
        !matches!(&self.state, State::Open { queue, .. } if !queue.is_empty())
    }

    /// Sends `bytes`, now as far as the kernel takes them, the rest as [`event`](Self::event) runs.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if let State::Open { stream, queue } = &mut self.state {
            queue.extend(bytes);
            // An error shows again when the connection is read.
            let _ = write_queued(stream, queue);
        }
    }

    /// Waits for the next event; received bytes are put into `buffer`. Loses nothing where it is dropped.
    pub(super) async fn event(&mut self, buffer: &mut [u8]) -> LinkEvent {
        let event = match &mut self.state {
            State::Idle => std::future::pending().await,
            State::Connecting(connecting) => match connecting.await {
                Ok(stream) => {
                    let peer = stream.peer_addr();
                    self.state = State::Open { stream, queue: VecDeque::new() };
                    match peer {
                        Ok(peer) => LinkEvent::Connected(peer),
                        Err(error) => LinkEvent::Closed(lost(&error)),
                    }
                }
                Err(sentence) => LinkEvent::Closed(sentence),
            },
            State::Open { stream, queue } => match exchange(stream, queue, buffer).await {
                Ok(0) => LinkEvent::Closed("the control server closed the connection".into()),
                Ok(len) => LinkEvent::Received(len),
                Err(error) => LinkEvent::Closed(lost(&error)),
            },
        };
        if matches!(event, LinkEvent::Closed(_)) {
            self.state = State::Idle;
        }
        event
    }
}

fn lost(error: &io::Error) -> String {
    format!("the connection to the control server broke: {error}")
}

/// Writes what waits and waits for something to read. Zero at the end of the stream.
async fn exchange(stream: &TcpStream, queue: &mut VecDeque<u8>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let interest = if queue.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let ready = stream.ready(interest).await?;
        if ready.is_writable() {
            write_queued(stream, queue)?;
        }
        if ready.is_readable() {
            match stream.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

fn write_queued(stream: &TcpStream, queue: &mut VecDeque<u8>) -> io::Result<()> {
    while !queue.is_empty() {
        match stream.try_write(queue.as_slices().0) {
            Ok(len) => _ = queue.drain(..len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn connect(address: &ServerAddress) -> Result<TcpStream, String> {
    if address.is_tls() {
        return Err(format!(
            "this version of weft speaks to control servers by http only, which is encrypted all the same; {address} \
             is https: give the server an http:// --url and make a new join key"
        ));
    }
    let found = match address.host().parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, address.port())],
        Err(_) => lookup_host((address.host(), address.port()))
            .await
            .map_err(|error| format!("the name of the control server {} is not found: {error}", address.host()))?
            .collect(),
    };
    let mut last = format!("the name of the control server {} has no address", address.host());
    for to in found {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => {
                let socket = socket2::SockRef::from(&stream);
                let set = socket.set_tcp_user_timeout(Some(USER_TIMEOUT)).and_then(|()| stream.set_nodelay(true));
                return set.map(|()| stream).map_err(|error| lost(&error));
            }
            Ok(Err(error)) => last = format!("the control server {address} ({to}) cannot be reached: {error}"),
            Err(_) => last = format!("the control server {address} ({to}) does not answer"),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    async fn listen() -> (TcpListener, ServerAddress) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        (listener, address)
    }

    #[test]
    fn bytes_go_both_ways_and_the_end_is_told() {
        run(async {
            let (listener, address) = listen().await;
            let mut link = ControlLink::new();
            link.connect(&address);
            let mut buffer = [0; 64];
            assert!(matches!(link.event(&mut buffer).await, LinkEvent::Connected(_)));
            let (mut server, _) = listener.accept().await.unwrap();
            link.send(b"hello");
            let mut read = [0; 5];
            server.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"hello");
            server.write_all(b"welcome").await.unwrap();
            assert!(matches!(link.event(&mut buffer).await, LinkEvent::Received(7)));
            assert_eq!(&buffer[..7], b"welcome");
            drop(server);
            assert!(matches!(link.event(&mut buffer).await, LinkEvent::Closed(_)));
            assert!(link.is_idle());
        });
    }

    #[test]
    fn what_a_slow_server_does_not_take_waits_and_arrives() {
        run(async {
            let (listener, address) = listen().await;
            let mut link = ControlLink::new();
            link.connect(&address);
            let mut buffer = [0; 64];
            link.event(&mut buffer).await;
            let (mut server, _) = listener.accept().await.unwrap();
            let chunk = vec![7; 32 * 1024];
            let mut sent = 0;
            while link.has_room() {
                link.send(&chunk);
                sent += chunk.len();
            }
            assert!(!link.is_flushed());
            let reading = async {
                let mut all = vec![0; sent];
                server.read_exact(&mut all).await.unwrap();
                all.iter().all(|byte| *byte == 7)
            };
            tokio::select! {
                whole = reading => assert!(whole),
                event = link.event(&mut buffer) => panic!("{event:?}"),
            }
            assert!(link.is_flushed());
        });
    }

    #[test]
    fn a_server_that_is_not_there_gets_a_sentence() {
        run(async {
            let (listener, address) = listen().await;
            drop(listener);
            let mut link = ControlLink::new();
            let mut buffer = [0; 64];
            link.connect(&address);
            let LinkEvent::Closed(sentence) = link.event(&mut buffer).await else { panic!("connected") };
            assert!(sentence.starts_with("the control server http://127.0.0.1:"), "{sentence}");
            link.connect(&"https://127.0.0.1:1".parse().unwrap());
            let LinkEvent::Closed(sentence) = link.event(&mut buffer).await else { panic!("connected") };
            assert!(sentence.contains("http only"), "{sentence}");
        });
    }
}
