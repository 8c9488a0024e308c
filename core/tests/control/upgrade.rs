//! The HTTP upgrade: answers as servers and proxies give them, and what somebody on the way can do to them.

use weft_core::{
    control::{
        ClientConnection, ClientError, ErrorCode, ServerConnection, ServerError, VERSIONS,
        upgrade::{Refusal, Response, ResponseError, ResponseParser, UpgradeRefusal, VersionRange, negotiate},
    },
    crypto::{RustCrypto, dh::X25519},
    keys::{ServerKey, ServerSecret},
    time::Instant,
};

use crate::rng::TestRng;

use crate::pair::{client, client_steps, client_transmit, server_key, server_steps, server_transmit, upgrade};

const NOW: Instant = Instant::from_secs(1);

fn other_key() -> ServerKey {
    ServerSecret::from_bytes([0x52; 32]).public::<X25519>()
}

fn key_header(key: &ServerKey) -> String {
    key.to_string().strip_prefix(ServerKey::PREFIX).unwrap().to_owned()
}

/// A client that sent its request, and the request.
fn requested() -> (ClientConnection, String) {
    let mut client = client(server_key(), NOW, 1);
    let request = String::from_utf8(client_transmit(&mut client, NOW)).unwrap();
    (client, request)
}

#[test]
fn an_answer_is_read_however_it_is_cut_and_whatever_a_proxy_adds() {
    let answer = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nServer: proxy\r\nSet-Cookie: {}\r\nX-Odd: \u{fc}\r\n\
         UPGRADE: Weft-Control\r\nconnection: keep-alive, upgrade\r\nweft-version:1 \r\n\r\n",
        "c".repeat(3_000)
    );
    for cut in [1, 2, 3, 7, 100, answer.len()] {
        let mut parser = ResponseParser::new();
        let mut responses = Vec::new();
        for mut part in answer.as_bytes().chunks(cut) {
            while !part.is_empty() {
                responses.extend(parser.read(&mut part).unwrap());
            }
        }
        assert_eq!(responses, [Response::Switched(1)], "in parts of {cut}");
    }
}

#[test]
fn bytes_after_the_answer_are_left_for_the_handshake() {
    let answer = b"HTTP/1.1 101 S\r\nUpgrade: weft-control\r\nWeft-Version: 1\r\n\r\n\x00\x30rest";
    let mut input = &answer[..];
    assert_eq!(ResponseParser::new().read(&mut input), Ok(Some(Response::Switched(1))));
    assert_eq!(input, b"\x00\x30rest");
}

#[test]
fn what_is_no_answer_of_a_control_server_is_refused() {
    let read = |answer: &str| ResponseParser::new().read(&mut answer.as_bytes());
    for answer in [
        "SSH-2.0-OpenSSH_9\r\n",
        "\r\n",
        "HTTP/1.0 101 Switching Protocols\r\n",
        "HTTP/1.1 abc\r\n",
        "HTTP/1.1 1010\r\n",
        "HTTP/1.1 101 S\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nWeft-Version: 1\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: weft-control\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: weft-control\r\nWeft-Version: 01\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: weft-control\r\nWeft-Version: 1-1\r\n\r\n",
    ] {
        assert_eq!(read(answer), Err(ResponseError::NotThisProtocol), "{answer:?}");
    }
    let endless = format!("HTTP/1.1 101 S\r\n{}", "X: y\r\n".repeat(2_000));
    assert_eq!(read(&endless), Err(ResponseError::TooLong));
    assert_eq!(read(&"a".repeat(10_000)), Err(ResponseError::TooLong));
}

