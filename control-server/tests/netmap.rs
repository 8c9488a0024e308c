//! The netmap: who hears of what, from where on, and how much.

mod support;

use std::time::Duration;

use support::{LIMIT, Machine, TestServer, Told, eventually};
use weft_control::admin::Command;
use weft_core::control::{
    ErrorCode,
    record::{Address, Endpoint, Endpoints, Health, Held, List, Logout, Lookup, Text, Watch},
};

#[tokio::test]
async fn a_renamed_node_shows_its_new_name_to_itself_and_to_others() {
    let server = TestServer::start().await;
    let mut nas = server.node("nas").await;
    let mut laptop = server.node("laptop").await;
    laptop.sees(&["nas"]).await;
    server.rename("nas", "vault").await.unwrap();
    laptop.sees(&["vault"]).await;
    nas.until("its new name", |nas| nas.me().name == "vault").await;
    let taken = server.rename("vault", "laptop").await.unwrap_err();
    assert!(taken.contains("another node is called `laptop`"), "{taken}");
    let bad = server.rename("vault", "Not A Name").await.unwrap_err();
    assert!(bad.contains("cannot be a node's name"), "{bad}");
}

#[tokio::test]
async fn a_removed_node_is_gone_from_connected_peers_and_from_those_that_come_back() {
    let server = TestServer::start().await;
    let mut laptop = server.node("laptop").await.synced().await;
    let _nas = server.node("nas").await;
    let mut pi = server.node("pi").await.synced().await;
    laptop.sees(&["nas", "pi"]).await;
    let away = pi.kept();
    pi.sees(&["laptop", "nas"]).await;
    let mut peers = pi.netmap.peers.clone();
    drop(pi);
    server.remove("nas").await.unwrap();
    laptop.sees(&["pi"]).await;

    let mut back = away.come_back(&server).await.unwrap();
    std::mem::swap(&mut back.netmap.peers, &mut peers);
    back.sees(&["laptop"]).await;
    assert_eq!((back.netmap.snapshots, back.netmap.removals), (0, 1), "a delta, no snapshot");
}

#[tokio::test]
async fn an_expired_node_is_told_and_its_peers_get_the_expiry() {
    let server = TestServer::start().await;
    let mut nas = server.node("nas").await;
    let mut laptop = server.node("laptop").await;
    laptop.sees(&["nas"]).await;
    server.command(Command::NodeExpire { node: "nas".to_owned() }).await.unwrap();
    laptop.until("the expiry", |laptop| laptop.peer("nas").key_expiry == Some(support::START)).await;
    assert_eq!(nas.ended().await.code(), ErrorCode::NodeKeyExpired);
}

#[tokio::test]
async fn a_node_that_resumes_gets_only_what_changed() {
    let server = TestServer::start().await;
    let key = server.reusable_key().await;
    for number in 0..40 {
        Machine::new(&format!("n{number}")).join(&server, &key).await.unwrap();
    }
    let node = server.node("pi").await.synced().await;
    assert_eq!((node.netmap.peers.len(), node.netmap.snapshots), (40, 1));
    let (kept, peers) = (node.kept(), node.netmap.peers.clone());
    drop(node);
    server.rename("n7", "renamed").await.unwrap();
    let mut back = kept.come_back(&server).await.unwrap();
    back.netmap.peers = peers;
    back.until("the rename", |back| back.netmap.revision != kept.resume && back.netmap.revision.is_some()).await;
    assert_eq!(back.peer("renamed").name, "renamed");
    assert_eq!(back.netmap.snapshots, 0);
    assert_eq!(back.log.iter().filter(|told| **told == Told::Netmap).count(), 1);
}

#[tokio::test]
async fn a_revision_of_the_future_or_of_another_epoch_gets_a_snapshot() {
    let server = TestServer::start().await;
    let node = server.node("pi").await.synced().await;
    let revision = node.netmap.revision.unwrap();
    for resume in [
        weft_core::control::Revision { number: revision.number + 1, ..revision },
        weft_core::control::Revision { epoch: revision.epoch ^ 1, ..revision },
    ] {
        let mut machine = node.kept();
        machine.resume = Some(resume);
        assert_eq!(machine.come_back(&server).await.unwrap().synced().await.netmap.snapshots, 1);
    }
}

#[tokio::test]
async fn removals_are_forgotten_after_a_while_and_then_a_snapshot_tells_of_them() {
    let server = TestServer::with(|config| config.directory.policy.tombstone_age = 100).await;
    let node = server.node("pi").await.synced().await;
    let kept = node.kept();
    drop(node);
    let _gone = server.node("gone").await;
    server.remove("gone").await.unwrap();
    server.pass(101);
    server.directory().change(weft_control::store::networks::CompactTombstones).await.unwrap();
    let back = kept.come_back(&server).await.unwrap().synced().await;
    assert_eq!(back.netmap.snapshots, 1);
}

