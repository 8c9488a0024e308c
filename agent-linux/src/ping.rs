//! One ICMP echo through the mesh, by a socket of the kernel's, so that the answer proves the whole way: route, device,
//! tunnel, and the other machine's kernel.
//!
//! The daemon sends it for whoever asks, since most users may open no such socket themselves.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rand_core::TryRng as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

/// Header and token of an echo, in bytes.
const MESSAGE_LEN: usize = HEADER_LEN + TOKEN_LEN;
const HEADER_LEN: usize = 8;
const TOKEN_LEN: usize = 16;

/// Sends one echo request to `to` and waits for its reply. Returns the round trip; `None` where none came in `timeout`.
///
/// # Errors
/// Where the process may not send ICMP, or there is no route.
pub async fn echo(to: IpAddr, sequence: u16, timeout: Duration) -> io::Result<Option<Duration>> {
    let socket = open(to)?;
    // A raw socket sees everybody's echoes: the token tells ours.
    let mut token = [0; TOKEN_LEN];
    getrandom::SysRng.try_fill_bytes(&mut token).map_err(io::Error::other)?;
    let sent = Instant::now();
    let exchange = async {
        socket.send(&request(to, sequence, &token)).await?;
        let mut buffer = [0; 256];
        loop {
            let len = socket.recv(&mut buffer).await?;
            if is_reply(to, buffer.get(..len).unwrap_or_default(), sequence, &token) {
                return Ok(sent.elapsed());
            }
        }
    };
    timeout_at(sent + timeout, exchange).await.ok().transpose()
}

/// An ICMP socket that is connected to `to`: raw where the process may, else the kind for everybody, where the
/// machine's `net.ipv4.ping_group_range` lets it.
fn open(to: IpAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))
        .or_else(|raw| Socket::new(domain, Type::DGRAM, Some(protocol)).map_err(|_| raw))?;
    socket.set_nonblocking(true)?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    // Sending and receiving on a connected socket is the same for every kind of datagram.
    UdpSocket::from_std(socket.into())
}

fn request(to: IpAddr, sequence: u16, token: &[u8; TOKEN_LEN]) -> [u8; MESSAGE_LEN] {
    let mut message = [0; MESSAGE_LEN];
    let (header, payload) = message.split_at_mut(HEADER_LEN);
    header[0] = if to.is_ipv4() { 8 } else { 128 };
    header[6..].copy_from_slice(&sequence.to_be_bytes());
    payload.copy_from_slice(token);
    if to.is_ipv4() {
        // For IPv6 the kernel does it, since the checksum covers the addresses.
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn is_reply(from: IpAddr, packet: &[u8], sequence: u16, token: &[u8; TOKEN_LEN]) -> bool {
    // A raw IPv4 socket hands over the IP header too; an echo reply never begins with a 4.
    let header = match packet.first() {
        Some(first) if from.is_ipv4() && first >> 4 == 4 => usize::from(first & 15) * 4,
        _ => 0,
    };
    let kind = if from.is_ipv4() { 0 } else { 129 };
    match packet.get(header..).and_then(|message| message.split_at_checked(HEADER_LEN)) {
        Some((header, payload)) => header[0] == kind && header[6..] == sequence.to_be_bytes() && payload == token,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn only_the_reply_to_our_own_request_counts() {
        let token = [7; TOKEN_LEN];
        let mut reply = request(V4, 3, &token);
        assert_eq!(checksum(&reply), 0);
        assert!(!is_reply(V4, &reply, 3, &token), "a request is no reply");
        reply[0] = 0;
        assert!(is_reply(V4, &reply, 3, &token));
        assert!(!is_reply(V4, &reply, 4, &token));
        assert!(!is_reply(V4, &reply, 3, &[8; TOKEN_LEN]));
        assert!(!is_reply(V4, &reply[..10], 3, &token));
        let mut packet = vec![0x45; 20];
        packet.extend_from_slice(&reply);
        assert!(is_reply(V4, &packet, 3, &token));
        assert!(!is_reply(V4, &[0x4f], 3, &token));
        reply[0] = 129;
        assert!(is_reply(V6, &reply, 3, &token));
    }

    #[test]
    fn a_message_of_odd_sums_folds_twice() {
        assert_eq!(checksum(&[0xff; 8]), 0);
        assert_eq!(checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), 0x220d);
    }
}
