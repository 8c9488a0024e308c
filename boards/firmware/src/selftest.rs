//! Services that the tests of the whole system talk to, and that no sensor needs.
//!
//! TCP and UDP port 7 echo (RFC 862), TCP of two connections at a time. TCP port 9 takes orders: one line a connection,
//! answered by one line, which is `ok` and what was asked for, or `failed` and why.
//!
//! | order | does | answers |
//! |---|---|---|
//! | `connect ADDRESS:PORT BYTES` | connects to an echo, sends so many bytes and compares what comes back | the bytes that came back |
//! | `ping ADDRESS COUNT` | sends echo requests, each when the one before was answered or lost | how many were answered |
//! | `resolve NAME` | looks up a name in the mesh | the address |
//! | `stack` | | the stack's greatest depth in bytes |

use core::net::{Ipv4Addr, SocketAddrV4};

use embassy_executor::Spawner;
use embassy_futures::join::join;
use embassy_net::{
    icmp::{
        self,
        ping::{PingManager, PingParams},
    },
    tcp::{Error, TcpReader, TcpSocket, TcpWriter},
    udp::{PacketMetadata, UdpSocket},
};
use embassy_time::{Duration, with_timeout};
use embedded_io_async::Write as _;
use heapless::{String, format};
use static_cell::ConstStaticCell;

use crate::{application::Application, stack};

/// Sockets of these services: the echoes, the orders, a connection and a ping by order, and the datagrams.
pub(crate) const SOCKETS: usize = ECHOES + 4;
/// Connections that are echoed at the same time.
const ECHOES: usize = 2;
/// Bytes of a TCP socket's buffer, each way.
const BUFFER: usize = 4_096;
/// Bytes that are moved at a time.
const PIECE: usize = 512;
/// The longest line of an order or of its answer.
const LINE: usize = 96;
/// How long the other end may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// From one echo request to the next at least.
const PING_INTERVAL: Duration = Duration::from_millis(50);
/// How long an echo reply may take.
const PING_PATIENCE: Duration = Duration::from_secs(2);

/// The bytes that are sent: the high bytes of a linear congruential generator.
#[derive(Clone, Copy)]
struct Pattern(u32);

impl Pattern {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            [*byte, ..] = self.0.to_be_bytes();
        }
    }
}

/// The buffers of a socket.
struct Buffers {
    rx: [u8; BUFFER],
    tx: [u8; BUFFER],
}

impl Buffers {
    const EMPTY: Self = Self { rx: [0; BUFFER], tx: [0; BUFFER] };

    fn socket(&mut self, application: Application) -> TcpSocket<'_> {
        let mut socket = TcpSocket::new(application.stack, &mut self.rx, &mut self.tx);
        socket.set_timeout(Some(PATIENCE));
        socket
    }
}

/// Starts the services.
#[inline(never)]
pub(crate) fn start(spawner: Spawner, application: Application) {
    static ECHO: ConstStaticCell<[Buffers; ECHOES]> = ConstStaticCell::new([Buffers::EMPTY; ECHOES]);
    for buffers in ECHO.take() {
        spawner.spawn(defmt::unwrap!(echo(application, buffers)));
    }
    spawner.spawn(defmt::unwrap!(orders(application)));
    spawner.spawn(defmt::unwrap!(datagrams(application)));
}

#[embassy_executor::task(pool_size = ECHOES)]
async fn echo(application: Application, buffers: &'static mut Buffers) -> ! {
    let mut socket = buffers.socket(application);
    loop {
        if socket.accept(7).await.is_ok() {
            let _ = echo_all(&mut socket).await;
        }
        end(&mut socket).await;
    }
}

async fn echo_all(socket: &mut TcpSocket<'_>) -> Result<(), Error> {
    let mut bytes = [0; PIECE];
    loop {
        match socket.read(&mut bytes).await? {
            0 => return Ok(()),
            read => socket.write_all(&bytes[..read]).await?,
        }
    }
}

#[embassy_executor::task]
async fn datagrams(application: Application) -> ! {
    static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::EMPTY);
    static DATAGRAM: ConstStaticCell<[u8; weft_embassy::MTU]> = ConstStaticCell::new([0; weft_embassy::MTU]);
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

#[embassy_executor::task]
async fn orders(application: Application) -> ! {
    static BUFFERS: ConstStaticCell<[Buffers; 2]> = ConstStaticCell::new([Buffers::EMPTY; 2]);
    let [ordering, connecting] = BUFFERS.take();
    let mut socket = ordering.socket(application);
    loop {
        if socket.accept(9).await.is_ok()
            && let Some(order) = read_line(&mut socket).await
        {
            let answer = match carry_out(application, &order, connecting).await {
                Ok(done) => format!(LINE; "ok {done}\n"),
                Err(why) => format!(LINE; "failed {why}\n"),
            };
            let _ = socket.write_all(answer.unwrap_or_default().as_bytes()).await;
        }
        end(&mut socket).await;
    }
}

