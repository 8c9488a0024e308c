//! Joining: who may, as what, and why not.

mod support;

use support::{Failed, Machine, START, TestServer};
use weft_control::{admin::Command, random};
use weft_core::{
    control::{ErrorCode, JoinKey, JoinSecret, record},
    keys::ServerSecret,
};

const DAY: u64 = 86_400;

#[tokio::test]
async fn a_machine_joins_and_gets_addresses_a_name_and_its_peers() {
    let server = TestServer::start().await;
    let mut laptop = server.node("Laptop.local").await;
    let me = laptop.me();
    assert_eq!((me.name.as_str(), me.user.as_deref()), ("laptop", Some("ada")));
    assert_eq!(me.addresses, ["100.64.0.1", "fd7a:115c:a1e0::6440:1"]);
    assert_eq!(me.key_expiry, Some(START + 180 * DAY));

    let mut nas = server.node("nas").await;
    nas.sees(&["laptop"]).await;
    laptop.sees(&["nas"]).await;
    assert_eq!(laptop.peer("nas").addresses, nas.me().addresses);
    assert_eq!(laptop.peer("nas").node_key, nas.machine.node_key());
}

#[tokio::test]
async fn a_name_that_is_taken_gets_a_number() {
    let server = TestServer::start().await;
    let key = server.reusable_key().await;
    let mut names = Vec::new();
    for hostname in ["nas", "NAS", "nas", "nas-1", "nas"] {
        names.push(Machine::new(hostname).join(&server, &key).await.unwrap().me().name.clone());
    }
    assert_eq!(names, ["nas", "nas-1", "nas-2", "nas-1-1", "nas-3"]);
}

#[tokio::test]
async fn a_machine_that_comes_back_is_the_same_node() {
    let server = TestServer::start().await;
    let first = server.node("pi").await;
    let again = first.kept().come_back(&server).await.unwrap();
    assert_eq!(again.me(), first.me());
    assert_eq!(server.nodes().await.len(), 1);
}

#[tokio::test]
async fn a_machine_that_never_heard_that_it_joined_may_repeat_itself_with_the_same_key() {
    let server = TestServer::start().await;
    let key = server.key().await;
    let machine = Machine::new("pi");
    let first = machine.join(&server, &key).await.unwrap();
    let again = machine.join(&server, &key).await.unwrap();
    assert_eq!(again.me(), first.me());
}

#[tokio::test]
async fn join_keys_that_do_not_hold_are_refused_each_with_its_own_reason() {
    let server = TestServer::start().await;
    let refused = async |key: &JoinKey| Machine::new("x").join(&server, key).await.err().unwrap().code();

    let used = server.key().await;
    Machine::new("first").join(&server, &used).await.unwrap();
    assert_eq!(refused(&used).await, ErrorCode::JoinKeyUsed);

    let (revoked, id) = server.key_with(true, false, &[], None).await;
    server.command(Command::KeyRevoke { id }).await.unwrap();
    assert_eq!(refused(&revoked).await, ErrorCode::JoinKeyRevoked);

    let (expired, _) = server.key_with(true, false, &[], Some(3_600)).await;
    Machine::new("in-time").join(&server, &expired).await.unwrap();
    server.pass(3_600);
    assert_eq!(refused(&expired).await, ErrorCode::JoinKeyExpired);

    let secret = JoinSecret::generate(&mut random::system());
    let unknown = JoinKey::new(*used.server_key(), secret, &server.directory().urls()).unwrap();
    assert_eq!(refused(&unknown).await, ErrorCode::JoinKeyUnknown);

    let stranger = Machine::new("stranger").come_back(&server).await.err().unwrap();
    assert_eq!(stranger.code(), ErrorCode::UnknownMachine);
    assert_eq!(server.nodes().await.len(), 2, "nothing came of the refused ones");
}

#[tokio::test]
async fn of_many_machines_that_try_at_once_with_a_key_for_one_use_one_joins() {
    let server = TestServer::start().await;
    let key = server.key().await;
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (key, address) = (key.clone(), server.address);
        let machine = Machine::new(&format!("m{number}"));
        tries.spawn(async move { machine.connect(address, &key, Some(key.secret().clone())).await });
    }
    let results = tries.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), ErrorCode::JoinKeyUsed);
    }
}

#[tokio::test]
async fn a_join_key_of_another_server_ends_before_the_secret_is_sent() {
    let server = TestServer::start().await;
    let other = ServerSecret::generate(&mut random::system()).public::<support::Dh>();
    let key = server.key().await;
    let foreign = JoinKey::new(other, key.secret().clone(), &server.directory().urls()).unwrap();
    let refused = Machine::new("x").join(&server, &foreign).await.err().unwrap();
    let Failed::Broken(weft_core::control::ClientError::Refused(answer)) = refused else { panic!("{refused:?}") };
    assert_eq!((answer.status, answer.code), (421, Some(ErrorCode::UnknownServerKey)));
    Machine::new("x").join(&server, &key).await.expect("the key was not used up");
}

