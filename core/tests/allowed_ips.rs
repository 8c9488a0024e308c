//! Cryptokey routing against two oracles: a list searched from end to end, and the crate `prefix-trie`.

use std::{collections::BTreeMap, net::IpAddr};

use prefix_trie::PrefixMap;
use proptest::prelude::*;
use weft_core::{
    ip::IpPrefix,
    wireguard::allowed_ips::{AllowedIpNode, AllowedIps, AllowedIpsFull},
};

type Table<const N: usize> = AllowedIps<[AllowedIpNode<u8>; N]>;

fn table<const N: usize>() -> Table<N> {
    AllowedIps::new([AllowedIpNode::FREE; N])
}

fn prefix(text: &str) -> IpPrefix {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_longest_prefix_wins_in_whatever_order_they_came() {
    let prefixes = [
        ("192.168.4.0/24", 1),
        ("192.168.4.4/32", 2),
        ("192.168.0.0/16", 3),
        ("192.95.5.64/27", 4),
        ("0.0.0.0/0", 5),
        ("10.1.0.0/27", 6),
        ("10.1.0.4/30", 7),
        ("2607:5300:60:6b00::/64", 3),
        ("2607:5300:60:6b00::c05f:543/128", 4),
        ("::/0", 5),
        ("64:ff9b::/96", 6),
    ];
    let expected = [
        ("192.168.4.20", 1),
        ("192.168.4.4", 2),
        ("192.168.200.182", 3),
        ("192.95.5.68", 4),
        ("192.95.5.96", 5),
        ("10.1.0.20", 6),
        ("10.1.0.7", 7),
        ("10.1.0.8", 6),
        ("2607:5300:60:6b00::c05f:543", 4),
        ("2607:5300:60:6b00::c02e:1ee", 3),
        ("2607:5300:60:6b01::c05f:543", 5),
        ("64:ff9b::a00:1", 6),
    ];
    for rotation in 0..prefixes.len() {
        let mut table = table::<32>();
        for index in 0..prefixes.len() {
            let (text, owner) = prefixes[(index + rotation) % prefixes.len()];
            assert_eq!(table.insert(prefix(text), owner), Ok(None));
        }
        for (address, owner) in expected {
            assert_eq!(table.lookup(ip(address)), Some(owner), "{address}, rotation {rotation}");
        }
    }
}

#[test]
fn families_are_apart() {
    let mut table = table::<4>();
    table.insert(prefix("0.0.0.0/0"), 1).unwrap();
    assert_eq!(table.lookup(ip("::")), None);
    assert_eq!(table.lookup(ip("::ffff:1.2.3.4")), None);
    assert_eq!(table.lookup(ip("1.2.3.4")), Some(1));
}

#[test]
fn a_prefix_moves_to_its_new_owner() {
    let mut table = table::<8>();
    table.insert(prefix("10.0.0.0/8"), 1).unwrap();
    table.insert(prefix("10.1.0.0/16"), 1).unwrap();
    assert_eq!(table.insert(prefix("10.1.0.0/16"), 2), Ok(Some(1)));
    assert_eq!(table.lookup(ip("10.1.2.3")), Some(2));
    assert_eq!(table.prefixes_of(1).collect::<Vec<_>>(), [prefix("10.0.0.0/8")]);
    assert_eq!(table.prefixes_of(2).collect::<Vec<_>>(), [prefix("10.1.0.0/16")]);
}

#[test]
fn removing_a_peer_uncovers_what_lay_under_it() {
    let mut table = table::<16>();
    for (text, owner) in [("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("10.1.0.0/16", 3), ("10.1.1.0/24", 2), ("::/1", 2)] {
        table.insert(prefix(text), owner).unwrap();
    }
    table.remove_owner(2);
    assert_eq!(table.prefixes_of(2).count(), 0);
    assert_eq!(table.lookup(ip("10.1.1.1")), Some(3));
    assert_eq!(table.lookup(ip("10.2.1.1")), Some(1));
    assert_eq!(table.lookup(ip("::1")), None);
    assert_eq!(table.remove(prefix("10.0.0.0/8")), None);
    assert_eq!(table.remove(prefix("10.1.0.0/16")), Some(3));
    assert_eq!(table.lookup(ip("10.1.1.1")), Some(1));
}

#[test]
fn a_chain_of_every_length_can_be_built_and_taken_down() {
    let mut table = table::<129>();
    let address = ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    for len in 0..=128 {
        table.insert(IpPrefix::new(address, len).unwrap(), len).unwrap();
        assert_eq!(table.lookup(address), Some(len));
    }
    for len in (0..=128).rev() {
        assert_eq!(table.lookup(address), Some(len));
        assert_eq!(table.remove(IpPrefix::new(address, len).unwrap()), Some(len));
    }
    assert_eq!(table.lookup(address), None);
}

#[test]
fn a_full_table_refuses_and_stays_as_it_was() {
    let mut table = table::<2>();
    table.insert(prefix("10.0.0.1/32"), 1).unwrap();
    assert_eq!(table.insert(prefix("10.0.0.2/32"), 2), Err(AllowedIpsFull), "two prefixes that part take three nodes");
    assert_eq!(table.lookup(ip("10.0.0.1")), Some(1));
    assert_eq!(table.lookup(ip("10.0.0.2")), None);
    assert_eq!(table.insert(prefix("10.0.0.0/24"), 2), Ok(None), "the node taken for the refused one is free again");
    assert_eq!(table.insert(prefix("10.0.0.0/16"), 2), Err(AllowedIpsFull));
    assert_eq!(table.insert(prefix("10.0.0.1/32"), 3), Ok(Some(1)), "changing an owner takes no node");
}

/// A prefix in a small corner of the address space, so that prefixes meet, nest and part often.
fn a_prefix() -> impl Strategy<Value = IpPrefix> {
    prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(bits, len)| {
            let bits = bits & 0x0303_0003;
            IpPrefix::new(IpAddr::V4(bits.into()), len).unwrap()
        }),
        (any::<u128>(), 0u8..=128).prop_map(|(bits, len)| {
            let bits = bits & 0x0300_0000_0000_0003_0000_0000_0000_0003;
            IpPrefix::new(IpAddr::V6(bits.into()), len).unwrap()
        }),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    Insert(IpPrefix, u8),
    Remove(IpPrefix),
    RemoveOwner(u8),
}

fn a_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => (a_prefix(), 0u8..6).prop_map(|(prefix, owner)| Change::Insert(prefix, owner)),
        6 => a_prefix().prop_map(Change::Remove),
        1 => (0u8..6).prop_map(Change::RemoveOwner),
    ]
}

