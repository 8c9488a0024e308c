//! Our code against the files of test vectors, and the files against independent implementations: the channel
//! against `snow`, the records against `ciborium`.
//!
//! After a wanted change `WEFT_BLESS=1 cargo test -p weft-core --test control vectors` writes the files anew.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use ciborium::Value as Cbor;
use serde_json::{Value as Json, json};
use weft_core::{
    control::{
        ClientRecord, JoinKey, JoinKeyError, JoinSecret, MAX_FRAME, NetworkId, ServerAddress, ServerConnection,
        ServerRecord, VERSIONS,
        handshake::NOISE_NAME,
        record::{Ping, Pong},
        upgrade::Prologue,
    },
    crypto::{RustCrypto, dh::X25519},
    keys::ServerKey,
    time::Instant,
};

use crate::{
    pair::{self, NETWORK, Pair},
    samples,
};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/control").join(name)
}

/// Compares what our code makes with the file, and returns the file.
fn check(name: &str, ours: &Json) -> Json {
    let path = file(name);
    if std::env::var_os("WEFT_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("{ours:#}\n")).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let theirs: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(ours, &theirs, "{name}");
    theirs
}

fn bytes(value: &Json) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn records_from_nodes_are_as_in_the_files() {
    for (name, records) in samples::from_nodes() {
        let network = if name == "016-register" { NetworkId::UNKNOWN } else { NETWORK };
        let cases = records.iter().map(|record| {
            let mut out = [0; 1024];
            let len = record.encode(network, &mut out).unwrap();
            out[..len].to_vec()
        });
        let cases: Vec<_> = cases.collect();
        for (case, record) in check_records(name, "node", &cases).iter().zip(&records) {
            let (decoded_network, decoded) = ClientRecord::decode(case).unwrap();
            assert_eq!((decoded_network, decoded.as_ref()), (network, Some(record)), "{name}");
        }
    }
}

#[test]
fn records_from_servers_are_as_in_the_files() {
    for (name, records) in samples::from_servers() {
        let cases = records.iter().map(|record| {
            let mut out = [0; 1024];
            let len = record.encode(NETWORK, &mut out).unwrap();
            out[..len].to_vec()
        });
        let cases: Vec<_> = cases.collect();
        let from = if name < "003" { "both" } else { "server" };
        for (case, record) in check_records(name, from, &cases).iter().zip(&records) {
            let (network, decoded) = ServerRecord::decode(case).unwrap();
            assert_eq!((network, decoded.as_ref()), (NETWORK, Some(record)), "{name}");
        }
    }
}

/// Compares encoded records with their file, where they stand in diagnostic notation too, as `ciborium` reads them.
fn check_records(name: &str, from: &str, cases: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let cases: Vec<Json> = cases
        .iter()
        .map(|case| {
            let value: Cbor = ciborium::from_reader(&case[..]).expect("CBOR");
            json!({ "cbor": hex::encode(case), "diagnostic": diagnostic(&value) })
        })
        .collect();
    let path = format!("records/{name}.json");
    let vector = check(&path, &json!({ "from": from, "cases": cases }));
    vector["cases"].as_array().unwrap().iter().map(|case| bytes(&case["cbor"])).collect()
}

/// Diagnostic notation (RFC 8949 section 8).
fn diagnostic(value: &Cbor) -> String {
    match value {
        Cbor::Integer(number) => i128::from(*number).to_string(),
        Cbor::Bytes(bytes) => format!("h'{}'", hex::encode(bytes)),
        Cbor::Text(text) => format!("{text:?}"),
        Cbor::Bool(value) => value.to_string(),
        Cbor::Array(items) => format!("[{}]", items.iter().map(diagnostic).collect::<Vec<_>>().join(", ")),
        Cbor::Map(entries) => {
            let mut text = String::from("{");
            for (index, (key, value)) in entries.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(text, "{comma}{}: {}", diagnostic(key), diagnostic(value)).unwrap();
            }
            text + "}"
        }
        other => panic!("no record holds {other:?}"),
    }
}

#[test]
fn join_keys_are_as_in_the_file() {
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<ServerAddress>>();
    let key = |texts: &[&str]| {
        let addresses = addresses(texts);
        JoinKey::new(ServerKey::from_bytes([0x51; 32]), JoinSecret::from_bytes([0x4a; 16]), &addresses).unwrap()
    };
    let sets: [&[&str]; 2] =
        [&["http://192.0.2.1:8080"], &["http://weft.example.org:8080", "https://weft.example.org"]];
    let valid: Vec<Json> = sets
        .iter()
        .map(|set| {
            let text = key(set).to_text();
            assert_eq!(text.as_str().parse(), Ok(key(set)));
            json!({
                "join_key": text.as_str(),
                "server_key": hex::encode([0x51; 32]),
                "secret": hex::encode([0x4a; 16]),
                "addresses": set,
            })
        })
        .collect();
    let text = key(sets[0]).to_text();
    let text = text.as_str();
    let invalid: Vec<Json> = [
        (text[..text.len() - 1].to_owned(), JoinKeyError::Truncated),
        (text[..40].to_owned(), JoinKeyError::Truncated),
        ("weft1".to_owned(), JoinKeyError::Truncated),
        (format!("{text}a"), JoinKeyError::Altered),
        (format!("{}a{}", &text[..20], &text[21..]), JoinKeyError::Altered),
        (format!("weft2{}", &text[5..]), JoinKeyError::NewerVersion),
        ("tskey-auth-k1".to_owned(), JoinKeyError::NotAJoinKey),
    ]
    .into_iter()
    .map(|(text, error)| {
        assert_eq!(text.parse::<JoinKey>(), Err(error), "{text}");
        json!({ "join_key": text, "error": format!("{error:?}") })
    })
    .collect();
    let vector = check("join-keys.json", &json!({ "valid": valid, "invalid": invalid }));
    for case in vector["valid"].as_array().unwrap() {
        let key: JoinKey = case["join_key"].as_str().unwrap().parse().unwrap();
        assert_eq!(key.server_key().as_bytes()[..], bytes(&case["server_key"]));
        assert_eq!(key.secret().as_bytes()[..], bytes(&case["secret"]));
        assert!(
            key.addresses().map(|a| Json::from(a.as_str())).eq(case["addresses"].as_array().unwrap().iter().cloned())
        );
    }
}

/// A source of randomness that gives fixed bytes.
struct Fixed([u8; 32]);

impl rand_core::TryRng for Fixed {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("the halves draw their ephemeral key and nothing else")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("the halves draw their ephemeral key and nothing else")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        out.copy_from_slice(&self.0);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Fixed {}

const CLIENT_EPHEMERAL: [u8; 32] = [0x45; 32];
const SERVER_EPHEMERAL: [u8; 32] = [0x65; 32];

#[test]
fn a_connection_with_fixed_keys_is_as_in_the_file_and_as_snow_makes_it() {
    let now = Instant::ZERO;
    let mut client = pair::client_with(pair::server_key(), now, &mut Fixed(CLIENT_EPHEMERAL));
    let request = pair::client_transmit(&mut client, now);
    let (answer, accepted) = pair::upgrade(&request, &[pair::server_key()]);
    let accepted = accepted.unwrap();
    let mut server = ServerConnection::new(&accepted, now, &mut Fixed(SERVER_EPHEMERAL));
    client.receive::<RustCrypto>(&mut &answer[..], now).unwrap();
    pair::client_steps(&mut client).unwrap();
    let message_1 = pair::client_transmit(&mut client, now);
    server.receive::<RustCrypto>(&mut &message_1[..], now).unwrap();
    pair::server_steps(&mut server).unwrap();
    let message_2 = pair::server_transmit(&mut server);
    client.receive::<RustCrypto>(&mut &message_2[..], now).unwrap();
    pair::client_steps(&mut client).unwrap();

    let mut pair = Pair { client, server, now };
    let mut frames = Vec::new();
    let mut note = |from: &str, record: &[u8], frame: &[u8]| {
        frames.push(json!({ "from": from, "record": hex::encode(record), "frame": hex::encode(frame) }));
    };
    let register: ClientRecord<'_> = pair.register(None).into();
    let proof = match &register {
        ClientRecord::Register(register) => *register.proof.as_bytes(),
        _ => unreachable!(),
    };
    let mut text = [0; 1024];
    let len = register.encode(NetworkId::UNKNOWN, &mut text).unwrap();
    let frame = pair.client_frame(&register);
    note("node", &text[..len], &frame);
    pair.give_server(&frame).unwrap();
    let registered = pair::registered(weft_core::control::Delivery::Whole).into();
    let len = ServerRecord::encode(&registered, NETWORK, &mut text).unwrap();
    let frame = pair.server_frame(&registered);
    note("server", &text[..len], &frame);
    pair.give_client(&frame).unwrap();
    let len = ClientRecord::from(Ping { token: 5 }).encode(NETWORK, &mut text).unwrap();
    let frame = pair.client_frame(&Ping { token: 5 }.into());
    note("node", &text[..len], &frame);
    pair.give_server(&frame).unwrap();
    let len = ServerRecord::from(Pong { token: 5 }).encode(NETWORK, &mut text).unwrap();
    let frame = pair::server_transmit(&mut pair.server);
    note("server", &text[..len], &frame);
    pair.give_client(&frame).unwrap();

    let machine = pair::machine();
    let mut snow = Snow::new();
    let prologue = Prologue::new(VERSIONS, 1);
    let vector = check(
        "channel.json",
        &json!({
            "noise": core::str::from_utf8(NOISE_NAME).unwrap(),
            "server_secret": hex::encode(pair::server_secret().as_bytes()),
            "server_key": hex::encode(pair::server_key().as_bytes()),
            "machine_secret": hex::encode(machine.as_bytes()),
            "machine_key": hex::encode(machine.public::<X25519>().as_bytes()),
            "node_ephemeral_secret": hex::encode(CLIENT_EPHEMERAL),
            "server_ephemeral_secret": hex::encode(SERVER_EPHEMERAL),
            "request": core::str::from_utf8(&request).unwrap(),
            "prologue": core::str::from_utf8(prologue.as_bytes()).unwrap(),
            "message_1": hex::encode(&message_1),
            "message_2": hex::encode(&message_2),
            "handshake_hash": hex::encode(snow.handshake()),
            "node_secret": hex::encode(pair::node_secret().as_bytes()),
            "node_key": hex::encode(pair::node_key().as_bytes()),
            "node_key_proof": hex::encode(proof),
            "frames": frames,
        }),
    );
    snow.check(&vector);
}

/// Both sides of the same connection by `snow`.
struct Snow {
    message_1: Vec<u8>,
    message_2: Vec<u8>,
    hash: Vec<u8>,
    node: snow::TransportState,
    server: snow::TransportState,
}

pub(crate) fn snow_builder(prologue: &[u8]) -> snow::Builder<'_> {
    let noise = core::str::from_utf8(NOISE_NAME).unwrap().parse().unwrap();
    snow::Builder::new(noise).prologue(prologue).unwrap()
}

impl Snow {
    fn new() -> Self {
        let mut node = snow_builder(b"weft-control 1 1-1 /weft/control")
            .local_private_key(pair::machine().as_bytes())
            .unwrap()
            .remote_public_key(pair::server_key().as_bytes())
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(&CLIENT_EPHEMERAL)
            .build_initiator()
            .unwrap();
        let mut server = snow_builder(b"weft-control 1 1-1 /weft/control")
            .local_private_key(pair::server_secret().as_bytes())
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(&SERVER_EPHEMERAL)
            .build_responder()
            .unwrap();
        let mut message_1 = vec![0; 96];
        let mut message_2 = vec![0; 48];
        assert_eq!(node.write_message(&[], &mut message_1).unwrap(), 96);
        server.read_message(&message_1, &mut []).unwrap();
        assert_eq!(server.write_message(&[], &mut message_2).unwrap(), 48);
        node.read_message(&message_2, &mut []).unwrap();
        let hash = node.get_handshake_hash().to_vec();
        Self {
            message_1,
            message_2,
            hash,
            node: node.into_transport_mode().unwrap(),
            server: server.into_transport_mode().unwrap(),
        }
    }

    fn handshake(&mut self) -> &[u8] {
        &self.hash
    }

    fn check(&mut self, vector: &Json) {
        assert_eq!(bytes(&vector["message_1"]), [&[0, 96], &self.message_1[..]].concat());
        assert_eq!(bytes(&vector["message_2"]), [&[0, 48], &self.message_2[..]].concat());
        for frame in vector["frames"].as_array().unwrap() {
            let side = if frame["from"] == "node" { &mut self.node } else { &mut self.server };
            let mut sealed = vec![0; MAX_FRAME];
            let len = side.write_message(&bytes(&frame["record"]), &mut sealed).unwrap();
            let length = u16::try_from(len).unwrap().to_be_bytes();
            assert_eq!(bytes(&frame["frame"]), [&length, &sealed[..len]].concat());
        }
    }
}
