use super::*;

const KEY_A: &str = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33";
const KEY_B: &str = "58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376";
const SECRET: &str = "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a";

/// Feeds whole lines to a parser and returns what the last one completed.
fn parse(text: &str) -> Result<Option<Request>, UapiError> {
    let mut parser = RequestParser::default();
    let mut result = Ok(None);
    for line in text.split_terminator('\n') {
        result = parser.line(line, &|name| (name == "eth7").then_some(7));
    }
    result
}

fn set(body: &str) -> Result<DeviceChange, i32> {
    match parse(&format!("set=1\n{body}\n")) {
        Ok(Some(Request::Set(change))) => Ok(change),
        Ok(other) => panic!("not a complete set request: {other:?}"),
        Err(error) => Err(error.errno()),
    }
}

fn hex(text: &str) -> [u8; 32] {
    *key_bytes(text).unwrap()
}

#[test]
fn get_is_complete_at_its_empty_line() {
    assert!(matches!(parse("get=1\n"), Ok(None)));
    assert!(matches!(parse("get=1\n\n"), Ok(Some(Request::Get))));
    assert!(matches!(parse("get=1\nmore=1\n"), Err(UapiError::Malformed)));
}

#[test]
fn the_example_of_the_protocol_document_parses() {
    let change = set(&format!(
        "private_key={SECRET}\nlisten_port=12912\nfwmark=0\nreplace_peers=true\n\
         public_key={KEY_A}\npreshared_key={KEY_B}\nreplace_allowed_ips=true\nallowed_ip=192.168.4.4/32\n\
         endpoint=[abcd:23::33%2]:51820\n\
         public_key={KEY_B}\nreplace_allowed_ips=true\nallowed_ip=192.168.4.6/32\n\
         persistent_keepalive_interval=111\nendpoint=182.122.22.19:3233\nprotocol_version=1\n\
         public_key={SECRET}\nremove=true\n"
    ))
    .unwrap();
    assert_eq!(change.private_key, Some(NodeSecret::from_bytes(hex(SECRET))));
    assert_eq!((change.listen_port, change.fwmark, change.replace_peers), (Some(12_912), Some(0), true));
    let [a, b, removed] = change.peers.as_slice() else { panic!("{} peers", change.peers.len()) };
    assert_eq!(a.public_key, NodeKey::from_bytes(hex(KEY_A)));
    assert_eq!(a.preshared_key, Some(PresharedKey::from_bytes(hex(KEY_B))));
    assert_eq!(a.allowed_ips, [AllowedIpChange::Add("192.168.4.4/32".parse().unwrap())]);
    assert_eq!(a.endpoint, Some("[abcd:23::33%2]:51820".parse().unwrap()));
    assert_eq!(a.persistent_keepalive, None);
    assert_eq!(b.persistent_keepalive, Some(111));
    assert_eq!(b.endpoint, Some("182.122.22.19:3233".parse().unwrap()));
    assert!(removed.remove && !b.remove && b.replace_allowed_ips && !removed.replace_allowed_ips);
}

#[test]
fn several_requests_follow_one_another_on_one_connection() {
    let mut parser = RequestParser::default();
    let none = |_: &str| None;
    assert!(matches!(parser.line("set=1", &none), Ok(None)));
    assert!(parser.is_inside_request());
    assert!(matches!(parser.line("listen_port=1", &none), Ok(None)));
    assert!(matches!(parser.line("", &none), Ok(Some(Request::Set(_)))));
    assert!(!parser.is_inside_request());
    assert!(matches!(parser.line("get=1", &none), Ok(None)));
    assert!(matches!(parser.line("", &none), Ok(Some(Request::Get))));
}

#[test]
fn a_mistake_refuses_the_whole_request_and_not_the_next() {
    let mut parser = RequestParser::default();
    let none = |_: &str| None;
    for line in ["set=1", "listen_port=1", "listen_port=x", "fwmark=3"] {
        assert!(matches!(parser.line(line, &none), Ok(None)));
    }
    assert!(matches!(parser.line("", &none), Err(UapiError::BadValue("listen_port"))));
    assert!(matches!(parser.line("get=1", &none), Ok(None)));
    assert!(matches!(parser.line("", &none), Ok(Some(Request::Get))));
}