async fn read_line(socket: &mut TcpSocket<'_>) -> Option<String<LINE>> {
    let mut line = String::new();
    loop {
        let mut byte = [0];
        match socket.read(&mut byte).await {
            Ok(1) if byte == *b"\n" => return Some(line),
            Ok(1) => line.push(byte[0].into()).ok()?,
            _ => return None,
        }
    }
}

async fn carry_out(application: Application, order: &str, buffers: &mut Buffers) -> Result<String<LINE>, &'static str> {
    let mut words = order.split(' ');
    let done = match (words.next(), words.next(), words.next()) {
        (Some("connect"), Some(to), Some(bytes)) => {
            let to: SocketAddrV4 = to.parse().map_err(|_| "the address is not one")?;
            let bytes: usize = bytes.parse().map_err(|_| "the number of bytes is not one")?;
            let mut socket = buffers.socket(application);
            let compared = compare(&mut socket, to, bytes).await;
            end(&mut socket).await;
            format!("{}", compared?)
        }
        (Some("ping"), Some(to), Some(count)) => {
            let to = to.parse().map_err(|_| "the address is not one")?;
            let count = count.parse().map_err(|_| "the count is not a number")?;
            format!("{}", ping(application, to, count).await)
        }
        (Some("resolve"), Some(name), None) => {
            format!("{}", application.resolve(name).await.ok_or("the name is not known")?)
        }
        (Some("stack"), None, None) => format!("{}", stack::high_water()),
        _ => return Err("there is no such order"),
    };
    done.map_err(|_| "the answer is too long")
}

/// Sends `bytes` to the echo at `to` and compares what comes back; tells how many came back.
async fn compare(socket: &mut TcpSocket<'_>, to: SocketAddrV4, bytes: usize) -> Result<usize, &'static str> {
    match with_timeout(PATIENCE, socket.connect((*to.ip(), to.port()))).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err("the connection was refused"),
        Err(_) => return Err("the connection was not answered"),
    }
    let (mut reader, mut writer) = socket.split();
    let (sent, received) = join(send(&mut writer, bytes), receive(&mut reader, bytes)).await;
    sent.map_err(|_| "the connection was lost while sending")?;
    received
}

async fn send(writer: &mut TcpWriter<'_>, bytes: usize) -> Result<(), Error> {
    let mut pattern = Pattern(1);
    let mut piece = [0; PIECE];
    for from in (0..bytes).step_by(PIECE) {
        let piece = &mut piece[..(bytes - from).min(PIECE)];
        pattern.fill(piece);
        writer.write_all(piece).await?;
    }
    writer.flush().await
}

async fn receive(reader: &mut TcpReader<'_>, bytes: usize) -> Result<usize, &'static str> {
    let mut pattern = Pattern(1);
    let mut received = 0;
    while received < bytes {
        let (mut piece, mut expected) = ([0; PIECE / 2], [0; PIECE / 2]);
        let read = reader.read(&mut piece).await.map_err(|_| "the connection was lost while receiving")?;
        if read == 0 {
            break;
        }
        pattern.fill(&mut expected[..read]);
        if piece[..read] != expected[..read] {
            return Err("other bytes came back than were sent");
        }
        received += read;
    }
    Ok(received)
}

async fn ping(application: Application, to: Ipv4Addr, count: usize) -> usize {
    let (mut rx, mut tx) = ([0; 128], [0; 128]);
    let (mut rx_meta, mut tx_meta) = ([icmp::PacketMetadata::EMPTY; 2], [icmp::PacketMetadata::EMPTY; 2]);
    let mut manager = PingManager::new(application.stack, &mut rx_meta, &mut rx, &mut tx_meta, &mut tx);
    let mut request = PingParams::new(to);
    request.set_payload(b"weft selftest").set_count(1).set_timeout(PING_PATIENCE).set_rate_limit(PING_INTERVAL);
    let mut answered = 0;
    for _ in 0..count {
        answered += usize::from(manager.ping(&request).await.is_ok());
    }
    answered
}

/// Closes this side, waits until the other end knows, and makes the socket ready for another connection.
async fn end(socket: &mut TcpSocket<'_>) {
    socket.close();
    let _ = with_timeout(PATIENCE, socket.flush()).await;
    socket.abort();
    let _ = with_timeout(PATIENCE, socket.flush()).await;
}
