//! The whole device, in its one-call form, on a virtual clock.

use std::{boxed::Box, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use weft_core::{
    crypto::{Crypto, RustCrypto},
    keys::{NodeSecret, PresharedKey},
    time::{Instant, UnixTime},
    wireguard::{
        Device, DropReason, Event, MessageKind, Outgoing, PeerId, Received, SendOutcome, TransmitKind,
        constants::{REKEY_AFTER_TIME, REKEY_TIMEOUT},
        storage::{Borrowed, FixedTables},
    },
};

use super::{Boringtun, Outcome, PSKS, answer_to, ipv4, ipv6, source};

type Tables = FixedTables<4, 2, 16, 8, 8, 1_500, 4, 8>;
type Dh = <RustCrypto as Crypto>::Dh;

/// A device whose one peer is a boringtun: it has 10.0.0.1 and fd00::1 itself, the peer everything else.
struct Pair {
    device: Device<Borrowed<'static, 8, 1_500>>,
    peer: PeerId,
    boringtun: Boringtun,
    rng: StdRng,
    now: Instant,
}

impl Pair {
    fn new(psk: Option<[u8; 32]>) -> Self {
        let key = secret().public::<Dh>();
        Self::with(Boringtun::new(&key, psk), psk)
    }

    fn with(boringtun: Boringtun, psk: Option<[u8; 32]>) -> Self {
        let mut rng = StdRng::seed_from_u64(11);
        let now = Instant::from_secs(50);
        let tables = Box::leak(Box::new(Tables::EMPTY));
        let mut device = Device::new(tables.tables(), &mut rng);
        device.set_private_key::<RustCrypto>(Some(secret()), now);
        let peer = device.add_peer(&boringtun.key).unwrap();
        assert!(device.set_preshared_key(peer, psk.map_or(PresharedKey::NONE, PresharedKey::from_bytes)));
        assert!(device.set_endpoint(peer, Some(source()), now));
        for prefix in ["0.0.0.0/0", "::/0"] {
            device.add_allowed_ip(peer, prefix.parse().unwrap()).unwrap();
        }
        Self { device, peer, boringtun, rng, now }
    }

    fn unix(&self) -> UnixTime {
        UnixTime::new(1_700_000_000, 0) + self.now.saturating_since(Instant::ZERO)
    }

    /// Hands an inner packet to the device: a datagram, or nothing where it waits for a handshake.
    fn sends(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = vec![0; Outgoing::OVERHEAD + packet.len()];
        buffer[Outgoing::HEAD_ROOM..Outgoing::HEAD_ROOM + packet.len()].copy_from_slice(packet);
        match self.device.send::<RustCrypto>(&mut buffer, packet.len(), self.now, self.unix()) {
            SendOutcome::Transmit(transmit) => Some(buffer[..transmit.len].to_vec()),
            SendOutcome::Staged(peer) => {
                assert_eq!(peer, self.peer);
                None
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the device has to send by itself now.
    fn due(&mut self) -> Vec<(TransmitKind, Vec<u8>)> {
        let mut due = Vec::new();
        let mut buffer = [0; 2_048];
        let unix = self.unix();
        while let Some(transmit) = self.device.poll_transmit::<RustCrypto>(self.now, unix, &mut self.rng, &mut buffer) {
            assert_eq!(transmit.endpoint, source());
            due.push((transmit.kind, buffer[..transmit.len].to_vec()));
        }
        due
    }

    /// The one datagram that is due, of the kind that is expected.
    fn due_one(&mut self, expected: TransmitKind) -> Vec<u8> {
        let mut due = self.due();
        assert_eq!(due.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [expected]);
        due.remove(0).1
    }

    /// What the device makes of a datagram: its answer or the inner packet, if any.
    fn receives(&mut self, datagram: &[u8]) -> Result<Vec<u8>, Received> {
        let mut buffer = datagram.to_vec();
        let unix = self.unix();
        match self.device.receive::<RustCrypto>(&mut buffer, source(), self.now, unix, &mut self.rng) {
            Received::Packet { peer, range } => {
                assert_eq!(peer, self.peer);
                Ok(buffer[range].to_vec())
            }
            Received::Transmit(transmit) => Ok(buffer[..transmit.len].to_vec()),
            other => Err(other),
        }
    }

    fn taken(&self) -> Result<Vec<u8>, Received> {
        Err(Received::Taken(self.peer))
    }

    fn established(&mut self) -> bool {
        core::iter::from_fn(|| self.device.poll_event()).any(|event| event == Event::Established(self.peer))
    }

    /// The device initiates since a packet waits, and the packet arrives.
    fn device_initiates(&mut self) {
        let packet = ipv4(100);
        assert_eq!(self.sends(&packet), None);
        let initiation = self.due_one(TransmitKind::Initiation);
        let response = self.boringtun.receives(&initiation).answer();
        assert_eq!(self.receives(&response), self.taken());
        assert!(self.established());
        let data = self.due_one(TransmitKind::Data);
        assert_eq!(self.boringtun.receives(&data), Outcome::Delivered(packet));
    }

    /// Packets of both families and many lengths, both ways.
    fn exchange(&mut self) {
        for packet in [ipv4(20), ipv4(33), ipv4(1_280), ipv4(1_420), ipv6(40), ipv6(48), ipv6(57), ipv6(1_419)] {
            let datagram = self.sends(&packet).expect("there is a session");
            assert_eq!(self.boringtun.receives(&datagram), Outcome::Delivered(packet.clone()));
            let answer = self.boringtun.sends(&answer_to(&packet));
            assert_eq!(self.receives(&answer), Ok(answer_to(&packet)));
        }
    }
}

fn secret() -> NodeSecret {
    NodeSecret::from_bytes([0x24; 32])
}

#[test]
fn the_device_initiates_and_packets_go_both_ways() {
    for psk in PSKS {
        let mut pair = Pair::new(psk);
        pair.device_initiates();
        pair.exchange();
    }
}

#[test]
fn boringtun_initiates_and_packets_go_both_ways() {
    for psk in PSKS {
        let mut pair = Pair::new(psk);
        let initiation = pair.boringtun.initiates();
        let response = pair.receives(&initiation).unwrap();
        assert_eq!(MessageKind::of(&response), Some(MessageKind::Response));
        assert!(!pair.established(), "boringtun has not confirmed its keys");
        let confirmation = pair.boringtun.receives(&response).answer();
        assert_eq!(pair.receives(&confirmation), pair.taken());
        assert!(pair.established());
        pair.exchange();
    }
}

#[test]
fn a_session_is_renewed_after_120_seconds() {
    let mut pair = Pair::new(None);
    pair.device_initiates();
    pair.exchange();
    pair.now = pair.now + REKEY_AFTER_TIME;
    let old = pair.sends(&ipv4(64)).expect("the old session still carries packets");
    assert_eq!(pair.boringtun.receives(&old), Outcome::Delivered(ipv4(64)));
    let due = pair.due();
    let (_, initiation) = due.iter().find(|(kind, _)| *kind == TransmitKind::Initiation).expect("a rekey");
    let response = pair.boringtun.receives(initiation).answer();
    assert_eq!(pair.receives(&response), pair.taken());
    let confirmation = pair.due_one(TransmitKind::Keepalive);
    assert_eq!(pair.boringtun.receives(&confirmation), Outcome::Nothing);
    pair.exchange();
}

#[test]
fn a_loaded_boringtun_gets_its_cookie_back_with_the_next_initiation() {
    let mut pair = Pair::with(Boringtun::loaded(&secret().public::<Dh>()), None);
    assert_eq!(pair.sends(&ipv4(64)), None);
    let initiation = pair.due_one(TransmitKind::Initiation);
    let reply = pair.boringtun.receives(&initiation).answer();
    assert_eq!(MessageKind::of(&reply), Some(MessageKind::CookieReply));
    assert_eq!(pair.receives(&reply), pair.taken());
    assert_eq!(pair.due(), [], "a cookie is not answered at once");
    pair.now = pair.now + REKEY_TIMEOUT + Duration::from_millis(334);
    let initiation = pair.due_one(TransmitKind::Initiation);
    let response = pair.boringtun.receives(&initiation).answer();
    assert_eq!(pair.receives(&response), pair.taken());
    let data = pair.due_one(TransmitKind::Data);
    assert_eq!(pair.boringtun.receives(&data), Outcome::Delivered(ipv4(64)));
}

#[test]
fn a_loaded_device_lets_boringtun_in_once_it_has_proven_its_address() {
    let mut pair = Pair::new(None);
    pair.device.note_load(pair.now);
    let initiation = pair.boringtun.initiates();
    let reply = pair.receives(&initiation).unwrap();
    assert_eq!(MessageKind::of(&reply), Some(MessageKind::CookieReply));
    assert_eq!(pair.boringtun.receives(&reply), Outcome::Nothing);
    let initiation = pair.boringtun.initiates();
    let response = pair.receives(&initiation).unwrap();
    let confirmation = pair.boringtun.receives(&response).answer();
    assert_eq!(pair.receives(&confirmation), pair.taken());
    pair.exchange();
}

#[test]
fn what_was_altered_or_came_before_is_refused() {
    let mut pair = Pair::new(None);
    let initiation = pair.boringtun.initiates();
    let response = pair.receives(&initiation).unwrap();
    pair.now = pair.now + Duration::from_secs(1);
    assert_eq!(pair.receives(&initiation), Err(Received::Drop(DropReason::StaleTimestamp)));
    let confirmation = pair.boringtun.receives(&response).answer();
    assert_eq!(pair.receives(&confirmation), pair.taken());
    assert_eq!(pair.receives(&confirmation), Err(Received::Drop(DropReason::Replayed)));
    let datagram = pair.boringtun.sends(&answer_to(&ipv4(64)));
    let mut altered = datagram.clone();
    altered[40] ^= 1;
    assert_eq!(pair.receives(&altered), Err(Received::Drop(DropReason::NotAuthentic)));
    assert_eq!(pair.receives(&datagram), Ok(answer_to(&ipv4(64))));
    assert_eq!(pair.receives(&datagram), Err(Received::Drop(DropReason::Replayed)));
}

#[test]
fn another_preshared_key_never_becomes_a_session() {
    let key = secret().public::<Dh>();
    let mut pair = Pair::with(Boringtun::new(&key, Some([1; 32])), Some([2; 32]));
    assert_eq!(pair.sends(&ipv4(64)), None);
    let initiation = pair.due_one(TransmitKind::Initiation);
    let response = pair.boringtun.receives(&initiation).answer();
    assert_eq!(pair.receives(&response), Err(Received::Drop(DropReason::NotAuthentic)));
    assert!(!pair.established());
}