#[tokio::test]
async fn status_goes_to_those_who_watch_and_only_to_them() {
    let server = TestServer::start().await;
    let mut nas = server.node("nas").await;
    let mut watcher = server.node("watcher").await.synced().await;
    let id = nas.me().id;
    watcher.send(Watch { add: List::from(&[id]), remove: List::EMPTY }).await;
    let online = |told: &Told| matches!(told, Told::Status { online: true, .. });
    watcher.until("nas is online", |watcher| watcher.log.iter().any(online)).await;

    let own = Endpoint("192.0.2.7:41641".parse().unwrap());
    let lies = [own, Endpoint("0.0.0.0:1".parse().unwrap()), Endpoint("127.0.0.1:9".parse().unwrap()), own];
    nas.send(Endpoints { local: List::from(&lies) }).await;
    let expected = vec![own.0];
    watcher
        .until(
            "its endpoints",
            |watcher| matches!(watcher.log.last(), Some(Told::Status { endpoints, .. }) if *endpoints == expected),
        )
        .await;

    server.pass(60);
    drop(nas);
    let offline = Told::Status { id, online: false, last_seen: Some(support::START + 60), endpoints: expected };
    watcher.until("nas is offline", |watcher| watcher.log.last() == Some(&offline)).await;
    let seen = watcher.log.iter().filter(|told| matches!(told, Told::Status { .. })).count();
    assert_eq!(seen, 3);
}

#[tokio::test]
async fn a_small_node_gets_the_peers_that_it_asks_for_and_their_changes() {
    let server = TestServer::start().await;
    let key = server.reusable_key().await;
    let (mut ids, mut others) = (Vec::new(), Vec::new());
    for number in 0..10 {
        let node = Machine::new(&format!("n{number}")).join(&server, &key).await.unwrap();
        ids.push(node.me().id);
        others.push(node.me().clone());
    }
    let mut machine = Machine::new("sensor");
    machine.capacity = Some(4);
    let mut sensor = machine.join(&server, &key).await.unwrap();
    assert!(sensor.me().on_demand);
    sensor.send(Held::default()).await;
    sensor.until("an answer to what it holds", |sensor| sensor.netmap.revision.is_some()).await;
    assert!(sensor.netmap.peers.is_empty());

    sensor.send(Lookup { request: 1, address: None, node_key: None, name: Some(Text::cut("N3")) }).await;
    sensor.until("n3", |sensor| sensor.log.contains(&Told::Found { request: 1, id: Some(ids[3]) })).await;
    assert_eq!(sensor.peer_names(), ["n3"]);
    sensor.send(Lookup { request: 2, address: None, node_key: None, name: Some(Text::cut("nobody")) }).await;
    sensor.until("nobody", |sensor| sensor.log.contains(&Told::Found { request: 2, id: None })).await;

    for (request, address) in (10..).zip(&others[8].addresses) {
        let address = Some(Address(address.parse().unwrap()));
        sensor.send(Lookup { request, address, node_key: None, name: None }).await;
        sensor.until("n8", |sensor| sensor.log.contains(&Told::Found { request, id: Some(ids[8]) })).await;
    }
    sensor.send(Lookup { request: 20, address: None, node_key: Some(others[9].node_key), name: None }).await;
    sensor.until("n9", |sensor| sensor.log.contains(&Told::Found { request: 20, id: Some(ids[9]) })).await;
    assert_eq!(sensor.peer_names(), ["n3", "n8", "n9"]);
    let unknown = Some(weft_core::keys::NodeKey::from_bytes([3; 32]));
    sensor.send(Lookup { request: 21, address: None, node_key: unknown, name: None }).await;
    let own = Some(sensor.me().node_key);
    sensor.send(Lookup { request: 22, address: None, node_key: own, name: None }).await;
    for request in [21, 22] {
        sensor.until("no peer", |sensor| sensor.log.contains(&Told::Found { request, id: None })).await;
    }
    sensor.send(Held { remove: List::from(&[ids[8], ids[9]]), ..Held::default() }).await;
    sensor.netmap.peers.retain(|id, _| *id == ids[3].0);
    let told = sensor.log.iter().filter(|told| **told == Told::Netmap).count();

    server.rename("n5", "unheard").await.unwrap();
    server.rename("n8", "let-go").await.unwrap();
    server.rename("n3", "heard").await.unwrap();
    sensor.until("the held peer's name", |sensor| sensor.peer_names() == ["heard"]).await;
    server.remove("heard").await.unwrap();
    sensor.until("the held peer's end", |sensor| sensor.peer_names().is_empty()).await;
    let now_told = sensor.log.iter().filter(|told| **told == Told::Netmap).count();
    assert_eq!(now_told, told + 2, "{:?}", sensor.log);

    // It comes back, and names what it holds.
    sensor.until("a revision", |sensor| sensor.log.last() == Some(&Told::UpTo)).await;
    let since = sensor.netmap.revision;
    server.rename("n1", "changed").await.unwrap();
    let mut back = sensor.kept().come_back(&server).await.unwrap();
    back.send(Held { add: List::from(&[ids[1], ids[2]]), remove: List::EMPTY, since, more: false }).await;
    back.until("an answer to what it holds", |back| back.log.last() == Some(&Told::UpTo)).await;
    assert_eq!(back.peer_names(), ["changed"]);
}

