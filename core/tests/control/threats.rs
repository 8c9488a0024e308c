//! What somebody who holds the wire, or one end of it, can try.

use weft_core::{
    control::{
        ClientError, ClientRecord, Delivery, ErrorCode, MAX_FRAME, MAX_RECORD, NetworkId, SendError, ServerConnection,
        ServerError, ServerRecord,
        handshake::{MESSAGE_1_LEN, MESSAGE_2_LEN},
        record::{Endpoints, LookupResult, Ping},
        upgrade::Accepted,
    },
    crypto::{RustCrypto, dh::X25519},
    keys::{NodeSecret, ServerSecret},
};

use crate::rng::TestRng;

use crate::{
    pair::{
        NETWORK, Pair, client_steps, client_transmit, node_key, node_secret, registered, server_key, server_secret,
        server_steps, server_transmit,
    },
    rogue::{RogueNode, RogueServer},
};

/// Everything that a node said in a connection.
struct Recording {
    message_1: Vec<u8>,
    register: Vec<u8>,
}

fn record() -> Recording {
    let mut pair = Pair::upgraded();
    client_steps(&mut pair.client).unwrap();
    let message_1 = client_transmit(&mut pair.client, pair.now);
    pair.give_server(&message_1).unwrap();
    server_steps(&mut pair.server).unwrap();
    let message_2 = server_transmit(&mut pair.server);
    pair.give_client(&message_2).unwrap();
    client_steps(&mut pair.client).unwrap();
    let register = pair.register(None);
    Recording { message_1, register: pair.client_frame(&register.into()) }
}

fn fresh_server(seed: u64) -> ServerConnection {
    let pair = Pair::upgraded();
    let offered = weft_core::control::VERSIONS;
    let accepted = Accepted { offered, version: 1, server: server_key() };
    ServerConnection::new(&accepted, pair.now, &mut TestRng::new(seed))
}

#[test]
fn a_replayed_first_message_changes_nothing() {
    let recording = record();
    let now = Pair::upgraded().now;
    let mut server = fresh_server(99);
    assert_eq!(server.receive::<RustCrypto>(&mut &recording.message_1[..], now), Ok(None));
    server_steps(&mut server).unwrap();
    server_transmit(&mut server);
    assert_eq!(server.machine_key(), None, "nothing says yet which machine this is");
    assert!(!server.is_registered());
}

#[test]
fn a_replayed_connection_delivers_no_record() {
    let recording = record();
    let now = Pair::upgraded().now;
    let mut server = fresh_server(99);
    server.receive::<RustCrypto>(&mut &recording.message_1[..], now).unwrap();
    server_steps(&mut server).unwrap();
    server_transmit(&mut server);
    let replayed = server.receive::<RustCrypto>(&mut &recording.register[..], now);
    assert_eq!(replayed, Err(ServerError::NotAuthentic));
    assert_eq!(server.machine_key(), None);
    assert_eq!(server.receive::<RustCrypto>(&mut &recording.register[..], now), Err(ServerError::Closed));
}

#[test]
fn bytes_that_come_with_the_first_message_are_refused() {
    let recording = record();
    let now = Pair::upgraded().now;
    let mut server = fresh_server(99);
    let stream = [&recording.message_1[..], &recording.register].concat();
    let mut input = &stream[..];
    assert_eq!(server.receive::<RustCrypto>(&mut input, now), Ok(None));
    assert_eq!(server.receive::<RustCrypto>(&mut input, now), Err(ServerError::OutOfOrder));
}

#[test]
fn a_flipped_bit_anywhere_in_message_1_fails_the_handshake() {
    let message_1 = record().message_1;
    assert_eq!(message_1.len(), 2 + MESSAGE_1_LEN);
    let now = Pair::upgraded().now;
    for at in 0..message_1.len() {
        let mut altered = message_1.clone();
        altered[at] ^= 0x10;
        let mut server = fresh_server(99);
        let outcome = server.receive::<RustCrypto>(&mut &altered[..], now);
        match at {
            // A longer frame is waited for, until the set-up has lasted too long; a shorter one is no message 1.
            0 => assert!(matches!(outcome, Err(ServerError::BadFrame) | Ok(None))),
            1 => assert!(matches!(outcome, Err(ServerError::BadFrame) | Ok(None))),
            _ => {
                assert_eq!(outcome, Ok(None));
                // The highest bit of a public key is not part of it (RFC 7748 section 5); it is hashed all the same.
                assert_eq!(server_steps(&mut server), Err(ServerError::HandshakeFailed), "byte {at}");
                assert_eq!(server_transmit(&mut server), [0, 1, 1]);
            }
        }
        assert_eq!(server.machine_key(), None);
    }
}

