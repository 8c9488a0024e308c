//! A packet capture in a namespace, and what is in it.
//!
//! It catches the IP packets that come in on any device of the namespace, so that each packet that a router
//! forwards is caught once. `tcpdump` cannot take this place: it changes its user, which a user namespace of a plain
//! user refuses; and `dumpcap` loses the last packets before it is stopped.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{netns::Netns, pcap, process::output};

/// Ethernet's numbers for IPv4 and IPv6.
const ETHERTYPES: [u16; 2] = [0x0800, 0x86dd];
/// How long a reader waits for a packet before it looks whether it should stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    readers: Vec<JoinHandle<io::Result<()>>>,
}

/// A finished capture.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
}

impl Capture {
    /// Starts to catch the packets that come in on any device of `netns`, into the pcap file `path`.
    pub fn start(netns: &Netns, path: PathBuf) -> Result<Self> {
        let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        file.write_all(&pcap::file_header(pcap::LINKTYPE_RAW))?;
        let file = Arc::new(Mutex::new(file));
        let stopping = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        for ethertype in ETHERTYPES {
            let socket = netns.enter(move || packet_socket(ethertype))?.context("cannot capture packets")?;
            let (file, stopping) = (file.clone(), stopping.clone());
            readers.push(std::thread::spawn(move || record(socket, &file, &stopping)));
        }
        Ok(Self { path, stopping, readers })
    }

    /// Stops the capture; every packet that had come in by now is in it.
    pub fn stop(mut self) -> Result<Recording> {
        self.stopping.store(true, Ordering::Release);
        for reader in self.readers.drain(..) {
            let recorded = reader.join().map_err(|_| anyhow!("the capture panicked"))?;
            recorded.with_context(|| format!("cannot capture into {}", self.path.display()))?;
        }
        Ok(Recording { path: self.path.clone() })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
    }
}

impl Recording {
    /// The file, in pcap format.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The packets that pass a display filter, counted by the protocol that tshark names them.
    pub fn protocols(&self, filter: &str) -> Result<BTreeMap<String, usize>> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&self.path).args(["-Y", filter, "-T", "fields", "-e", "_ws.col.Protocol"]);
        let mut counts = BTreeMap::new();
        for protocol in output(&mut tshark)?.lines() {
            *counts.entry(protocol.to_owned()).or_default() += 1;
        }
        Ok(counts)
    }

    /// How often a text stands in the packets.
    pub fn occurrences(&self, text: &str) -> Result<usize> {
        let bytes = std::fs::read(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count())
    }
}

fn packet_socket(ethertype: u16) -> io::Result<Socket> {
    // The kernel takes the number in network byte order.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(ethertype.to_be()))))?;
    socket.set_read_timeout(Some(LOOK_INTERVAL))?;
    // As much as the system grants; it may be less.
    socket.set_recv_buffer_size(32 << 20)?;
    Ok(socket)
}

fn record(mut socket: Socket, file: &Mutex<File>, stopping: &AtomicBool) -> io::Result<()> {
    let mut packet = vec![0; 1 << 16];
    loop {
        // Read before the packets, so that the ones before the call to stop are taken.
        let last_look = stopping.load(Ordering::Acquire);
        match socket.read(&mut packet) {
            Ok(len) => {
                let packet = packet.get(..len).unwrap_or_default();
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(&pcap::record_header(SystemTime::now(), len))?;
                file.write_all(packet)?;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if last_look {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
