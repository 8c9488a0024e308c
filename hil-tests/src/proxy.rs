//! Somebody in the middle of TCP connections: passes bytes on, keeps what clients sent, and may change it.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::netns::Netns;

/// Changes bytes on their way from a client to the server.
pub type Edit = fn(&mut Vec<u8>);

/// What the client of each connection sent, in the order of the connections.
type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

/// A proxy that runs until the program ends.
#[derive(Debug)]
pub struct Proxy {
    sent: Sent,
}

impl Proxy {
    /// Listens on `address` in `netns` and passes on to `server`, which is reached from there too.
    pub fn start(netns: &Netns, address: SocketAddr, server: SocketAddr, edit: Edit) -> Result<Self> {
        let sent = Sent::default();
        let kept = sent.clone();
        netns.enter(move || -> Result<()> {
            let listener = TcpListener::bind(address).context("the proxy cannot listen")?;
            // A thread is in the namespace of the one that starts it.
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let _ = TcpStream::connect(server).and_then(|server| pass_on(client, server, kept.clone(), edit));
                }
            });
            Ok(())
        })??;
        Ok(Self { sent })
    }

    /// What the client of connection `index` sent so far, as it sent it.
    pub fn sent(&self, index: usize) -> Option<Vec<u8>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }
}

fn pass_on(client: TcpStream, server: TcpStream, sent: Sent, edit: Edit) -> std::io::Result<()> {
    let index = {
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(Vec::new());
        sent.len() - 1
    };
    let (answers, answered) = (server.try_clone()?, client.try_clone()?);
    let keep = move |bytes: &mut Vec<u8>| {
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.get_mut(index).into_iter().for_each(|connection| connection.extend_from_slice(bytes));
        edit(bytes);
    };
    std::thread::spawn(move || copy(client, server, keep));
    std::thread::spawn(move || copy(answers, answered, |_| {}));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&mut Vec<u8>)) {
    let mut buffer = [0; 4_096];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let mut bytes = buffer.get(..len).unwrap_or_default().to_vec();
        look(&mut bytes);
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Sends bytes as a connection of their own, and waits until the server closes it or says nothing more.
pub fn replay(netns: &Netns, server: SocketAddr, bytes: Vec<u8>) -> Result<Vec<u8>> {
    netns.enter(move || -> Result<Vec<u8>> {
        let mut connection = TcpStream::connect(server).context("cannot connect to the server")?;
        connection.set_read_timeout(Some(Duration::from_secs(3)))?;
        // The server may close before it has everything.
        let _ = connection.write_all(&bytes);
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer);
        Ok(answer)
    })?
}
