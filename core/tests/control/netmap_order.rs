//! The order in which a netmap may come, as the node's side checks it.

use weft_core::control::{
    ClientError, Delivery, Revision, ServerRecord,
    record::{PeerRemove, SnapshotBegin, SnapshotEnd, UpTo},
};

use crate::{
    pair::{Pair, registered},
    samples,
};

const EPOCH: u64 = 1;

fn revision(number: u64) -> Revision {
    Revision { epoch: EPOCH, number }
}

fn foreign(number: u64) -> Revision {
    Revision { epoch: 2, number }
}

fn begin(revision: Revision) -> ServerRecord<'static> {
    SnapshotBegin { revision }.into()
}

fn end(revision: Revision) -> ServerRecord<'static> {
    SnapshotEnd { revision }.into()
}

fn up_to(revision: Revision) -> ServerRecord<'static> {
    UpTo { revision }.into()
}

fn upsert() -> ServerRecord<'static> {
    samples::peer().into()
}

fn remove() -> ServerRecord<'static> {
    PeerRemove { id: weft_core::control::NodeId(4), revision: 11 }.into()
}

/// What a node makes of a sequence of records; the error of the first that it does not take.
fn outcome(
    delivery: Delivery,
    resume: Option<Revision>,
    records: impl IntoIterator<Item = ServerRecord<'static>>,
) -> Result<(), ClientError> {
    let mut pair = Pair::registered_as(delivery, resume);
    for record in records {
        let frame = pair.server_frame(&record);
        let taken = pair.give_client(&frame)?;
        assert_eq!(taken, Some(record));
    }
    Ok(())
}

#[test]
fn changes_since_a_revision_are_taken() {
    let records = [upsert(), remove(), up_to(revision(12)), upsert(), up_to(revision(12)), up_to(revision(20))];
    assert_eq!(outcome(Delivery::Whole, Some(revision(10)), records), Ok(()));
}

#[test]
fn a_snapshot_is_taken_with_changes_in_it() {
    let records = [begin(foreign(5)), upsert(), remove(), upsert(), end(foreign(7)), upsert(), up_to(foreign(8))];
    assert_eq!(outcome(Delivery::Whole, Some(revision(10)), records), Ok(()));
    assert_eq!(outcome(Delivery::Whole, None, [begin(revision(0)), end(revision(0))]), Ok(()));
    let twice = [begin(revision(1)), end(revision(1)), begin(foreign(1)), end(foreign(1))];
    assert_eq!(outcome(Delivery::Whole, None, twice), Ok(()));
}

#[test]
fn a_snapshot_out_of_order_ends_the_connection() {
    for records in [
        vec![end(revision(10))],
        vec![begin(revision(10)), begin(revision(10))],
        vec![begin(revision(10)), end(revision(9))],
        vec![begin(revision(10)), end(foreign(10))],
        vec![begin(revision(10)), up_to(revision(10))],
        vec![begin(revision(10)), end(revision(10)), end(revision(10))],
    ] {
        assert_eq!(outcome(Delivery::Whole, None, records), Err(ClientError::OutOfOrder));
    }
}

#[test]
fn a_revision_does_not_go_back_and_does_not_change_its_epoch_without_a_snapshot() {
    for records in [vec![up_to(revision(9))], vec![up_to(revision(11)), up_to(revision(10))], vec![up_to(foreign(11))]]
    {
        assert_eq!(outcome(Delivery::Whole, Some(revision(10)), records), Err(ClientError::OutOfOrder));
    }
    assert_eq!(outcome(Delivery::Whole, None, [up_to(revision(1))]), Err(ClientError::OutOfOrder));
}

#[test]
fn on_demand_the_epoch_may_change_since_the_node_names_each_peer() {
    assert_eq!(outcome(Delivery::OnDemand, Some(revision(10)), [upsert(), up_to(foreign(1))]), Ok(()));
    assert_eq!(outcome(Delivery::OnDemand, None, [up_to(foreign(1)), up_to(foreign(1))]), Ok(()));
    let back = [up_to(foreign(2)), up_to(foreign(1))];
    assert_eq!(outcome(Delivery::OnDemand, None, back), Err(ClientError::OutOfOrder));
}

#[test]
fn delivery_may_change_while_connected() {
    let mut node = registered(Delivery::Whole).node;
    node.delivery = Delivery::OnDemand;
    let records = [node.into(), up_to(foreign(1))];
    assert_eq!(outcome(Delivery::Whole, Some(revision(10)), records), Ok(()));
}

#[test]
fn a_node_is_registered_once() {
    let mut pair = Pair::registered();
    let mut text = [0; 1024];
    let again = ServerRecord::from(registered(Delivery::Whole));
    let len = again.encode(crate::pair::NETWORK, &mut text).unwrap();
    let mut out = [0; 1042];
    let len = pair.server.send_encoded::<weft_core::crypto::RustCrypto>(&text[..len], &mut out).unwrap();
    assert_eq!(pair.give_client(&out[..len]), Err(ClientError::OutOfOrder));
}
