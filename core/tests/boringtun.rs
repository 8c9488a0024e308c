//! Handshake, transport and cookies against an implementation that shares no code with ours: Cloudflare's boringtun.

use std::{net::SocketAddr, sync::Arc};

use boringtun::{
    noise::{Tunn, TunnResult, rate_limiter::RateLimiter},
    x25519,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use weft_core::{
    crypto::{Aead, Crypto, RustCrypto, TAG_LEN},
    ip::IpHeader,
    keys::{NodeKey, NodeSecret, PresharedKey},
    time::{Instant, UnixTime},
    wireguard::{
        constants::PADDING,
        cookie::{CookieChecker, CookieMaker},
        handshake::{
            ConsumeInitiation, ConsumeResponse, CreateInitiation, CreateResponse, EphemeralSecret, Established,
            Progress, SentInitiation, StaticKeys,
        },
        message::{CookieReply, DATA_HEADER_LEN, Data, DataHeader, Initiation, Response},
        tai64n::Tai64n,
    },
};

type A = <RustCrypto as Crypto>::Aead;
type Dh = <RustCrypto as Crypto>::Dh;

const NOW: Instant = Instant::from_secs(1_000);

/// What a computation of the handshake does until it is done.
macro_rules! run {
    ($computation:expr) => {
        while $computation.step::<RustCrypto>().expect("the handshake goes on") == Progress::Again {}
    };
}

/// Our side and boringtun's, which know each other's keys.
struct Pair {
    rng: StdRng,
    keys: StaticKeys,
    peer: NodeKey,
    psk: PresharedKey,
    maker: CookieMaker,
    checker: CookieChecker,
    tunn: Tunn,
}

impl Pair {
    fn new(psk: Option<[u8; 32]>) -> Self {
        Self::with_limit(psk, psk, 1_000)
    }

    /// `limit`: how many handshake messages boringtun takes before it counts as loaded.
    fn with_limit(our_psk: Option<[u8; 32]>, their_psk: Option<[u8; 32]>, limit: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let keys = StaticKeys::new::<Dh>(NodeSecret::generate(&mut rng));
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let secret = x25519::StaticSecret::from(secret);
        let public = x25519::PublicKey::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, limit));
        let ours = x25519::PublicKey::from(*keys.public().as_bytes());
        Self {
            rng,
            peer: NodeKey::from_bytes(public.to_bytes()),
            psk: our_psk.map_or(PresharedKey::NONE, PresharedKey::from_bytes),
            maker: CookieMaker::new(),
            checker: CookieChecker::new(keys.public()),
            keys,
            tunn: Tunn::new(secret, ours, their_psk, None, 3, Some(limiter)),
        }
    }

    /// Our initiation as a datagram, and what is kept for the response.
    fn initiate(&mut self) -> (Vec<u8>, SentInitiation) {
        let ephemeral = EphemeralSecret::generate(&mut self.rng);
        let secs = u64::from(self.rng.next_u32());
        let stamp = Tai64n::from_unix(UnixTime::new(secs, 0));
        let mut create = CreateInitiation::new(&self.keys, self.peer, None, stamp, ephemeral);
        run!(create);
        let (message, sent) = create.finish(self.rng.next_u32()).unwrap();
        let mut datagram = message.emit();
        self.maker.stamp(&self.peer, &mut datagram, NOW);
        (datagram.into(), sent)
    }

    /// Our session from boringtun's response.
    fn complete(&self, sent: &SentInitiation, datagram: &[u8]) -> Session {
        assert!(self.checker.check_mac1(datagram));
        let response = Response::parse(datagram).unwrap();
        assert_eq!(response.receiver, sent.sender());
        let mut consume = ConsumeResponse::new(&self.keys, sent, self.psk.clone(), response);
        run!(consume);
        Session::initiator(consume.finish().unwrap())
    }

    /// Our response to boringtun's initiation, and our session.
    fn respond(&mut self, datagram: &[u8]) -> (Vec<u8>, Session) {
        assert!(self.checker.check_mac1(datagram));
        let mut consume = ConsumeInitiation::new(&self.keys, Initiation::parse(datagram).unwrap());
        run!(consume);
        let received = consume.finish().unwrap();
        assert_eq!(received.initiator, self.peer);
        let ephemeral = EphemeralSecret::generate(&mut self.rng);
        let mut create = CreateResponse::new(received, self.psk.clone(), ephemeral);
        run!(create);
        let (message, established) = create.finish(self.rng.next_u32()).unwrap();
        let mut datagram = message.emit();
        self.maker.stamp(&self.peer, &mut datagram, NOW);
        (datagram.into(), Session::responder(established))
    }

    fn boringtun_initiates(&mut self) -> Vec<u8> {
        sent(self.tunn.format_handshake_initiation(&mut [0; 2_048], true))
    }

    fn boringtun_receives(&mut self, datagram: &[u8]) -> Outcome {
        Outcome::of(self.tunn.decapsulate(Some(source().ip()), datagram, &mut [0; 2_048]))
    }

    /// Packets of many lengths, both ways.
    fn exchange(&mut self, session: &mut Session) {
        for len in [20, 21, 31, 32, 33, 576, 1_280, 1_420] {
            let packet = ipv4(len);
            assert_eq!(self.boringtun_receives(&session.seal(&packet)), Outcome::Delivered(packet.clone()));
            let datagram = sent(self.tunn.encapsulate(&packet, &mut [0; 2_048]));
            assert_eq!(session.open(&datagram), packet);
        }
    }
}

