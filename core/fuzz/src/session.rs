use std::{collections::BTreeSet, net::SocketAddr, sync::LazyLock};

use rand::{SeedableRng, rngs::StdRng};
use weft_core::{
    crypto::{Aead, Crypto, RustCrypto},
    ip::{IpHeader, IpPrefix},
    keys::{NodeSecret, PresharedKey},
    time::{Instant, UnixTime},
    wireguard::{
        Device, DropReason, PeerId, Received,
        cookie::CookieMaker,
        handshake::{ConsumeResponse, CreateInitiation, EphemeralSecret, Established, Progress, StaticKeys},
        message::{DATA_HEADER_LEN, DataHeader, Response},
        storage::{Borrowed, FixedTables},
        tai64n::Tai64n,
    },
};

use super::Input;

type C = RustCrypto;
type Tables = FixedTables<2, 1, 8, 4, 2, 256, 2, 2>;

const NOW: Instant = Instant::from_secs(1);
const WALL: UnixTime = UnixTime::new(1_700_000_000, 0);

static OWN: LazyLock<StaticKeys> = LazyLock::new(|| StaticKeys::new::<<C as Crypto>::Dh>(secret(9)));
static PEER: LazyLock<StaticKeys> = LazyLock::new(|| StaticKeys::new::<<C as Crypto>::Dh>(secret(8)));

fn secret(byte: u8) -> NodeSecret {
    NodeSecret::from_bytes([byte; 32])
}

fn source() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 51820))
}

/// Whatever a peer with a session seals: only a whole IP packet from one of its own addresses is delivered, no longer
/// than its header says, and no counter twice.
pub(super) fn session(data: &[u8]) {
    let mut input = Input(data);
    let mut rng = StdRng::seed_from_u64(1);
    let allowed: [IpPrefix; 2] = ["10.0.0.0/8", "fd00::/8"].map(|prefix| prefix.parse().expect("a prefix"));
    let mut tables = Box::new(Tables::EMPTY);
    let mut device: Device<Borrowed<'_, 2, 256>> = Device::new(tables.tables(), &mut rng);
    device.set_private_key::<C>(Some(secret(9)), NOW);
    let peer = device.add_peer(PEER.public()).expect("there is room");
    for prefix in allowed {
        device.add_allowed_ip(peer, prefix).expect("there is room");
    }
    let established = establish(&mut device, peer, &mut rng);

    let mut counters = BTreeSet::new();
    while !input.is_empty() {
        let counter = match input.byte() {
            near @ 0..=251 => u64::from(near),
            _ => u64::from_le_bytes(input.bytes()),
        };
        let len = usize::from(input.byte()).min(input.0.len());
        let (inner, rest) = input.0.split_at(len);
        input.0 = rest;
        let mut datagram = DataHeader { receiver: established.remote, counter }.emit().to_vec();
        datagram.extend_from_slice(inner);
        let tag =
            <C as Crypto>::Aead::seal(&established.keys.initiator, counter, &[], &mut datagram[DATA_HEADER_LEN..]);
        datagram.extend_from_slice(&tag);

        match device.receive::<C>(&mut datagram, source(), NOW, WALL, &mut rng) {
            Received::Packet { peer: from, range } => {
                assert_eq!(from, peer);
                let header = IpHeader::parse(&datagram[range.clone()]).expect("an IP packet");
                assert_eq!(header.total_len, range.len());
                assert!(allowed.iter().any(|prefix| prefix.contains(header.source)), "{header:?}");
                assert!(counters.insert(counter), "{counter} twice");
            }
            Received::Taken(from) => {
                assert!(from == peer && inner.is_empty());
                assert!(counters.insert(counter), "{counter} twice");
            }
            // The window has taken the counter before it is looked at what was in the packet.
            Received::Drop(DropReason::NotIp | DropReason::ForbiddenSource) => {
                assert!(!inner.is_empty() && counters.insert(counter), "{counter} twice");
            }
            Received::Drop(DropReason::Replayed | DropReason::SessionExpired) => {}
            received => panic!("{received:?}"),
        }
    }
}

/// A handshake that the peer begins.
fn establish(device: &mut Device<Borrowed<'_, 2, 256>>, peer: PeerId, rng: &mut StdRng) -> Established {
    let ephemeral = EphemeralSecret::generate(rng);
    let mut create = CreateInitiation::new(&PEER, *OWN.public(), None, Tai64n::from_unix(WALL), ephemeral);
    while create.step::<C>().expect("an initiation") == Progress::Again {}
    let (initiation, sent) = create.finish(1).expect("an initiation");
    let mut datagram = initiation.emit();
    CookieMaker::new().stamp(OWN.public(), &mut datagram, NOW);
    let received = device.receive::<C>(&mut datagram, source(), NOW, WALL, rng);
    let Received::Transmit(transmit) = received else { panic!("{received:?}") };
    assert_eq!(transmit.peer, Some(peer));
    let response = Response::parse(&datagram[..transmit.len]).expect("a response");
    let mut consume = ConsumeResponse::new(&PEER, &sent, PresharedKey::NONE, response);
    while consume.step::<C>().expect("a session") == Progress::Again {}
    consume.finish().expect("a session")
}
