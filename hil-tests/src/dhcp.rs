//! A DHCP server for one subnet of a lab: RFC 2131 as far as a board needs it to come up. It answers at once.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{lab::Segment, netns::Netns};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// How long the server waits for a request before it looks whether it should stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// For how long an address is lent, in seconds.
const LEASE: u32 = 3_600;
/// The number of the first address that is lent.
const FIRST: u8 = 100;

/// Where the fields of a message are: operation, hardware type and length; transaction; the address given; the client's
/// hardware address; the four bytes before the options.
const TRANSACTION: std::ops::Range<usize> = 4..8;
const YOUR_ADDRESS: std::ops::Range<usize> = 16..20;
const HARDWARE_ADDRESS: std::ops::Range<usize> = 28..44;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 240;

/// Options and message types of RFC 2132.
const OPTION_MESSAGE_TYPE: u8 = 53;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// A running server.
#[derive(Debug)]
pub struct DhcpServer {
    stopping: Arc<AtomicBool>,
    leases: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl DhcpServer {
    /// Serves `segment` from the router of its lab.
    pub fn start(router: &Netns, segment: &Segment) -> Result<Self> {
        let port = segment.router_port();
        let socket = router.enter(move || socket(&port))?.context("cannot serve DHCP")?;
        let (stopping, leases) = (Arc::new(AtomicBool::default()), Arc::new(AtomicUsize::default()));
        let pool = Pool { router: segment.router_ipv4(), leases: HashMap::new() };
        let (stop, count) = (stopping.clone(), leases.clone());
        let thread = std::thread::spawn(move || serve(&socket, pool, &stop, &count));
        Ok(Self { stopping, leases, thread: Some(thread) })
    }

    /// How many requests it granted.
    pub fn granted(&self) -> usize {
        self.leases.load(Ordering::Acquire)
    }
}

impl Drop for DhcpServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn socket(device: &str) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Each subnet of the router has a server of its own.
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(LOOK_INTERVAL))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER_PORT)).into())?;
    Ok(socket.into())
}

fn serve(socket: &UdpSocket, mut pool: Pool, stop: &AtomicBool, granted: &AtomicUsize) {
    let mut request = [0; 1_500];
    while !stop.load(Ordering::Acquire) {
        let len = match socket.recv(&mut request) {
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            // The device is gone.
            Err(_) => return,
        };
        let Some((kind, answer)) = request.get(..len).and_then(|request| pool.answer(request)) else { continue };
        if socket.send_to(&answer, (Ipv4Addr::BROADCAST, CLIENT_PORT)).is_ok() && kind == ACK {
            granted.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The addresses that are lent, by hardware address.
struct Pool {
    router: Ipv4Addr,
    leases: HashMap<Vec<u8>, Ipv4Addr>,
}

impl Pool {
    /// The type of the answer to a request, and the answer.
    fn answer(&mut self, request: &[u8]) -> Option<(u8, Vec<u8>)> {
        let hardware = request.get(HARDWARE_ADDRESS)?;
        let kind = match message_type(request.get(OPTIONS..)?)? {
            DISCOVER => OFFER,
            REQUEST => ACK,
            _ => return None,
        };
        let [a, b, c, _] = self.router.octets();
        let number = u8::try_from(self.leases.len()).ok()?.checked_add(FIRST)?;
        let lent = *self.leases.entry(hardware.to_vec()).or_insert(Ipv4Addr::new(a, b, c, number));
        let mut answer = vec![0; OPTIONS - COOKIE.len()];
        // An answer, of Ethernet, with hardware addresses of six bytes.
        answer.get_mut(..3)?.copy_from_slice(&[2, 1, 6]);
        answer.get_mut(TRANSACTION)?.copy_from_slice(request.get(TRANSACTION)?);
        answer.get_mut(YOUR_ADDRESS)?.copy_from_slice(&lent.octets());
        answer.get_mut(HARDWARE_ADDRESS)?.copy_from_slice(hardware);
        answer.extend_from_slice(&COOKIE);
        answer.extend_from_slice(&[OPTION_MESSAGE_TYPE, 1, kind]);
        // Who answers, the mask, the router, the name server, how long; then the end.
        let router = self.router.octets();
        for (option, value) in
            [(54, router), (1, [255, 255, 255, 0]), (3, router), (6, router), (51, LEASE.to_be_bytes())]
        {
            answer.extend_from_slice(&[option, 4]);
            answer.extend_from_slice(&value);
        }
        answer.push(255);
        Some((kind, answer))
    }
}

/// The message type in a list of options.
fn message_type(mut options: &[u8]) -> Option<u8> {
    loop {
        let (&option, rest) = options.split_first()?;
        match option {
            0 => options = rest,
            255 => return None,
            _ => {
                let (&len, rest) = rest.split_first()?;
                let (value, rest) = rest.split_at_checked(len.into())?;
                if option == OPTION_MESSAGE_TYPE {
                    return value.first().copied();
                }
                options = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u8, hardware: u8) -> Vec<u8> {
        let mut request = vec![0; OPTIONS];
        request[0] = 1;
        request[4..8].copy_from_slice(&[9, 8, 7, 6]);
        request[28..34].copy_from_slice(&[2, 0, 0, 0, 0, hardware]);
        // Padding and another option come first.
        request.extend_from_slice(&[0, 12, 2, b'h', b'i', OPTION_MESSAGE_TYPE, 1, kind, 255]);
        request
    }

    #[test]
    fn a_client_is_lent_one_address_and_another_client_another() {
        let mut pool = Pool { router: Ipv4Addr::new(192, 168, 3, 1), leases: HashMap::new() };
        let (kind, offer) = pool.answer(&request(DISCOVER, 1)).unwrap();
        assert_eq!((kind, &offer[16..20]), (OFFER, [192, 168, 3, 100].as_slice()));
        assert_eq!(&offer[4..8], [9, 8, 7, 6]);
        let (kind, other) = pool.answer(&request(REQUEST, 2)).unwrap();
        assert_eq!((kind, &other[16..20]), (ACK, [192, 168, 3, 101].as_slice()));
        let (_, again) = pool.answer(&request(REQUEST, 1)).unwrap();
        assert_eq!(again[16..20], offer[16..20]);
    }

    #[test]
    fn what_is_no_request_has_no_answer() {
        let mut pool = Pool { router: Ipv4Addr::new(192, 168, 3, 1), leases: HashMap::new() };
        assert!(pool.answer(&[]).is_none());
        assert!(pool.answer(&request(4, 1)).is_none());
        let cut = request(DISCOVER, 1);
        assert!(pool.answer(&cut[..OPTIONS + 6]).is_none());
    }
}
