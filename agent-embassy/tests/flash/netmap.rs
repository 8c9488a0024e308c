//! The netmap: old or new after a cut, and never taken for whole where it is not.

use embassy_futures::block_on;
use weft_core::{
    control::{
        Delivery, NetworkId, NodeId, Revision, ServerRecord,
        record::{Address, List, Peer, SelfInfo, Text, UpTo},
    },
    keys::NodeKey,
    node::{ContactSlot, IdEntry, Node, NodeConfig, NodeStorage, NodeTables, PeerSlot},
    time::Instant,
    wireguard::storage::{Borrowed, FixedTables, InPlace, Table},
};

use crate::{device::Device, power_cut::cut_everywhere};

const NETWORK: NetworkId = NetworkId(7);

pub(crate) struct TestStorage;

impl NodeStorage for TestStorage {
    type Device = Borrowed<'static, 8, 256>;
    type Peers = Table<'static, PeerSlot>;
    type Ids = Table<'static, IdEntry>;
    type Contacts = Table<'static, ContactSlot>;
}

pub(crate) type TestNode = Node<TestStorage>;

fn table<T: Default, const N: usize>() -> Table<'static, T> {
    let table: Box<InPlace<T, N>> = Box::new(const { InPlace::EMPTY });
    Box::leak(table).table()
}

fn node() -> TestNode {
    let tables = NodeTables {
        device: Box::leak(Box::new(const { FixedTables::<16, 2, 64, 8, 2, 256, 2, 8>::EMPTY })).tables(),
        peers: table::<_, 16>(),
        ids: table::<_, 24>(),
        contacts: table::<_, 2>(),
    };
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    Node::new(NodeConfig::default(), tables, &mut rng)
}

/// A node whose server told it of these peers, by id and name.
pub(crate) fn knowing(peers: &[(u8, &str)], number: u64) -> TestNode {
    let mut node = node();
    let mut give = |record: ServerRecord<'_>| {
        let mut out = [0; 1_024];
        let len = record.encode(NETWORK, &mut out).unwrap();
        node.restore_netmap_record(&out[..len], Instant::ZERO).unwrap();
    };
    let address = |id: u8| Address(std::net::IpAddr::from([100, 64, 0, id]));
    give(ServerRecord::SelfChanged(SelfInfo {
        id: NodeId(200),
        node_key: NodeKey::from_bytes([200; 32]),
        name: Text::new("sensor").unwrap(),
        addresses: (&[address(200)]).into(),
        domain: Text::new("example").unwrap(),
        delivery: Delivery::Whole,
        key_expiry: None,
        user: None,
        tags: List::EMPTY,
    }));
    for (id, name) in peers {
        give(ServerRecord::PeerUpsert(Peer {
            id: NodeId(u32::from(*id)),
            node_key: NodeKey::from_bytes([*id; 32]),
            name: Text::new(name).unwrap(),
            addresses: (&[address(*id)]).into(),
            os: None,
            user: None,
            tags: List::EMPTY,
            key_expiry: None,
            revision: 1,
        }));
    }
    give(ServerRecord::UpTo(UpTo { revision: Revision { epoch: 1, number } }));
    node
}

/// Names of the peers and number of the revision.
fn netmap(node: &TestNode) -> (Vec<String>, Option<u64>) {
    let mut names: Vec<_> = node.netmap().peers().map(|peer| peer.name().to_owned()).collect();
    names.sort();
    (names, node.netmap().revision().map(|revision| revision.number))
}

fn restored<const W: usize, const R: usize>(device: &mut Device<W, R>) -> (TestNode, bool) {
    let (mut store, mut node) = (device.boot().unwrap().store, node());
    let whole = block_on(store.restore_netmap(&mut node, Instant::ZERO)).unwrap();
    (node, whole)
}

fn keep<const W: usize, const R: usize>(device: &mut Device<W, R>, node: &TestNode) {
    block_on(device.boot().unwrap().store.keep_netmap(&|at, out| node.netmap_record(at, out))).unwrap();
}

#[test]
fn a_netmap_comes_back_with_its_revision() {
    let mut device = Device::<4, 4>::provisioned(1);
    let none = restored(&mut device);
    assert!(!none.1 && netmap(&none.0) == (vec![], None));
    let node = knowing(&[(1, "laptop"), (2, "nas")], 5);
    keep(&mut device, &node);
    let (back, whole) = restored(&mut device);
    assert!(whole);
    assert_eq!(netmap(&back), netmap(&node));
    assert_eq!(back.netmap().own().unwrap().name(), "sensor");
}

#[test]
fn a_removed_peer_stays_away() {
    let mut device = Device::<4, 4>::provisioned(1);
    keep(&mut device, &knowing(&[(1, "laptop"), (2, "nas"), (3, "pi")], 5));
    keep(&mut device, &knowing(&[(1, "laptop")], 6));
    let (back, whole) = restored(&mut device);
    assert!(whole);
    assert_eq!(netmap(&back), (vec!["laptop".to_owned()], Some(6)));
}

#[test]
fn what_is_unchanged_is_not_written() {
    let mut device = Device::<4, 4>::provisioned(1);
    let mut store = device.boot().unwrap().store;
    let writes = |store: &mut _, node: &TestNode| {
        let before = device.chip.accesses();
        block_on(weft_embassy::flash::Store::keep_netmap(store, &|at, out| node.netmap_record(at, out))).unwrap();
        device.chip.accesses() - before
    };
    let whole = writes(&mut store, &knowing(&[(1, "laptop"), (2, "nas"), (3, "pi")], 5));
    assert_eq!(writes(&mut store, &knowing(&[(1, "laptop"), (2, "nas"), (3, "pi")], 5)), 0);
    let one = writes(&mut store, &knowing(&[(1, "laptop"), (2, "store"), (3, "pi")], 6));
    assert!(one > 0 && one < whole, "{one} of {whole}");
}

#[test]
fn a_cut_leaves_the_old_netmap_the_new_one_or_one_without_a_revision() {
    let mut device = Device::<4, 4>::provisioned(1);
    let old = knowing(&[(1, "laptop"), (2, "nas"), (3, "pi")], 5);
    let new = knowing(&[(1, "laptop"), (4, "store")], 8);
    keep(&mut device, &old);
    let (old, wanted) = (netmap(&old), netmap(&new));
    cut_everywhere(
        &device,
        |device| {
            let mut store = device.boot()?.store;
            Ok(block_on(store.keep_netmap(&|at, out| new.netmap_record(at, out)))?)
        },
        |device, what| {
            let (back, whole) = restored(device);
            let back = netmap(&back);
            assert_eq!(whole, back.1.is_some(), "{what}");
            assert!(!whole || back == old || back == wanted, "{what}: {back:?}");
        },
    );
}
