use weft_core::ip::{
    Ecn, IpHeader, IpPrefix, ecn,
    icmp::{self, Undeliverable},
};

/// Whatever comes out of a tunnel: a header that says more than is there is refused, and handling the packet keeps
/// its addresses and length.
pub(super) fn inner_packet(data: &[u8]) {
    let header = IpHeader::parse(data);
    if let Some(header) = header {
        assert!(header.total_len <= data.len());
        assert_eq!(header.source.is_ipv4(), header.destination.is_ipv4());
        let trimmed = &data[..header.total_len];
        assert_eq!(IpHeader::parse(trimmed), Some(header), "padding is not looked at");
    }
    for outer in [Ecn::NotCapable, Ecn::Capable1, Ecn::Capable0, Ecn::Congested] {
        let mut packet = data.to_vec();
        let keep = ecn::decapsulate(&mut packet, outer);
        assert_eq!(IpHeader::parse(&packet), header);
        assert!(keep || (outer == Ecn::Congested && Ecn::of(data) == Ecn::NotCapable));
    }
    for reason in [Undeliverable::HostUnreachable, Undeliverable::TooBig { mtu: 1_280 }] {
        let mut out = [0; icmp::MAX_LEN];
        if let Some(len) = icmp::answer(data, reason, &mut out) {
            let answer = IpHeader::parse(&out[..len]).expect("an answer is a packet");
            assert_eq!(answer.total_len, len);
        }
    }
}

/// What reads as a prefix reads back from its own text.
pub(super) fn prefix(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(prefix) = text.parse::<IpPrefix>() else { return };
    assert!(prefix.contains(prefix.address()));
    assert_eq!(prefix.to_string().parse(), Ok(prefix));
}
