//! One control connection as a byte stream: core's server half, the socket, and what waits to be written.
//!
//! It knows frames and records, not what they mean; [`session`](crate::session) does.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant as Monotonic},
};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use weft_core::{
    control::{
        ClientRecord, MAX_FRAME, NetworkId, ServerConnection, ServerError, ServerRecord,
        record::{self, Text},
        upgrade::Accepted,
    },
    crypto::RustCrypto,
    keys::ServerSecret,
    time::Instant,
};

use crate::{random, refusal::Refusal};

/// How much is written before the socket has to take it.
const HIGH_WATER: usize = 8 * 1_024;
/// The most that is read at once.
const READ_SIZE: usize = 2_048;
/// How long a socket may take none of what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection that ends tries to say why.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The node closed it, or the network did.
    Closed,
    /// The node broke the protocol or was too slow.
    Broken(ServerError),
    /// The server does not go on.
    Refused(Refusal),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

impl From<ServerError> for End {
    fn from(error: ServerError) -> Self {
        Self::Broken(error)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A control connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    protocol: ServerConnection,
    started: Monotonic,
    /// Received and not looked at yet: beside a record or two, only what a batch of records left.
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
    written: usize,
    write_deadline: Option<Monotonic>,
    network: NetworkId,
    /// Where the connection comes from.
    pub(crate) seen_from: SocketAddr,
}

impl Connection {
    /// A connection that was just upgraded; `input` came behind the request.
    pub(crate) fn new(
        stream: TcpStream,
        input: &[u8],
        accepted: &Accepted,
        network: NetworkId,
        from: SocketAddr,
    ) -> Self {
        Self {
            stream,
            protocol: ServerConnection::new(accepted, Instant::ZERO, &mut random::system()),
            started: Monotonic::now(),
            input: input.to_vec(),
            taken: 0,
            output: Vec::new(),
            written: 0,
            write_deadline: None,
            network,
            seen_from: from,
        }
    }

    /// Core's half.
    pub(crate) fn protocol(&self) -> &ServerConnection {
        &self.protocol
    }

