use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use rand::{SeedableRng, rngs::StdRng};
use weft_core::{
    ip::IpPrefix,
    keys::NodeKey,
    time::Instant,
    wireguard::{
        allowed_ips::{AllowedIpNode, AllowedIps, AllowedIpsFull},
        constants::REJECT_AFTER_MESSAGES,
        cookie::{CookieChecker, CookieMaker},
        index_table::{IndexTable, IndexTableFull},
        message::{CookieReply, DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader, Initiation, MessageKind, Response},
        replay::ReplayWindow,
    },
};

use super::Input;

/// A datagram is what it is classified as, its fields come back out as they went in, and stamped macs check.
pub(super) fn message(data: &[u8]) {
    let parsed = (Initiation::parse(data), Response::parse(data), CookieReply::parse(data), DataHeader::parse(data));
    let emitted = match (MessageKind::of(data), parsed) {
        (None, (None, None, None, None)) => return,
        (Some(MessageKind::Initiation), (Some(initiation), None, None, None)) => initiation.emit().to_vec(),
        (Some(MessageKind::Response), (None, Some(response), None, None)) => response.emit().to_vec(),
        (Some(MessageKind::CookieReply), (None, None, Some(reply), None)) => return assert_eq!(reply.emit(), data),
        (Some(MessageKind::Data), (None, None, None, Some(header))) => {
            assert!(data.len() >= DATA_OVERHEAD);
            return assert_eq!(header.emit(), data[..DATA_HEADER_LEN]);
        }
        other => panic!("{other:?}"),
    };
    let macs = emitted.len() - 32;
    assert_eq!((emitted.len(), &emitted[..macs]), (data.len(), &data[..macs]));

    let own = NodeKey::from_bytes([7; 32]);
    let source = "192.0.2.1:51820".parse().unwrap();
    let checker = CookieChecker::new(&own);
    let _ = checker.check_mac1(data);
    assert!(!checker.check_mac2(data, source, Instant::ZERO));
    let mut datagram = data.to_vec();
    CookieMaker::new().stamp(&own, &mut datagram, Instant::ZERO);
    assert!(checker.check_mac1(&datagram));
}

/// No counter is accepted twice, and one is refused only for a reason.
pub(super) fn replay(data: &[u8]) {
    let mut input = Input(data);
    let mut window = ReplayWindow::<2>::new();
    let mut accepted = BTreeSet::new();
    while !input.is_empty() {
        let greatest: u64 = accepted.last().copied().unwrap_or(0);
        let counter = match input.byte() % 4 {
            0 => greatest.wrapping_add(u64::from(input.byte())),
            1 => greatest.wrapping_sub(u64::from(input.byte())),
            2 => u64::from_le_bytes(input.bytes()),
            _ => REJECT_AFTER_MESSAGES.wrapping_add(u64::from(input.byte())).wrapping_sub(128),
        };
        let too_old = counter.saturating_add(ReplayWindow::<2>::SIZE) < greatest;
        let expected = counter < REJECT_AFTER_MESSAGES && !too_old && !accepted.contains(&counter);
        assert_eq!(window.check(counter), expected);
        assert_eq!(window.mark(counter), expected);
        if expected {
            accepted.insert(counter);
        }
    }
}

/// The table is a list searched for the longest prefix, and gives its nodes back.
pub(super) fn allowed_ips(data: &[u8]) {
    const NODES: usize = 24;
    let mut input = Input(data);
    let mut table = AllowedIps::new([AllowedIpNode::<u8>::FREE; NODES]);
    let mut model = BTreeMap::<IpPrefix, u8>::new();
    while !input.is_empty() {
        let operation = input.byte();
        let owner = operation >> 5;
        let prefix = any_prefix(&mut input);
        match operation % 4 {
            0 | 1 => match table.insert(prefix, owner) {
                Ok(previous) => assert_eq!(previous, model.insert(prefix, owner)),
                Err(AllowedIpsFull) => assert!(!model.contains_key(&prefix) && model.len() * 2 + 1 > NODES),
            },
            2 => assert_eq!(table.remove(prefix), model.remove(&prefix)),
            _ => {
                table.remove_owner(owner);
                model.retain(|_, of| *of != owner);
            }
        }
        let address = prefix.address();
        let longest =
            model.iter().filter(|(prefix, _)| prefix.contains(address)).max_by_key(|(prefix, _)| prefix.len());
        assert_eq!(table.lookup(address), longest.map(|(_, owner)| *owner));
    }
    assert_eq!(table.iter().collect::<BTreeMap<_, _>>(), model);
}

/// A prefix with few bits that differ, so that prefixes meet.
fn any_prefix(input: &mut Input<'_>) -> IpPrefix {
    let [family, high, low, len] = input.bytes();
    let (high, low) = (high & 7, low & 7);
    let (address, most): (IpAddr, u8) = if family & 1 == 0 {
        ([high << 5, 0, 0, low].into(), 32)
    } else {
        let mut octets = [0; 16];
        octets[0] = high << 5;
        octets[8] = family & 0xc0;
        octets[15] = low;
        (octets.into(), 128)
    };
    IpPrefix::new(address, len % (most + 1)).unwrap()
}

/// The table is a map of distinct indices.
pub(super) fn index_table(data: &[u8]) {
    let mut input = Input(data);
    let mut rng = StdRng::seed_from_u64(u64::from_le_bytes(input.bytes()));
    let mut table = IndexTable::new([None; 16]);
    let mut model = BTreeMap::new();
    while !input.is_empty() {
        let operation = input.byte();
        if operation < 128 {
            match table.insert(operation, &mut rng) {
                Ok(index) => assert_eq!(model.insert(index, operation), None),
                Err(IndexTableFull) => assert_eq!(model.len(), 16),
            }
        } else if let Some(&index) = model.keys().nth(usize::from(operation - 128) % 17) {
            assert_eq!(table.remove(index), model.remove(&index));
        } else {
            let index = u32::from_le_bytes(input.bytes());
            assert_eq!(table.remove(index), model.remove(&index));
        }
        assert_eq!(table.len(), model.len());
        assert!(model.iter().all(|(index, value)| table.get(*index) == Some(*value)));
    }
}
