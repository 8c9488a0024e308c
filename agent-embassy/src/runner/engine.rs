//! Datagrams, inner packets, handshakes and deadlines: everything of the task that never waits.
//!
//! A turn does a bounded amount of each kind of work and at most one Diffie-Hellman, and asks for another turn where
//! there is more, so that the executor has its turn in between. The kinds of work are calls of their own, so that the
//! stack is as deep as the greatest needs, not as all together.

use core::{
    cell::RefCell,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::{Context, Poll},
    time::Duration,
};

use embassy_net::{ConfigV4, Ipv4Cidr, Stack, StaticConfigV4};
use weft_core::{
    control::ErrorCode,
    crypto::Crypto,
    keys::NodeKey,
    node::{ControlState, NodeEvent, NodeStorage, PeerRecord, Persist, SelfRecord},
    time::Instant,
    wireguard::{
        Device, DropReason, HandshakeBegin, HandshakeTicket, Incoming, Outgoing, PeerId, SealOutcome, SendOutcome,
        TicketProgress, Transmit, Verdict, Work,
    },
};

use super::{
    datagrams::{Datagrams, v4},
    inbox::{Inbox, Message},
    start,
    wants::Wants,
};
use crate::{
    Config,
    clock::{self, WALL},
    crypto::ChipCrypto,
    event::{Event, Problem, Server},
    fmt::{debug, info, warning},
    node::Counters,
    packets::DATAGRAM_LEN,
    state::{Mesh, Shared},
    tables::ChipStorage,
};

/// Datagrams and packets that are moved each way in one turn.
const BATCH: usize = 4;
/// All of the mesh is on the link of the inner network.
const MESH_PREFIX: u8 = 10;
/// A packet waits so long for the server's word of who has its destination, and all others behind it.
const SOUGHT: Duration = Duration::from_millis(500);
/// How often the outer network is looked at: its stack tells only one task of changes, which may be another.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The same while it is not up.
const LOOK_SOON: Duration = Duration::from_millis(100);

type ChipDevice = Device<<ChipStorage as NodeStorage>::Device>;
type ChipAead = <ChipCrypto as Crypto>::Aead;

/// The engine.
pub(super) struct Engine<'a> {
    shared: &'static Shared,
    mesh: &'static RefCell<Mesh>,
    wants: &'a Wants,
    outer: Stack<'a>,
    inner: Stack<'a>,
    datagrams: Datagrams<'a>,
    port: u16,
    /// The join key that the firmware gave, until it was tried for a machine that the server does not know any more.
    build_key: Option<&'a str>,
    inbox: Inbox,
    /// The handshake message that is being computed.
    ticket: Option<HandshakeTicket>,
    /// The message that the ticket reads, until its sender is known to be a peer.
    reading: Option<Message>,
    /// The oldest outbound packet is sealed: where it goes, and its length.
    sealed: Option<(SocketAddr, usize)>,
    /// Until then the oldest outbound packet waits for the server's word of who has its destination.
    sought: Option<Instant>,
    /// Packets that waited for this peer's session go out.
    flushing: Option<PeerId>,
    outer_address: Option<Ipv4Addr>,
    look_at: Instant,
}

