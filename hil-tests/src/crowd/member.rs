//! One node of a crowd: what core's node wants done is done with a UDP socket and a TCP connection.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket},
    sync::atomic::Ordering,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, oneshot},
};
use weft_core::{
    control::{MAX_FRAME, record::Capacity},
    crypto::RustCrypto,
    node::{ContactSlot, IdEntry, Node, NodeConfig, NodeEvent, NodeStorage, NodeTables, PeerSlot, Persist},
    time::Instant,
    wireguard::{
        Outgoing, Received, SendOutcome, TransmitKind,
        message::INITIATION_LEN,
        storage::{Borrowed, InPlace, Table, Tables},
    },
};

use super::{Card, Order, Plan, echo};
use crate::swarm::{now, unix_now};

/// From one echo request to the next.
const PING_INTERVAL: Duration = Duration::from_millis(100);
/// The largest datagram that comes: a full inner packet, sealed.
const DATAGRAM: usize = 2_048;
/// Bytes from the control server that are taken at a time.
const INPUT: usize = 2_048;
/// Peers that a node says it can hold. A third place is for newcomers.
const PEERS: u32 = 2;

struct Small;

impl NodeStorage for Small {
    type Device = Borrowed<'static, 8, 256>;
    type Peers = Table<'static, PeerSlot>;
    type Ids = Table<'static, IdEntry>;
    type Contacts = Table<'static, ContactSlot>;
}

/// Tables for so few peers. A node borrows them for as long as it lives, here until the process ends.
fn tables() -> NodeTables<Small> {
    fn table<T: Default, const N: usize>() -> Table<'static, T> {
        let table: Box<InPlace<T, N>> = Box::new(const { InPlace::EMPTY });
        Box::leak(table).table()
    }
    NodeTables {
        device: Tables {
            known: table::<_, 3>(),
            active: table::<_, 3>(),
            allowed_ips: table::<_, 16>(),
            indices: table::<_, 16>(),
            staged: table::<_, 4>(),
            sources: table::<_, 4>(),
        },
        peers: table::<_, 3>(),
        ids: table::<_, 6>(),
        contacts: table::<_, 3>(),
    }
}

pub(super) struct Member {
    node: Node<Small>,
    plan: Plan,
    udp: UdpSocket,
    control: Option<TcpStream>,
    /// Until it is a member.
    joining: Option<oneshot::Sender<Card>>,
    permit: Option<OwnedSemaphorePermit>,
    ping: Option<Ping>,
    /// How many pings were ordered.
    pings: u16,
    rng: UnwrapErr<SysRng>,
}

struct Ping {
    to: Ipv4Addr,
    number: u16,
    next: Instant,
    end: Instant,
    answered: oneshot::Sender<bool>,
}

