//! ICMP errors (RFC 792, RFC 4443) that answer an inner packet which cannot be carried, so that its sender learns
//! of it at once instead of waiting for a timeout.
//!
//! When an answer is due is the caller's business, and so is limiting how many.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::header::{IPV4_HEADER_LEN, IPV6_HEADER_LEN};

/// The longest answer in bytes: an ICMPv6 error is cut to the smallest IPv6 MTU (RFC 4443 section 2.4).
pub const MAX_LEN: usize = 1280;

/// The longest answer over IPv4 in bytes (RFC 1812 section 4.3.2.3).
const MAX_LEN_V4: usize = 576;
const ICMP_HEADER_LEN: usize = 8;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 64;

/// Why a packet was not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Undeliverable {
    /// Nobody has the destination address, or it is not known where he is.
    HostUnreachable,
    /// The packet is longer than `mtu` bytes and may not be fragmented.
    TooBig {
        /// The longest packet that would be carried, in bytes.
        mtu: u16,
    },
}

/// Writes the ICMP error that answers `packet` to `out`, and returns its length. The answer seems to come from the
/// packet's destination.
///
/// `None` where the packet may not be answered with an error (RFC 1122 section 3.2.2, RFC 4443 section 2.4): it is
/// an ICMP error itself, a later fragment, to or from a group of hosts, or not an IP packet at all; also where `out`
/// has less than [`MAX_LEN`] bytes.
pub fn answer(packet: &[u8], reason: Undeliverable, out: &mut [u8]) -> Option<usize> {
    let out = out.get_mut(..MAX_LEN)?;
    match packet.first()? >> 4 {
        4 => answer_v4(packet, reason, out),
        6 => answer_v6(packet, reason, out),
        _ => None,
    }
}

fn answer_v4(packet: &[u8], reason: Undeliverable, out: &mut [u8]) -> Option<usize> {
    let header = packet.first_chunk::<IPV4_HEADER_LEN>()?;
    let &[version_ihl, _, _, _, _, _, fragment_high, fragment_low, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        header;
    let (source, destination) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    let payload = packet.get(usize::from(version_ihl & 0xf) * 4..)?;
    let later_fragment = u16::from_be_bytes([fragment_high & 0x1f, fragment_low]) != 0;
    let icmp_error = protocol == PROTOCOL_ICMP && matches!(payload.first(), Some(3 | 4 | 5 | 11 | 12) | None);
    let group = |address: Ipv4Addr| address.is_multicast() || address.is_broadcast() || address.is_unspecified();
    if later_fragment || icmp_error || group(source) || group(destination) || source.is_loopback() {
        return None;
    }
    let (code, rest) = match reason {
        Undeliverable::HostUnreachable => (1, 0),
        // RFC 1191: fragmentation needed and DF set.
        Undeliverable::TooBig { mtu } => (4, u32::from(mtu)),
    };
    let quoted = packet.len().min(MAX_LEN_V4 - IPV4_HEADER_LEN - ICMP_HEADER_LEN);
    let len = IPV4_HEADER_LEN + ICMP_HEADER_LEN + quoted;
    let (ip, icmp) = out.get_mut(..len)?.split_at_mut_checked(IPV4_HEADER_LEN)?;
    write_icmp(icmp, 3, code, rest, packet)?;
    let sum = checksum(0, icmp);
    icmp.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());

    let ip: &mut [u8; IPV4_HEADER_LEN] = ip.try_into().ok()?;
    *ip = [0; IPV4_HEADER_LEN];
    let [first, _, len_high, len_low, .., hop_limit, next, _, _, _, _, _, _, _, _, _, _] = ip;
    (*first, *hop_limit, *next) = (0x45, HOP_LIMIT, PROTOCOL_ICMP);
    [*len_high, *len_low] = u16::try_from(len).ok()?.to_be_bytes();
    ip.get_mut(12..16)?.copy_from_slice(&destination.octets());
    ip.get_mut(16..20)?.copy_from_slice(&source.octets());
    let sum = checksum(0, ip);
    ip.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    Some(len)
}