#[tokio::test]
async fn somebody_elses_node_key_is_refused_and_its_owner_untouched() {
    let server = TestServer::start().await;
    let victim = server.node("victim").await;
    let key = server.reusable_key().await;

    // Without the secret of the key, the proof fails.
    let mut thief = Machine::new("thief");
    thief.claimed_node_key = Some(victim.machine.node_key());
    assert_eq!(thief.join(&server, &key).await.err().unwrap().code(), ErrorCode::NodeKeyProof);

    // A copied secret does not help either: the key belongs to the first machine for life.
    let mut clone = Machine::new("clone");
    clone.node = victim.machine.node.clone();
    assert_eq!(clone.join(&server, &key).await.err().unwrap().code(), ErrorCode::NodeKeyTaken);
    server.remove("victim").await.unwrap();
    assert_eq!(clone.join(&server, &key).await.err().unwrap().code(), ErrorCode::NodeKeyTaken);

    let again = victim.machine.join(&server, &key).await.unwrap();
    assert_eq!(again.me().node_key, victim.machine.node_key());
    assert_eq!(server.nodes().await.len(), 1);
}

#[tokio::test]
async fn a_full_address_pool_is_said_and_a_removed_node_makes_room() {
    let server = TestServer::with(|config| config.directory.policy.address_limit = 2).await;
    let key = server.reusable_key().await;
    let first = Machine::new("a").join(&server, &key).await.unwrap();
    Machine::new("b").join(&server, &key).await.unwrap();
    let third = Machine::new("c");
    assert_eq!(third.join(&server, &key).await.err().unwrap().code(), ErrorCode::AddressesExhausted);
    server.remove("a").await.unwrap();
    assert_eq!(third.join(&server, &key).await.unwrap().me().addresses, first.me().addresses);
}

#[tokio::test]
async fn tagged_nodes_belong_to_no_user_and_do_not_expire() {
    let server = TestServer::start().await;
    let (key, _) = server.key_with(false, false, &["tag:web", "tag:db", "tag:web"], None).await;
    let node = Machine::new("www").join(&server, &key).await.unwrap();
    assert_eq!((node.me().key_expiry, &node.me().user), (None, &None));
    assert_eq!(node.me().tags, ["tag:db", "tag:web"]);
    server.pass(3_650 * DAY);
    node.kept().come_back(&server).await.unwrap();
}

#[tokio::test]
async fn an_expired_node_needs_a_join_key_and_is_then_the_same_node() {
    let server = TestServer::start().await;
    let mut node = server.node("pi").await;
    let mut peer = server.node("nas").await;
    server.pass(180 * DAY);
    let refused = node.kept().come_back(&server).await.err().unwrap();
    assert_eq!(refused.code(), ErrorCode::NodeKeyExpired);

    // The key that it joined with was for one use.
    let key = server.key().await;
    let mut machine = node.kept();
    machine.node = Machine::new("").node;
    let renewed = machine.join(&server, &key).await.unwrap();
    assert_eq!((&renewed.me().name, &renewed.me().addresses), (&node.me().name, &node.me().addresses));
    assert_eq!(renewed.me().key_expiry, Some(START + 360 * DAY));
    let _ = node.ended().await;
    let new_key = machine.node_key();
    peer.until("the new key", |peer| peer.netmap.peers.values().any(|peer| peer.node_key == new_key)).await;
}

#[tokio::test]
async fn a_node_renews_its_key_and_its_peers_hear_of_it() {
    let server = TestServer::start().await;
    let mut node = server.node("pi").await.synced().await;
    let mut peer = server.node("nas").await;
    let expiry = node.me().key_expiry;
    let next = Machine::new("").node;
    let next_key = next.public::<support::Dh>();
    let proof = node.link.client.prove_node_key::<support::Dh>(&next, &next_key).unwrap().unwrap();
    node.send(record::RenewNodeKey { node_key: next_key, proof, join_secret: None }).await;
    node.until("its new key", |node| node.me().node_key == next_key).await;
    assert_eq!(node.me().key_expiry, expiry, "a node does not prolong itself");
    peer.until("the peer's new key", |peer| peer.netmap.peers.values().any(|peer| peer.node_key == next_key)).await;
}

#[tokio::test]
async fn a_removed_node_is_told_so_and_needs_a_new_key() {
    let server = TestServer::start().await;
    let mut node = server.node("pi").await;
    server.remove("pi").await.unwrap();
    assert_eq!(node.ended().await.code(), ErrorCode::NodeRemoved);
    assert_eq!(node.kept().come_back(&server).await.err().unwrap().code(), ErrorCode::NodeRemoved);
    let key = server.key().await;
    let again = node.kept().join(&server, &key).await.unwrap();
    assert_ne!(again.me().id, node.me().id);
}

#[tokio::test]
async fn a_new_hostname_gives_a_new_name_unless_an_administrator_chose_it() {
    let server = TestServer::start().await;
    let node = server.node("pi").await;
    let mut machine = node.kept();
    machine.hostname = "printer".to_owned();
    assert_eq!(machine.come_back(&server).await.unwrap().me().name, "printer");
    server.rename("printer", "office").await.unwrap();
    machine.hostname = "scanner".to_owned();
    assert_eq!(machine.come_back(&server).await.unwrap().me().name, "office");
}

#[tokio::test]
async fn a_machine_that_calls_itself_by_another_nodes_id_does_not_take_its_commands() {
    let server = TestServer::start().await;
    let nas = server.node("nas").await;
    let id = nas.me().id.0.to_string();
    let impostor = server.node(&id).await;
    assert_eq!(impostor.me().name, id);

    let refused = server.remove(&id).await.unwrap_err();
    assert!(refused.contains("the name of one node and the id of another"), "{refused}");
    assert_eq!(server.nodes().await.len(), 2);

    server.remove(&impostor.me().addresses[0]).await.unwrap();
    server.remove(&id).await.unwrap();
    assert_eq!(server.nodes().await, []);
}
