//! The handshake and the cookies by themselves, without a device around them.

use rand::{Rng, SeedableRng, rngs::StdRng};
use weft_core::{
    crypto::{Aead, Crypto, RustCrypto, TAG_LEN},
    ip::IpHeader,
    keys::{NodeSecret, PresharedKey},
    time::{Instant, UnixTime},
    wireguard::{
        constants::PADDING,
        cookie::{CookieChecker, CookieMaker},
        handshake::{
            ConsumeInitiation, ConsumeResponse, CreateInitiation, CreateResponse, EphemeralSecret, Established,
            Progress, SentInitiation, StaticKeys,
        },
        message::{CookieReply, DATA_HEADER_LEN, DataHeader, Initiation, Response},
        tai64n::Tai64n,
    },
};

use super::{Boringtun, Outcome, PSKS, ipv4, source};

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
    psk: PresharedKey,
    maker: CookieMaker,
    checker: CookieChecker,
    boringtun: Boringtun,
}

impl Pair {
    fn new(psk: Option<[u8; 32]>) -> Self {
        Self::with(Boringtun::new(keys().public(), psk), psk)
    }

    fn with(boringtun: Boringtun, psk: Option<[u8; 32]>) -> Self {
        Self {
            rng: StdRng::seed_from_u64(7),
            psk: psk.map_or(PresharedKey::NONE, PresharedKey::from_bytes),
            maker: CookieMaker::new(),
            checker: CookieChecker::new(keys().public()),
            keys: keys(),
            boringtun,
        }
    }

    /// Our initiation as a datagram, and what is kept for the response.
    fn initiate(&mut self) -> (Vec<u8>, SentInitiation) {
        let ephemeral = EphemeralSecret::generate(&mut self.rng);
        let secs = u64::from(self.rng.next_u32());
        let stamp = Tai64n::from_unix(UnixTime::new(secs, 0));
        let mut create = CreateInitiation::new(&self.keys, self.boringtun.key, None, stamp, ephemeral);
        run!(create);
        let (message, sent) = create.finish(self.rng.next_u32()).unwrap();
        let mut datagram = message.emit();
        self.maker.stamp(&self.boringtun.key, &mut datagram, NOW);
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
        assert_eq!(received.initiator, self.boringtun.key);
        let ephemeral = EphemeralSecret::generate(&mut self.rng);
        let mut create = CreateResponse::new(received, self.psk.clone(), ephemeral);
        run!(create);
        let (message, established) = create.finish(self.rng.next_u32()).unwrap();
        let mut datagram = message.emit();
        self.maker.stamp(&self.boringtun.key, &mut datagram, NOW);
        (datagram.into(), Session::responder(established))
    }

    /// Packets of many lengths, both ways.
    fn exchange(&mut self, session: &mut Session) {
        for len in [20, 21, 31, 32, 33, 576, 1_280, 1_420] {
            let packet = ipv4(len);
            assert_eq!(self.boringtun.receives(&session.seal(&packet)), Outcome::Delivered(packet.clone()));
            let datagram = self.boringtun.sends(&packet);
            assert_eq!(session.open(&datagram), packet);
        }
    }
}

fn keys() -> StaticKeys {
    StaticKeys::new::<Dh>(NodeSecret::from_bytes([0x24; 32]))
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
        let header = DataHeader::parse(&datagram).unwrap();
        assert_eq!(header.receiver, self.local);
        let (text, tag) = datagram[DATA_HEADER_LEN..].split_last_chunk_mut::<TAG_LEN>().unwrap();
        A::open(&self.receive, header.counter, &[], text, tag).unwrap();
        let len = IpHeader::parse(text).map_or(0, |header| header.total_len);
        text[..len].to_vec()
    }
}

#[test]
fn we_initiate_and_packets_go_both_ways() {
    for psk in PSKS {
        let mut pair = Pair::new(psk);
        let (initiation, sent) = pair.initiate();
        let response = pair.boringtun.receives(&initiation).answer();
        let mut session = pair.complete(&sent, &response);
        let keepalive = session.seal(&[]);
        assert_eq!(pair.boringtun.receives(&keepalive), Outcome::Nothing);
        pair.exchange(&mut session);
    }
}

