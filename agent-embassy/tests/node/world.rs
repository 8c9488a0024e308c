//! A chip, a control server and another node on one cable and one virtual clock.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use embassy_net::{
    Config as NetConfig, ConfigV4, Ipv4Cidr, Stack, StackResources, StaticConfigV4,
    tcp::TcpSocket,
    udp::{PacketMetadata, UdpSocket},
};
use embassy_time::MockDriver;
use weft_core::time::{Instant, UnixTime};
use weft_embassy::{Config, Entropy, Event, Node, State, provision::Field};

use crate::{
    executor::Executor,
    flash::Flash,
    peer::{self, Peer},
    server::Server,
    wire::Cable,
};

/// When the virtual clock begins.
const START: UnixTime = UnixTime::new(1_800_000_000, 0);
/// Where the control server and the other node are. The server's join keys name it.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
/// Where the chip is at first.
pub(crate) const CHIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// The service of the chip that sends back what it gets.
pub(crate) const ECHO: u16 = 7;

static CLOCK: Mutex<()> = Mutex::new(());

/// Now, and which time of day that is.
pub(crate) fn clock() -> (Instant, UnixTime) {
    let micros = embassy_time::Instant::now().as_micros();
    (Instant::from_micros(micros), START + Duration::from_micros(micros))
}

/// A board without a source of randomness.
struct NoEntropy;

impl Entropy for NoEntropy {
    fn unique_id(&mut self) -> [u8; 16] {
        *b"a chip of a test"
    }

    async fn sample(&mut self, _: &mut [u8; 32]) -> u32 {
        0
    }
}

/// All of it.
pub(crate) struct World {
    pub(crate) executor: Executor,
    pub(crate) cable: Cable,
    pub(crate) server: Rc<RefCell<Server>>,
    pub(crate) peer: Rc<RefCell<Peer>>,
    pub(crate) flash: Flash,
    /// The network of the server and the other node.
    pub(crate) host: Stack<'static>,
    /// The chip as it runs now.
    pub(crate) chip: Option<Chip>,
    _clock: MutexGuard<'static, ()>,
}

/// A chip that has power.
pub(crate) struct Chip {
    pub(crate) node: Node,
    pub(crate) outer: Stack<'static>,
    /// What it told its firmware.
    pub(crate) events: Rc<RefCell<Vec<Event>>>,
}

fn stack(
    driver: impl embassy_net_driver::Driver + 'static,
    config: NetConfig,
    seed: u64,
) -> (Stack<'static>, impl Future<Output = ()> + 'static) {
    let resources = Box::leak(Box::new(StackResources::<8>::new()));
    let (stack, mut runner) = embassy_net::new(driver, config, resources, seed);
    (stack, async move { runner.run().await })
}

pub(crate) fn static_address(address: Ipv4Addr) -> ConfigV4 {
    let address = Ipv4Cidr::new(address, 24);
    ConfigV4::Static(StaticConfigV4 { address, gateway: None, dns_servers: Default::default() })
}

fn buffer(len: usize) -> &'static mut [u8] {
    vec![0; len].leak()
}

