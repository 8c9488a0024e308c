use super::*;

/// Receives on `sockets` until `count` datagrams are there.
async fn receive(sockets: &UdpSockets, count: usize) -> Vec<(SocketAddr, Option<IpAddr>, Ecn, Vec<u8>)> {
    let mut batch = ReceiveBatch::default();
    let mut datagrams = Vec::new();
    while datagrams.len() < count {
        sockets.readable().await.unwrap();
        while sockets.try_receive(&mut batch).unwrap() {
            for arrival in batch.arrivals() {
                for datagram in arrival.datagrams.chunks(arrival.segment) {
                    datagrams.push((arrival.source, arrival.local, arrival.ecn, datagram.to_vec()));
                }
            }
        }
    }
    datagrams
}

fn loopbacks(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

#[tokio::test(flavor = "current_thread")]
async fn both_families_share_one_port() {
    let first = UdpSockets::bind(0, 0).unwrap();
    assert_ne!(first.port(), 0);
    let error = UdpSockets::bind(first.port(), 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_arrives_as_the_datagrams_that_were_sent() {
    let (mut a, b) = (UdpSockets::bind(0, 0).unwrap(), UdpSockets::bind(0, 0).unwrap());
    for destination in loopbacks(b.port()) {
        // More than fits one send, with a shorter last one.
        let datagrams: Vec<u8> = (0..99 * 1_000 + 77).map(|i| (i / 1_000) as u8).collect();
        let run = Run { destination, source: None, ecn: Ecn::Capable0, datagrams: &datagrams, segment: 1_000 };
        let sent = a.send(&run);
        assert_eq!((sent.datagrams, sent.bytes, sent.error.is_none()), (100, datagrams.len(), true), "{destination}");
        let received = receive(&b, 100).await;
        for (index, (source, local, ecn, datagram)) in received.iter().enumerate() {
            assert_eq!((source.port(), *local, *ecn), (a.port(), Some(destination.ip()), Ecn::Capable0));
            assert_eq!(datagram, &vec![index as u8; if index == 99 { 77 } else { 1_000 }]);
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn datagrams_leave_from_the_source_asked_for() {
    let (mut a, b) = (UdpSockets::bind(0, 0).unwrap(), UdpSockets::bind(0, 0).unwrap());
    let source = Some(IpAddr::from([127, 0, 0, 9]));
    let [destination, _] = loopbacks(b.port());
    a.send_handshake(&[1; 148], destination, source).unwrap();
    let sent = a.send(&Run { destination, source, ecn: Ecn::NotCapable, datagrams: &[2; 96], segment: 32 });
    assert_eq!((sent.datagrams, sent.source_refused), (3, false));
    for (from, ..) in receive(&b, 4).await {
        assert_eq!(Some(from.ip()), source);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_source_that_is_gone_is_left_to_the_routing_table() {
    let (mut a, b) = (UdpSockets::bind(0, 0).unwrap(), UdpSockets::bind(0, 0).unwrap());
    let [v4, v6] = loopbacks(b.port());
    for (destination, gone) in [(v4, "203.0.113.7"), (v6, "2001:db8::7")] {
        let source = Some(gone.parse().unwrap());
        a.send_handshake(&[1; 92], destination, source).unwrap();
        let sent = a.send(&Run { destination, source, ecn: Ecn::Capable1, datagrams: &[2; 96], segment: 32 });
        assert_eq!((sent.datagrams, sent.source_refused), (3, true));
        let received = receive(&b, 4).await;
        assert!(received.iter().all(|(from, ..)| from.ip() == destination.ip()));
        // A refused source must not cost the traffic class or segmentation of what follows.
        let sent = a.send(&Run { destination, source: None, ecn: Ecn::Capable1, datagrams: &[3; 96], segment: 32 });
        assert_eq!((sent.datagrams, sent.source_refused), (3, false));
        assert!(receive(&b, 3).await.iter().all(|(_, _, ecn, _)| *ecn == Ecn::Capable1));
    }
}

#[test]
fn control_messages_have_the_layout_of_the_kernel() {
    let messages = ControlMessages::new(false, HANDSHAKE_TRAFFIC_CLASS, Some(Ipv4Addr::new(192, 0, 2, 1).into()));
    let word = size_of::<usize>();
    let header = (word + 8).next_multiple_of(word);
    assert_eq!(messages.len, 2 * header + 4_usize.next_multiple_of(word) + 12_usize.next_multiple_of(word));
    assert_eq!(messages.bytes[..word], (header + 4).to_ne_bytes());
    assert_eq!(messages.bytes[header], 0x88);
}