#[test]
fn boringtun_initiates_and_packets_go_both_ways() {
    for psk in PSKS {
        let mut pair = Pair::new(psk);
        let initiation = pair.boringtun.initiates();
        let (response, mut session) = pair.respond(&initiation);
        let confirmation = pair.boringtun.receives(&response).answer();
        assert_eq!(confirmation.len(), DATA_HEADER_LEN + TAG_LEN);
        assert_eq!(session.open(&confirmation), []);
        pair.exchange(&mut session);
    }
}

#[test]
fn a_second_handshake_in_the_other_direction_replaces_the_first() {
    let mut pair = Pair::new(None);
    let (initiation, sent) = pair.initiate();
    let response = pair.boringtun.receives(&initiation).answer();
    pair.complete(&sent, &response);
    let initiation = pair.boringtun.initiates();
    let (response, mut session) = pair.respond(&initiation);
    pair.boringtun.receives(&response).answer();
    pair.exchange(&mut session);
}

#[test]
fn neither_side_accepts_another_preshared_key() {
    let mut pair = Pair::with(Boringtun::new(keys().public(), Some([2; 32])), Some([1; 32]));
    let (initiation, sent) = pair.initiate();
    let response = pair.boringtun.receives(&initiation).answer();
    let response = Response::parse(&response).unwrap();
    let mut consume = ConsumeResponse::new(&pair.keys, &sent, pair.psk.clone(), response);
    while consume.step::<RustCrypto>().is_ok_and(|progress| progress == Progress::Again) {}
    assert!(consume.finish().is_none());

    let initiation = pair.boringtun.initiates();
    let (response, _) = pair.respond(&initiation);
    assert_eq!(pair.boringtun.receives(&response), Outcome::Refused);
}

#[test]
fn boringtun_refuses_what_was_altered_or_came_before() {
    let mut pair = Pair::new(None);
    let (initiation, sent) = pair.initiate();
    let mut altered = initiation.clone();
    altered[100] ^= 1;
    assert_eq!(pair.boringtun.receives(&altered), Outcome::Refused);
    let response = pair.boringtun.receives(&initiation).answer();
    assert_eq!(pair.boringtun.receives(&initiation), Outcome::Refused, "the timestamp is not greater");
    let mut session = pair.complete(&sent, &response);
    let datagram = session.seal(&ipv4(100));
    let mut altered = datagram.clone();
    altered[30] ^= 1;
    assert_eq!(pair.boringtun.receives(&altered), Outcome::Refused);
    assert_eq!(pair.boringtun.receives(&datagram), Outcome::Delivered(ipv4(100)));
    assert_eq!(pair.boringtun.receives(&datagram), Outcome::Refused);
}

#[test]
fn counters_beyond_32_bits_are_understood() {
    let mut pair = Pair::new(None);
    let (initiation, sent) = pair.initiate();
    let response = pair.boringtun.receives(&initiation).answer();
    let mut session = pair.complete(&sent, &response);
    session.counter = (1 << 40) + 3;
    assert_eq!(pair.boringtun.receives(&session.seal(&ipv4(64))), Outcome::Delivered(ipv4(64)));
}

#[test]
fn a_loaded_boringtun_demands_a_cookie_and_then_answers() {
    let mut pair = Pair::with(Boringtun::loaded(keys().public()), None);
    let (initiation, _) = pair.initiate();
    let reply = pair.boringtun.receives(&initiation).answer();
    let reply = CookieReply::parse(&reply).unwrap();
    assert_eq!(reply.receiver.to_le_bytes(), initiation[4..8]);
    let peer = pair.boringtun.key;
    assert!(pair.maker.consume::<A>(&peer, &reply, NOW));
    let (initiation, sent) = pair.initiate();
    let response = pair.boringtun.receives(&initiation).answer();
    pair.complete(&sent, &response);
}

#[test]
fn when_we_are_loaded_boringtun_uses_the_cookie_it_is_sent() {
    let mut pair = Pair::new(None);
    let initiation = pair.boringtun.initiates();
    assert!(pair.checker.check_mac1(&initiation));
    assert!(!pair.checker.check_mac2(&initiation, source(), NOW));
    let reply = pair.checker.reply::<A>(&initiation, source(), NOW, &mut pair.rng).unwrap();
    assert_eq!(pair.boringtun.receives(&reply.emit()), Outcome::Nothing);
    let initiation = pair.boringtun.initiates();
    assert!(pair.checker.check_mac2(&initiation, source(), NOW));
    let (response, mut session) = pair.respond(&initiation);
    pair.boringtun.receives(&response).answer();
    pair.exchange(&mut session);
}
