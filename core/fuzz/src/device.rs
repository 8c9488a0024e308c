use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use weft_core::{
    crypto::{RustCrypto, dh::X25519},
    keys::{NodeKey, NodeSecret},
    time::{Instant, UnixTime},
    wireguard::{
        Device, MessageKind, Outgoing, Received, SendOutcome, TransmitKind,
        cookie::CookieMaker,
        storage::{Borrowed, FixedTables},
    },
};

use super::Input;

type Tables = FixedTables<4, 2, 16, 8, 4, 256, 4, 2>;

const OWN_SECRET: NodeSecret = NodeSecret::from_bytes([9; 32]);
static OWN: LazyLock<NodeKey> = LazyLock::new(|| OWN_SECRET.public::<X25519>());
static PEER: LazyLock<NodeKey> = LazyLock::new(|| NodeSecret::from_bytes([8; 32]).public::<X25519>());

/// Whatever comes from whoever knows only public keys: no session, no packet, no more bytes out than in, and what is
/// due is done in a few polls.
pub(super) fn device(data: &[u8]) {
    let mut input = Input(data);
    let mut rng = StdRng::seed_from_u64(1);
    let mut tables = Box::new(Tables::EMPTY);
    let mut device: Device<Borrowed<'_, 2, 256>> = Device::new(tables.tables(), &mut rng);
    let (mut now, source) = (Instant::from_secs(1), SocketAddr::from(([192, 0, 2, 1], 51820)));
    device.set_private_key::<RustCrypto>(Some(OWN_SECRET), now);
    let peer = device.add_peer(&PEER).expect("there is room");
    device.set_endpoint(peer, Some(source), now);
    device.add_allowed_ip(peer, "10.0.0.0/8".parse().expect("a prefix")).expect("there is room");

    // The index of an initiation that the device has sent, for responses and cookies that name it.
    let mut index = [0; 4];
    while !input.is_empty() {
        let operation = input.byte();
        let unix = UnixTime::new(1_700_000_000, 0) + now.saturating_since(Instant::ZERO);
        match operation % 4 {
            0 => now = now + Duration::from_millis(u64::from(input.byte()) * 100),
            1 => {
                let mut packet = [0; Outgoing::OVERHEAD + 20];
                packet[Outgoing::HEAD_ROOM..][..4].copy_from_slice(&[0x45, 0, 0, 20]);
                packet[Outgoing::HEAD_ROOM + 16] = 10;
                let outcome = device.send::<RustCrypto>(&mut packet, 20, now, unix);
                assert!(matches!(outcome, SendOutcome::Staged(_) | SendOutcome::Drop(_)), "{outcome:?}");
            }
            2 => device.note_load(now),
            _ => {
                let mut datagram = [0; 160];
                let len = usize::from(input.byte()).min(datagram.len());
                let taken = len.min(input.0.len());
                let (head, rest) = input.0.split_at(taken);
                datagram[..taken].copy_from_slice(head);
                input.0 = rest;
                let datagram = &mut datagram[..len];
                match MessageKind::of(datagram) {
                    Some(MessageKind::Initiation) => CookieMaker::new().stamp(&OWN, datagram, now),
                    Some(MessageKind::Response) => {
                        datagram[8..12].copy_from_slice(&index);
                        CookieMaker::new().stamp(&OWN, datagram, now);
                    }
                    Some(MessageKind::CookieReply) => datagram[4..8].copy_from_slice(&index),
                    Some(MessageKind::Data) | None => {}
                }
                match device.receive::<RustCrypto>(datagram, source, now, unix, &mut rng) {
                    Received::Transmit(transmit) => {
                        assert_eq!(transmit.kind, TransmitKind::CookieReply);
                        assert!(transmit.len < len);
                    }
                    Received::Drop(_) => {}
                    received => panic!("{received:?}"),
                }
            }
        }
        let mut out = [0; 512];
        let mut polls = 0;
        while let Some(transmit) = device.poll_transmit::<RustCrypto>(now, unix, &mut rng, &mut out) {
            assert_eq!(transmit.kind, TransmitKind::Initiation);
            index.copy_from_slice(&out[4..8]);
            polls += 1;
            assert!(polls < 4, "nothing is due twice");
        }
        while device.poll_event().is_some() {}
        assert!(device.poll_timeout().is_none_or(|deadline| deadline > now), "what was due was done");
    }
}
