//! A web server of one connection at a time: `GET` only, one answer, then it closes.

use core::fmt::{self, Write as _};

use defmt::debug;
use embassy_net::{IpListenEndpoint, Stack, tcp::TcpSocket};
use embassy_time::{Duration, with_timeout};
use embedded_io_async::Write as _;
use heapless::String;

/// How long a client may take for its request, and how long it may take nothing of its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest request that is read, headers included. What is longer gets no answer.
const REQUEST_LEN: usize = 768;
/// Longest piece that is written at a time.
const PIECE_LEN: usize = 256;

/// Who answers the requests.
pub(crate) trait Pages {
    /// Answers a `GET` of `target`, which begins with a slash.
    fn get(&self, target: &str, answer: &mut Answer<'_, '_>) -> impl Future<Output = Result<(), Gone>>;
}

/// The client went away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone;

impl From<embassy_net::tcp::Error> for Gone {
    fn from(_: embassy_net::tcp::Error) -> Self {
        Self
    }
}

/// The answer, as it is written.
pub(crate) struct Answer<'s, 'b> {
    socket: &'s mut TcpSocket<'b>,
}

impl<'s, 'b> Answer<'s, 'b> {
    /// An answer on a socket that is connected.
    pub(crate) const fn of(socket: &'s mut TcpSocket<'b>) -> Self {
        Self { socket }
    }

    /// Begins the answer. `kind` is its media type.
    pub(crate) async fn begin(&mut self, status: &str, kind: &str) -> Result<(), Gone> {
        self.write(format_args!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\n")).await?;
        self.text("Connection: close\r\n\r\n").await
    }

    /// Writes text as it is.
    pub(crate) async fn text(&mut self, text: &str) -> Result<(), Gone> {
        Ok(self.socket.write_all(text.as_bytes()).await?)
    }

    /// Writes what was formatted, cut off at 256 bytes.
    pub(crate) fn write<'f>(
        &'f mut self,
        piece: fmt::Arguments<'_>,
    ) -> impl Future<Output = Result<(), Gone>> + use<'f, 's, 'b> {
        let mut text = Piece(String::new());
        // A piece that is too long ends where its room does.
        let _ = text.write_fmt(piece);
        async move { self.text(&text.0).await }
    }
}

struct Piece(String<PIECE_LEN>);

impl fmt::Write for Piece {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.0.push(c).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

/// Serves `pages` on port 80 of `stack` for ever.
pub(crate) async fn serve(stack: Stack<'_>, pages: impl Pages, rx: &mut [u8], tx: &mut [u8]) -> ! {
    let mut socket = TcpSocket::new(stack, rx, tx);
    // A client that takes nothing any more makes room for another.
    socket.set_timeout(Some(PATIENCE));
    loop {
        if socket.accept(IpListenEndpoint { addr: None, port: 80 }).await.is_ok() {
            if answer(&mut socket, &pages).await.is_err() {
                debug!("http: a client went away or was too slow");
            }
            socket.close();
            // The last bytes and the end of the connection reach a client that still listens.
            let _ = with_timeout(PATIENCE, socket.flush()).await;
        }
        socket.abort();
        let _ = with_timeout(PATIENCE, socket.flush()).await;
    }
}

async fn answer(socket: &mut TcpSocket<'_>, pages: &impl Pages) -> Result<(), Gone> {
    let mut request = [0; REQUEST_LEN];
    let length = with_timeout(PATIENCE, read_request(socket, &mut request)).await.map_err(|_| Gone)??;
    let line = request[..length].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = core::str::from_utf8(line).unwrap_or_default().split(' ');
    let (method, target) = (words.next(), words.next());
    let mut answer = Answer::of(socket);
    match (method, target) {
        (Some("GET"), Some(target)) if target.starts_with('/') => pages.get(target, &mut answer).await,
        _ => {
            answer.begin("405 Method Not Allowed", "text/plain").await?;
            answer.text("Only GET is served here.\n").await
        }
    }
}

/// Reads to the empty line, and tells the length of all that was read.
async fn read_request(socket: &mut TcpSocket<'_>, request: &mut [u8]) -> Result<usize, Gone> {
    let mut length = 0;
    while !request[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match socket.read(&mut request[length..]).await? {
            0 => return Err(Gone),
            more => length += more,
        }
    }
    Ok(length)
}