/// What boringtun made of a datagram.
#[derive(Debug, PartialEq)]
enum Outcome {
    Nothing,
    Refused,
    Answered(Vec<u8>),
    Delivered(Vec<u8>),
}

impl Outcome {
    fn of(result: TunnResult<'_>) -> Self {
        match result {
            TunnResult::Done => Self::Nothing,
            TunnResult::Err(_) => Self::Refused,
            TunnResult::WriteToNetwork(datagram) => Self::Answered(datagram.to_vec()),
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Self::Delivered(packet.to_vec())
            }
        }
    }

    fn answer(self) -> Vec<u8> {
        match self {
            Self::Answered(datagram) => datagram,
            other => panic!("boringtun answers nothing: {other:?}"),
        }
    }
}

fn sent(result: TunnResult<'_>) -> Vec<u8> {
    Outcome::of(result).answer()
}

fn source() -> SocketAddr {
    "192.0.2.7:40000".parse().unwrap()
}

/// An IPv4 packet of this length.
fn ipv4(len: u16) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len).map(|i| i as u8).collect();
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}

/// Just enough of a session to seal and open.
struct Session {
    send: [u8; 32],
    receive: [u8; 32],
    local: u32,
    remote: u32,
    counter: u64,
}

impl Session {
    fn initiator(established: Established) -> Self {
        let Established { keys, local, remote } = established;
        Self { send: keys.initiator, receive: keys.responder, local, remote, counter: 0 }
    }

    fn responder(established: Established) -> Self {
        let Established { keys, local, remote } = established;
        Self { send: keys.responder, receive: keys.initiator, local, remote, counter: 0 }
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let header = DataHeader { receiver: self.remote, counter: self.counter };
        self.counter += 1;
        let mut text = packet.to_vec();
        text.resize(packet.len().next_multiple_of(PADDING), 0);
        let tag = A::seal(&self.send, header.counter, &[], &mut text);
        [header.emit().as_slice(), &text, &tag].concat()
    }

    /// The inner packet without padding; empty for a keepalive.
    fn open(&self, datagram: &[u8]) -> Vec<u8> {
        let mut datagram = datagram.to_vec();
        let data = Data::parse(&mut datagram).unwrap();
        assert_eq!(data.receiver, self.local);
        let (text, tag) = data.sealed.split_last_chunk_mut::<TAG_LEN>().unwrap();
        A::open(&self.receive, data.counter, &[], text, tag).unwrap();
        let len = IpHeader::parse(text).map_or(0, |header| header.total_len);
        text[..len].to_vec()
    }
}

const PSKS: [Option<[u8; 32]>; 2] = [None, Some([0x5a; 32])];

#[test]
fn we_initiate_and_packets_go_both_ways() {
    for psk in PSKS {
        let mut pair = Pair::new(psk);
        let (initiation, sent) = pair.initiate();
        let response = pair.boringtun_receives(&initiation).answer();
        let mut session = pair.complete(&sent, &response);
        let keepalive = session.seal(&[]);
        assert_eq!(pair.boringtun_receives(&keepalive), Outcome::Nothing);
        pair.exchange(&mut session);
    }
}