    /// Carries out the handshake and waits for the first record, which is handed to `take`.
    pub(crate) async fn open<R>(
        &mut self,
        secret: &ServerSecret,
        take: impl FnOnce(ClientRecord<'_>) -> R,
    ) -> Result<R, End> {
        let mut take = Some(take);
        loop {
            while self.protocol.needs_step() {
                let stepped = self.protocol.step::<RustCrypto>(secret);
                self.pump();
                if let Err(error) = stepped {
                    self.flush_within(LAST_WORDS).await;
                    return Err(error.into());
                }
                tokio::task::yield_now().await;
            }
            let mut taken = None;
            self.receive(|record| {
                if let Some(take) = take.take() {
                    taken = Some(take(record));
                }
            })?;
            if let Some(taken) = taken {
                return Ok(taken);
            }
            if self.protocol.needs_step() {
                continue;
            }
            tokio::select! {
                ready = self.stream.readable() => { ready?; self.read()?; }
                ready = self.stream.writable(), if self.has_output() => { ready?; self.write()?; }
                () = sleep_until(self.deadline()) => self.check_time()?,
            }
        }
    }

    /// Hands out the next record that was received completely, if there is one.
    pub(crate) fn receive(&mut self, take: impl FnOnce(ClientRecord<'_>)) -> Result<bool, End> {
        let now = self.now();
        let mut rest = self.input.get(self.taken..).unwrap_or_default();
        let before = rest.len();
        let received = self.protocol.receive::<RustCrypto>(&mut rest, now);
        let consumed = before - rest.len();
        let record = received?;
        let found = record.is_some();
        if let Some(record) = record {
            take(record);
        }
        self.taken += consumed;
        if self.taken == self.input.len() {
            self.input = Vec::new();
            self.taken = 0;
        }
        self.pump();
        Ok(found)
    }

    /// Reads what the socket has, as far as there is room.
    pub(crate) fn read(&mut self) -> Result<(), End> {
        let mut buffer = [0; READ_SIZE];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => Err(End::Closed),
            Ok(len) => {
                self.input.extend_from_slice(buffer.get(..len).unwrap_or_default());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something can be read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Waits until something can be written.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Whether something waits to be written.
    pub(crate) fn has_output(&self) -> bool {
        self.written < self.output.len()
    }

    /// Whether more may be queued.
    pub(crate) fn has_room(&self) -> bool {
        self.output.len() - self.written < HIGH_WATER
    }

    /// Writes what the socket takes.
    pub(crate) fn write(&mut self) -> Result<(), End> {
        while self.has_output() {
            match self.stream.try_write(self.output.get(self.written..).unwrap_or_default()) {
                Ok(len) => {
                    self.written += len;
                    self.write_deadline = Some(Monotonic::now() + WRITE_TIMEOUT);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        // An idle connection keeps no buffer.
        self.output = Vec::new();
        self.written = 0;
        self.write_deadline = None;
        Ok(())
    }

    /// Queues a record.
    pub(crate) fn send(&mut self, record: &ServerRecord<'_>) {
        let network = self.network;
        self.queue(|protocol, room| protocol.send::<RustCrypto>(network, record, room).ok());
    }

    /// Queues a record that was encoded before.
    pub(crate) fn send_encoded(&mut self, record: &[u8]) {
        self.queue(|protocol, room| protocol.send_encoded::<RustCrypto>(record, room).ok());
    }

    /// Queues what the protocol itself has to say.
    fn pump(&mut self) {
        while self.queue(|protocol, room| Some(protocol.transmit::<RustCrypto>(room)).filter(|len| *len > 0)) {}
    }

    fn queue(&mut self, make: impl FnOnce(&mut ServerConnection, &mut [u8]) -> Option<usize>) -> bool {
        let start = self.output.len();
        self.output.resize(start + MAX_FRAME, 0);
        let made = make(&mut self.protocol, self.output.get_mut(start..).unwrap_or_default());
        self.output.truncate(start + made.unwrap_or_default());
        if made.is_some() && self.write_deadline.is_none() {
            self.write_deadline = Some(Monotonic::now() + WRITE_TIMEOUT);
        }
        made.is_some()
    }

    /// Says why the connection ends, where the node can still be told, and closes it.
    pub(crate) async fn finish(mut self, end: &End) {
        let (code, sentence) = match end {
            End::Closed => return,
            End::Broken(error) => match error.code() {
                Some(code) => (code, error.to_string()),
                None => return,
            },
            End::Refused(refusal) => (refusal.code(), refusal.to_string()),
        };
        self.send(&ServerRecord::Error(record::Error { code, sentence: Text::cut(&sentence), retry_after: None }));
        self.flush_within(LAST_WORDS).await;
    }

    async fn flush_within(&mut self, limit: Duration) {
        let _ = tokio::time::timeout(limit, async {
            let rest = self.output.get(self.written..).unwrap_or_default();
            self.stream.write_all(rest).await?;
            self.stream.shutdown().await?;
            // Closing with unread bytes would reset the connection, and the node would lose the last words.
            while self.stream.readable().await.is_ok() && self.discard() {}
            io::Result::Ok(())
        })
        .await;
    }

    /// Takes what the socket has and throws it away; false at its end.
    fn discard(&self) -> bool {
        let mut buffer = [0; READ_SIZE];
        match self.stream.try_read(&mut buffer) {
            Ok(len) => len > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// When [`check_time`](Self::check_time) has to be called next.
    pub(crate) fn deadline(&self) -> Monotonic {
        let protocol = self.started + Duration::from_micros(self.protocol.poll_timeout().as_micros());
        self.write_deadline.map_or(protocol, |write| write.min(protocol))
    }

    /// Ends the connection where the node is too slow.
    pub(crate) fn check_time(&mut self) -> Result<(), End> {
        let now = self.now();
        self.protocol.handle_timeout(now)?;
        match self.write_deadline {
            Some(deadline) if deadline <= Monotonic::now() => Err(End::Closed),
            _ => Ok(()),
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// Sleeps until `deadline`.
pub(crate) async fn sleep_until(deadline: Monotonic) {
    tokio::time::sleep_until(deadline.into()).await;
}
