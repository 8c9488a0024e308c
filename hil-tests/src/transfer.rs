//! Large transfers by TCP, both ways at once, compared byte for byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::netns::Netns;

/// How long either end may wait for the next byte. A connection that gets none for so long has failed.
const STALL: Duration = Duration::from_secs(30);

/// Connects from `client` to `address`, which is one of `server`'s, and sends `len` bytes each way at the same time.
/// Fails where a byte arrives differently, or none for long.
pub fn both_ways(client: &Netns, server: &Netns, address: SocketAddr, len: usize) -> Result<()> {
    let listener =
        server.enter(move || TcpListener::bind(address))?.with_context(|| format!("cannot listen on {address}"))?;
    let (up, down): (Arc<[u8]>, Arc<[u8]>) = (noise(1, len).into(), noise(2, len).into());
    let (sent, expected) = (down.clone(), up.clone());
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        exchange(stream, sent, &expected)
    });
    let stream = client
        .enter(move || TcpStream::connect_timeout(&address, STALL))?
        .with_context(|| format!("cannot connect to {address}"))?;
    exchange(stream, up, &down).context("the end that connected")?;
    served.join().map_err(|_| anyhow!("the serving end panicked"))?.context("the end that was connected to")
}

/// Connects from `client` to a server at `address` that sends back what it gets, and compares `len` bytes.
pub fn echoed(client: &Netns, address: SocketAddr, len: usize) -> Result<()> {
    let sent: Arc<[u8]> = noise(3, len).into();
    let stream = client
        .enter(move || TcpStream::connect_timeout(&address, STALL))?
        .with_context(|| format!("cannot connect to {address}"))?;
    exchange(stream, sent.clone(), &sent).with_context(|| format!("to {address} and back"))
}

/// Serves on `address` of `netns`, until the program ends, whoever wants its own bytes back.
pub fn serve_echo(netns: &Netns, address: SocketAddr) -> Result<()> {
    let listener =
        netns.enter(move || TcpListener::bind(address))?.with_context(|| format!("cannot listen on {address}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut writing = stream.try_clone()?;
                std::io::copy(&mut &stream, &mut writing)?;
                writing.shutdown(Shutdown::Write)
            });
        }
    });
    Ok(())
}

fn exchange(mut stream: TcpStream, sent: Arc<[u8]>, expected: &[u8]) -> Result<()> {
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    let mut writing = stream.try_clone()?;
    let writer = std::thread::spawn(move || {
        writing.write_all(&sent)?;
        writing.shutdown(Shutdown::Write)
    });
    let (mut buffer, mut done) = (vec![0; 1 << 16], 0);
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("after {done} bytes")),
        };
        ensure!(
            expected.get(done..done + read) == buffer.get(..read),
            "what arrived differs from what was sent, in the {read} bytes after the first {done}"
        );
        done += read;
    }
    ensure!(done == expected.len(), "{done} bytes arrived of {}", expected.len());
    writer.join().map_err(|_| anyhow!("the writer panicked"))?.context("not all could be sent")
}

/// Bytes that no compression and no repetition hides a mistake in.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
