//! What a tunnel needs of an inner packet's IP header: addresses and the length that the packet says it has.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of an IPv4 header without options in bytes.
pub const IPV4_HEADER_LEN: usize = 20;
/// Length of an IPv6 header in bytes.
pub const IPV6_HEADER_LEN: usize = 40;

/// Addresses and length of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// Who the packet says it is from.
    pub source: IpAddr,
    /// Who it is to.
    pub destination: IpAddr,
    /// Its length by its own header, at most the bytes that are there. What lies behind is padding.
    pub total_len: usize,
}

impl IpHeader {
    /// Reads the header of a packet that may have padding behind it. `None` where it is neither IPv4 nor IPv6, where
    /// the header is not all there, or where its length is less than its header or more than the bytes that are there.
    /// IPv4 options and IPv6 extension headers are not looked at, nor is the checksum.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let header = match packet.first()? >> 4 {
            4 => Self::parse_v4(packet.first_chunk()?)?,
            6 => Self::parse_v6(packet.first_chunk()?),
            _ => return None,
        };
        (header.total_len <= packet.len()).then_some(header)
    }

    fn parse_v4(header: &[u8; IPV4_HEADER_LEN]) -> Option<Self> {
        let &[_, _, len_high, len_low, _, _, _, _, _, _, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = header;
        let total_len = usize::from(u16::from_be_bytes([len_high, len_low]));
        (total_len >= IPV4_HEADER_LEN).then_some(Self {
            source: Ipv4Addr::new(s0, s1, s2, s3).into(),
            destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
            total_len,
        })
    }

    fn parse_v6(header: &[u8; IPV6_HEADER_LEN]) -> Self {
        let [_, _, _, _, len_high, len_low, _, _, addresses @ ..] = header;
        let mut source = [0; 16];
        let mut destination = [0; 16];
        source.iter_mut().chain(&mut destination).zip(addresses).for_each(|(out, byte)| *out = *byte);
        // A u16 and 40 fit in every usize that Rust has with 32 bits or more.
        let payload_len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
        Self {
            source: Ipv6Addr::from(source).into(),
            destination: Ipv6Addr::from(destination).into(),
            total_len: payload_len + IPV6_HEADER_LEN,
        }
    }
}

/// What a UDP datagram carries, as far as it is there: the first fragment will do. `None` for a packet that is no UDP,
/// is a later fragment, or has IPv6 extension headers other than that of a fragment.
pub fn udp_payload(packet: &[u8]) -> Option<&[u8]> {
    const UDP: u8 = 17;
    const FRAGMENT: u8 = 44;
    let datagram = match packet.first()? >> 4 {
        4 => {
            let &[version_ihl, _, _, _, _, _, offset_high, offset_low, _, protocol, ..] = packet else { return None };
            let first = u16::from_be_bytes([offset_high & 0x1f, offset_low]) == 0;
            let header_len = usize::from(version_ihl & 0xf) * 4;
            packet.get(header_len..).filter(|_| first && protocol == UDP)
        }
        6 => match (*packet.get(6)?, packet.get(IPV6_HEADER_LEN..)?) {
            (UDP, datagram) => Some(datagram),
            (FRAGMENT, [UDP, _, offset_high, offset_low, _, _, _, _, datagram @ ..]) => {
                Some(datagram).filter(|_| u16::from_be_bytes([*offset_high, *offset_low]) >> 3 == 0)
            }
            _ => None,
        },
        _ => None,
    };
    // Behind ports, length and checksum.
    datagram?.get(8..)
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;

    fn v4(total_len: u16, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes.max(20)];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&total_len.to_be_bytes());
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet.truncate(bytes);
        packet
    }

    fn v6(payload_len: u16, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes.max(40)];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&payload_len.to_be_bytes());
        packet[8..24].copy_from_slice(&"fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        packet[24..40].copy_from_slice(&"fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.truncate(bytes);
        packet
    }

    #[test]
    fn addresses_and_length_are_read_and_padding_is_not_counted() {
        let header = IpHeader::parse(&v4(28, 32)).unwrap();
        assert_eq!(header.source, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(header.destination, "10.0.0.2".parse::<IpAddr>().unwrap());
        assert_eq!(header.total_len, 28);
        let header = IpHeader::parse(&v6(8, 64)).unwrap();
        assert_eq!(header.source, "fd00::1".parse::<IpAddr>().unwrap());
        assert_eq!(header.destination, "fd00::2".parse::<IpAddr>().unwrap());
        assert_eq!(header.total_len, 48);
    }

    #[test]
    fn a_dishonest_length_is_refused() {
        assert!(IpHeader::parse(&v4(20, 20)).is_some());
        assert!(IpHeader::parse(&v4(19, 32)).is_none());
        assert!(IpHeader::parse(&v4(33, 32)).is_none());
        assert!(IpHeader::parse(&v4(20, 19)).is_none());
        assert!(IpHeader::parse(&v6(0, 40)).is_some());
        assert!(IpHeader::parse(&v6(1, 40)).is_none());
        assert!(IpHeader::parse(&v6(u16::MAX, 64)).is_none());
        assert!(IpHeader::parse(&v6(0, 39)).is_none());
        assert!(IpHeader::parse(&[]).is_none());
        for version in [0u8, 5, 7, 15] {
            let mut packet = v6(0, 64);
            packet[0] = version << 4;
            assert!(IpHeader::parse(&packet).is_none());
        }
    }

    #[test]
    fn the_payload_of_a_datagram_is_found_also_in_its_first_fragment() {
        let mut packet = v4(32, 32);
        packet[9] = 17;
        packet[28..].copy_from_slice(b"weft");
        assert_eq!(udp_payload(&packet), Some(&b"weft"[..]));
        packet[6] = 0x20;
        assert_eq!(udp_payload(&packet), Some(&b"weft"[..]), "a first fragment");
        packet[7] = 1;
        assert_eq!(udp_payload(&packet), None, "a later fragment");
        packet[6..10].copy_from_slice(&[0, 0, 64, 6]);
        assert_eq!(udp_payload(&packet), None, "TCP");
        packet[9] = 17;
        packet[0] = 0x4f;
        assert_eq!(udp_payload(&packet), None, "options that are not there");

        let mut packet = v6(12, 52);
        packet[6] = 17;
        packet[48..].copy_from_slice(b"weft");
        assert_eq!(udp_payload(&packet), Some(&b"weft"[..]));
        let mut packet = v6(20, 60);
        packet[6] = 44;
        packet[40] = 17;
        packet[43] = 1;
        packet[56..].copy_from_slice(b"weft");
        assert_eq!(udp_payload(&packet), Some(&b"weft"[..]), "a first fragment");
        packet[43] = 9;
        assert_eq!(udp_payload(&packet), None, "a later fragment");
        (0..packet.len()).for_each(|len| assert_eq!(udp_payload(&packet[..len]), None));
    }
}
