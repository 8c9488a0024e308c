use std::sync::LazyLock;

use rand::{SeedableRng, rngs::StdRng};
use weft_core::{
    control::{
        ClientConfig, ClientConnection, ClientRecord, JoinKey, JoinSecret, ServerAddress, ServerConnection,
        ServerRecord, VERSIONS,
        frame::{FrameReader, MAX_CONTENT},
        record::peek,
        upgrade::{Accepted, ResponseParser, VersionRange, negotiate},
    },
    crypto::{RustCrypto, dh::X25519},
    keys::{MachineKey, MachineSecret, ServerKey, ServerSecret},
    time::Instant,
};

use super::Input;

const SERVER_SECRET: ServerSecret = ServerSecret::from_bytes([5; 32]);
const MACHINE_SECRET: MachineSecret = MachineSecret::from_bytes([3; 32]);
static SERVER_KEY: LazyLock<ServerKey> = LazyLock::new(|| SERVER_SECRET.public::<X25519>());
static MACHINE_KEY: LazyLock<MachineKey> = LazyLock::new(|| MACHINE_SECRET.public::<X25519>());

/// What reads as a join key reads back from its own text; one changed character never gives another key.
pub(super) fn join_key(data: &[u8]) {
    if let Some(key) = core::str::from_utf8(data).ok().and_then(|text| text.parse::<JoinKey>().ok()) {
        assert!(key.addresses().next().is_some());
        assert_eq!(key.to_text().as_str().parse(), Ok(key));
    }

    let mut input = Input(data);
    let position = usize::from(u16::from_le_bytes(input.bytes()));
    let replacement = char::from(input.byte() & 0x7f);
    let Ok(address) = String::from_utf8_lossy(input.0).parse::<ServerAddress>() else { return };
    assert_eq!(address.as_str().parse().as_ref(), Ok(&address));
    let secret = JoinSecret::generate(&mut StdRng::seed_from_u64(1));
    let Ok(key) = JoinKey::new(*SERVER_KEY, secret, [&address]) else { return };
    let text = key.to_text();
    assert_eq!(text.as_str().parse().as_ref(), Ok(&key));
    let position = position % text.as_str().len();
    let altered: String =
        text.as_str().chars().enumerate().map(|(i, c)| if i == position { replacement } else { c }).collect();
    assert!(altered.parse::<JoinKey>().is_ok_and(|parsed| parsed == key) || altered.parse::<JoinKey>().is_err());
}

/// A server's answer reads the same however the stream is cut, and never past its end.
pub(super) fn upgrade_response(data: &[u8]) {
    let mut whole = ResponseParser::new();
    let mut rest = data;
    let at_once = whole.read(&mut rest);

    let mut bytewise = ResponseParser::new();
    let mut used = 0;
    let mut result = Ok(None);
    while result == Ok(None) && used < data.len() {
        result = bytewise.read(&mut &data[used..=used]);
        used += 1;
    }
    assert_eq!(at_once, result);
    assert_eq!(data.len() - rest.len(), used);
    assert_eq!(whole.sentence().map(|text| text.to_string()), bytewise.sentence().map(|text| text.to_string()));
}

/// Whatever a node offers, the version that is spoken is one that both have.
pub(super) fn upgrade_request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (versions, server_key) = text.split_once('\n').unwrap_or((&text, ""));
    if let Some(range) = VersionRange::parse(versions) {
        assert_eq!(VersionRange::parse(&range.to_string()), Some(range));
    }
    if let Ok(accepted) = negotiate(Some(versions), Some(server_key), &[*SERVER_KEY]) {
        assert_eq!(accepted.server, *SERVER_KEY);
        assert!(VERSIONS.contains(accepted.version) && accepted.offered.contains(accepted.version));
    }
}

/// A stream of frames comes out the same however it is cut.
pub(super) fn frame(data: &[u8]) {
    let mut input = Input(data);
    let cut = usize::from(input.byte()).max(1);
    assert_eq!(frames(input.0, input.0.len().max(1)), frames(input.0, cut));
}

/// The frames of a stream that comes in parts of `cut` bytes, and whether it ends in a bad length.
fn frames(stream: &[u8], cut: usize) -> (Vec<Vec<u8>>, bool) {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for mut part in stream.chunks(cut) {
        loop {
            match reader.read(&mut part) {
                Ok(Some(content)) => {
                    assert!((1..=MAX_CONTENT).contains(&content.len()));
                    frames.push(content.to_vec());
                }
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

macro_rules! record_round_trip {
    ($record:ident, $data:ident) => {
        let Ok((network, record)) = $record::decode($data) else { return };
        let number = peek($data).expect("a record has a number");
        let Some(record) = record else { return assert!(!$record::is_known(number)) };
        assert_eq!(record.number(), number);
        // What this version does not know was skipped, so the record only gets shorter, but for integers that were
        // not written in their shortest form.
        let mut out = vec![0; $data.len() + 64];
        let len = record.encode(network, &mut out).expect("a record is no longer than it came");
        assert_eq!($record::decode(&out[..len]), Ok((network, Some(record))));
    };
}

/// A record of a node is the same when it is written again.
pub(super) fn client_record(data: &[u8]) {
    record_round_trip!(ClientRecord, data);
}

/// A record of a server is the same when it is written again.
pub(super) fn server_record(data: &[u8]) {
    record_round_trip!(ServerRecord, data);
}

/// Bytes from somebody who is no server never get a record out of a node's connection.
pub(super) fn client_stream(data: &[u8]) {
    let config = ClientConfig {
        address: "http://192.0.2.1:8080".parse().unwrap(),
        server: *SERVER_KEY,
        machine: MACHINE_SECRET,
        machine_key: *MACHINE_KEY,
    };
    let mut client = ClientConnection::new(config, Instant::ZERO, &mut StdRng::seed_from_u64(1));
    let mut out = [0; 2_048];
    let mut input = data;
    loop {
        while client.transmit::<RustCrypto>(&mut out, Instant::ZERO) > 0 {}
        if client.needs_step() {
            if client.step::<RustCrypto>().is_err() {
                return;
            }
            continue;
        }
        if input.is_empty() {
            return;
        }
        match client.receive::<RustCrypto>(&mut input, Instant::ZERO) {
            Ok(record) => assert!(record.is_none()),
            Err(_) => return,
        }
    }
}

/// Bytes from somebody without a machine key never get a record out of a server's connection.
pub(super) fn server_stream(data: &[u8]) {
    let offered = VersionRange { min: 1, max: 1 };
    let accepted = Accepted { offered, version: 1, server: *SERVER_KEY };
    let mut server = ServerConnection::new(&accepted, Instant::ZERO, &mut StdRng::seed_from_u64(1));
    let mut out = [0; 2_048];
    let mut input = data;
    loop {
        while server.transmit::<RustCrypto>(&mut out) > 0 {}
        if server.needs_step() {
            if server.step::<RustCrypto>(&SERVER_SECRET).is_err() {
                return;
            }
            continue;
        }
        if input.is_empty() {
            return;
        }
        match server.receive::<RustCrypto>(&mut input, Instant::ZERO) {
            Ok(record) => assert!(record.is_none()),
            Err(_) => return,
        }
    }
}