pub(crate) fn udp(stack: Stack<'static>, port: u16) -> UdpSocket<'static> {
    let metadata = || vec![PacketMetadata::EMPTY; 16].leak();
    let mut socket = UdpSocket::new(stack, metadata(), buffer(16_384), metadata(), buffer(16_384));
    socket.bind(port).unwrap();
    socket
}

impl World {
    /// A world with a server and another node; the chip has no power yet. Its flash has a provisioning page.
    pub(crate) fn new() -> Self {
        let clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        MockDriver::get().reset();
        let (executor, cable) = (Executor::default(), Cable::default());
        let server = Rc::new(RefCell::new(Server::new(START)));
        let mut config = NetConfig::default();
        config.ipv4 = static_address(HOST);
        let (host, runner) = stack(cable.end(1), config, 1);
        executor.spawn("host", runner);
        for _ in 0..3 {
            executor.spawn("server", serve(host, server.clone()));
        }
        let endpoint = SocketAddr::new(HOST.into(), weft_embassy::PORT);
        let peer = Rc::new(RefCell::new(Peer::new("laptop", server.clone(), endpoint, 77)));
        executor.spawn("peer", peer::run(peer.clone(), udp(host, weft_embassy::PORT)));
        let key = server.borrow().join_key().to_text();
        let flash =
            Flash::provisioned(&[Field::JoinKey(key.as_str()), Field::Seed(&[0x5e; 32]), Field::Hostname("sensor")]);
        Self { executor, cable, server, peer, flash, host, chip: None, _clock: clock }
    }

    /// A world whose chip joined and talks to the other node.
    pub(crate) fn joined() -> Self {
        let mut world = Self::new();
        world.power_on();
        world.wait(10, "joined", |world| world.address().is_some());
        assert!(world.echo(5).is_some(), "the first echo");
        world
    }

    /// One more node at the server's address.
    pub(crate) fn another_peer(&self, name: &str, port: u16) -> Peer {
        Peer::new(name, self.server.clone(), SocketAddr::new(HOST.into(), port), u64::from(port))
    }

    /// The chip starts.
    pub(crate) fn power_on(&mut self) {
        self.power_on_with(Config::default());
    }

    pub(crate) fn power_on_with(&mut self, config: Config<'static>) {
        let mut net = NetConfig::default();
        net.ipv4 = static_address(CHIP);
        let (outer, outer_runner) = stack(self.cable.end(0), net, 2);
        let state = Box::leak(Box::new(State::<4>::new()));
        let (node, device, runner) = weft_embassy::new(state, config, outer, self.flash.clone(), NoEntropy);
        let (inner, inner_runner) = stack(device, NetConfig::default(), 3);
        self.executor.spawn("chip", outer_runner);
        self.executor.spawn("chip", inner_runner);
        self.executor.spawn("chip", async move { runner.run(inner).await });
        self.executor.spawn("chip", echo(inner));
        let events = Rc::new(RefCell::new(Vec::new()));
        let told = events.clone();
        self.executor.spawn("chip", async move {
            loop {
                let event = node.next_event().await;
                told.borrow_mut().push(event);
            }
        });
        self.chip = Some(Chip { node, outer, events });
    }

    /// The chip loses its power. What it was writing is half written.
    pub(crate) fn power_off(&mut self) {
        self.executor.end("chip");
        self.chip = None;
    }

    pub(crate) fn chip(&self) -> &Chip {
        self.chip.as_ref().unwrap()
    }

    /// The chip's mesh address.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.chip.as_ref()?.node.address()
    }

    pub(crate) fn saw(&self, event: Event) -> bool {
        self.chip().events.borrow().contains(&event)
    }

    pub(crate) fn run(&self, time: Duration) {
        self.executor.run(time);
    }

    /// Lets time pass until something is so.
    #[track_caller]
    pub(crate) fn wait(&self, secs: u64, what: &str, so: impl Fn(&Self) -> bool) -> Duration {
        match self.executor.run_until(Duration::from_secs(secs), || so(self)) {
            Some(passed) => passed,
            None => panic!("not in {secs} s: {what}; {:?} {:?}", self.chip().node, self.chip().node.counters()),
        }
    }

    /// The other node asks the chip's echo service until it answers. How long that took.
    pub(crate) fn echo(&self, secs: u64) -> Option<Duration> {
        self.echo_of(secs, 32)
    }

    pub(crate) fn echo_of(&self, secs: u64, len: usize) -> Option<Duration> {
        let text: Vec<u8> = (0..len).map(|index| index as u8).collect();
        let mut passed = Duration::ZERO;
        self.peer.borrow_mut().inbox.clear();
        while passed < Duration::from_secs(secs) {
            let (own, chip) = (self.peer.borrow().address()?, self.address()?);
            self.peer.borrow_mut().send(&udp_packet(own, chip, ECHO, &text));
            let answered = || self.peer.borrow().inbox.iter().any(|packet| packet[28..] == text);
            match self.executor.run_until(Duration::from_millis(500), answered) {
                Some(more) => return Some(passed + more),
                None => passed += Duration::from_millis(500),
            }
        }
        None
    }
}

/// An IPv4 packet with a UDP datagram.
pub(crate) fn udp_packet(source: Ipv4Addr, destination: Ipv4Addr, port: u16, text: &[u8]) -> Vec<u8> {
    let len = (28 + text.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let words = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16 + (sum >> 16) as u16)).to_be_bytes());
    packet.extend(9_999u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend((len - 20).to_be_bytes());
    // Without a checksum.
    packet.extend([0, 0]);
    packet.extend(text);
    packet
}

/// The chip's echo service.
async fn echo(inner: Stack<'static>) {
    let socket = udp(inner, ECHO);
    let mut buffer = [0; 1_500];
    loop {
        if let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..len], from).await;
        }
    }
}

/// One connection after the other to the control server.
async fn serve(host: Stack<'static>, server: Rc<RefCell<Server>>) {
    let mut socket = TcpSocket::new(host, buffer(8_192), buffer(8_192));
    let mut bytes = vec![0; 4_096];
    loop {
        socket.abort();
        let _ = socket.flush().await;
        if !server.borrow().up {
            embassy_time::Timer::after_millis(10).await;
            continue;
        }
        if socket.accept(8_080).await.is_err() {
            continue;
        }
        let (now, wall) = clock();
        server.borrow_mut().set_time(now, wall);
        let Some(connection) = server.borrow_mut().connect() else { continue };
        loop {
            let read = embassy_time::with_timeout(embassy_time::Duration::from_millis(2), socket.read(&mut bytes));
            match read.await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(len)) => {
                    let (now, wall) = clock();
                    server.borrow_mut().set_time(now, wall);
                    server.borrow_mut().receive(connection, &bytes[..len]);
                }
                Err(_) => {}
            }
            let out = server.borrow_mut().take_output(connection);
            let Some(out) = out else { break };
            let mut rest = out.as_slice();
            while !rest.is_empty() {
                match socket.write(rest).await {
                    Ok(len) => rest = &rest[len..],
                    Err(_) => break,
                }
            }
        }
        server.borrow_mut().close(connection);
        socket.close();
        let _ = embassy_time::with_timeout(embassy_time::Duration::from_millis(100), socket.flush()).await;
    }
}
