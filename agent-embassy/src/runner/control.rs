//! The TCP connection to the control server: connects when core says, and carries bytes both ways.

use core::{
    cell::RefCell,
    future::{Future as _, poll_fn},
    net::Ipv4Addr,
    pin::pin,
    task::{Context, Poll},
};

use embassy_futures::select::{Either, select};
use embassy_net::{IpEndpoint, Stack, tcp::TcpSocket};
use embassy_time::{Duration, Timer};

use super::wants::Wants;
use crate::{
    apart::apart,
    clock::{self, WALL},
    fmt::{info, warning},
    state::{Mesh, Shared, TcpBuffers},
};

/// From the first packet to an open connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that ends has so long to tell the server.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Where to connect.
enum Target {
    Known(IpEndpoint),
    #[cfg(feature = "dns")]
    Named(weft_core::control::ServerAddress),
    /// What it is was said.
    Unusable,
}

/// The connection and who uses it.
pub(super) struct Control<'a> {
    pub(super) shared: &'static Shared,
    pub(super) mesh: &'static RefCell<Mesh>,
    pub(super) wants: &'a Wants,
    pub(super) outer: Stack<'a>,
}

impl Control<'_> {
    /// Keeps a connection whenever core wants one.
    pub(super) async fn run(&self, buffers: &mut TcpBuffers) -> ! {
        // One socket for all connections, so that none is left over.
        let mut socket = TcpSocket::new(self.outer, &mut buffers.receive, &mut buffers.transmit);
        // That a server is silent for too long, core finds out.
        socket.set_nagle_enabled(false);
        loop {
            let target = poll_fn(|_| self.poll_due()).await;
            self.wants.close_control.set(false);
            if apart(pin!(self.connect(&mut socket, target))).await {
                self.connected();
                poll_fn(|cx| self.poll_exchange(&mut socket, cx)).await;
            }
            // After an end that core asked for, this says nothing new.
            self.closed();
            socket.close();
            let _ = select(socket.flush(), Timer::after(CLOSE_TIMEOUT)).await;
            socket.abort();
        }
    }

    /// There is a connection.
    #[inline(never)]
    fn connected(&self) {
        let mesh = &mut *self.mesh.borrow_mut();
        mesh.node.control_connected(clock::now(), &mut mesh.rng);
        self.shared.kick();
    }

    /// There is none any more.
    #[inline(never)]
    fn closed(&self) {
        let mesh = &mut *self.mesh.borrow_mut();
        mesh.node.control_closed(clock::now(), &mut mesh.rng);
        self.shared.kick();
    }

    /// Ready with where to connect, when that is due. The engine wakes the task then.
    #[inline(never)]
    fn poll_due(&self) -> Poll<Target> {
        let mesh = &mut *self.mesh.borrow_mut();
        let now = clock::now();
        let due = mesh.node.next_connect().filter(|(due, _)| *due <= now && self.wants.outer_up.get());
        let Some((_, address)) = due.filter(|_| !mesh.node.needs_step()) else { return Poll::Pending };
        let target = match address.host().parse::<Ipv4Addr>() {
            _ if address.is_tls() => {
                warning!("{} is https: this node speaks http only, which is encrypted all the same", address.as_str());
                Target::Unusable
            }
            Ok(ip) => Target::Known(IpEndpoint::new(ip.into(), address.port())),
            #[cfg(feature = "dns")]
            Err(_) => Target::Named(address.clone()),
            #[cfg(not(feature = "dns"))]
            Err(_) => {
                warning!("{} is a name: this firmware is built without the feature `dns`", address.as_str());
                Target::Unusable
            }
        };
        mesh.node.control_connecting();
        self.shared.board.count(|counters| counters.connects = counters.connects.wrapping_add(1));
        self.shared.kick();
        Poll::Ready(target)
    }

    async fn connect(&self, socket: &mut TcpSocket<'_>, target: Target) -> bool {
        let endpoint = match target {
            Target::Known(endpoint) => endpoint,
            #[cfg(feature = "dns")]
            Target::Named(address) => match self.look_up(&address).await {
                Some(endpoint) => endpoint,
                None => return false,
            },
            Target::Unusable => return false,
        };
        match select(socket.connect(endpoint), Timer::after(CONNECT_TIMEOUT)).await {
            Either::First(Ok(())) => {
                info!("connected to the control server at {}", endpoint);
                true
            }
            Either::First(Err(_)) => {
                warning!("the control server at {} refuses connections", endpoint);
                false
            }
            Either::Second(()) => {
                warning!("the control server at {} does not answer", endpoint);
                false
            }
        }
    }

    /// Asks the outer network's name server.
    #[cfg(feature = "dns")]
    async fn look_up(&self, address: &weft_core::control::ServerAddress) -> Option<IpEndpoint> {
        let query = self.outer.dns_query(address.host(), embassy_net::dns::DnsQueryType::A);
        let answer = match select(query, Timer::after(CONNECT_TIMEOUT)).await {
            Either::First(Ok(found)) => found.first().copied(),
            Either::First(Err(_)) | Either::Second(()) => None,
        };
        if answer.is_none() {
            warning!("the name of the control server, {}, is not found", address.host());
        }
        Some(IpEndpoint::new(answer?, address.port()))
    }

    /// Carries bytes until the connection ends.
    #[inline(never)]
    fn poll_exchange(&self, socket: &mut TcpSocket<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if self.wants.close_control.replace(false) {
            return Poll::Ready(());
        }
        // Steps come first; the engine computes them one by one, and the task is polled again after each.
        if self.mesh.borrow().node.needs_step() {
            return Poll::Pending;
        }
        if !socket.may_recv() {
            return Poll::Ready(());
        }
        if self.poll_read(socket, cx) | self.poll_write(socket, cx) {
            // The engine looks at the events first: what has to be kept, or that the connection is over.
            self.shared.kick();
        }
        Poll::Pending
    }

    /// Hands what came to core, where it lies. True where something came.
    #[inline(never)]
    fn poll_read(&self, socket: &mut TcpSocket<'_>, cx: &mut Context<'_>) -> bool {
        let received = pin!(socket.read_with(|bytes| {
            let mesh = &mut *self.mesh.borrow_mut();
            mesh.node.control_receive(bytes, clock::now(), WALL, &mut mesh.rng);
            (bytes.len(), ())
        }))
        .poll(cx);
        received.is_ready()
    }

    /// Has core write what it has to say where it is sent from. Only into an empty buffer, which is one piece. True where
    /// something was written.
    #[inline(never)]
    fn poll_write(&self, socket: &mut TcpSocket<'_>, cx: &mut Context<'_>) -> bool {
        if self.mesh.borrow().node.needs_step() || pin!(socket.flush()).poll(cx).is_pending() {
            return false;
        }
        let written = pin!(socket.write_with(|room| {
            let mesh = &mut *self.mesh.borrow_mut();
            let len = mesh.node.control_transmit(room, clock::now(), &mut mesh.rng);
            (len, len > 0)
        }))
        .poll(cx);
        matches!(written, Poll::Ready(Ok(true)))
    }
}