impl Member {
    pub(super) fn new(mut plan: Plan, socket: StdUdpSocket) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let config = NodeConfig {
            hostname: plan.name.as_str().try_into().map_err(|_| anyhow!("{} is too long", plan.name))?,
            os: "linux",
            agent: env!("CARGO_PKG_VERSION"),
            capacity: Some(Capacity { peers: Some(PEERS), routes: None }),
        };
        let mut rng = UnwrapErr(SysRng);
        let mut node = Node::new(config, tables(), &mut rng);
        node.set_local_endpoints(&[plan.local], now());
        let (joined, _) = oneshot::channel();
        let joining = Some(std::mem::replace(&mut plan.joined, joined));
        let udp = UdpSocket::from_std(socket)?;
        Ok(Self { node, plan, udp, control: None, joining, permit: None, ping: None, pings: 0, rng })
    }

    /// Joins when it is its turn, and lives until nobody can give orders any more.
    pub(super) async fn run(mut self) -> Result<()> {
        self.permit = Some(self.plan.gate.clone().acquire_owned().await?);
        self.node.join(&self.plan.key, now(), &mut self.rng);
        self.node.start(now(), unix_now(), &mut self.rng);
        let (mut datagram, mut input) = (vec![0; DATAGRAM], vec![0; INPUT]);
        loop {
            let due = self.settle().await?;
            let pause = due.map_or(Duration::MAX, |due| due.saturating_since(now()));
            tokio::select! {
                order = self.plan.orders.recv() => match order {
                    Some(Order::Ping { to, limit, answered }) => {
                        self.pings = self.pings.wrapping_add(1);
                        let number = self.pings;
                        self.ping = Some(Ping { to, number, next: now(), end: now() + limit, answered });
                    }
                    None => return Ok(()),
                },
                received = self.udp.recv_from(&mut datagram) => {
                    let (len, from) = received?;
                    self.receive(datagram.get_mut(..len).unwrap_or_default(), from)?;
                }
                read = read(&mut self.control, &mut input) => match read {
                    Ok(len) if len > 0 => self.heed(input.get(..len).unwrap_or_default())?,
                    _ => self.hang_up(),
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Does all that is due; returns when the next thing is.
    async fn settle(&mut self) -> Result<Option<Instant>> {
        self.ping_due();
        if self.node.next_connect().is_some_and(|(due, _)| due <= now()) {
            self.connect().await;
        }
        self.node.handle_timeout(now(), unix_now(), &mut self.rng);
        self.transmit()?;
        self.events();
        if let Some(control) = &mut self.control {
            let mut out = [0; 2 * MAX_FRAME];
            loop {
                let len = self.node.control_transmit(&mut out, now(), &mut self.rng);
                if len == 0 {
                    break;
                }
                if control.write_all(out.get(..len).unwrap_or_default()).await.is_err() {
                    self.hang_up();
                    break;
                }
            }
        }
        let connect = self.node.next_connect().map(|(due, _)| due);
        let ping = self.ping.as_ref().map(|ping| ping.next.min(ping.end));
        Ok([self.node.poll_timeout(), connect, ping].into_iter().flatten().min())
    }

    async fn connect(&mut self) {
        let Some((_, server)) = self.node.next_connect() else { return };
        let server = (server.host().to_owned(), server.port());
        self.node.control_connecting();
        match TcpStream::connect(server).await.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => {
                self.control = Some(stream);
                self.node.control_connected(now(), &mut self.rng);
            }
            Err(_) => self.node.control_closed(now(), &mut self.rng),
        }
    }

    fn hang_up(&mut self) {
        self.control = None;
        self.node.control_closed(now(), &mut self.rng);
    }

    /// Takes bytes from the control server.
    fn heed(&mut self, bytes: &[u8]) -> Result<()> {
        self.node.control_receive(bytes, now(), unix_now(), &mut self.rng);
        let mut message = [0; INITIATION_LEN];
        while let Some((len, from)) = self.node.take_stranger(&mut message) {
            self.receive(message.get_mut(..len).unwrap_or_default(), from)?;
        }
        Ok(())
    }

    /// Takes a datagram, and answers what is in it.
    fn receive(&mut self, datagram: &mut [u8], from: SocketAddr) -> Result<()> {
        let (now, time) = (now(), self.node.time(now(), unix_now()));
        match self.node.device_mut().receive::<RustCrypto>(datagram, from, now, time, &mut self.rng) {
            Received::Packet { range, .. } => {
                let packet = datagram.get(range).unwrap_or_default();
                if let Some(reply) = echo::reply(packet) {
                    self.send(&reply);
                } else if let Some(answer) = echo::replied(packet)
                    && self.ping.as_ref().is_some_and(|ping| answer == (ping.to, ping.number))
                    && let Some(ping) = self.ping.take()
                {
                    let _ = ping.answered.send(true);
                }
            }
            Received::Transmit(answer) => {
                // A datagram that finds no room is one that got lost.
                let _ = self.udp.try_send_to(datagram.get(..answer.len).unwrap_or_default(), answer.endpoint);
            }
            Received::Stranger(key) => {
                self.node.need_initiator(key, datagram, from, now);
            }
            Received::Taken(_) | Received::Drop(_) => {}
        }
        self.node.device_changed(now);
        Ok(())
    }

    /// Sends an inner packet.
    fn send(&mut self, packet: &[u8]) {
        let mut buffer = vec![0; packet.len() + Outgoing::OVERHEAD];
        buffer.iter_mut().skip(Outgoing::HEAD_ROOM).zip(packet).for_each(|(to, from)| *to = *from);
        let (now, time) = (now(), self.node.time(now(), unix_now()));
        match self.node.device_mut().send::<RustCrypto>(&mut buffer, packet.len(), now, time) {
            SendOutcome::Transmit(transmit) => {
                let _ = self.udp.try_send_to(buffer.get(..transmit.len).unwrap_or_default(), transmit.endpoint);
            }
            SendOutcome::NoEndpoint(peer) => {
                let _ = self.node.device_mut().stage(peer, packet, now);
            }
            SendOutcome::NoRoute(address) => {
                self.node.need_address(address, now);
            }
            SendOutcome::Staged(_) | SendOutcome::Drop(_) => {}
        }
    }

    /// Sends what the device has to send by itself: initiations, keepalives, and what waited for a session.
    fn transmit(&mut self) -> Result<()> {
        let (now, wall) = (now(), unix_now());
        let time = self.node.time(now, wall);
        let mut buffer = [0; 512];
        while let Some(transmit) =
            self.node.device_mut().poll_transmit::<RustCrypto>(now, time, &mut self.rng, &mut buffer)
        {
            if transmit.kind == TransmitKind::Initiation {
                self.plan.initiations.fetch_add(1, Ordering::AcqRel);
            }
            for target in self.node.targets(&transmit, now, wall).iter() {
                let _ = self.udp.try_send_to(buffer.get(..transmit.len).unwrap_or_default(), target);
            }
        }
        self.node.device_changed(now);
        Ok(())
    }

    fn events(&mut self) {
        while let Some(event) = self.node.poll_event() {
            match event {
                // Nothing of this crowd outlives it.
                NodeEvent::Persist(Persist::Identity) => self.node.identity_kept(),
                NodeEvent::CloseControl => self.hang_up(),
                _ => {}
            }
        }
        let own = self.node.netmap().own().and_then(|own| Some(Card { key: *own.key(), address: own.v4()? }));
        if let Some(card) = own
            && let Some(joining) = self.joining.take()
        {
            self.permit = None;
            let _ = joining.send(card);
        }
    }

    /// Sends the next echo request, or gives up.
    fn ping_due(&mut self) {
        let now = now();
        let Some(mut ping) = self.ping.take() else { return };
        if ping.end <= now {
            let _ = ping.answered.send(false);
            return;
        }
        let own = self.node.netmap().own().and_then(weft_core::node::SelfRecord::v4);
        if ping.next <= now
            && let Some(own) = own
        {
            ping.next = now + PING_INTERVAL;
            let packet = echo::request(own, ping.to, ping.number);
            self.ping = Some(ping);
            return self.send(&packet);
        }
        self.ping = Some(ping);
    }
}

/// Reads from the control server, for ever where there is no connection.
async fn read(control: &mut Option<TcpStream>, input: &mut [u8]) -> Result<usize> {
    match control {
        Some(control) => control.read(input).await.context("the control connection"),
        None => std::future::pending().await,
    }
}