#[test]
fn boringtun_initiates_and_packets_go_both_ways() {
    for psk in PSKS {
        let mut pair = Pair::new(psk);
        let initiation = pair.boringtun_initiates();
        let (response, mut session) = pair.respond(&initiation);
        let confirmation = pair.boringtun_receives(&response).answer();
        assert_eq!(confirmation.len(), DATA_HEADER_LEN + TAG_LEN);
        assert_eq!(session.open(&confirmation), []);
        pair.exchange(&mut session);
    }
}

#[test]
fn a_second_handshake_in_the_other_direction_replaces_the_first() {
    let mut pair = Pair::new(None);
    let (initiation, sent) = pair.initiate();
    let response = pair.boringtun_receives(&initiation).answer();
    pair.complete(&sent, &response);
    let initiation = pair.boringtun_initiates();
    let (response, mut session) = pair.respond(&initiation);
    pair.boringtun_receives(&response).answer();
    pair.exchange(&mut session);
}

#[test]
fn neither_side_accepts_another_preshared_key() {
    let mut pair = Pair::with_limit(Some([1; 32]), Some([2; 32]), 1_000);
    let (initiation, sent) = pair.initiate();
    let response = pair.boringtun_receives(&initiation).answer();
    let response = Response::parse(&response).unwrap();
    let mut consume = ConsumeResponse::new(&pair.keys, &sent, pair.psk.clone(), response);
    while consume.step::<RustCrypto>().is_ok_and(|progress| progress == Progress::Again) {}
    assert!(consume.finish().is_none());

    let initiation = pair.boringtun_initiates();
    let (response, _) = pair.respond(&initiation);
    assert_eq!(pair.boringtun_receives(&response), Outcome::Refused);
}

#[test]
fn boringtun_refuses_what_was_altered_or_came_before() {
    let mut pair = Pair::new(None);
    let (initiation, sent) = pair.initiate();
    let mut altered = initiation.clone();
    altered[100] ^= 1;
    assert_eq!(pair.boringtun_receives(&altered), Outcome::Refused);
    let response = pair.boringtun_receives(&initiation).answer();
    assert_eq!(pair.boringtun_receives(&initiation), Outcome::Refused, "the timestamp is not greater");
    let mut session = pair.complete(&sent, &response);
    let datagram = session.seal(&ipv4(100));
    let mut altered = datagram.clone();
    altered[30] ^= 1;
    assert_eq!(pair.boringtun_receives(&altered), Outcome::Refused);
    assert_eq!(pair.boringtun_receives(&datagram), Outcome::Delivered(ipv4(100)));
    assert_eq!(pair.boringtun_receives(&datagram), Outcome::Refused);
}

#[test]
fn counters_beyond_32_bits_are_understood() {
    let mut pair = Pair::new(None);
    let (initiation, sent) = pair.initiate();
    let response = pair.boringtun_receives(&initiation).answer();
    let mut session = pair.complete(&sent, &response);
    session.counter = (1 << 40) + 3;
    assert_eq!(pair.boringtun_receives(&session.seal(&ipv4(64))), Outcome::Delivered(ipv4(64)));
}

#[test]
fn a_loaded_boringtun_demands_a_cookie_and_then_answers() {
    let mut pair = Pair::with_limit(None, None, 0);
    let (initiation, _) = pair.initiate();
    let reply = pair.boringtun_receives(&initiation).answer();
    let reply = CookieReply::parse(&reply).unwrap();
    assert_eq!(reply.receiver.to_le_bytes(), initiation[4..8]);
    let peer = pair.peer;
    assert!(pair.maker.consume::<A>(&peer, &reply, NOW));
    let (initiation, sent) = pair.initiate();
    let response = pair.boringtun_receives(&initiation).answer();
    pair.complete(&sent, &response);
}

#[test]
fn when_we_are_loaded_boringtun_uses_the_cookie_it_is_sent() {
    let mut pair = Pair::new(None);
    let initiation = pair.boringtun_initiates();
    assert!(pair.checker.check_mac1(&initiation));
    assert!(!pair.checker.check_mac2(&initiation, source(), NOW));
    let reply = pair.checker.reply::<A>(&initiation, source(), NOW, &mut pair.rng).unwrap();
    assert_eq!(pair.boringtun_receives(&reply.emit()), Outcome::Nothing);
    let initiation = pair.boringtun_initiates();
    assert!(pair.checker.check_mac2(&initiation, source(), NOW));
    let (response, mut session) = pair.respond(&initiation);
    pair.boringtun_receives(&response).answer();
    pair.exchange(&mut session);
}