#[test]
fn a_refusal_has_its_code_and_its_sentence() {
    let mut parser = ResponseParser::new();
    let answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 12\r\n\r\n101 Too busythis is not part of it";
    let refusal = Refusal { status: 503, code: Some(ErrorCode::Busy) };
    assert_eq!(parser.read(&mut &answer[..]), Ok(Some(Response::Refused(refusal))));
    assert_eq!(parser.sentence().unwrap(), "Too busy");

    let mut parser = ResponseParser::new();
    let answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 13\r\n\r\n<html>\u{1b}[31m";
    let refusal = Refusal { status: 502, code: None };
    assert_eq!(parser.read(&mut answer.as_bytes()), Ok(None), "the body is not whole");
    assert_eq!(parser.read(&mut &b"  "[..]), Ok(Some(Response::Refused(refusal))));

    let mut parser = ResponseParser::new();
    let answer = format!("HTTP/1.1 400 No\r\nContent-Length: 100000\r\n\r\n200 {}", "\u{e9}".repeat(300));
    assert!(matches!(parser.read(&mut answer.as_bytes()), Ok(Some(Response::Refused(_)))));
    assert!(parser.sentence().unwrap().as_str().chars().all(|c| c == '\u{e9}'));
}

#[test]
fn a_version_has_one_spelling() {
    assert_eq!(VersionRange::parse("1-12"), Some(VersionRange { min: 1, max: 12 }));
    for text in ["", "1", "-", "1-", "-1", "01-2", "1-02", "2-1", "0-1", "1-70000", "+1-2", "1 -2", "1-2-3", "a-b"] {
        assert_eq!(VersionRange::parse(text), None, "{text}");
    }
}

#[test]
fn a_node_too_old_or_too_new_is_told_so() {
    let key = key_header(&server_key());
    let refusal = |versions: &str| negotiate(Some(versions), Some(&key), &[server_key()]).unwrap_err();
    let newer = format!("{}-{}", VERSIONS.max + 1, VERSIONS.max + 3);
    assert_eq!(refusal(&newer), UpgradeRefusal::ServerTooOld);
    assert_eq!(refusal("1-0"), UpgradeRefusal::BadRequest);
    assert_eq!(UpgradeRefusal::NodeTooOld.status(), 426);
    assert_eq!(UpgradeRefusal::NodeTooOld.to_string(), "400 This node is too old for its server: upgrade the node.");

    let (mut client, _) = requested();
    let body = UpgradeRefusal::NodeTooOld.to_string();
    let answer =
        format!("HTTP/1.1 426 Upgrade Required\r\nWeft-Version: 2-3\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let refusal = Refusal { status: 426, code: Some(ErrorCode::NodeTooOld) };
    let error = client.receive::<RustCrypto>(&mut answer.as_bytes(), NOW).unwrap_err();
    assert_eq!(error, ClientError::Refused(refusal));
    assert_eq!(client.refusal().unwrap(), "This node is too old for its server: upgrade the node.");
}

#[test]
fn a_server_with_another_key_says_so() {
    let (mut client, request) = requested();
    let (answer, decision) = upgrade(request.as_bytes(), &[other_key()]);
    assert_eq!(decision, Err(UpgradeRefusal::UnknownServerKey));
    let error = client.receive::<RustCrypto>(&mut &answer[..], NOW).unwrap_err();
    assert_eq!(error, ClientError::Refused(Refusal { status: 421, code: Some(ErrorCode::UnknownServerKey) }));
    assert!(client.refusal().unwrap().as_str().starts_with("This server has another key than the node expects"));
    assert_eq!(client.receive::<RustCrypto>(&mut &b"x"[..], NOW), Err(ClientError::Closed));
}

#[test]
fn a_server_that_poses_as_another_is_found_out() {
    let (mut client, _) = requested();
    let answer = b"HTTP/1.1 101 S\r\nUpgrade: weft-control\r\nWeft-Version: 1\r\n\r\n";
    assert_eq!(client.receive::<RustCrypto>(&mut &answer[..], NOW), Ok(None));
    client_steps(&mut client).unwrap();
    client_transmit(&mut client, NOW);
    let message_2 = [&[0, 48][..], server_key().as_bytes(), &[0; 16]].concat();
    assert_eq!(client.receive::<RustCrypto>(&mut &message_2[..], NOW), Ok(None));
    assert_eq!(client_steps(&mut client), Err(ClientError::ServerNotAuthentic));
    assert!(!client.is_open());
}

#[test]
fn a_server_answers_to_each_of_its_keys() {
    let keys = [other_key(), server_key()];
    let (_, request) = requested();
    assert_eq!(upgrade(request.as_bytes(), &keys).1.unwrap().server, server_key());
}

#[test]
fn a_stripped_version_is_refused_by_name() {
    let (_, request) = requested();
    let stripped = request.replace("Weft-Version: 1-1\r\n", "");
    assert_eq!(upgrade(stripped.as_bytes(), &[server_key()]).1, Err(UpgradeRefusal::VersionMissing));
    let stripped: String =
        request.split_inclusive("\r\n").filter(|line| !line.starts_with("Weft-Server-Key")).collect();
    assert_eq!(upgrade(stripped.as_bytes(), &[server_key()]).1, Err(UpgradeRefusal::BadRequest));
}

#[test]
fn an_altered_version_range_fails_the_handshake_with_an_error_of_its_own() {
    let (mut client, request) = requested();
    let altered = request.replace("Weft-Version: 1-1", "Weft-Version: 1-2");
    let (answer, accepted) = upgrade(altered.as_bytes(), &[server_key()]);
    let mut server = ServerConnection::new(&accepted.unwrap(), NOW, &mut TestRng::new(2));
    assert_eq!(client.receive::<RustCrypto>(&mut &answer[..], NOW), Ok(None));
    client_steps(&mut client).unwrap();
    let message_1 = client_transmit(&mut client, NOW);
    assert_eq!(server.receive::<RustCrypto>(&mut &message_1[..], NOW), Ok(None));
    assert_eq!(server_steps(&mut server), Err(ServerError::HandshakeFailed));
    let refusal = server_transmit(&mut server);
    assert_eq!(refusal, [0, 1, 1]);
    assert_eq!(client.receive::<RustCrypto>(&mut &refusal[..], NOW), Err(ClientError::HandshakeRefused));
}

#[test]
fn an_altered_choice_of_version_ends_the_connection() {
    let (mut client, _) = requested();
    let answer = b"HTTP/1.1 101 S\r\nUpgrade: weft-control\r\nWeft-Version: 2\r\n\r\n";
    assert_eq!(client.receive::<RustCrypto>(&mut &answer[..], NOW), Err(ClientError::VersionNotOffered));
}

#[test]
fn a_malformed_server_key_is_refused() {
    let key = key_header(&server_key());
    for bad in ["", "00", &key[1..], &key.to_uppercase(), &format!("{key}0"), &format!("+{}", &key[1..])] {
        let refusal = negotiate(Some("1-1"), Some(bad), &[server_key()]);
        assert_eq!(refusal, Err(UpgradeRefusal::BadRequest), "{bad}");
    }
}
