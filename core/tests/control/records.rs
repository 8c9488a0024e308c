//! Records as bytes: nothing that comes in makes a reader fail in any other way than by saying so.

use proptest::prelude::*;
use weft_core::control::{
    ClientRecord, ErrorCode, NetworkId, Retry, ServerRecord,
    record::{List, Text, peek},
    upgrade::ResponseParser,
};

use crate::{pair::NETWORK, samples};

fn encoded() -> Vec<Vec<u8>> {
    let mut out = [0; 1024];
    let mut all = Vec::new();
    for record in samples::from_nodes().into_iter().flat_map(|(_, records)| records) {
        let len = record.encode(NetworkId::UNKNOWN, &mut out).unwrap();
        all.push(out[..len].to_vec());
    }
    for record in samples::from_servers().into_iter().flat_map(|(_, records)| records) {
        let len = record.encode(NETWORK, &mut out).unwrap();
        all.push(out[..len].to_vec());
    }
    all
}

#[test]
fn a_record_cut_anywhere_is_malformed() {
    for record in encoded() {
        for len in 0..record.len() {
            assert!(ClientRecord::decode(&record[..len]).is_err() && ServerRecord::decode(&record[..len]).is_err());
        }
    }
}

#[test]
fn a_record_that_does_not_fit_is_refused_at_every_length() {
    for (_, records) in samples::from_servers() {
        for record in records {
            let mut out = [0; 1024];
            let len = record.encode(NETWORK, &mut out).unwrap();
            for room in 0..len {
                assert!(record.encode(NETWORK, &mut out[..room]).is_err());
            }
        }
    }
}

#[test]
fn every_record_is_far_below_the_limit() {
    let longest = encoded().iter().map(Vec::len).max().unwrap();
    assert!(longest < 256, "{longest} bytes, of 1024");
}

#[test]
fn a_peer_with_the_longest_names_fits() {
    let (name, tag) = ("n".repeat(63), format!("tag:{}", "t".repeat(59)));
    let tags = [Text::new(&tag).unwrap(); 8];
    let user = "u".repeat(64);
    let mut peer = samples::peer();
    (peer.name, peer.user, peer.tags) = (Text::new(&name).unwrap(), Text::new(&user), (&tags).into());
    let mut out = [0; 1024];
    assert!(ServerRecord::from(peer).encode(NETWORK, &mut out).unwrap() < 1024);
}

#[test]
fn a_text_has_no_control_characters() {
    assert_eq!(Text::new("a\u{1b}[2J"), None);
    assert_eq!(Text::new("line\nline"), None);
    assert_eq!(Text::new("\u{9b}31m"), None);
    assert_eq!(Text::cut("fine\u{1b}[2J"), Text::new("fine").unwrap());
    // A Health whose sentence has an escape in it.
    assert!(ServerRecord::decode(&hex::decode("83184a07a200010163611b62").unwrap()).is_err());
    assert!(ServerRecord::decode(&hex::decode("83184a07a200010163612062").unwrap()).is_ok());
}

#[test]
fn the_class_of_a_code_is_known_even_where_the_code_is_not() {
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_number(code.number()), *code);
    }
    assert_eq!(ErrorCode::from_number(399), ErrorCode::Other(399));
    let class = |number| ErrorCode::from_number(number).retry();
    assert_eq!([150, 250, 350, 450].map(class), [Retry::Later, Retry::Never, Retry::NewKey, Retry::Upgrade]);
    assert_eq!([0, 999, u16::MAX].map(class), [Retry::Later; 3]);
}

#[test]
fn a_list_says_how_many_items_it_has() {
    let items = [1u32, 2, 3];
    assert_eq!(List::from(&items).len(), 3);
    assert!(List::<u32>::EMPTY.is_empty());
    // A Watch that announces 2^63 ids.
    assert!(ClientRecord::decode(&hex::decode("831407a1009b800000000000000001").unwrap()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (peek(&bytes), ClientRecord::decode(&bytes), ServerRecord::decode(&bytes));
    }

    #[test]
    fn altered_records_are_read_or_refused(which in any::<prop::sample::Index>(), edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let records = encoded();
        let mut bytes = which.get(&records).clone();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok((network, Some(record))) = ClientRecord::decode(&bytes) {
            let mut out = [0; 2048];
            let len = record.encode(network, &mut out).unwrap();
            let again = ClientRecord::decode(&out[..len]).unwrap();
            prop_assert_eq!(again, (network, Some(record)));
        }
        if let Ok((network, Some(record))) = ServerRecord::decode(&bytes) {
            let mut out = [0; 2048];
            let len = record.encode(network, &mut out).unwrap();
            let again = ServerRecord::decode(&out[..len]).unwrap();
            prop_assert_eq!(again, (network, Some(record)));
        }
    }

    #[test]
    fn any_answer_is_read_or_refused(text in "(HTTP/1.1 )?[0-9]{0,4}[ -~]{0,20}\r\n([a-zA-Z-]{0,10}: ?[ -~]{0,10}\r\n){0,4}(\r\n)?[ -~]{0,20}") {
        let mut parser = ResponseParser::new();
        let _ = parser.read(&mut text.as_bytes());
        let _ = parser.sentence();
    }
}
