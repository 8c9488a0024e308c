//! What comes from people who do not keep to the protocol: garbage, half-open connections, replays.

mod support;

use std::{net::SocketAddr, time::Duration};

use support::{Connected, Failed, LIMIT, Machine, TestServer, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use weft_core::control::{
    JoinKey, MAX_FRAME, PATH, PROTOCOL,
    record::{Held, Lookup},
};

/// Sends bytes and returns all that comes back until the server closes.
async fn answer(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut text = Vec::new();
    // A reset is an end as well.
    let _ = timeout(LIMIT, stream.read_to_end(&mut text)).await.expect("the server closes the connection");
    String::from_utf8_lossy(&text).into_owned()
}

fn request(version: &str, key: &JoinKey) -> String {
    let hex: String = key.server_key().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {PROTOCOL}\r\n{version}\
         Weft-Server-Key: {hex}\r\n\r\n"
    )
}

#[tokio::test]
async fn requests_that_are_no_upgrade_get_a_plain_answer() {
    let server = TestServer::start().await;
    let key = server.key().await;
    let close = "Connection: close\r\n\r\n";
    let health = answer(server.address, format!("GET /health HTTP/1.1\r\nHost: x\r\n{close}").as_bytes()).await;
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("\"ok\""), "{health}");
    let plain = answer(server.address, format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n{close}").as_bytes()).await;
    assert!(plain.starts_with("HTTP/1.1 400"), "{plain}");
    let garbage = answer(server.address, b"\x16\x03\x01 what is this\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    let long = answer(server.address, &[b"GET / HTTP/1.1\r\nX: ", [b'a'; 100_000].as_slice()].concat()).await;
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
    for (version, status) in [("", "400"), ("Weft-Version: 2-1\r\n", "400"), ("Weft-Version: 900-901\r\n", "426")] {
        let request = request(version, &key).replace("keep-alive", "close");
        let text = timeout(Duration::from_secs(15), answer(server.address, request.as_bytes())).await.unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
    }
}

/// A proxy that changes what passes once and records what the node sends.
async fn proxy(to: SocketAddr, change: fn(&mut Vec<u8>)) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut node, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(to).await.unwrap();
        let mut recorded = Vec::new();
        let (mut up, mut down) = ([0; 4_096], [0; 4_096]);
        loop {
            tokio::select! {
                read = node.read(&mut up) => {
                    let Ok(len @ 1..) = read else { return recorded };
                    let mut bytes = up[..len].to_vec();
                    change(&mut bytes);
                    recorded.extend_from_slice(&bytes);
                    if server.write_all(&bytes).await.is_err() { return recorded }
                }
                read = server.read(&mut down) => {
                    let Ok(len @ 1..) = read else { return recorded };
                    if node.write_all(&down[..len]).await.is_err() { return recorded }
                }
            }
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_replayed_connection_changes_nothing() {
    let server = TestServer::start().await;
    let key = server.reusable_key().await;
    let (through, recording) = proxy(server.address, |_| {}).await;
    let machine = Machine::new("pi");
    let mut node = machine.connect(through, &key, Some(key.secret().clone())).await.unwrap().synced().await;
    let revision = node.netmap.revision;
    drop(node.link.stream.shutdown().await);
    drop(node);
    let recorded = recording.await.unwrap();
    eventually("the node is gone", async || !server.nodes().await[0].online).await;
    server.remove("pi").await.unwrap();

    let replayed = answer(server.address, &recorded).await;
    assert!(replayed.starts_with("HTTP/1.1 101"), "{replayed}");
    assert!(server.nodes().await.is_empty(), "nobody joined by a replay");
    assert_eq!(server.directory().network().revision().number, revision.unwrap().number + 1);
    assert_eq!(server.directory().network().online_count(), 0);
}

#[tokio::test]
async fn a_version_that_was_altered_on_the_way_ends_the_handshake() {
    let server = TestServer::start().await;
    let key = server.key().await;
    let strip = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some(at) = text.find("Weft-Version: 1-1") {
            bytes.splice(at..at + 17, *b"Weft-Version: 1-9");
        }
    };
    let (through, _recording) = proxy(server.address, strip).await;
    let failed = Machine::new("x").connect(through, &key, Some(key.secret().clone())).await.err().unwrap();
    assert_eq!(failed, Failed::Broken(weft_core::control::ClientError::HandshakeRefused));
    Machine::new("x").join(&server, &key).await.expect("the key was not used up");
}

#[tokio::test]
async fn records_that_break_the_rules_end_the_connection_and_nothing_else() {
    let server = TestServer::start().await;
    let mut good = server.node("good").await;

    let mut altered = server.node("altered").await;
    altered.link.stream.write_all(&[0, 40, 1, 2, 3]).await.unwrap();
    altered.link.stream.write_all(&[0; 37]).await.unwrap();
    assert_eq!(altered.ended().await, Failed::Closed);

    let mut oversized = server.node("oversized").await;
    oversized.link.stream.write_all(&[0xff; 64]).await.unwrap();
    assert_eq!(oversized.ended().await, Failed::Closed);

    let mut repeated = server.node("repeated").await;
    let mut frame = [0; MAX_FRAME];
    let now = repeated.link.now();
    let held = Held::default().into();
    type C = weft_core::crypto::RustCrypto;
    let len = repeated.link.client.send::<C>(&held, &mut frame, now).unwrap();
    repeated.link.stream.write_all(&frame[..len]).await.unwrap();
    repeated.link.stream.write_all(&frame[..len]).await.unwrap();
    assert_eq!(repeated.ended().await, Failed::Closed);

    server.rename("altered", "still-there").await.unwrap();
    good.until("a change", |good| good.peer_names().contains(&"still-there".to_owned())).await;
}

#[tokio::test]
async fn a_node_that_asks_faster_than_it_listens_is_not_served_ahead() {
    let server = TestServer::start().await;
    let mut greedy: Connected = server.node("greedy").await;
    let mut other = server.node("other").await;
    let asking = async {
        for request in 0..200_000 {
            greedy.send(Lookup { request, address: None, node_key: None, name: None }).await;
        }
    };
    // The questions fill the socket's buffers while nobody reads the answers, and then asking stands still.
    assert!(timeout(Duration::from_secs(5), asking).await.is_err());
    server.rename("greedy", "busy").await.unwrap();
    other.sees(&["busy"]).await;
}

#[tokio::test]
async fn thousands_of_half_open_connections_keep_nobody_out() {
    let server = TestServer::with(|config| config.unproven_connections = 64).await;
    let key = server.reusable_key().await;
    let mut flood = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // Nothing, half a request, or a request without a handshake.
        let begun = request("Weft-Version: 1-1\r\n", &key);
        let bytes = [&b""[..], b"GET /wef", begun.as_bytes()][number % 3];
        let _ = stream.write_all(bytes).await;
        flood.push(stream);
        assert!(server.server.as_ref().unwrap().unproven_connections() <= 64);
    }
    for name in ["a", "b", "c"] {
        let machine = Machine::new(name);
        timeout(LIMIT, machine.join(&server, &key)).await.expect("room is made").unwrap();
    }
    drop(flood);
    eventually("all rooms are free", async || server.server.as_ref().unwrap().unproven_connections() == 0).await;
}
