//! The UDP sockets that carry WireGuard: one for IPv4 and one for IPv6 on the same port, with the kernel's
//! segmentation (GSO) on the way out and coalescing (GRO) on the way in, several datagrams a system call.
//!
//! Knows addresses and bytes, not what is in them.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Range,
    os::fd::AsFd,
};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, MsgHdr, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};
use weft_core::ip::Ecn;

use crate::socket_option;

/// What the sockets' buffers ask of the kernel, in bytes: some 3,000 full packets, which a busy machine may take
/// tens of milliseconds to come to.
const SOCKET_BUFFER: usize = 4 << 20;

/// The largest UDP payload, which is also the most that the segments of one GSO send may add up to.
const MAX_PAYLOAD: usize = 65_535 - 40 - 8;

/// DSCP AF41, which WireGuard marks its handshake with, as the upper bits of the traffic class.
const HANDSHAKE_TRAFFIC_CLASS: i32 = 0x88;

/// How many ports to try where both families must get the same free one.
const PORT_ATTEMPTS: usize = 16;

/// The pair of sockets. Where the machine lacks one address family, the other serves alone.
#[derive(Debug)]
pub struct UdpSockets {
    v4: Option<Bound>,
    v6: Option<Bound>,
    port: u16,
}

#[derive(Debug)]
struct Bound {
    socket: UdpSocket,
    state: UdpSocketState,
    /// The kernel refused segmentation on the way out.
    without_gso: bool,
}

