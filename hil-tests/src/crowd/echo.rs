//! ICMP echo in IPv4 packets without options (RFC 791, RFC 792).

use std::net::Ipv4Addr;

/// Bytes of the two headers.
const HEADERS: usize = 20 + 8;
const REQUEST: u8 = 8;
const REPLY: u8 = 0;
const ICMP: u8 = 1;

/// An echo request that carries a number.
pub(super) fn request(from: Ipv4Addr, to: Ipv4Addr, number: u16) -> Vec<u8> {
    packet(from, to, REQUEST, &[&[0x77, 0x65], &number.to_be_bytes()[..]].concat())
}

/// The reply to an echo request; `None` where the packet is none.
pub(super) fn reply(packet: &[u8]) -> Option<Vec<u8>> {
    let (from, to, body) = body(packet, REQUEST)?;
    Some(self::packet(to, from, REPLY, body))
}

/// The number in an echo reply and whom it is from; `None` where the packet is none.
pub(super) fn replied(packet: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let (from, _, body) = body(packet, REPLY)?;
    Some((from, u16::from_be_bytes(body.get(2..4)?.try_into().ok()?)))
}

/// Source, destination and what follows the checksum of an ICMP message of one kind.
fn body(packet: &[u8], kind: u8) -> Option<(Ipv4Addr, Ipv4Addr, &[u8])> {
    let (header, message) = packet.split_at_checked(20)?;
    if header.first() != Some(&0x45) || header.get(9) != Some(&ICMP) || message.get(..2) != Some(&[kind, 0]) {
        return None;
    }
    let address = |at: usize| header.get(at..at + 4)?.try_into().ok().map(<[u8; 4]>::into);
    let len = u16::from_be_bytes(header.get(2..4)?.try_into().ok()?);
    Some((address(12)?, address(16)?, packet.get(HEADERS - 4..usize::from(len))?))
}

/// A packet with an ICMP message of which all behind the checksum is given.
fn packet(from: Ipv4Addr, to: Ipv4Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let len = (HEADERS - 4 + body.len()) as u16;
    let mut header = [&[0x45, 0], &len.to_be_bytes()[..], &[0, 0, 0, 0, 64, ICMP, 0, 0]].concat();
    header.extend(from.octets().into_iter().chain(to.octets()));
    let mut message = [&[kind, 0, 0, 0], body].concat();
    for (bytes, at) in [(&mut header, 10), (&mut message, 2)] {
        let sum = checksum(bytes).to_be_bytes();
        bytes.iter_mut().skip(at).zip(sum).for_each(|(byte, sum)| *byte = sum);
    }
    [header, message].concat()
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        let high = word.first().copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([high, word.get(1).copied().unwrap_or_default()]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_with_its_number() {
        let (a, b) = (Ipv4Addr::new(100, 64, 0, 1), Ipv4Addr::new(100, 64, 0, 2));
        let request = request(a, b, 0x1234);
        assert_eq!((checksum(&request[..20]), checksum(&request[20..])), (0, 0));
        let reply = reply(&request).unwrap();
        assert_eq!((checksum(&reply[..20]), checksum(&reply[20..])), (0, 0));
        assert_eq!(replied(&reply), Some((b, 0x1234)));
        assert_eq!(super::reply(&reply), None, "a reply is not answered");
        assert_eq!(replied(&request), None);
    }
}
