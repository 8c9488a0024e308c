//! Services that the tests of the whole system talk to, and that no sensor needs.
//!
//! | port | service |
//! |---|---|
//! | TCP 7 | echo, two connections at a time |
//! | TCP 9 | takes all bytes, then answers with one line: how many, a space, their checksum |
//! | TCP 19 | reads a decimal number and a line feed, sends so many bytes of the [pattern](Pattern) and closes |
//! | UDP 7 | echo |
//! | `GET /dial/HOST/PORT/BYTES` | connects there, sends so many bytes of the pattern, closes its side and reads the other to its end |
//!
//! The answer to a dial is `sent BYTES CHECKSUM received BYTES CHECKSUM`, or `failed: ` and a reason. A checksum is FNV-1a
//! of 64 bits, in hexadecimal. HOST is a peer's name or an address.

use core::net::Ipv4Addr;

use embassy_executor::Spawner;
use embassy_futures::select::{Either, select};
use embassy_net::{
    tcp::{Error, TcpReader, TcpSocket, TcpWriter},
    udp::{PacketMetadata, UdpSocket},
};
use embassy_sync::{blocking_mutex::raw::CriticalSectionRawMutex, mutex::Mutex};
use embassy_time::{Duration, with_timeout};
use embedded_io_async::Write as _;
use static_cell::ConstStaticCell;

use crate::{
    application::Application,
    http::{Answer, Gone},
};

/// Sockets of these services.
pub(crate) const SOCKETS: usize = ECHOES + 4;
/// Connections that are echoed at the same time.
const ECHOES: usize = 2;
/// Bytes of a TCP socket's buffer, each way.
const BUFFER: usize = 4_096;
/// How long the other end may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// The bytes that are sent: the high bytes of a linear congruential generator that starts at 1.
#[derive(Debug, Clone, Copy)]
pub struct Pattern(u32);

impl Pattern {
    /// From its beginning.
    pub const fn new() -> Self {
        Self(1)
    }

    /// The next bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = self.0.to_be_bytes()[0];
        }
    }
}

impl Default for Pattern {
    fn default() -> Self {
        Self::new()
    }
}

/// How many bytes there were, and their FNV-1a.
#[derive(Debug, Clone, Copy)]
struct Sum {
    bytes: usize,
    hash: u64,
}

