//! The one UDP socket of the outer network. Knows nothing of what is in a datagram.
//!
//! The outer stack sends datagrams in their order and keeps one back until its next hop answers ARP. A neighbour that
//! is not there would so keep back all others for good: what was not sent in time is thrown away.

use core::{
    future::Future as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use embassy_net::{
    IpAddress, IpEndpoint, Stack,
    udp::{PacketMetadata, RecvError, UdpSocket},
};
use weft_core::time::Instant;

use crate::{
    fmt::warning,
    state::{UDP_PACKETS, UdpBuffers},
};

/// Longer than ARP takes with one repetition.
const STUCK: Duration = Duration::from_millis(1_500);

/// Room for the descriptions of datagrams in the outer stack.
pub(super) type Metadata = [PacketMetadata; UDP_PACKETS];

/// The socket.
pub(super) struct Datagrams<'a> {
    socket: UdpSocket<'a>,
    port: u16,
    /// Since when the outer stack has datagrams to send, and none left.
    waiting_since: Option<Instant>,
}

impl<'a> Datagrams<'a> {
    #[inline(never)]
    pub(super) fn new(
        stack: Stack<'a>,
        port: u16,
        buffers: &'a mut UdpBuffers,
        receive: &'a mut Metadata,
        transmit: &'a mut Metadata,
    ) -> Self {
        let socket = UdpSocket::new(stack, receive, &mut buffers.receive, transmit, &mut buffers.transmit);
        let mut datagrams = Self { socket, port, waiting_since: None };
        datagrams.bind();
        datagrams
    }

    fn bind(&mut self) {
        if self.socket.bind(self.port).is_err() {
            warning!("the UDP port {} cannot be used: is another socket bound to it?", self.port);
        }
    }

    /// Takes the next datagram in. One that is longer than `buffer` is `None`.
    pub(super) fn poll_receive(
        &mut self,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, SocketAddr)>> {
        self.socket.poll_recv_from(buffer, cx).map(|received| match received {
            Ok((len, metadata)) => Some((len, socket_addr(metadata.endpoint)?)),
            Err(RecvError::Truncated) => None,
        })
    }

    /// Sends a datagram: `Ready` says whether it is on its way, `Pending` that there is no room for it now.
    pub(super) fn poll_send(&mut self, datagram: &[u8], to: SocketAddr, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(to) = ip_endpoint(to) else { return Poll::Ready(false) };
        self.socket.poll_send_to(datagram, to, cx).map(|sent| sent.is_ok())
    }

    /// Throws away what the outer stack could not send for a while. Returns when it has to be called again.
    pub(super) fn unblock(&mut self, now: Instant, cx: &mut Context<'_>) -> Option<Instant> {
        if pin!(self.socket.flush()).poll(cx).is_ready() {
            self.waiting_since = None;
            return None;
        }
        let deadline = *self.waiting_since.get_or_insert(now) + STUCK;
        if now < deadline {
            return Some(deadline);
        }
        warning!("a neighbour on the outer network does not answer; what waited for it is dropped");
        self.waiting_since = None;
        // Closing empties both buffers.
        self.socket.close();
        self.bind();
        None
    }
}

/// An endpoint in core's form; `None` where the node does not speak its family.
fn socket_addr(endpoint: IpEndpoint) -> Option<SocketAddr> {
    let address = v4(endpoint.addr)?;
    Some(SocketAddr::V4(SocketAddrV4::new(address, endpoint.port)))
}

/// The address, where it is of IPv4.
pub(super) fn v4(address: IpAddress) -> Option<Ipv4Addr> {
    match address {
        IpAddress::Ipv4(address) => Some(address),
        #[allow(unreachable_patterns, reason = "the other family is there where somebody switched it on")]
        _ => None,
    }
}

/// An endpoint in the stack's form; `None` where the node does not speak its family.
fn ip_endpoint(endpoint: SocketAddr) -> Option<IpEndpoint> {
    match endpoint.ip() {
        IpAddr::V4(address) => Some(IpEndpoint::new(IpAddress::Ipv4(address), endpoint.port())),
        IpAddr::V6(_) => None,
    }
}
