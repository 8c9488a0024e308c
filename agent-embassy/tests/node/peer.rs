//! Another node of the mesh, by core alone: it sits at the server's address and answers echo requests.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    task::Poll,
};

use embassy_net::{IpAddress, IpEndpoint, udp::UdpSocket};
use weft_core::{
    crypto::RustCrypto,
    node::{ContactSlot, IdEntry, Node, NodeConfig, NodeEvent, NodeStorage, NodeTables, PeerSlot, Persist},
    time::Instant,
    wireguard::{
        Outgoing, Received, SendOutcome,
        storage::{Borrowed, FixedTables},
    },
};

use crate::{rng::TestRng, server::Server, world::clock};

pub(crate) struct PeerStorage;

impl NodeStorage for PeerStorage {
    type Device = Borrowed<'static, 8, 1280>;
    type Peers = &'static mut [PeerSlot];
    type Ids = &'static mut [IdEntry];
    type Contacts = &'static mut [ContactSlot];
}

type Tables = FixedTables<16, 16, 64, 64, 8, 1280, 8, 8>;

/// The node, its connection, and what came.
pub(crate) struct Peer {
    pub(crate) node: Node<PeerStorage>,
    rng: TestRng,
    server: Rc<RefCell<Server>>,
    connection: Option<usize>,
    out: Vec<(Vec<u8>, SocketAddr)>,
    /// Inner packets that came in.
    pub(crate) inbox: Vec<Vec<u8>>,
}

impl Peer {
    pub(crate) fn new(name: &str, server: Rc<RefCell<Server>>, endpoint: SocketAddr, seed: u64) -> Self {
        let tables = NodeTables {
            device: Box::leak(Box::new(Tables::EMPTY)).tables(),
            peers: vec![None; 16].leak(),
            ids: vec![IdEntry::EMPTY; 32].leak(),
            contacts: vec![None; 16].leak(),
        };
        let config =
            NodeConfig { hostname: name.try_into().unwrap(), os: "linux", agent: "test", ..NodeConfig::default() };
        let mut rng = TestRng::new(seed);
        let mut node = Node::new(config, tables, &mut rng);
        let (now, wall) = clock();
        node.set_local_endpoints(&[endpoint], now);
        node.join(&server.borrow().join_key(), now, &mut rng);
        node.start(now, wall, &mut rng);
        Self { node, rng, server, connection: None, out: Vec::new(), inbox: Vec::new() }
    }

    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.node.netmap().own()?.v4()
    }

    /// Sends an inner packet.
    pub(crate) fn send(&mut self, packet: &[u8]) {
        let (now, wall) = clock();
        let time = self.node.time(now, wall);
        let mut buffer = vec![0; packet.len() + Outgoing::OVERHEAD];
        buffer[Outgoing::HEAD_ROOM..][..packet.len()].copy_from_slice(packet);
        match self.node.device_mut().send::<RustCrypto>(&mut buffer, packet.len(), now, time) {
            SendOutcome::Transmit(transmit) => self.out.push((buffer[..transmit.len].to_vec(), transmit.endpoint)),
            SendOutcome::NoEndpoint(peer) => drop(self.node.device_mut().stage(peer, packet, now)),
            _ => {}
        }
        self.node.device_changed(now);
    }

    fn receive(&mut self, datagram: &mut [u8], source: SocketAddr) {
        let (now, wall) = clock();
        let time = self.node.time(now, wall);
        match self.node.device_mut().receive::<RustCrypto>(datagram, source, now, time, &mut self.rng) {
            Received::Packet { range, .. } => self.inbox.push(datagram[range].to_vec()),
            Received::Transmit(transmit) => self.out.push((datagram[..transmit.len].to_vec(), transmit.endpoint)),
            Received::Taken(_) | Received::Stranger(_) | Received::Drop(_) => {}
        }
        self.node.device_changed(now);
    }

    fn turn(&mut self) {
        let (now, wall) = clock();
        if let Some(connection) = self.connection {
            match self.server.borrow_mut().take_output(connection) {
                None => {
                    self.connection = None;
                    self.node.control_closed(now, &mut self.rng);
                }
                Some(bytes) => self.node.control_receive(&bytes, now, wall, &mut self.rng),
            }
        }
        if self.node.next_connect().is_some_and(|(due, _)| due <= now) {
            self.node.control_connecting();
            self.connection = self.server.borrow_mut().connect();
            match self.connection {
                Some(_) => self.node.control_connected(now, &mut self.rng),
                None => self.node.control_closed(now, &mut self.rng),
            }
        }
        self.node.handle_timeout(now, wall, &mut self.rng);
        let time = self.node.time(now, wall);
        let mut buffer = [0; 2_048];
        while let Some(transmit) =
            self.node.device_mut().poll_transmit::<RustCrypto>(now, time, &mut self.rng, &mut buffer)
        {
            for target in self.node.targets(&transmit, now, wall).iter() {
                self.out.push((buffer[..transmit.len].to_vec(), target));
            }
        }
        self.node.device_changed(now);
        while let Some(event) = self.node.poll_event() {
            match event {
                NodeEvent::Persist(Persist::Identity) => self.node.identity_kept(),
                NodeEvent::CloseControl => self.connection = None,
                _ => {}
            }
        }
        if let Some(connection) = self.connection {
            let mut out = [0; 4_096];
            loop {
                match self.node.control_transmit(&mut out, now, &mut self.rng) {
                    0 => break,
                    len => self.server.borrow_mut().receive(connection, &out[..len]),
                }
            }
        }
    }

    /// When the last handshake with the peer of this mesh address was.
    pub(crate) fn last_handshake(&self, address: Ipv4Addr) -> Option<Instant> {
        let peer = self.node.device().route(IpAddr::V4(address))?;
        Some(self.node.device().peer(peer, clock().0)?.last_handshake?.at)
    }
}

/// Carries the peer's datagrams for ever.
pub(crate) async fn run(peer: Rc<RefCell<Peer>>, socket: UdpSocket<'static>) {
    let mut buffer = vec![0; 2_048];
    loop {
        std::future::poll_fn(|cx| {
            let mut peer = peer.borrow_mut();
            while let Poll::Ready(Ok((len, metadata))) = socket.poll_recv_from(&mut buffer, cx) {
                let IpAddress::Ipv4(address) = metadata.endpoint.addr;
                peer.receive(&mut buffer[..len], SocketAddr::new(address.into(), metadata.endpoint.port));
            }
            peer.turn();
            for (datagram, target) in std::mem::take(&mut peer.out) {
                let IpAddr::V4(address) = target.ip() else { continue };
                let _ = socket.poll_send_to(&datagram, IpEndpoint::new(address.into(), target.port()), cx);
            }
            Poll::Ready(())
        })
        .await;
        embassy_time::Timer::after(embassy_time::Duration::from_millis(1)).await;
    }
}