#[tokio::test]
async fn a_node_whose_network_outgrows_it_goes_on_with_what_it_names() {
    let server = TestServer::start().await;
    let key = server.reusable_key().await;
    let mut machine = Machine::new("sensor");
    machine.capacity = Some(2);
    let mut sensor = machine.join(&server, &key).await.unwrap().synced().await;
    let first = Machine::new("a").join(&server, &key).await.unwrap();
    Machine::new("b").join(&server, &key).await.unwrap();
    sensor.sees(&["a", "b"]).await;
    sensor.until("a revision", |sensor| sensor.log.last() == Some(&Told::UpTo)).await;
    assert!(!sensor.me().on_demand);
    Machine::new("c").join(&server, &key).await.unwrap();
    sensor.until("the change of delivery", |sensor| sensor.me().on_demand).await;
    let since = sensor.netmap.revision;
    sensor.send(Held { add: List::from(&[first.me().id]), remove: List::EMPTY, since, more: false }).await;
    server.rename("a", "aa").await.unwrap();
    sensor.sees(&["aa", "b"]).await;
}

#[tokio::test]
async fn two_machines_with_one_identity_are_both_told() {
    let server = TestServer::start().await;
    let mut original = server.node("pi").await;
    let mut machine = original.kept();
    machine.instance = weft_core::control::InstanceId(7);
    let mut clone = machine.come_back(&server).await.unwrap();
    let warned = |told: &Told| matches!(told, Told::Health { subject: Health::CLONE, sentence } if sentence.contains("identity"));
    let cleared =
        |told: &Told| matches!(told, Told::Health { subject: Health::CLONE, sentence } if sentence.is_empty());
    original.until("the original to be warned", |node| node.log.iter().any(warned)).await;
    clone.until("the clone to be warned", |node| node.log.iter().any(warned)).await;
    drop(clone);
    original.until("all to be well again", |node| node.log.iter().any(cleared)).await;
}

#[tokio::test]
async fn a_restarted_machine_is_no_clone_of_itself() {
    let server = TestServer::start().await;
    let dead = server.node("pi").await;
    let mut machine = dead.kept();
    machine.instance = weft_core::control::InstanceId(7);
    // `dead` answers nothing from here on, as a machine that lost its power.
    let mut live = machine.come_back(&server).await.unwrap().synced().await;
    let ended = tokio::time::timeout(LIMIT, async {
        let mut dead = dead;
        let mut buffer = [0; 4_096];
        loop {
            // Bytes are taken off the socket, but no ping is answered.
            match tokio::io::AsyncReadExt::read(&mut dead.link.stream, &mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    });
    ended.await.expect("the dead connection ends");
    server.rename("pi", "alive").await.unwrap();
    live.until("the new name", |live| live.me().name == "alive").await;
    let warned = |told: &Told| matches!(told, Told::Health { sentence, .. } if !sentence.is_empty());
    assert!(!live.log.iter().any(warned));
}

#[tokio::test]
async fn the_same_process_replaces_its_own_connection() {
    let server = TestServer::start().await;
    let mut first = server.node("pi").await;
    let _second = first.kept().come_back(&server).await.unwrap();
    assert_eq!(first.ended().await.code(), ErrorCode::Replaced);
}

#[tokio::test]
async fn an_ephemeral_node_is_removed_when_it_stays_away() {
    let server = TestServer::with(|config| config.ephemeral_grace = Duration::from_secs(300)).await;
    let (key, _) = server.key_with(true, true, &[], None).await;
    let mut watcher = server.node("watcher").await;
    let node = Machine::new("job").join(&server, &key).await.unwrap();
    let kept = node.kept();
    watcher.sees(&["job"]).await;
    drop(node);
    eventually("the node goes offline", async || server.nodes().await.iter().filter(|node| node.online).count() == 1)
        .await;
    server.pass(299);
    let back = kept.come_back(&server).await.expect("it is still known");
    server.pass(10_000);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.nodes().await.len(), 2, "connected nodes stay");
    drop(back);
    eventually("the node goes offline", async || server.nodes().await.iter().filter(|node| node.online).count() == 1)
        .await;
    server.pass(300);
    watcher.sees(&[]).await;
}

#[tokio::test]
async fn a_node_that_logs_out_is_expired_and_an_ephemeral_one_removed() {
    let server = TestServer::start().await;
    let mut node = server.node("pi").await;
    node.send(Logout {}).await;
    assert_eq!(node.ended().await.code(), ErrorCode::LoggedOut);
    assert_eq!(node.kept().come_back(&server).await.err().unwrap().code(), ErrorCode::NodeKeyExpired);
    assert!(server.nodes().await[0].expired);

    let (key, _) = server.key_with(false, true, &[], None).await;
    let mut job = Machine::new("job").join(&server, &key).await.unwrap();
    job.send(Logout {}).await;
    assert_eq!(job.ended().await.code(), ErrorCode::LoggedOut);
    assert_eq!(server.nodes().await.len(), 1);
}