fn answer_v6(packet: &[u8], reason: Undeliverable, out: &mut [u8]) -> Option<usize> {
    let header = packet.first_chunk::<IPV6_HEADER_LEN>()?;
    let source = Ipv6Addr::from(*header.get(8..24)?.first_chunk::<16>()?);
    let destination = Ipv6Addr::from(*header.get(24..40)?.first_chunk::<16>()?);
    let too_big = matches!(reason, Undeliverable::TooBig { .. });
    if source.is_multicast()
        || source.is_unspecified()
        || source.is_loopback()
        || (destination.is_multicast() && !too_big)
        || is_icmpv6_error_or_later_fragment(packet)?
    {
        return None;
    }
    let (kind, code, rest) = match reason {
        // Address unreachable.
        Undeliverable::HostUnreachable => (1, 3, 0),
        Undeliverable::TooBig { mtu } => (2, 0, u32::from(mtu)),
    };
    let quoted = packet.len().min(MAX_LEN - IPV6_HEADER_LEN - ICMP_HEADER_LEN);
    let len = ICMP_HEADER_LEN + quoted;
    let (ip, icmp) = out.get_mut(..IPV6_HEADER_LEN + len)?.split_at_mut_checked(IPV6_HEADER_LEN)?;
    let answered_from = if destination.is_multicast() { source } else { destination };
    ip.fill(0);
    ip.get_mut(4..6)?.copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
    ip.get_mut(8..24)?.copy_from_slice(&answered_from.octets());
    ip.get_mut(24..40)?.copy_from_slice(&source.octets());
    let [first, _, _, _, _, _, next, hop_limit, ..] = ip else { return None };
    (*first, *next, *hop_limit) = (0x60, PROTOCOL_ICMPV6, HOP_LIMIT);

    write_icmp(icmp, kind, code, rest, packet)?;
    // The pseudo-header of RFC 8200 section 8.1: both addresses, length, next header.
    let pseudo = sum(sum(0, ip.get(8..40)?), &u32::try_from(len).ok()?.to_be_bytes());
    let sum = checksum(pseudo + u64::from(PROTOCOL_ICMPV6), icmp);
    icmp.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
    Some(IPV6_HEADER_LEN + len)
}

/// Walks the extension headers. `None` where they are cut off.
fn is_icmpv6_error_or_later_fragment(packet: &[u8]) -> Option<bool> {
    let mut next = *packet.get(6)?;
    let mut rest = packet.get(IPV6_HEADER_LEN..)?;
    loop {
        let header_len = match next {
            PROTOCOL_ICMPV6 => {
                let kind = *rest.first()?;
                // Redirects count as errors.
                return Some(kind < 128 || kind == 137);
            }
            // Fragment header: offset in the upper 13 bits.
            44 => {
                let &[_, _, high, low, ..] = rest else { return None };
                if u16::from_be_bytes([high, low]) >> 3 != 0 {
                    return Some(true);
                }
                8
            }
            // Hop-by-hop options, routing, destination options.
            0 | 43 | 60 => usize::from(*rest.get(1)?) * 8 + 8,
            _ => return Some(false),
        };
        next = *rest.first()?;
        rest = rest.get(header_len..)?;
    }
}

/// Writes header (checksum zero) and as much of the packet as fits.
fn write_icmp(icmp: &mut [u8], kind: u8, code: u8, rest: u32, packet: &[u8]) -> Option<()> {
    let (header, quote) = icmp.split_first_chunk_mut::<ICMP_HEADER_LEN>()?;
    let [r0, r1, r2, r3] = rest.to_be_bytes();
    *header = [kind, code, 0, 0, r0, r1, r2, r3];
    quote.copy_from_slice(packet.get(..quote.len())?);
    Some(())
}

