//! One record of each type with every field, and one with no more than has to be there.

use weft_core::{
    control::{
        ClientRecord, Delivery, ErrorCode, InstanceId, JoinSecret, NetworkId, NodeId, Revision, ServerRecord,
        proof::NodeKeyProof,
        record::{
            Address, Capacity, Endpoint, Endpoints, Error, Health, Held, Logout, Lookup, LookupResult, Peer,
            PeerRemove, PeerStatus, Ping, Pong, Register, Registered, RenewNodeKey, SelfInfo, ServerNext,
            SnapshotBegin, SnapshotEnd, Text, Time, UpTo, Watch,
        },
    },
    keys::{NodeKey, ServerKey},
    time::UnixTime,
};

use crate::pair::text;

const REVISION: Revision = Revision { epoch: 0x0123_4567_89ab_cdef, number: 4_711 };
const NODE_KEY: NodeKey = NodeKey::from_bytes([0x4e; 32]);
const PROOF: NodeKeyProof = NodeKeyProof::from_bytes([0x50; 16]);
const WHEN: UnixTime = UnixTime::new(1_800_000_000, 250_000_000);

/// The name of a file of vectors, and its records.
pub(crate) type Samples<R> = Vec<(&'static str, Vec<R>)>;

fn endpoints() -> &'static [Endpoint] {
    vec![Endpoint("192.0.2.1:41641".parse().unwrap()), Endpoint("[2001:db8::1]:41641".parse().unwrap())].leak()
}

fn addresses() -> &'static [Address] {
    vec![Address("100.64.0.3".parse().unwrap()), Address("fd7a:115c:a1e0::3".parse().unwrap())].leak()
}

fn tags() -> &'static [Text<'static>] {
    vec![text("tag:server"), text("tag:web")].leak()
}

pub(crate) fn self_info() -> SelfInfo<'static> {
    SelfInfo {
        id: NodeId(3),
        node_key: NODE_KEY,
        name: text("nas-1"),
        addresses: addresses().into(),
        domain: text("home.weft"),
        delivery: Delivery::OnDemand,
        key_expiry: Some(WHEN),
        user: Some(text("ann")),
        tags: tags().into(),
    }
}

fn least_self_info() -> SelfInfo<'static> {
    SelfInfo { key_expiry: None, user: None, tags: Default::default(), delivery: Delivery::Whole, ..self_info() }
}

pub(crate) fn peer() -> Peer<'static> {
    Peer {
        id: NodeId(70_000),
        node_key: NODE_KEY,
        name: text("pi"),
        addresses: addresses().into(),
        os: Some(text("linux")),
        user: Some(text("ann")),
        tags: tags().into(),
        key_expiry: Some(WHEN),
        revision: REVISION.number,
    }
}

pub(crate) fn from_nodes() -> Samples<ClientRecord<'static>> {
    let register = |full: bool| Register {
        node_key: NODE_KEY,
        proof: PROOF,
        join_secret: full.then(|| JoinSecret::from_bytes([0x4a; 16])),
        instance: InstanceId(0xfeed_beef),
        hostname: text("nas"),
        os: text("linux"),
        agent: text("0.1.0"),
        capacity: full.then_some(Capacity { peers: Some(16), routes: Some(8) }),
        resume: full.then_some(REVISION),
        network: full.then_some(NetworkId(7)),
    };
    let renew = |full: bool| RenewNodeKey {
        node_key: NODE_KEY,
        proof: PROOF,
        join_secret: full.then(|| JoinSecret::from_bytes([0x4a; 16])),
    };
    let ids: &'static [NodeId] = &[NodeId(1), NodeId(70_000)];
    let lookup = Lookup { request: 1, address: None, node_key: None, name: None };
    vec![
        ("016-register", vec![register(true).into(), register(false).into()]),
        ("017-renew-node-key", vec![renew(true).into(), renew(false).into()]),
        ("018-endpoints", vec![Endpoints { local: endpoints().into() }.into(), Endpoints::default().into()]),
        (
            "019-lookup",
            vec![
                Lookup { address: Some(addresses()[0]), ..lookup }.into(),
                Lookup { node_key: Some(NODE_KEY), ..lookup }.into(),
                Lookup { name: Some(text("pi")), ..lookup }.into(),
            ],
        ),
        ("020-watch", vec![Watch { add: ids.into(), remove: ids.into() }.into(), Watch::default().into()]),
        (
            "021-held",
            vec![
                Held { add: ids.into(), remove: ids.into(), since: Some(REVISION), more: true }.into(),
                Held::default().into(),
            ],
        ),
        ("022-logout", vec![Logout {}.into()]),
    ]
}

pub(crate) fn from_servers() -> Samples<ServerRecord<'static>> {
    let status = |full: bool| PeerStatus {
        id: NodeId(70_000),
        online: !full,
        last_seen: full.then_some(WHEN),
        endpoints: if full { endpoints().into() } else { Default::default() },
    };
    let next = ServerNext {
        key: Some(ServerKey::from_bytes([0x4b; 32])),
        addresses: vec![text("http://weft.example.org:8080"), text("https://weft.example.org")].leak()[..].into(),
    };
    let error = Error {
        code: ErrorCode::JoinKeyUsed,
        sentence: text("This join key was used already: ask for a new one."),
        retry_after: Some(30),
    };
    vec![
        ("001-ping", vec![Ping { token: 1 }.into()]),
        ("002-pong", vec![Pong { token: 1 }.into()]),
        (
            "064-registered",
            vec![
                Registered {
                    node: self_info(),
                    time: WHEN,
                    seen_from: Some(endpoints()[0]),
                    server: Some(text("0.1.0")),
                }
                .into(),
                Registered { node: least_self_info(), time: WHEN, seen_from: None, server: None }.into(),
            ],
        ),
        ("065-self-changed", vec![self_info().into(), least_self_info().into()]),
        (
            "066-peer-upsert",
            vec![
                peer().into(),
                Peer { os: None, user: None, tags: Default::default(), key_expiry: None, ..peer() }.into(),
            ],
        ),
        ("067-peer-remove", vec![PeerRemove { id: NodeId(70_000), revision: REVISION.number }.into()]),
        ("068-peer-status", vec![status(true).into(), status(false).into()]),
        ("069-snapshot-begin", vec![SnapshotBegin { revision: REVISION }.into()]),
        ("070-snapshot-end", vec![SnapshotEnd { revision: REVISION }.into()]),
        ("071-up-to", vec![UpTo { revision: REVISION }.into()]),
        (
            "072-lookup-result",
            vec![
                LookupResult { request: 1, id: Some(NodeId(70_000)) }.into(),
                LookupResult { request: 1, id: None }.into(),
            ],
        ),
        ("073-time", vec![Time { time: WHEN }.into()]),
        (
            "074-health",
            vec![
                Health { subject: Health::CLONE, sentence: text("Another machine runs with this machine's identity.") }
                    .into(),
                Health { subject: Health::CLONE, sentence: Text::default() }.into(),
            ],
        ),
        ("075-server-next", vec![next.into(), ServerNext { key: None, addresses: Default::default() }.into()]),
        ("076-error", vec![error.into(), Error { retry_after: None, ..error }.into()]),
    ]
}
