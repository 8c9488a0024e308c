//! Handshake, transport and cookies against an implementation that shares no code with ours: Cloudflare's boringtun.

mod device;
mod handshake;

use std::{net::SocketAddr, sync::Arc};

use boringtun::{
    noise::{Tunn, TunnResult, rate_limiter::RateLimiter},
    x25519,
};
use weft_core::keys::NodeKey;

/// With and without a preshared key.
const PSKS: [Option<[u8; 32]>; 2] = [None, Some([0x5a; 32])];

/// One tunnel of boringtun, on the machine's own clock.
struct Boringtun {
    tunn: Tunn,
    key: NodeKey,
}

/// What boringtun made of a datagram.
#[derive(Debug, PartialEq)]
enum Outcome {
    Nothing,
    Refused,
    Answered(Vec<u8>),
    Delivered(Vec<u8>),
}

impl Boringtun {
    /// A tunnel to the peer with this key.
    fn new(peer: &NodeKey, psk: Option<[u8; 32]>) -> Self {
        Self::with_limit(peer, psk, 1_000)
    }

    /// One that always counts as loaded.
    fn loaded(peer: &NodeKey) -> Self {
        Self::with_limit(peer, None, 0)
    }

    fn with_limit(peer: &NodeKey, psk: Option<[u8; 32]>, limit: u64) -> Self {
        let secret = x25519::StaticSecret::from([0x42; 32]);
        let public = x25519::PublicKey::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, limit));
        let peer = x25519::PublicKey::from(*peer.as_bytes());
        Self { tunn: Tunn::new(secret, peer, psk, None, 3, Some(limiter)), key: NodeKey::from_bytes(public.to_bytes()) }
    }

    /// A new initiation, whatever else is under way.
    fn initiates(&mut self) -> Vec<u8> {
        Outcome::of(self.tunn.format_handshake_initiation(&mut [0; 2_048], true)).answer()
    }

    fn receives(&mut self, datagram: &[u8]) -> Outcome {
        Outcome::of(self.tunn.decapsulate(Some(source().ip()), datagram, &mut [0; 2_048]))
    }

    /// Sends a packet in its session.
    fn sends(&mut self, packet: &[u8]) -> Vec<u8> {
        Outcome::of(self.tunn.encapsulate(packet, &mut [0; 2_048])).answer()
    }
}

impl Outcome {
    fn of(result: TunnResult<'_>) -> Self {
        match result {
            TunnResult::Done => Self::Nothing,
            TunnResult::Err(_) => Self::Refused,
            TunnResult::WriteToNetwork(datagram) => Self::Answered(datagram.to_vec()),
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Self::Delivered(packet.to_vec())
            }
        }
    }

    fn answer(self) -> Vec<u8> {
        match self {
            Self::Answered(datagram) => datagram,
            other => panic!("boringtun sends nothing: {other:?}"),
        }
    }
}

/// Where each side sees the other.
fn source() -> SocketAddr {
    "192.0.2.7:40000".parse().unwrap()
}

/// An IPv4 packet of this length, from 10.0.0.1 to 10.0.0.2.
fn ipv4(len: u16) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len).map(|i| i as u8).collect();
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    packet
}

/// An IPv6 packet of this length, from fd00::1 to fd00::2.
fn ipv6(len: u16) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len).map(|i| i as u8).collect();
    packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 17, 64]);
    packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
    for (start, last) in [(8, 1), (24, 2)] {
        packet[start..start + 16].copy_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet
}

/// The same packet back.
fn answer_to(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let (start, len) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
    packet[start..start + 2 * len].rotate_left(len);
    packet
}