/// The internet checksum (RFC 1071) of `data` on top of an earlier [`sum`].
fn checksum(start: u64, data: &[u8]) -> u16 {
    let mut sum = sum(start, data);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn sum(start: u64, data: &[u8]) -> u64 {
    data.chunks(2).fold(start, |sum, pair| {
        let word = match *pair {
            [high, low] => u16::from_be_bytes([high, low]),
            [high] => u16::from_be_bytes([high, 0]),
            _ => 0,
        };
        sum.saturating_add(word.into())
    })
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;

    fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend_from_slice(payload);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
        packet.extend_from_slice(&Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets());
        packet.extend_from_slice(&Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).octets());
        packet.extend_from_slice(payload);
        packet
    }

    fn reply(packet: &[u8], reason: Undeliverable) -> Option<Vec<u8>> {
        let mut out = [0xaa; MAX_LEN];
        answer(packet, reason, &mut out).map(|len| out[..len].to_vec())
    }

    #[test]
    fn an_ipv4_answer_quotes_the_packet_and_has_right_checksums() {
        let packet = v4(17, &[7; 30]);
        let icmp = reply(&packet, Undeliverable::HostUnreachable).unwrap();
        assert_eq!(icmp[..4], [0x45, 0, 0, 78]);
        assert_eq!((icmp[9], &icmp[12..20]), (1, &[10, 0, 0, 2, 10, 0, 0, 1][..]));
        assert_eq!((icmp[20], icmp[21], &icmp[28..]), (3, 1, packet.as_slice()));
        assert_eq!((checksum(0, &icmp[..20]), checksum(0, &icmp[20..])), (0, 0));
    }

    #[test]
    fn an_ipv6_answer_quotes_the_packet_and_has_a_right_checksum() {
        let packet = v6(6, &[7; 31]);
        let icmp = reply(&packet, Undeliverable::HostUnreachable).unwrap();
        assert_eq!((icmp[0], icmp[4], icmp[5], icmp[6]), (0x60, 0, 79, 58));
        assert_eq!((&icmp[8..24], &icmp[24..40]), (&packet[24..40], &packet[8..24]));
        assert_eq!((icmp[40], icmp[41], &icmp[48..]), (1, 3, packet.as_slice()));
        let pseudo = sum(0, &icmp[8..40]) + 79 + 58;
        assert_eq!(checksum(pseudo, &icmp[40..]), 0);
    }

    #[test]
    fn too_big_tells_the_mtu_and_long_packets_are_cut() {
        let icmp = reply(&v4(6, &[1; 1500]), Undeliverable::TooBig { mtu: 1280 }).unwrap();
        assert_eq!((icmp.len(), icmp[20], icmp[21], &icmp[24..28]), (576, 3, 4, &[0, 0, 5, 0][..]));
        let icmp = reply(&v6(6, &[1; 1500]), Undeliverable::TooBig { mtu: 1280 }).unwrap();
        assert_eq!((icmp.len(), icmp[40], icmp[41], &icmp[44..48]), (1280, 2, 0, &[0, 0, 5, 0][..]));
    }

    #[test]
    fn errors_fragments_and_groups_are_not_answered() {
        let reason = Undeliverable::HostUnreachable;
        assert!(reply(&v4(1, &[8, 0, 0, 0, 0, 0, 0, 0]), reason).is_some(), "an echo request is");
        assert!(reply(&v4(1, &[3, 1, 0, 0, 0, 0, 0, 0]), reason).is_none());
        assert!(reply(&v6(58, &[128, 0, 0, 0]), reason).is_some(), "an echo request is");
        assert!(reply(&v6(58, &[1, 3, 0, 0]), reason).is_none());
        // The same error behind destination options, and behind the header of a first fragment.
        assert!(reply(&v6(60, &[58, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0]), reason).is_none());
        assert!(reply(&v6(44, &[58, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0, 0]), reason).is_none());
        assert!(reply(&v6(44, &[17, 0, 0, 8, 0, 0, 0, 0, 1, 3, 0, 0]), reason).is_none(), "a later fragment");
        let mut packet = v4(17, &[0; 8]);
        packet[7] = 1;
        assert!(reply(&packet, reason).is_none(), "a later fragment");
        let mut packet = v4(17, &[0; 8]);
        packet[16..20].copy_from_slice(&[224, 0, 0, 251]);
        assert!(reply(&packet, reason).is_none(), "multicast");
        let mut packet = v6(17, &[0; 8]);
        packet[8..24].fill(0);
        assert!(reply(&packet, reason).is_none(), "unspecified source");
    }

    #[test]
    fn cut_off_packets_are_not_answered() {
        for packet in [v4(17, &[0; 8]), v6(60, &[58, 9, 0, 0, 0, 0, 0, 0, 1])] {
            for len in 0..packet.len() {
                let _ = reply(&packet[..len], Undeliverable::HostUnreachable);
            }
        }
        assert!(reply(&[], Undeliverable::HostUnreachable).is_none());
        assert!(reply(&[0x45; 19], Undeliverable::HostUnreachable).is_none());
        assert!(reply(&v6(60, &[58, 9, 0, 0, 0, 0, 0, 0, 1]), Undeliverable::HostUnreachable).is_none());
        assert_eq!(answer(&v4(17, &[0; 8]), Undeliverable::HostUnreachable, &mut [0; MAX_LEN - 1]), None);
    }
}
