//! A connection as it should go.

use weft_core::control::{
    ClientRecord, Delivery, Revision, ServerRecord,
    record::{Endpoint, Endpoints, LookupResult, UpTo},
};

use proptest::prelude::*;
use weft_core::{control::NetworkId, crypto::RustCrypto};

use crate::{pair::Pair, samples};

#[test]
fn a_node_registers_and_both_sides_exchange_records() {
    let mut pair = Pair::registered();
    let endpoints = [Endpoint("192.0.2.1:41641".parse().unwrap()), Endpoint("[2001:db8::1]:41641".parse().unwrap())];
    let sent = Endpoints { local: (&endpoints).into() };
    let frame = pair.client_frame(&sent.into());
    assert_eq!(pair.give_server(&frame), Ok(Some(ClientRecord::Endpoints(sent))));

    let sent = LookupResult { request: 9, id: None };
    let frame = pair.server_frame(&sent.into());
    assert_eq!(pair.give_client(&frame), Ok(Some(ServerRecord::LookupResult(sent))));
}

#[test]
fn a_node_resumes_from_the_revision_that_it_sent() {
    let held = Revision { epoch: 1, number: 10 };
    let mut pair = Pair::registered_as(Delivery::Whole, Some(held));
    let frame = pair.server_frame(&UpTo { revision: Revision { number: 12, ..held } }.into());
    assert!(pair.give_client(&frame).is_ok());
}

#[test]
fn a_server_takes_every_record_of_a_node_however_the_stream_is_cut() {
    let records = || samples::from_nodes().into_iter().skip(1).flat_map(|(_, records)| records);
    for cut in [1, 2, 19, 300, 10_000] {
        let mut pair = Pair::registered();
        let stream: Vec<u8> = records().flat_map(|record| pair.client_frame(&record)).collect();
        let mut expected = records();
        for mut part in stream.chunks(cut) {
            while let Some(record) = pair.server.receive::<RustCrypto>(&mut part, pair.now).unwrap() {
                assert_eq!(Some(record), expected.next());
            }
            assert!(part.is_empty());
        }
        assert_eq!(expected.next(), None);
    }
}

#[test]
fn the_network_is_the_servers_to_name() {
    let mut pair = Pair::open();
    let register = pair.register(None);
    let frame = pair.client_frame(&register.into());
    pair.give_server(&frame).unwrap();
    let mut out = [0; 1_042];
    let answer = crate::pair::registered(Delivery::Whole).into();
    assert!(pair.server.send::<RustCrypto>(NetworkId::UNKNOWN, &answer, &mut out).is_err());
    assert!(!pair.server.is_registered());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_node_takes_every_record_however_the_stream_is_cut(
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 1..12),
        cuts in proptest::collection::vec(1usize..400, 1..40),
    ) {
        // Those that may come at any time.
        let records: Vec<_> = samples::from_servers()
            .into_iter()
            .filter(|(name, _)| matches!(&name[..3], "065" | "066" | "067" | "068" | "072" | "073" | "074" | "075"))
            .flat_map(|(_, records)| records)
            .collect();
        let mut pair = Pair::registered();
        let sent: Vec<_> = picks.iter().map(|pick| pick.get(&records)).collect();
        let stream: Vec<u8> = sent.iter().flat_map(|record| pair.server_frame(record)).collect();
        let mut rest = &stream[..];
        let mut expected = sent.iter();
        for cut in cuts.iter().cycle() {
            let (mut part, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            while let Some(record) = pair.client.receive::<RustCrypto>(&mut part, pair.now).unwrap() {
                prop_assert_eq!(Some(&&record), expected.next());
            }
            prop_assert!(part.is_empty());
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(expected.next().is_none());
    }
}
