//! The services that firmware has for tests, spoken to from a node: an echo, and orders to be carried out.
//!
//! They are in images that were built with the feature `selftest`.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{netns::Netns, wait};

/// The TCP port that sends back what it gets (RFC 862).
pub const ECHO_PORT: u16 = 7;
/// The TCP port that takes an order, one line a connection, and answers with one line.
const ORDER_PORT: u16 = 9;
/// How long a connection may take to be opened.
const OPEN_LIMIT: Duration = Duration::from_secs(20);
/// How long the answer to an order may take: a transfer of a megabyte between two boards is the longest.
const PATIENCE: Duration = Duration::from_secs(120);

/// Orders to one board, given from the namespace of a node that reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Orders<'a> {
    from: &'a Netns,
    board: Ipv4Addr,
}

impl<'a> Orders<'a> {
    /// To the board with this mesh address.
    pub fn new(from: &'a Netns, board: Ipv4Addr) -> Self {
        Self { from, board }
    }

    /// Lets the board connect to `to`, send `bytes`, and compare what comes back.
    pub fn connect(self, to: SocketAddr, bytes: usize) -> Result<()> {
        let answer = self.give(&format!("connect {to} {bytes}"))?;
        let moved = answer.first().and_then(|word| word.parse::<usize>().ok());
        ensure!(moved == Some(bytes), "of {bytes} bytes to {to} and back the board moved {answer:?}");
        Ok(())
    }

    /// Lets the board ping an address `count` times, and returns how many answers came.
    pub fn ping(self, to: Ipv4Addr, count: usize) -> Result<usize> {
        let answer = self.give(&format!("ping {to} {count}"))?;
        answer.first().and_then(|word| word.parse().ok()).with_context(|| format!("no count in {answer:?}"))
    }

    /// Lets the board look up a name in the mesh.
    pub fn resolve(self, name: &str) -> Result<Ipv4Addr> {
        let answer = self.give(&format!("resolve {name}"))?;
        answer.first().and_then(|word| word.parse().ok()).with_context(|| format!("no address in {answer:?}"))
    }

    /// How deep the board's stack ever was, in bytes.
    pub fn stack(self) -> Result<usize> {
        let answer = self.give("stack")?;
        answer.first().and_then(|word| word.parse().ok()).with_context(|| format!("no depth in {answer:?}"))
    }

    /// Gives an order and returns the words behind `ok`.
    fn give(self, order: &str) -> Result<Vec<String>> {
        let address = SocketAddr::from((self.board, ORDER_PORT));
        // The board refuses an order while it still closes the connection of the one before.
        let mut stream = wait::for_ok(&format!("the board to take orders at {address}"), OPEN_LIMIT, || {
            Ok(self.from.enter(move || TcpStream::connect_timeout(&address, OPEN_LIMIT))??)
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{order}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).with_context(|| format!("no answer to {order:?}"))?;
        let mut words = answer.split_whitespace().map(str::to_owned);
        ensure!(words.next().as_deref() == Some("ok"), "the board answered {order:?} with {answer:?}");
        Ok(words.collect())
    }
}
