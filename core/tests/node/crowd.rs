//! Many nodes of which only the WireGuard device is simulated: each answers packets of another node, and may knock.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use rand_core::Rng as _;
use weft_core::{
    crypto::{DiffieHellman, LowOrderPoint, RustCrypto, SharedSecret, dh::X25519},
    ip::IpPrefix,
    keys::{NodeKey, NodeSecret},
    time::{Instant, UnixTime},
    wireguard::{
        Device, Outgoing, Received, SendOutcome,
        cookie::CookieMaker,
        handshake::{CreateInitiation, EphemeralSecret, Progress, StaticKeys},
        storage::{Borrowed, FixedTables},
        tai64n::Tai64n,
    },
};

use crate::{rng::TestRng, server::Server};

type Tables = FixedTables<1, 1, 4, 8, 2, 256, 4, 2>;

/// One of the crowd, once it is needed.
struct Member {
    device: Device<Borrowed<'static, 2, 256>>,
    mesh: Ipv4Addr,
    inbox: Vec<String>,
}

/// Datagrams with where they come from and go to.
pub(crate) type Datagrams = Vec<(SocketAddr, SocketAddr, Vec<u8>)>;

/// The crowd.
pub(crate) struct Crowd {
    members: BTreeMap<u32, Member>,
    /// The node that they know: its key and mesh address.
    known: Option<(NodeKey, Ipv4Addr)>,
    /// Every initiation that they sent, with its source.
    pub(crate) initiations: Vec<(SocketAddr, Vec<u8>)>,
    rng: TestRng,
}

fn secret(number: u32) -> NodeSecret {
    let mut bytes = [7; 32];
    bytes[4..8].copy_from_slice(&number.to_le_bytes());
    NodeSecret::from_bytes(bytes)
}

pub(crate) fn key(number: u32) -> NodeKey {
    secret(number).public::<X25519>()
}

pub(crate) fn endpoint(number: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0xc612_0000 + number).into(), 41641)
}

fn number_at(endpoint: SocketAddr) -> Option<u32> {
    let SocketAddr::V4(v4) = endpoint else { return None };
    u32::from(*v4.ip()).checked_sub(0xc612_0000).filter(|number| *number < 0x1_0000)
}

pub(crate) fn name(number: u32) -> String {
    format!("peer-{number}")
}

impl Crowd {
    pub(crate) fn new() -> Self {
        Self { members: BTreeMap::new(), known: None, initiations: Vec::new(), rng: TestRng::new(77) }
    }

    /// Registers so many at the server.
    pub(crate) fn register(count: u32, server: &mut Server) {
        for number in 0..count {
            server.add_entry(key(number), &name(number), endpoint(number));
        }
    }

    /// They all know this node from now on.
    pub(crate) fn meet(&mut self, key: NodeKey, mesh: Ipv4Addr) {
        self.known = Some((key, mesh));
    }

    fn member(&mut self, number: u32, mesh: Ipv4Addr, now: Instant) -> &mut Member {
        let Self { members, known, rng, .. } = self;
        let (remote, address) = known.unwrap();
        members.entry(number).or_insert_with(|| {
            let mut device = Device::new(Box::leak(Box::new(Tables::EMPTY)).tables(), rng);
            device.set_private_key::<RustCrypto>(Some(secret(number)), now);
            let peer = device.add_peer(&remote).unwrap();
            device.add_allowed_ip(peer, IpPrefix::host(address.into())).unwrap();
            Member { device, mesh, inbox: Vec::new() }
        })
    }

    /// One of them sends a text to the node that they know.
    pub(crate) fn knock(
        &mut self,
        number: u32,
        mesh: Ipv4Addr,
        node: SocketAddr,
        text: &str,
        (now, wall): (Instant, UnixTime),
    ) -> Datagrams {
        let (_, to) = self.known.unwrap();
        let member = self.member(number, mesh, now);
        let peer = member.device.route(to.into()).unwrap();
        member.device.set_endpoint(peer, Some(node), now);
        member.send(to, text, now, wall).into_iter().map(|(to, bytes)| (endpoint(number), to, bytes)).collect()
    }

    pub(crate) fn heard(&self, number: u32, text: &str) -> bool {
        self.members.get(&number).is_some_and(|member| member.inbox.iter().any(|heard| heard == text))
    }

