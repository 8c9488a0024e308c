//! A web server of one file, for transfers across a mesh.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use anyhow::{Context, Result};

use crate::netns::Netns;

/// Serves `content` to every request on `address` of `netns`, until the program ends.
pub fn serve(netns: &Netns, address: SocketAddr, content: Vec<u8>) -> Result<()> {
    let listener = netns
        .enter(move || TcpListener::bind(address))?
        .with_context(|| format!("cannot serve a file on {address}"))?;
    let content: Arc<[u8]> = content.into();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let content = content.clone();
            std::thread::spawn(move || answer(connection, &content));
        }
    });
    Ok(())
}

fn answer(mut connection: TcpStream, content: &[u8]) -> std::io::Result<()> {
    let mut request = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    while request.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        line.clear();
    }
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    )?;
    connection.write_all(content)
}