#[test]
fn a_flipped_bit_anywhere_in_message_2_fails_the_handshake() {
    for at in 0..2 + MESSAGE_2_LEN {
        let mut pair = Pair::upgraded();
        client_steps(&mut pair.client).unwrap();
        let message_1 = client_transmit(&mut pair.client, pair.now);
        pair.give_server(&message_1).unwrap();
        server_steps(&mut pair.server).unwrap();
        let mut message_2 = server_transmit(&mut pair.server);
        message_2[at] ^= 0x80;
        let outcome = pair.give_client(&message_2).map(|record| record.is_some());
        match at {
            0 => assert_eq!(outcome, Err(ClientError::BadFrame)),
            1 => assert_eq!(outcome, Ok(false), "a longer frame is waited for"),
            _ => assert_eq!(client_steps(&mut pair.client), Err(ClientError::ServerNotAuthentic), "byte {at}"),
        }
        assert!(!pair.client.is_open());
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_frame_ends_the_connection() {
    let frame_len = record().register.len();
    for at in 0..frame_len {
        let mut pair = Pair::open();
        let register = pair.register(None);
        let mut frame = pair.client_frame(&register.into());
        frame[at] ^= 0x01;
        match (at, pair.give_server(&frame)) {
            (0 | 1, Ok(None)) => {}
            (_, outcome) => {
                assert!(matches!(outcome, Err(ServerError::NotAuthentic | ServerError::BadFrame)), "byte {at}")
            }
        }
        assert_eq!(pair.server.machine_key(), None);
    }
    let len = Pair::registered().server_frame(&LookupResult { request: 1, id: None }.into()).len();
    for at in 0..len {
        let mut pair = Pair::registered();
        let mut frame = pair.server_frame(&LookupResult { request: 1, id: None }.into());
        frame[at] ^= 0x01;
        match (at, pair.give_client(&frame)) {
            (0 | 1, Ok(None)) => {}
            (_, outcome) => {
                assert!(matches!(outcome, Err(ClientError::NotAuthentic | ClientError::BadFrame)), "byte {at}")
            }
        }
    }
}

#[test]
fn a_frame_repeated_left_out_or_moved_ends_the_connection() {
    let frames = |pair: &mut Pair| -> [Vec<u8>; 2] {
        [1, 2].map(|request| pair.server_frame(&LookupResult { request, id: None }.into()))
    };
    let mut pair = Pair::registered();
    let [first, _] = frames(&mut pair);
    assert!(pair.give_client(&first).is_ok());
    assert_eq!(pair.give_client(&first), Err(ClientError::NotAuthentic));
    let mut pair = Pair::registered();
    let [_, second] = frames(&mut pair);
    assert_eq!(pair.give_client(&second), Err(ClientError::NotAuthentic));

    let frames = |pair: &mut Pair| -> [Vec<u8>; 2] { [1, 2].map(|_| pair.client_frame(&Endpoints::default().into())) };
    let mut pair = Pair::registered();
    let [first, _] = frames(&mut pair);
    assert!(pair.give_server(&first).is_ok());
    assert_eq!(pair.give_server(&first), Err(ServerError::NotAuthentic));
    let mut pair = Pair::registered();
    let [_, second] = frames(&mut pair);
    assert_eq!(pair.give_server(&second), Err(ServerError::NotAuthentic));
}

#[test]
fn a_frame_sent_back_to_its_sender_ends_the_connection() {
    let mut pair = Pair::registered();
    let frame = pair.client_frame(&Ping { token: 1 }.into());
    assert_eq!(pair.give_client(&frame), Err(ClientError::NotAuthentic));
}

#[test]
fn a_frame_that_announces_too_much_or_nothing_ends_the_connection_at_once() {
    for length in [0, u16::try_from(MAX_FRAME - 1).unwrap(), u16::MAX] {
        let mut pair = Pair::registered();
        assert_eq!(pair.give_server(&length.to_be_bytes()), Err(ServerError::BadFrame));
        assert_eq!(pair.give_client(&length.to_be_bytes()), Err(ClientError::BadFrame));
        assert_eq!(pair.give_server(&[0]), Err(ServerError::Closed));
        assert_eq!(pair.give_client(&[0]), Err(ClientError::Closed));
    }
}

#[test]
fn a_frame_too_short_for_a_seal_ends_the_connection() {
    for length in [1u8, 15, 16] {
        let frame = [&[0, length][..], &vec![7; usize::from(length)]].concat();
        let mut pair = Pair::registered();
        assert_eq!(pair.give_server(&frame), Err(ServerError::NotAuthentic));
        assert_eq!(pair.give_client(&frame), Err(ClientError::NotAuthentic));
    }
}

#[test]
fn garbage_byte_by_byte_costs_one_step_and_reaches_nobody() {
    let mut rng = TestRng::new(5);
    for seed in 0..50 {
        let mut server = fresh_server(seed);
        let now = Pair::upgraded().now;
        let mut steps = 0;
        for _ in 0..3_000 {
            let mut byte = [0];
            rand_core::Rng::fill_bytes(&mut rng, &mut byte);
            match server.receive::<RustCrypto>(&mut &byte[..], now) {
                Ok(record) => assert_eq!(record, None),
                Err(_) => break,
            }
            while server.needs_step() {
                steps += 1;
                if server.step::<RustCrypto>(&server_secret()).is_err() {
                    break;
                }
            }
        }
        assert!(steps <= 1);
        assert_eq!(server.machine_key(), None);
    }
}

#[test]
fn garbage_of_the_right_length_costs_the_server_one_step() {
    let mut server = fresh_server(1);
    let garbage = [&[0, 96][..], &[0x5a; 96]].concat();
    assert_eq!(server.receive::<RustCrypto>(&mut &garbage[..], Pair::upgraded().now), Ok(None));
    assert_eq!(server.step::<RustCrypto>(&server_secret()), Err(ServerError::HandshakeFailed));
    assert!(!server.needs_step());
}

#[test]
fn a_low_order_key_fails_the_handshake_at_its_first_step() {
    let mut server = fresh_server(1);
    let message = [&[0, 96][..], &[0; 96]].concat();
    assert_eq!(server.receive::<RustCrypto>(&mut &message[..], Pair::upgraded().now), Ok(None));
    assert_eq!(server.step::<RustCrypto>(&server_secret()), Err(ServerError::HandshakeFailed));
}

#[test]
fn a_proof_of_another_connection_or_for_another_key_is_refused() {
    let first = Pair::open();
    let proof = first.register(None).proof;
    // The same keys and another handshake.
    let mut second = Pair::upgraded();
    second.server = fresh_server(1_234);
    let mut second = second.opened();
    let frame = second.register(None);
    let frame = second.client_frame(&frame.into());
    second.give_server(&frame).unwrap();
    assert!(!second.server.verify_node_key::<X25519>(&proof, &node_key(), &server_secret()));
    let own = second.register_proof();
    assert!(second.server.verify_node_key::<X25519>(&own, &node_key(), &server_secret()));
    let somebody_else = NodeSecret::from_bytes([0x77; 32]).public::<X25519>();
    assert!(!second.server.verify_node_key::<X25519>(&own, &somebody_else, &server_secret()));
    assert!(!second.server.verify_node_key::<X25519>(&own, &node_key(), &ServerSecret::from_bytes([1; 32])));
    // A node that claims somebody else's key with its own secret.
    let claimed = second.client.prove_node_key::<X25519>(&node_secret(), &somebody_else).unwrap().unwrap();
    assert!(!second.server.verify_node_key::<X25519>(&claimed, &somebody_else, &server_secret()));
}

#[test]
fn a_malformed_record_ends_the_connection_and_the_node_learns_why() {
    for bytes in malformed() {
        let mut rogue = RogueNode::registered();
        let frame = rogue.frame(&bytes);
        assert_eq!(rogue.give_server(&frame).unwrap_err(), ServerError::Malformed, "{bytes:02x?}");
        assert_eq!(ServerError::Malformed.code(), Some(ErrorCode::Protocol));
        assert_eq!(rogue.give_server(&frame), Err(ServerError::Closed), "nothing more is read");
        let mut out = [0; MAX_FRAME];
        assert!(rogue.server.send::<RustCrypto>(NETWORK, &error(ErrorCode::Protocol), &mut out).is_ok());

        let mut pair = Pair::registered();
        let mut out = [0; MAX_FRAME];
        let len = pair.server.send_encoded::<RustCrypto>(&bytes, &mut out).unwrap();
        assert_eq!(pair.give_client(&out[..len]), Err(ClientError::Malformed), "{bytes:02x?}");
        assert_eq!(pair.give_client(&[0]), Err(ClientError::Closed));
    }
}

fn error(code: ErrorCode) -> ServerRecord<'static> {
    let sentence = crate::pair::text("The node sent a malformed record.");
    weft_core::control::record::Error { code, sentence, retry_after: None }.into()
}

/// Bytes that are no record of network 7, whichever side they come from.
fn malformed() -> Vec<Vec<u8>> {
    [
        "00",                           // no array
        "80",                           // an empty one
        "820107",                       // too short
        "840107a1000500",               // too long
        "9f0107a10005ff",               // of indefinite length
        "830107bf0005ff",               // a body of indefinite length
        "830107a1000500",               // bytes behind it
        "830107a100",                   // cut off
        "830107a0",                     // a Ping without its token
        "830107a10065616263",           // cut off within a text
        "83010761",                     // a body that is no map
        "830107820005",                 // an array for a body
        "83200aa10005",                 // a negative type
        "831a00010000a10005",           // a type that is too large
        "83011b0000000100000007a10005", // a network that is too large
        "830107a1001b0000000100000005", // a token that is too large
        "830107a2000520f6",             // a negative key
        "831903e707bf0001ff",           // an unknown type with a body of indefinite length
        "831903e707a1616101",           // an unknown type with a text for a key
        "831903e7075f4100ff",           // an unknown type without a map
        "ff",
        "f6",
    ]
    .iter()
    .map(|hex| hex::decode(hex).unwrap())
    .collect()
}

#[test]
fn a_record_of_more_than_the_limit_is_neither_sent_nor_taken() {
    let mut rogue = RogueNode::registered();
    let frame = rogue.frame(&[0; MAX_RECORD + 1]);
    assert_eq!(rogue.give_server(&frame), Err(ServerError::BadFrame));
    let mut pair = Pair::registered();
    let mut out = [0; 2 * MAX_FRAME];
    assert_eq!(pair.server.send_encoded::<RustCrypto>(&[0; MAX_RECORD + 1], &mut out), Err(SendError::TooLarge));
    let endpoints = [weft_core::control::record::Endpoint("[2001:db8::1]:1".parse().unwrap()); 60];
    let sent = pair.client.send::<RustCrypto>(&Endpoints { local: (&endpoints).into() }.into(), &mut out, pair.now);
    assert_eq!(sent, Err(SendError::TooLarge));
    // The connection is not harmed.
    let frame = pair.server_frame(&LookupResult { request: 1, id: None }.into());
    assert!(pair.give_client(&frame).unwrap().is_some());
}

#[test]
fn records_and_fields_of_the_future_are_skipped() {
    // A Ping with fields 1 (a map with a list in it), 24 and 2^40, and a record of type 999.
    let ping = "830107a4000501a200010182f6fb3ff00000000000001818a1616161621b0000010000000000c24101";
    let ping = hex::decode(ping).unwrap();
    let unknown = hex::decode("831903e707a2000118ff826161d9d9f7a0").unwrap();
    let mut rogue = RogueNode::registered();
    let frame = rogue.frame(&unknown);
    assert_eq!(rogue.give_server(&frame), Ok(None));
    assert_eq!(rogue.server.skipped_records(), 1);
    let frame = rogue.frame(&ping);
    assert_eq!(rogue.give_server(&frame), Ok(None));
    assert!(!server_transmit(&mut rogue.server).is_empty(), "the Ping is answered");

    let mut pair = Pair::registered();
    for bytes in [&unknown, &ping] {
        let mut out = [0; MAX_FRAME];
        let len = pair.server.send_encoded::<RustCrypto>(bytes, &mut out).unwrap();
        assert_eq!(pair.give_client(&out[..len]), Ok(None));
    }
    assert_eq!(pair.client.skipped_records(), 1);
    assert!(!client_transmit(&mut pair.client, pair.now).is_empty(), "the Ping is answered");
}

#[test]
fn nothing_but_register_may_come_first_and_only_once() {
    let ping = hex::decode("830100a10005").unwrap();
    let unknown = hex::decode("831903e700a0").unwrap();
    let endpoints = hex::decode("831200a0").unwrap();
    for first in [ping, unknown, endpoints] {
        let mut rogue = RogueNode::open();
        let frame = rogue.frame(&first);
        assert_eq!(rogue.give_server(&frame), Err(ServerError::OutOfOrder), "{first:02x?}");
        assert_eq!(rogue.server.machine_key(), None);
    }
    let mut rogue = RogueNode::registered();
    let frame = rogue.register_frame(NETWORK);
    assert_eq!(rogue.give_server(&frame), Err(ServerError::OutOfOrder));
    let mut rogue = RogueNode::open();
    let frame = rogue.register_frame(NETWORK);
    assert_eq!(rogue.give_server(&frame), Err(ServerError::OutOfOrder), "the network is not the node's to name");
    let mut rogue = RogueNode::open();
    let frame = rogue.register_frame(NetworkId::UNKNOWN);
    assert!(matches!(rogue.give_server(&frame), Ok(Some(ClientRecord::Register(_)))));
    let frame = rogue.frame(&hex::decode("830100a10005").unwrap());
    assert_eq!(rogue.give_server(&frame), Err(ServerError::OutOfOrder), "the server has not answered yet");
}

#[test]
fn records_of_another_network_are_refused_known_or_not() {
    for record in ["831208a0", "831903e708a0"] {
        let mut rogue = RogueNode::registered();
        let frame = rogue.frame(&hex::decode(record).unwrap());
        assert_eq!(rogue.give_server(&frame), Err(ServerError::ForeignNetwork));
    }
    for record in ["83184808a10001", "831903e708a0"] {
        let mut pair = Pair::registered();
        let mut out = [0; MAX_FRAME];
        let len = pair.server.send_encoded::<RustCrypto>(&hex::decode(record).unwrap(), &mut out).unwrap();
        assert_eq!(pair.give_client(&out[..len]), Err(ClientError::ForeignNetwork));
    }
}

#[test]
fn nothing_but_registered_or_an_error_may_come_first_from_a_server() {
    for record in ["83184807a10001", "831903e707a0", "830107a10005", "830207a10005"] {
        let mut rogue = RogueServer::open();
        let frame = rogue.frame(&hex::decode(record).unwrap());
        assert_eq!(rogue.client.receive::<RustCrypto>(&mut &frame[..], rogue.now), Err(ClientError::OutOfOrder));
        assert_eq!(rogue.client.poll_timeout(), None);
    }
}

#[test]
fn a_client_sends_nothing_before_it_is_registered_and_registers_once() {
    let mut out = [0; MAX_FRAME];
    let mut pair = Pair::upgraded();
    let now = pair.now;
    assert_eq!(pair.client.send::<RustCrypto>(&Endpoints::default().into(), &mut out, now), Err(SendError::NotNow));
    let mut pair = Pair::open();
    assert_eq!(pair.client.send::<RustCrypto>(&Endpoints::default().into(), &mut out, now), Err(SendError::NotNow));
    let mut pair = Pair::registered();
    let register = pair.register(None).into();
    assert_eq!(pair.client.send::<RustCrypto>(&register, &mut out, now), Err(SendError::NotNow));
}

#[test]
fn a_server_that_registers_a_node_which_did_not_ask_is_left() {
    let mut pair = Pair::open();
    let register = pair.register(None);
    let frame = pair.client_frame(&register.into());
    pair.give_server(&frame).unwrap();
    let frame = pair.server_frame(&registered(Delivery::Whole).into());
    // The same keys on a client that sent no Register.
    let mut other = Pair::open();
    assert_eq!(other.give_client(&frame), Err(ClientError::OutOfOrder));
}

#[test]
fn a_connection_takes_two_kilobytes_at_most() {
    assert!(size_of::<ServerConnection>() <= 2_048, "{} bytes", size_of::<ServerConnection>());
    assert!(size_of::<weft_core::control::ClientConnection>() <= 2_048);
}