    /// Forgets one of them, as if it had restarted with another memory.
    pub(crate) fn forget(&mut self, number: u32) {
        self.members.remove(&number);
    }

    /// Gives a datagram to whom it is for. What begins with `ping` is answered.
    pub(crate) fn receive(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &mut [u8],
        mesh_of: impl Fn(u32) -> Ipv4Addr,
        (now, wall): (Instant, UnixTime),
    ) -> Datagrams {
        let Some(number) = number_at(to).filter(|_| self.known.is_some()) else { return Vec::new() };
        let (_, remote) = self.known.unwrap();
        let mut rng = TestRng::new(self.rng.next_u64());
        let member = self.member(number, mesh_of(number), now);
        let sent = match member.device.receive::<RustCrypto>(bytes, from, now, wall, &mut rng) {
            Received::Packet { range, .. } => {
                let text = String::from_utf8_lossy(&bytes[range][20..]).into_owned();
                member.inbox.push(text.clone());
                match text.strip_prefix("ping") {
                    Some(rest) => member.send(remote, &format!("pong{rest}"), now, wall),
                    None => Vec::new(),
                }
            }
            Received::Transmit(transmit) => vec![(transmit.endpoint, bytes[..transmit.len].to_vec())],
            Received::Taken(_) | Received::Stranger(_) | Received::Drop(_) => Vec::new(),
        };
        sent.into_iter().map(|(target, bytes)| (to, target, bytes)).collect()
    }

    /// What is due.
    pub(crate) fn poll(&mut self, now: Instant, wall: UnixTime) -> Datagrams {
        let Self { members, rng, initiations, .. } = self;
        let mut sent = Vec::new();
        for (number, member) in members.iter_mut() {
            if member.device.poll_timeout().is_none_or(|due| due > now) {
                continue;
            }
            let mut buffer = [0; 512];
            while let Some(transmit) = member.device.poll_transmit::<RustCrypto>(now, wall, rng, &mut buffer) {
                let bytes = buffer[..transmit.len].to_vec();
                if bytes[0] == 1 {
                    initiations.push((endpoint(*number), bytes.clone()));
                }
                sent.push((endpoint(*number), transmit.endpoint, bytes));
            }
            while member.device.poll_event().is_some() {}
        }
        sent
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.members.values().filter_map(|member| member.device.poll_timeout()).min()
    }
}

impl Member {
    fn send(&mut self, to: Ipv4Addr, text: &str, now: Instant, wall: UnixTime) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend_from_slice(&self.mesh.octets());
        packet.extend_from_slice(&to.octets());
        packet.extend_from_slice(text.as_bytes());
        packet[3] = packet.len() as u8;
        let mut buffer = vec![0; packet.len() + Outgoing::OVERHEAD];
        buffer[Outgoing::HEAD_ROOM..][..packet.len()].copy_from_slice(&packet);
        match self.device.send::<RustCrypto>(&mut buffer, packet.len(), now, wall) {
            SendOutcome::Transmit(transmit) => vec![(transmit.endpoint, buffer[..transmit.len].to_vec())],
            _ => Vec::new(),
        }
    }
}

thread_local! {
    static CLAIMED: core::cell::Cell<[u8; 32]> = const { core::cell::Cell::new([0; 32]) };
}

/// Says that a claimed key is its own.
struct Liar;

impl DiffieHellman for Liar {
    fn public_key(_: &[u8; 32]) -> [u8; 32] {
        CLAIMED.get()
    }

    fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<SharedSecret, LowOrderPoint> {
        X25519::agree(secret, public)
    }
}

/// An initiation to `remote` by somebody who does not have the secret of the key that it claims.
pub(crate) fn forged(claimed: &NodeKey, remote: &NodeKey, now: Instant, wall: UnixTime, seed: u64) -> Vec<u8> {
    let mut rng = TestRng::new(seed);
    CLAIMED.set(*claimed.as_bytes());
    let keys = StaticKeys::new::<Liar>(NodeSecret::generate(&mut rng));
    let ephemeral = EphemeralSecret::generate(&mut rng);
    let mut create = CreateInitiation::new(&keys, *remote, None, Tai64n::from_unix(wall), ephemeral);
    while create.step::<RustCrypto>().unwrap() == Progress::Again {}
    let mut message = create.finish(rng.next_u32()).unwrap().0.emit();
    CookieMaker::new().stamp(remote, &mut message, now);
    message.to_vec()
}
