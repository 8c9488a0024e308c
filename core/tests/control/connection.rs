//! A connection as it should go.

use weft_core::control::{
    ClientRecord, Delivery, Revision, ServerRecord,
    record::{Endpoint, Endpoints, LookupResult, UpTo},
};

use crate::pair::Pair;

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