impl UdpSockets {
    /// Binds both families to `port` on every address; 0 picks a free one. `fwmark` marks what is sent; 0 does not.
    /// Call it inside a tokio runtime.
    ///
    /// # Errors
    /// Where the port is in use, the mark is not permitted (`CAP_NET_ADMIN`), or there is no IP at all.
    pub fn bind(port: u16, fwmark: u32) -> io::Result<Self> {
        let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match Self::bind_once(port, fwmark) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                result => return result,
            }
        }
    }

    fn bind_once(port: u16, fwmark: u32) -> io::Result<Self> {
        let v4 = unless_unsupported(Bound::new(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into(), fwmark))?;
        let port = v4.as_ref().map_or(Ok(port), |bound| bound.socket.local_addr().map(|address| address.port()))?;
        let v6 = unless_unsupported(Bound::new(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into(), fwmark))?;
        let port = v6.as_ref().map_or(Ok(port), |bound| bound.socket.local_addr().map(|address| address.port()))?;
        if v4.is_none() && v6.is_none() {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        Ok(Self { v4, v6, port })
    }

    /// The port that both are bound to.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Changes the mark of what is sent; 0 for none.
    ///
    /// # Errors
    /// Where the process may not (`CAP_NET_ADMIN`).
    pub fn set_fwmark(&self, fwmark: u32) -> io::Result<()> {
        for bound in [&self.v4, &self.v6].into_iter().flatten() {
            SockRef::from(&bound.socket).set_mark(fwmark)?;
        }
        Ok(())
    }

    /// Waits until there may be something to receive. Loses nothing where it is dropped.
    ///
    /// # Errors
    /// Where the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        match (&self.v4, &self.v6) {
            (Some(v4), Some(v6)) => tokio::select! {
                result = v4.socket.readable() => result,
                result = v6.socket.readable() => result,
            },
            (Some(only), None) | (None, Some(only)) => only.socket.readable().await,
            (None, None) => std::future::pending().await,
        }
    }

    /// Receives what has arrived on either socket, up to what `batch` holds, and returns whether there was anything.
    ///
    /// # Errors
    /// Where the kernel fails for another reason than having nothing.
    pub fn try_receive(&self, batch: &mut ReceiveBatch) -> io::Result<bool> {
        batch.received = 0;
        // By turns, so that a flood over one family does not silence the other.
        batch.v6_first = !batch.v6_first;
        let order = if batch.v6_first { [&self.v6, &self.v4] } else { [&self.v4, &self.v6] };
        for bound in order.into_iter().flatten() {
            let first = batch.received;
            let mut buffers = batch.buffers.chunks_exact_mut(RECEIVE_BUFFER);
            let mut slices: [_; RECEIVE_BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
            let (slices, metas) = (&mut slices[first..], &mut batch.metas[first..]);
            if slices.is_empty() {
                break;
            }
            let result = bound
                .socket
                .try_io(Interest::READABLE, || bound.state.recv(UdpSockRef::from(&bound.socket), slices, metas));
            match result {
                Ok(count) => batch.received += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(batch.received > 0)
    }

    /// Sends a run of data messages, and returns how many bytes of them the kernel took.
    pub fn send(&mut self, run: &Run<'_>) -> Sent {
        let Some(bound) = self.socket_for(run.destination) else {
            return Sent { error: Some(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)), ..Sent::default() };
        };
        let mut sent = Sent::default();
        let mut source = run.source;
        let segments = if bound.without_gso { 1 } else { bound.state.max_gso_segments() };
        let chunk_len = run.segment * segments.min(MAX_PAYLOAD / run.segment.max(1)).max(1);
        for chunk in run.datagrams.chunks(chunk_len.max(1)) {
            let Err(error) = bound.send(run, source, chunk) else {
                sent.add(chunk, run.segment);
                continue;
            };
            let refused_source = error.kind() != io::ErrorKind::WouldBlock && source.take().is_some();
            let refused_segments = chunk.len() > run.segment && may_be_about_segments(&error);
            if !refused_source && !refused_segments {
                sent.error = Some(error);
                continue;
            }
            sent.source_refused |= refused_source;
            // Only a device that cannot compute checksums says this, and it says it of every segmented send.
            bound.without_gso |= error.raw_os_error() == Some(libc::EIO);
            bound.reset();
            for datagram in chunk.chunks(run.segment.max(1)) {
                match bound.send(run, None, datagram) {
                    Ok(()) => sent.add(datagram, run.segment),
                    Err(error) => sent.error = Some(error),
                }
            }
        }
        sent
    }

    /// Sends one handshake message, marked as WireGuard marks them, from `source` where that is still an address of
    /// this machine.
    ///
    /// # Errors
    /// Where there is no route, or the socket's buffer is full.
    pub fn send_handshake(
        &mut self,
        message: &[u8],
        destination: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<()> {
        let Some(bound) = self.socket_for(destination) else {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        };
        let address = SockAddr::from(destination);
        let send = |source| {
            let control = ControlMessages::new(destination.is_ipv6(), HANDSHAKE_TRAFFIC_CLASS, source);
            let buffers = [IoSlice::new(message)];
            let header = MsgHdr::new().with_addr(&address).with_buffers(&buffers).with_control(control.as_bytes());
            SockRef::from(&bound.socket).sendmsg(&header, 0).map(|_| ())
        };
        send(source).or_else(|error| if source.is_some() { send(None) } else { Err(error) })
    }

    fn socket_for(&mut self, destination: SocketAddr) -> Option<&mut Bound> {
        if destination.is_ipv4() { self.v4.as_mut() } else { self.v6.as_mut() }
    }
}

impl Bound {
    fn new(domain: Domain, address: SocketAddr, fwmark: u32) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
        }
        if fwmark != 0 {
            socket.set_mark(fwmark)?;
        }
        // The forced sizes pass the system's limit and need a privilege; without it the limit has to do.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
            let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        }
        if rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
            let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        }
        socket.bind(&address.into())?;
        let state = sending_state(&socket, domain == Domain::IPV6)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, state, without_gso: false })
    }

    fn send(&self, run: &Run<'_>, source: Option<IpAddr>, datagrams: &[u8]) -> io::Result<()> {
        let transmit = Transmit {
            destination: run.destination,
            ecn: EcnCodepoint::from_bits(run.ecn as u8),
            contents: datagrams,
            segment_size: Some(run.segment),
            src_ip: source,
        };
        // Not through the runtime's readiness, which it learns of only after the first turn of its poller.
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
    }

    /// Makes `quinn-udp` forget a failure: after any `EINVAL` it sends without segmentation and without traffic
    /// class for good, and a source address that went away is one.
    fn reset(&mut self) {
        let ipv6 = self.socket.local_addr().is_ok_and(|address| address.is_ipv6());
        if let Ok(state) = sending_state(&self.socket, ipv6) {
            self.state = state;
        }
    }
}

/// Whether a send failed for a reason that the same datagrams one by one may not have: the device does not segment,
/// or each of them has to be fragmented, which excludes segmentation.
fn may_be_about_segments(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}

/// `quinn-udp`'s state of a socket, with the options undone that do not fit WireGuard.
fn sending_state(socket: &impl AsFd, ipv6: bool) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    socket_option::allow_fragments(socket, ipv6)?;
    socket_option::without_timestamps(socket)?;
    Ok(state)
}