impl<'a> Engine<'a> {
    /// An engine for a node that runs.
    #[inline(never)]
    pub(super) fn new(
        shared: &'static Shared,
        mesh: &'static RefCell<Mesh>,
        wants: &'a Wants,
        [outer, inner]: [Stack<'a>; 2],
        datagrams: Datagrams<'a>,
        config: &Config<'a>,
    ) -> Self {
        let engine = Self {
            shared,
            mesh,
            wants,
            outer,
            inner,
            datagrams,
            port: config.port,
            build_key: config.join_key,
            inbox: Inbox::default(),
            ticket: None,
            reading: None,
            sealed: None,
            sought: None,
            flushing: None,
            outer_address: None,
            look_at: Instant::ZERO,
        };
        // A node that was restored has its address at once.
        engine.set_address(mesh.borrow().node.netmap().own().and_then(SelfRecord::v4));
        engine
    }

    /// One turn. Never ready.
    #[inline(never)]
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        self.shared.task_waker.borrow_mut().register(cx.waker());
        let now = clock::now();
        self.look_at_outer(now);
        let mut busy = self.receive(now, cx);
        busy |= self.send(now, cx);
        busy |= self.compute(now, cx);
        self.collect_events();
        if busy {
            cx.waker().wake_by_ref();
        } else {
            let unblock = if self.wants.outer_up.get() { self.datagrams.unblock(now, cx) } else { None };
            let next = [Some(self.look_at), self.deadline(now), unblock, self.sought].into_iter().flatten().min();
            clock::wake_at(next.unwrap_or(self.look_at), cx);
        }
        Poll::Pending
    }

