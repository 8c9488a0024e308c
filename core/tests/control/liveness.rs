//! Time: keepalive, dead connections, and bytes that drip.

use core::time::Duration;

use weft_core::{
    control::{
        ClientError, ClientRecord, ErrorCode, MAX_FRAME, SendError, ServerError, ServerRecord,
        client::{PING_AFTER, PONG_TIMEOUT},
        record::{Error, LookupResult, Ping, Text},
        server,
    },
    crypto::RustCrypto,
};

use crate::pair::{NETWORK, Pair, client_transmit, server_transmit};

#[test]
fn an_idle_connection_lives_for_a_day_on_less_than_a_megabyte() {
    // What a frame costs beyond its own bytes: IPv6 and TCP with time stamps, and an acknowledgement of that size.
    const AROUND_A_FRAME: usize = 2 * 72;

    let mut pair = Pair::registered();
    let end = pair.now + Duration::from_secs(24 * 3_600);
    let mut traffic = 0;
    while pair.now < end {
        let due = pair.client.poll_timeout().unwrap();
        assert!(due > pair.now, "time goes on");
        pair.now = due;
        assert!(pair.now < pair.server.poll_timeout(), "the server does not lose patience");
        pair.client.handle_timeout(pair.now).unwrap();
        assert!(pair.client.poll_timeout().unwrap() > pair.now, "a deadline that was handled is not due again");
        let ping = client_transmit(&mut pair.client, pair.now);
        assert_eq!(pair.give_server(&ping), Ok(None));
        let pong = server_transmit(&mut pair.server);
        assert_eq!(pair.give_client(&pong), Ok(None));
        traffic += ping.len() + pong.len() + 2 * AROUND_A_FRAME;
    }
    assert!((100_000..500_000).contains(&traffic), "{traffic} bytes a day");
}

#[test]
fn a_node_pings_a_busy_server_too_so_that_the_server_sees_it() {
    let mut pair = Pair::registered();
    for request in 0..7 {
        pair.now = pair.now + Duration::from_secs(10);
        pair.client.handle_timeout(pair.now).unwrap();
        let frame = pair.server_frame(&LookupResult { request, id: None }.into());
        assert!(pair.give_client(&frame).unwrap().is_some());
    }
    assert!(!client_transmit(&mut pair.client, pair.now).is_empty(), "the node sent nothing for 60 s");
}

#[test]
fn a_silent_server_is_left() {
    let mut pair = Pair::registered();
    let quiet_since = pair.now;
    pair.now = quiet_since + PING_AFTER;
    assert_eq!(pair.client.handle_timeout(pair.now), Ok(()));
    assert!(!client_transmit(&mut pair.client, pair.now).is_empty());
    // Bytes that are no whole frame do not count.
    assert_eq!(pair.give_client(&[0]), Ok(None));
    assert_eq!(pair.client.poll_timeout(), Some(pair.now + PONG_TIMEOUT));
    assert_eq!(pair.client.handle_timeout(pair.now + PONG_TIMEOUT), Err(ClientError::ServerSilent));
    assert_eq!(pair.client.poll_timeout(), None);
}

#[test]
fn a_server_that_never_registers_the_node_is_left() {
    let mut pair = Pair::open();
    let due = pair.client.poll_timeout().unwrap();
    assert_eq!(pair.client.handle_timeout(due), Err(ClientError::SetupTimeout));
}

#[test]
fn a_connection_that_drips_does_not_outlive_its_set_up() {
    let mut pair = Pair::upgraded();
    let began = pair.now;
    crate::pair::client_steps(&mut pair.client).unwrap();
    let message = client_transmit(&mut pair.client, pair.now);
    for byte in message.chunks(1) {
        pair.now = pair.now + Duration::from_secs(1);
        if pair.server.handle_timeout(pair.now).is_err() {
            break;
        }
        assert_eq!(pair.give_server(byte), Ok(None));
    }
    assert_eq!(pair.now, began + server::SETUP_TIMEOUT);
    assert_eq!(pair.give_server(&[0]), Err(ServerError::Closed));
}

#[test]
fn a_registered_node_that_drips_is_gone_when_its_time_is_up() {
    let mut pair = Pair::registered();
    let last_frame = pair.now;
    let mut out = [0; MAX_FRAME];
    let len = pair.client.send::<RustCrypto>(&Ping { token: 1 }.into(), &mut out, pair.now).unwrap();
    for byte in out[..len - 1].chunks(1) {
        pair.now = pair.now + Duration::from_secs(6);
        assert_eq!(pair.server.handle_timeout(pair.now), Ok(()));
        assert_eq!(pair.give_server(byte), Ok(None));
    }
    pair.now = last_frame + server::SILENCE_TIMEOUT;
    assert_eq!(pair.server.handle_timeout(pair.now), Err(ServerError::TooSlow));
    assert_eq!(ServerError::TooSlow.code(), Some(ErrorCode::TooSlow));
}

#[test]
fn a_server_finds_out_whether_a_connection_is_alive() {
    let mut pair = Pair::registered();
    let ping = pair.server_frame(&Ping { token: 77 }.into());
    assert_eq!(pair.give_client(&ping), Ok(None));
    let pong = client_transmit(&mut pair.client, pair.now);
    assert!(matches!(pair.give_server(&pong), Ok(Some(ClientRecord::Pong(pong))) if pong.token == 77));
}

#[test]
fn an_error_is_the_last_record() {
    let mut pair = Pair::registered();
    let sentence = Text::new("The server is stopping.").unwrap();
    let error = Error { code: ErrorCode::ShuttingDown, sentence, retry_after: None };
    let frame = pair.server_frame(&error.into());
    let mut out = [0; MAX_FRAME];
    let after = pair.server.send::<RustCrypto>(NETWORK, &Ping { token: 1 }.into(), &mut out);
    assert_eq!(after, Err(SendError::NotNow));
    assert_eq!(pair.give_client(&frame), Ok(Some(ServerRecord::Error(error))));
    assert_eq!(pair.give_client(&[0]), Err(ClientError::Closed));
    assert_eq!(pair.client.poll_timeout(), None);
}