fn unless_unsupported(result: io::Result<Bound>) -> io::Result<Option<Bound>> {
    match result {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Datagrams to one destination that lie behind one another, all of one length but the last, which may be shorter.
#[derive(Debug)]
pub struct Run<'a> {
    /// Where they go.
    pub destination: SocketAddr,
    /// The address of this machine that they leave from; `None` for the one that the routing table says.
    pub source: Option<IpAddr>,
    /// The ECN mark of the outer header.
    pub ecn: Ecn,
    /// The datagrams.
    pub datagrams: &'a [u8],
    /// The length of each but the last, in bytes.
    pub segment: usize,
}

/// What became of a [`Run`].
#[derive(Debug, Default)]
pub struct Sent {
    /// Datagrams that the kernel took.
    pub datagrams: usize,
    /// Bytes of those.
    pub bytes: usize,
    /// The kernel refused the source address, so it was left to the routing table.
    pub source_refused: bool,
    /// Why the last of those that the kernel did not take was refused.
    pub error: Option<io::Error>,
}

impl Sent {
    fn add(&mut self, datagrams: &[u8], segment: usize) {
        self.bytes += datagrams.len();
        self.datagrams += datagrams.len().div_ceil(segment.max(1));
    }
}

/// System calls fill this many buffers at once.
const RECEIVE_BUFFERS: usize = 8;
/// Room for the largest run of datagrams that the kernel coalesces.
const RECEIVE_BUFFER: usize = 1 << 16;

/// Buffers to receive into. Memory that no packet ever reached costs nothing.
pub struct ReceiveBatch {
    buffers: Vec<u8>,
    metas: [RecvMeta; RECEIVE_BUFFERS],
    received: usize,
    /// Which socket was asked first the last time.
    v6_first: bool,
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveBatch").field("received", &self.received).finish_non_exhaustive()
    }
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self {
            buffers: vec![0; RECEIVE_BUFFERS * RECEIVE_BUFFER],
            metas: [RecvMeta::default(); RECEIVE_BUFFERS],
            received: 0,
            v6_first: false,
        }
    }
}

/// Datagrams that arrived together from one source: all of one length but the last, which may be shorter.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// Where they came from.
    pub source: SocketAddr,
    /// The address of this machine that they were sent to.
    pub local: Option<IpAddr>,
    /// The ECN mark of the outer header.
    pub ecn: Ecn,
    /// The datagrams.
    pub datagrams: &'a mut [u8],
    /// The length of each but the last, in bytes; not zero.
    pub segment: usize,
}

impl ReceiveBatch {
    /// What the last [`UdpSockets::try_receive`] received.
    pub fn arrivals(&mut self) -> impl Iterator<Item = Arrival<'_>> {
        let buffers = self.buffers.chunks_exact_mut(RECEIVE_BUFFER);
        self.metas[..self.received].iter().zip(buffers).filter(|(meta, _)| meta.len > 0).map(|(meta, buffer)| {
            let len = meta.len.min(RECEIVE_BUFFER);
            Arrival {
                source: meta.addr,
                local: meta.dst_ip,
                ecn: meta.ecn.map_or(Ecn::NotCapable, |ecn| Ecn::from_bits(ecn as u8)),
                datagrams: &mut buffer[..len],
                segment: if meta.stride == 0 { len } else { meta.stride },
            }
        })
    }
}

/// Control messages of a `sendmsg`: the traffic class, and the source address where one is asked for.
///
/// Each is a header of length, level and type, then its value, both padded to the size of a pointer (`cmsg(3)`).
struct ControlMessages {
    bytes: [u8; 80],
    len: usize,
}

impl ControlMessages {
    fn new(ipv6: bool, traffic_class: i32, source: Option<IpAddr>) -> Self {
        let mut messages = Self { bytes: [0; 80], len: 0 };
        let (level, name) =
            if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) } else { (libc::IPPROTO_IP, libc::IP_TOS) };
        messages.push(level, name, &traffic_class.to_ne_bytes());
        match source {
            // struct in_pktinfo: interface index, source address, unused.
            Some(IpAddr::V4(source)) if !ipv6 => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&source.octets());
                messages.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            // struct in6_pktinfo: source address, interface index.
            Some(IpAddr::V6(source)) if ipv6 => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&source.octets());
                messages.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            _ => {}
        }
        messages
    }

    fn push(&mut self, level: i32, name: i32, value: &[u8]) {
        const WORD: usize = size_of::<usize>();
        let header = (WORD + 8).next_multiple_of(WORD);
        let start = self.len;
        self.write(start..start + WORD, &(header + value.len()).to_ne_bytes());
        self.write(start + WORD..start + WORD + 4, &level.to_ne_bytes());
        self.write(start + WORD + 4..start + WORD + 8, &name.to_ne_bytes());
        self.write(start + header..start + header + value.len(), value);
        self.len = start + header + value.len().next_multiple_of(WORD);
    }

    fn write(&mut self, range: Range<usize>, value: &[u8]) {
        self.bytes[range].copy_from_slice(value);
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests;