#[test]
fn bad_lines_answer_with_an_error_number() {
    for (body, errno) in [
        ("nonsense\n", -libc::EPROTO),
        ("colour=blue\n", -libc::EINVAL),
        ("private_key=00\n", -libc::EINVAL),
        (&format!("private_key=g{}\n", &SECRET[1..]), -libc::EINVAL),
        ("listen_port=65536\n", -libc::EINVAL),
        ("listen_port=-1\n", -libc::EINVAL),
        ("listen_port=+1\n", -libc::EINVAL),
        ("fwmark=4294967296\n", -libc::EINVAL),
        ("replace_peers=false\n", -libc::EINVAL),
        ("endpoint=192.0.2.1:1\n", -libc::EINVAL),
        ("public_key=\n", -libc::EINVAL),
        (&format!("public_key={KEY_A}\nlisten_port=1\n"), -libc::EINVAL),
        (&format!("public_key={KEY_A}\nprotocol_version=2\n"), -libc::EINVAL),
        (&format!("public_key={KEY_A}\nendpoint=example.org:1\n"), -libc::EINVAL),
        (&format!("public_key={KEY_A}\nendpoint=[fe80::1%nowhere]:1\n"), -libc::EINVAL),
        (&format!("public_key={KEY_A}\nallowed_ip=10.0.0.0/33\n"), -libc::EINVAL),
        (&format!("public_key={KEY_A}\npersistent_keepalive_interval=65536\n"), -libc::EINVAL),
        (&format!("public_key={KEY_A}\nremove=yes\n"), -libc::EINVAL),
    ] {
        assert_eq!(set(body).err(), Some(errno), "{body}");
    }
    assert!(matches!(parse("delete=1\n"), Err(UapiError::Malformed)));
}

#[test]
fn a_link_local_endpoint_may_name_its_interface() {
    let change = set(&format!("public_key={KEY_A}\nendpoint=[fe80::1%eth7]:51820\n")).unwrap();
    let SocketAddr::V6(endpoint) = change.peers[0].endpoint.unwrap() else { panic!("not IPv6") };
    assert_eq!((endpoint.scope_id(), endpoint.port()), (7, 51_820));
}

#[test]
fn allowed_addresses_keep_their_order_and_may_be_taken_away() {
    let change = set(&format!(
        "public_key={KEY_A}\nallowed_ip=10.9.0.0/16\nreplace_allowed_ips=true\nallowed_ip=10.1.2.3/8\n\
         allowed_ip=-fd00::/8\nallowed_ip=192.0.2.1\n"
    ))
    .unwrap();
    assert_eq!(
        change.peers[0].allowed_ips,
        [
            AllowedIpChange::Add("10.0.0.0/8".parse().unwrap()),
            AllowedIpChange::Remove("fd00::/8".parse().unwrap()),
            AllowedIpChange::Add("192.0.2.1/32".parse().unwrap()),
        ]
    );
}

#[test]
fn an_answer_has_the_lines_of_the_protocol() {
    let (secret, preshared) = (NodeSecret::from_bytes(hex(SECRET)), PresharedKey::from_bytes(hex(KEY_B)));
    let mut out = String::new();
    DeviceReport { private_key: Some(&secret), listen_port: 12_912, fwmark: 0 }.write(&mut out);
    PeerReport {
        public_key: NodeKey::from_bytes(hex(KEY_A)),
        preshared_key: &preshared,
        endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
        last_handshake: Some(UnixTime::new(1_500_000_000, 16_777_216)),
        tx_bytes: 38_333,
        rx_bytes: 2_224,
        persistent_keepalive: 25,
    }
    .write(&mut out);
    write_allowed_ip(&mut out, "192.168.4.4/32".parse().unwrap());
    write_status(&mut out, Ok(()));
    assert_eq!(
        out,
        format!(
            "private_key={SECRET}\nlisten_port=12912\npublic_key={KEY_A}\npreshared_key={KEY_B}\nprotocol_version=1\n\
             endpoint=[2001:db8::1]:51820\nlast_handshake_time_sec=1500000000\nlast_handshake_time_nsec=16777216\n\
             tx_bytes=38333\nrx_bytes=2224\npersistent_keepalive_interval=25\nallowed_ip=192.168.4.4/32\nerrno=0\n\n"
        )
    );
    out.clear();
    write_status(&mut out, Err(&UapiError::System(io::Error::from_raw_os_error(libc::EADDRINUSE))));
    assert_eq!(out, format!("errno={}\n\n", -libc::EADDRINUSE));
}