    /// When core has something to do.
    #[inline(never)]
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let mesh = self.mesh.borrow();
        // What waits for a free buffer goes on when there is one, not by time.
        let node = mesh.node.poll_timeout().filter(|due| self.flushing.is_none() || *due > now);
        // A connection that is due waits for the network.
        let connect = mesh.node.next_connect().map(|(due, _)| due).filter(|due| *due > now);
        [node, connect].into_iter().flatten().min()
    }

    /// Follows the outer network: its link, and the address under which peers find this node.
    #[inline(never)]
    fn look_at_outer(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        let link = self.outer.is_link_up();
        let address = self.outer.config_v4().map(|config| config.address.address()).filter(|_| link);
        let was_up = self.wants.outer_up.replace(address.is_some());
        self.look_at = now + if address.is_some() { LOOK_AGAIN } else { LOOK_SOON };
        let mut mesh = self.mesh.borrow_mut();
        if let Some(address) = address
            && self.outer_address != Some(address)
        {
            info!("the outer network gave this node the address {}", address);
            // A connection from the former address is dead.
            self.wants.close_control.set(self.outer_address.is_some());
            self.outer_address = Some(address);
            mesh.node.set_local_endpoints(&[SocketAddr::new(IpAddr::V4(address), self.port)], now);
        }
        match (was_up, address.is_some()) {
            (false, true) => mesh.node.reconnect_now(now),
            (true, false) => {
                warning!("the outer network is down");
                // By the time that it is back, the server may have given up.
                self.wants.close_control.set(true);
            }
            _ => {}
        }
    }

    /// From the outer network to the inner one. True where there may be more.
    #[inline(never)]
    fn receive(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            let mut inbound = self.shared.inbound.borrow_mut();
            let Some(packet) = inbound.free() else { return false };
            let (len, source) = match self.datagrams.poll_receive(packet.buffer(), cx) {
                Poll::Pending => return false,
                Poll::Ready(None) => {
                    self.count(|counters| counters.dropped += 1);
                    continue;
                }
                Poll::Ready(Some(received)) => received,
            };
            let datagram = packet.buffer().get_mut(..len).unwrap_or_default();
            match ChipDevice::data_receiver(datagram) {
                Some(receiver) => match self.open(receiver, datagram, source, now) {
                    Some((start, len)) => {
                        packet.set(start, len);
                        inbound.push();
                        drop(inbound);
                        self.shared.wake_inner();
                    }
                    None => drop(inbound),
                },
                None => self.take_message(datagram, source, now),
            }
        }
        true
    }

    /// Opens a data message in place. Where in it the inner packet is.
    #[inline(never)]
    fn open(&self, receiver: u32, datagram: &mut [u8], source: SocketAddr, now: Instant) -> Option<(usize, usize)> {
        let mesh = &mut *self.mesh.borrow_mut();
        let unix = mesh.node.time(now, WALL);
        let device = mesh.node.device_mut();
        let opened = device.begin_open(receiver, now).ok().map(|ticket| {
            let mut packets = [Incoming::new(datagram, source)];
            ticket.open::<ChipAead>(&mut packets);
            device.commit_open(ticket, &mut packets, now, unix);
            let [packet] = packets;
            packet.verdict().clone()
        });
        mesh.node.device_changed(now);
        match opened {
            Some(Verdict::Deliver(range)) => {
                self.count(|counters| counters.received += 1);
                Some((range.start, range.len()))
            }
            Some(Verdict::Keepalive) => None,
            _ => {
                self.count(|counters| counters.dropped += 1);
                None
            }
        }
    }

    /// Puts a handshake message aside until there is time for it.
    #[inline(never)]
    fn take_message(&mut self, datagram: &[u8], source: SocketAddr, now: Instant) {
        let mut mesh = self.mesh.borrow_mut();
        let device = mesh.node.device_mut();
        // Whoever does not know this node's key takes nobody's place.
        if !device.is_addressed(datagram) {
            return self.count(|counters| counters.dropped += 1);
        }
        if self.inbox.is_full() || !self.inbox.push(datagram, source) {
            // From now on senders have to prove their addresses, which costs this node next to nothing.
            device.note_load(now);
            self.count(|counters| counters.dropped += 1);
        }
    }

    /// From the inner network to the outer one. True where there may be more.
    #[inline(never)]
    fn send(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        self.flush(now);
        for _ in 0..BATCH {
            let mut outbound = self.shared.outbound.borrow_mut();
            let Some(packet) = outbound.front() else { return false };
            let len = packet.len();
            if self.sealed.is_none() {
                self.sealed = self.seal(packet.buffer(), len, now);
                if self.sought.is_some() {
                    return false;
                }
            }
            let sent = match self.sealed {
                Some((to, len)) => {
                    let datagram = packet.buffer().get(..len).unwrap_or_default();
                    match self.datagrams.poll_send(datagram, to, cx) {
                        Poll::Pending => return false,
                        Poll::Ready(sent) => sent,
                    }
                }
                // It waits elsewhere, or was dropped and counted.
                None => true,
            };
            if !sent {
                self.count(|counters| counters.dropped += 1);
            } else if self.sealed.is_some() {
                self.count(|counters| counters.sent += 1);
            }
            self.sealed = None;
            outbound.pop();
            drop(outbound);
            self.shared.wake_inner();
        }
        true
    }

    /// Routes and seals an inner packet in place: where it goes, and the length of its datagram.
    #[inline(never)]
    fn seal(&mut self, buffer: &mut [u8; DATAGRAM_LEN], len: usize, now: Instant) -> Option<(SocketAddr, usize)> {
        let mesh = &mut *self.mesh.borrow_mut();
        let unix = mesh.node.time(now, WALL);
        let outcome = mesh.node.device_mut().send::<ChipCrypto>(buffer, len, now, unix);
        let dropped = match outcome {
            SendOutcome::Transmit(transmit) => {
                self.sought = None;
                return Some((transmit.endpoint, transmit.len));
            }
            SendOutcome::Staged(_) => false,
            // The server may know where it is.
            SendOutcome::NoEndpoint(peer) => {
                let packet = buffer.get(Outgoing::HEAD_ROOM..Outgoing::HEAD_ROOM + len).unwrap_or_default();
                mesh.node.device_mut().stage(peer, packet, now).is_err()
            }
            SendOutcome::NoRoute(destination) => {
                let until = self.sought.unwrap_or(now + SOUGHT);
                self.sought = (mesh.node.need_address(destination, now) && now < until).then_some(until);
                if self.sought.is_some() {
                    return None;
                }
                true
            }
            SendOutcome::Drop(_) => true,
        };
        self.sought = None;
        mesh.node.device_changed(now);
        if dropped {
            self.count(|counters| counters.dropped += 1);
        }
        None
    }

    /// Puts packets that waited for a session behind those of the inner stack, as far as there is room.
    #[inline(never)]
    fn flush(&mut self, now: Instant) {
        let Some(peer) = self.flushing else { return };
        let mut mesh = self.mesh.borrow_mut();
        let mut outbound = self.shared.outbound.borrow_mut();
        while let Some(packet) = outbound.free() {
            let room = packet.buffer().get_mut(Outgoing::HEAD_ROOM..).unwrap_or_default();
            let Some(len) = mesh.node.device_mut().take_staged(peer, room) else {
                self.flushing = None;
                break;
            };
            packet.set(Outgoing::HEAD_ROOM, len);
            outbound.push();
        }
        mesh.node.device_changed(now);
    }

    /// What takes long or is due: at most one Diffie-Hellman. True where there may be more.
    #[inline(never)]
    fn compute(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let mesh = &mut *self.mesh.borrow_mut();
        if mesh.node.needs_step() {
            step_node(mesh, now);
            return true;
        }
        if self.ticket.is_some() {
            if self.step(mesh, now) == TicketProgress::Done {
                self.finish(mesh, now, cx);
            }
            return true;
        }
        if mesh.node.poll_timeout().is_some_and(|due| due <= now) {
            handle_timeout(mesh, now);
        }
        // One flush at a time.
        let busy = self.begin(mesh, now, cx) || self.flushing.is_none() && self.do_due(mesh, now, cx);
        if busy {
            // Not in those calls: what it needs of the stack would come on top of theirs.
            mesh.node.device_changed(now);
        }
        busy
    }

    /// Begins to read a handshake message. False where there is none.
    #[inline(never)]
    fn begin(&mut self, mesh: &mut Mesh, now: Instant, cx: &mut Context<'_>) -> bool {
        let message = self.inbox.pop().or_else(|| Message::read(|room| mesh.node.take_stranger(room)));
        let Some(mut message) = message else { return false };
        let unix = mesh.node.time(now, WALL);
        let (device, source) = (mesh.node.device_mut(), message.source);
        match device.begin_handshake_receive::<ChipCrypto>(message.bytes(), source, now, unix, &mut mesh.rng) {
            HandshakeBegin::Ticket(ticket) => {
                self.ticket = Some(ticket);
                self.reading = Some(message);
            }
            HandshakeBegin::Reply(len) => {
                let reply = message.bytes().get(..len).unwrap_or_default();
                let _ = self.datagrams.poll_send(reply, source, cx);
            }
            HandshakeBegin::CookieKept(_) => {}
            HandshakeBegin::Drop(_) => self.count(|counters| counters.dropped += 1),
        }
        true
    }

    /// The device's next work. False where there is none.
    #[inline(never)]
    fn do_due(&mut self, mesh: &mut Mesh, now: Instant, cx: &mut Context<'_>) -> bool {
        let unix = mesh.node.time(now, WALL);
        let work = mesh.node.device_mut().poll(now, unix, &mut mesh.rng);
        let is_work = work.is_some();
        match work {
            Some(Work::Handshake(ticket)) => self.ticket = Some(ticket),
            Some(Work::Keepalive(peer)) => self.send_keepalive(mesh, peer, now, cx),
            Some(Work::Staged(peer)) => self.flushing = Some(peer),
            None => {}
        }
        is_work
    }

    #[inline(never)]
    fn send_keepalive(&mut self, mesh: &mut Mesh, peer: PeerId, now: Instant, cx: &mut Context<'_>) {
        let device = mesh.node.device_mut();
        let Ok(mut ticket) = device.begin_seal(peer, 1, now) else { return };
        let mut buffer = [0; Outgoing::OVERHEAD];
        let mut packets = [Outgoing::new(&mut buffer, 0)];
        ticket.seal::<ChipAead>(&mut packets);
        let [packet] = &packets;
        // Where there is no room, it counts as lost on the way.
        let _ = self.datagrams.poll_send(packet.datagram(), ticket.endpoint(), cx);
        device.commit_seal(ticket, SealOutcome::all_sent(&packets), now);
    }

    /// Computes on at the handshake message, and tells what it needs next.
    #[inline(never)]
    fn step(&mut self, mesh: &mut Mesh, now: Instant) -> TicketProgress {
        let Some(ticket) = &mut self.ticket else { return TicketProgress::Again };
        let progress = advance(ticket);
        if let TicketProgress::Identify(key) = progress {
            self.identify(mesh, key, now);
        }
        progress
    }

    /// Looks whose initiation this is. Where nobody here has the key, it waits for the server's answer.
    #[inline(never)]
    fn identify(&mut self, mesh: &mut Mesh, key: NodeKey, now: Instant) {
        let Some(ticket) = &mut self.ticket else { return };
        match mesh.node.device_mut().identify_initiator(ticket, now) {
            Ok(_) => self.reading = None,
            Err(reason) => {
                self.ticket = None;
                if let (DropReason::UnknownPeer, Some(mut message)) = (reason, self.reading.take()) {
                    let source = message.source;
                    mesh.node.need_initiator(key, message.bytes(), source, now);
                }
                self.count(|counters| counters.dropped += 1);
            }
        }
    }

    /// Sends what came of the handshake message.
    #[inline(never)]
    fn finish(&mut self, mesh: &mut Mesh, now: Instant, cx: &mut Context<'_>) {
        let mut message = [0; HANDSHAKE_LEN];
        if let Some(transmit) = self.commit(mesh, now, &mut message) {
            let message = message.get(..transmit.len).unwrap_or_default();
            self.send_message(mesh, &transmit, message, now, cx);
        }
        mesh.node.device_changed(now);
    }

    /// Gives the ticket back to the device.
    #[inline(never)]
    fn commit(&mut self, mesh: &mut Mesh, now: Instant, message: &mut [u8; HANDSHAKE_LEN]) -> Option<Transmit> {
        let ticket = self.ticket.take()?;
        let unix = mesh.node.time(now, WALL);
        match mesh.node.device_mut().commit_handshake(ticket, now, unix, &mut mesh.rng, message) {
            Ok(transmit) => transmit,
            Err(_) => {
                self.count(|counters| counters.dropped += 1);
                None
            }
        }
    }

    #[inline(never)]
    fn send_message(
        &mut self,
        mesh: &mut Mesh,
        transmit: &Transmit,
        message: &[u8],
        now: Instant,
        cx: &mut Context<'_>,
    ) {
        for target in mesh.node.targets(transmit, now, WALL).iter() {
            // Where there is no room, it counts as lost on the way.
            let _ = self.datagrams.poll_send(message, target, cx);
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        self.shared.board.count(change);
    }

    /// Does what the node's events ask for, and tells the firmware.
    #[inline(never)]
    fn collect_events(&mut self) {
        let mesh = &mut *self.mesh.borrow_mut();
        while let Some(event) = mesh.node.poll_event() {
            self.node_event(mesh, event);
        }
        let board = &self.shared.board;
        board.set_server(match mesh.node.control_state() {
            ControlState::Off => Server::Off,
            ControlState::Waiting => Server::Waiting,
            ControlState::Connecting => Server::Connecting,
            ControlState::Registered => Server::Registered,
        });
        let (_, active) = mesh.node.device().peer_counts();
        board.set_peers(mesh.node.netmap().len(), active);
    }

    #[inline(never)]
    fn node_event(&mut self, mesh: &mut Mesh, event: NodeEvent) {
        let board = &self.shared.board;
        match event {
            NodeEvent::Persist(Persist::Identity) => self.wants.keep_identity.set(true),
            NodeEvent::Persist(Persist::Netmap) => self.wants.keep_netmap.set(true),
            NodeEvent::Persist(Persist::RecentPeers) => self.wants.keep_recent.set(true),
            NodeEvent::CloseControl => self.wants.close_control.set(true),
            NodeEvent::Registered => info!("registered at the control server"),
            NodeEvent::SelfChanged => {
                board.set_problem(None);
                self.set_address(mesh.node.netmap().own().and_then(SelfRecord::v4));
            }
            NodeEvent::KeyExpired => {
                warning!("this node's key expired: it neither sends nor accepts until it is renewed");
                board.set_problem(Some(Problem::KeyExpired));
            }
            NodeEvent::ServerError(code) => {
                self.log_error(mesh);
                board.push_event(Event::Refused(code));
                if code == ErrorCode::UnknownMachine {
                    self.join_again(mesh);
                }
            }
            NodeEvent::ConnectionFailed => self.log_error(mesh),
            NodeEvent::Left => {
                warning!("this node is no member of the mesh any more; it needs a new join key");
                self.set_address(None);
                board.push_event(Event::Left);
                board.set_problem(Some(Problem::NoJoinKey));
            }
            NodeEvent::PeerRemoved(_) | NodeEvent::PeersChanged => {
                self.wants.keep_removal.set(true);
                board.changed();
            }
            NodeEvent::PeerUpserted(_) | NodeEvent::LookupDone => {
                // A packet may wait for it.
                self.shared.kick();
                board.changed();
            }
            NodeEvent::PeerConnected(id) => {
                self.count(|counters| counters.handshakes = counters.handshakes.wrapping_add(1));
                if let Some(address) = mesh.node.netmap().by_id(id).and_then(PeerRecord::v4) {
                    board.push_event(Event::PeerUp(address));
                }
            }
            _ => debug!("an event of the node"),
        }
    }

    /// The server does not know this machine: it was removed, and heard nothing of it. What the firmware gave as a key is
    /// for that too.
    #[inline(never)]
    fn join_again(&mut self, mesh: &mut Mesh) {
        if let Some(key) = start::build_key(self.build_key.take(), mesh.node) {
            info!("joining again with the join key of the firmware");
            mesh.node.join(&key, clock::now(), &mut mesh.rng);
        }
    }

    #[inline(never)]
    fn log_error(&self, mesh: &Mesh) {
        if let Some((code, sentence)) = mesh.node.last_error() {
            let number = code.map_or(0, ErrorCode::number);
            let wait = mesh.node.next_connect().map_or(0, |(due, _)| due.saturating_since(clock::now()).as_secs());
            warning!("the control server refused this node ({}): {}; next try in {} s", number, sentence, wait);
        }
    }

    /// Gives the inner stack the node's mesh address, or takes it away.
    fn set_address(&self, address: Option<Ipv4Addr>) {
        let config =
            self.inner.config_v4().and_then(|config| v4(embassy_net::IpAddress::Ipv4(config.address.address())));
        if config != address {
            self.inner.set_config_v4(match address {
                Some(address) => ConfigV4::Static(StaticConfigV4 {
                    address: Ipv4Cidr::new(address, MESH_PREFIX),
                    gateway: None,
                    dns_servers: Default::default(),
                }),
                None => ConfigV4::None,
            });
            match address {
                Some(address) => info!("joined: the mesh address is {}", address),
                None => info!("the mesh address is gone"),
            }
        }
        self.shared.board.set_address(address);
        self.shared.wake_inner();
    }
}

#[inline(never)]
fn step_node(mesh: &mut Mesh, now: Instant) {
    mesh.node.step(now, &mut mesh.rng);
}

#[inline(never)]
fn handle_timeout(mesh: &mut Mesh, now: Instant) {
    mesh.node.handle_timeout(now, WALL, &mut mesh.rng);
}

/// The long computation, on as little stack as can be.
#[inline(never)]
fn advance(ticket: &mut HandshakeTicket) -> TicketProgress {
    ticket.step::<ChipCrypto>()
}

/// Room for any message of a handshake.
const HANDSHAKE_LEN: usize = 148;