impl Sum {
    const fn new() -> Self {
        Self { bytes: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// The buffers of a socket.
#[derive(Clone, Copy)]
struct Buffers {
    rx: [u8; BUFFER],
    tx: [u8; BUFFER],
}

impl Buffers {
    const EMPTY: Self = Self { rx: [0; BUFFER], tx: [0; BUFFER] };

    fn socket<'b>(&'b mut self, application: Application) -> TcpSocket<'b> {
        let mut socket = TcpSocket::new(application.stack, &mut self.rx, &mut self.tx);
        socket.set_timeout(Some(PATIENCE));
        socket
    }
}

/// Starts the services.
pub(crate) fn start(spawner: Spawner, application: Application) {
    static BUFFERS: ConstStaticCell<[Buffers; ECHOES + 2]> = ConstStaticCell::new([Buffers::EMPTY; ECHOES + 2]);
    let [first, second, sinking, sourcing] = BUFFERS.take();
    for buffers in [first, second] {
        spawner.spawn(defmt::unwrap!(echo(application, buffers)));
    }
    spawner.spawn(defmt::unwrap!(sink(application, sinking)));
    spawner.spawn(defmt::unwrap!(source(application, sourcing)));
    spawner.spawn(defmt::unwrap!(datagrams(application)));
}

#[embassy_executor::task(pool_size = ECHOES)]
async fn echo(application: Application, buffers: &'static mut Buffers) -> ! {
    let mut socket = buffers.socket(application);
    loop {
        if socket.accept(7).await.is_ok() {
            let (mut reader, mut writer) = socket.split();
            let _ = echo_all(&mut reader, &mut writer).await;
        }
        end(&mut socket).await;
    }
}

async fn echo_all(reader: &mut TcpReader<'_>, writer: &mut TcpWriter<'_>) -> Result<(), Error> {
    let mut bytes = [0; 512];
    loop {
        match reader.read(&mut bytes).await? {
            0 => return Ok(()),
            read => writer.write_all(&bytes[..read]).await?,
        }
    }
}

#[embassy_executor::task]
async fn sink(application: Application, buffers: &'static mut Buffers) -> ! {
    let mut socket = buffers.socket(application);
    loop {
        if socket.accept(9).await.is_ok() {
            let (mut reader, _) = socket.split();
            let mut sum = Sum::new();
            if read_all(&mut reader, &mut sum).await.is_ok() {
                let _ = Answer::of(&mut socket).write(format_args!("{} {:016x}\n", sum.bytes, sum.hash)).await;
            }
        }
        end(&mut socket).await;
    }
}

#[embassy_executor::task]
async fn source(application: Application, buffers: &'static mut Buffers) -> ! {
    let mut socket = buffers.socket(application);
    loop {
        if socket.accept(19).await.is_ok()
            && let Some(wanted) = read_number(&mut socket).await
        {
            let (_, mut writer) = socket.split();
            let _ = write_pattern(&mut writer, wanted).await;
        }
        end(&mut socket).await;
    }
}

async fn read_number(socket: &mut TcpSocket<'_>) -> Option<usize> {
    let mut number = 0usize;
    loop {
        let mut byte = [0];
        match (socket.read(&mut byte).await, byte) {
            (Ok(1), [b'\n']) => return Some(number),
            (Ok(1), [digit @ b'0'..=b'9']) => number = number.checked_mul(10)?.checked_add((digit - b'0').into())?,
            _ => return None,
        }
    }
}

async fn write_pattern(writer: &mut TcpWriter<'_>, bytes: usize) -> Result<Sum, Error> {
    let (mut pattern, mut sum) = (Pattern::new(), Sum::new());
    let mut piece = [0; 512];
    while sum.bytes < bytes {
        let piece = &mut piece[..(bytes - sum.bytes).min(512)];
        pattern.fill(piece);
        writer.write_all(piece).await?;
        sum.add(piece);
    }
    Ok(sum)
}

/// Reads to the end. May be cancelled: what was read is in `sum`.
async fn read_all(reader: &mut TcpReader<'_>, sum: &mut Sum) -> Result<(), Error> {
    let mut bytes = [0; 512];
    loop {
        match reader.read(&mut bytes).await? {
            0 => return Ok(()),
            read => sum.add(&bytes[..read]),
        }
    }
}

/// Closes this side, waits for the other, and makes the socket ready for another connection.
async fn end(socket: &mut TcpSocket<'_>) {
    socket.close();
    let _ = with_timeout(PATIENCE, socket.flush()).await;
    socket.abort();
    let _ = with_timeout(PATIENCE, socket.flush()).await;
}

#[embassy_executor::task]
async fn datagrams(application: Application) -> ! {
    static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::EMPTY);
    static DATAGRAM: ConstStaticCell<[u8; 1_280]> = ConstStaticCell::new([0; 1_280]);
    let (Buffers { rx, tx }, datagram) = (BUFFERS.take(), DATAGRAM.take());
    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 4], [PacketMetadata::EMPTY; 4]);
    let mut socket = UdpSocket::new(application.stack, &mut rx_meta, rx, &mut tx_meta, tx);
    defmt::unwrap!(socket.bind(7));
    loop {
        if let Ok((len, from)) = socket.recv_from(datagram).await {
            let _ = socket.send_to(&datagram[..len], from).await;
        }
    }
}

/// Answers `GET /dial/HOST/PORT/BYTES`; `target` is what follows `/dial/`.
pub(crate) async fn dial(application: Application, target: &str, answer: &mut Answer<'_, '_>) -> Result<(), Gone> {
    answer.begin("200 OK", "text/plain").await?;
    let mut words = target.split('/');
    let (Some(host), Some(Ok(port)), Some(Ok(bytes))) =
        (words.next(), words.next().map(str::parse), words.next().map(str::parse))
    else {
        return answer.text("failed: the target is /dial/HOST/PORT/BYTES\n").await;
    };
    let Some(address) = application.resolve(host).await else {
        return answer.text("failed: the name is not known\n").await;
    };
    match exchange(application, address, port, bytes).await {
        Ok([sent, received]) => {
            answer.write(format_args!("sent {} {:016x} ", sent.bytes, sent.hash)).await?;
            answer.write(format_args!("received {} {:016x}\n", received.bytes, received.hash)).await
        }
        Err(reason) => answer.write(format_args!("failed: {reason}\n")).await,
    }
}

/// Connects, sends and receives at the same time, closes and receives the rest. One dial at a time.
async fn exchange(
    application: Application,
    address: Ipv4Addr,
    port: u16,
    bytes: usize,
) -> Result<[Sum; 2], &'static str> {
    static BUFFERS: Mutex<CriticalSectionRawMutex, Buffers> = Mutex::new(Buffers::EMPTY);
    let mut buffers = BUFFERS.lock().await;
    let mut socket = buffers.socket(application);
    match with_timeout(PATIENCE, socket.connect((address, port))).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err("the connection was refused"),
        Err(_) => return Err("no answer to the connection"),
    }
    let mut received = Sum::new();
    let (mut reader, mut writer) = socket.split();
    let sent = match select(write_pattern(&mut writer, bytes), read_all(&mut reader, &mut received)).await {
        Either::First(sent) => sent.map_err(|_| "the connection was reset while sending")?,
        Either::Second(_) => return Err("the other end closed before all was sent"),
    };
    socket.close();
    let (mut reader, _) = socket.split();
    read_all(&mut reader, &mut received).await.map_err(|_| "the connection was reset while receiving")?;
    end(&mut socket).await;
    Ok([sent, received])
}