fn longest_match(model: &BTreeMap<IpPrefix, u8>, address: IpAddr) -> Option<u8> {
    model.iter().filter(|(prefix, _)| prefix.contains(address)).max_by_key(|(prefix, _)| prefix.len()).map(|(_, v)| *v)
}

/// What `prefix-trie` says; IPv4 in a map of its own.
fn oracle(model: &BTreeMap<IpPrefix, u8>, address: IpAddr) -> Option<u8> {
    let mut v4 = PrefixMap::<(u32, u8), u8>::new();
    let mut v6 = PrefixMap::<(u128, u8), u8>::new();
    for (prefix, owner) in model {
        match prefix.address() {
            IpAddr::V4(address) => drop(v4.insert((address.into(), prefix.len()), *owner)),
            IpAddr::V6(address) => drop(v6.insert((address.into(), prefix.len()), *owner)),
        }
    }
    match address {
        IpAddr::V4(address) => v4.get_lpm(&(address.into(), 32)).map(|(_, owner)| *owner),
        IpAddr::V6(address) => v6.get_lpm(&(address.into(), 128)).map(|(_, owner)| *owner),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn agrees_with_both_oracles_through_any_changes(
        changes in prop::collection::vec(a_change(), 1..120),
        queries in prop::collection::vec(a_prefix(), 20),
    ) {
        let mut table = table::<256>();
        let mut model = BTreeMap::new();
        for change in changes {
            match change {
                Change::Insert(prefix, owner) => {
                    prop_assert_eq!(table.insert(prefix, owner), Ok(model.insert(prefix, owner)));
                }
                Change::Remove(prefix) => prop_assert_eq!(table.remove(prefix), model.remove(&prefix)),
                Change::RemoveOwner(owner) => {
                    table.remove_owner(owner);
                    model.retain(|_, of| *of != owner);
                }
            }
            for query in &queries {
                prop_assert_eq!(table.lookup(query.address()), longest_match(&model, query.address()));
            }
        }
        for query in &queries {
            prop_assert_eq!(table.lookup(query.address()), oracle(&model, query.address()));
        }
        prop_assert_eq!(table.iter().collect::<BTreeMap<_, _>>(), model);
    }

    /// After any changes that end with an empty table, every node can be used again: by prefixes that nest, one each.
    #[test]
    fn nodes_are_given_back(prefixes in prop::collection::btree_set(a_prefix(), 1..16)) {
        let mut table = table::<31>();
        for prefix in &prefixes {
            prop_assert_eq!(table.insert(*prefix, 1), Ok(None));
        }
        let first = *prefixes.first().unwrap();
        prop_assert_eq!(table.insert(first, 2), Ok(Some(1)));
        prop_assert_eq!(table.remove(first), Some(2));
        table.remove_owner(1);
        prop_assert_eq!(table.iter().count(), 0);
        for len in 0..31 {
            let prefix = IpPrefix::new(ip("ffff:ffff::"), len).unwrap();
            prop_assert_eq!(table.insert(prefix, 1), Ok(None), "{}", len);
        }
    }
}
