//! Explicit congestion notification across a tunnel (RFC 6040, normal mode): the outer packet carries the inner one's
//! mark, and congestion that the outer one met is handed inward.

/// The two ECN bits of an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ecn {
    /// The sender does not take part.
    NotCapable = 0,
    /// ECT(1).
    Capable1 = 1,
    /// ECT(0).
    Capable0 = 2,
    /// CE: a router on the way was congested.
    Congested = 3,
}

impl Ecn {
    /// The mark in the last two bits of a TOS or traffic-class byte.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NotCapable,
            1 => Self::Capable1,
            2 => Self::Capable0,
            _ => Self::Congested,
        }
    }

    /// The mark of an IP packet: what the outer packet of a data message is to carry. `NotCapable` where it is neither
    /// IPv4 nor IPv6.
    pub const fn of(packet: &[u8]) -> Self {
        match packet {
            [0x40..=0x4f, tos, ..] => Self::from_bits(*tos),
            [0x60..=0x6f, class_and_label, ..] => Self::from_bits(*class_and_label >> 4),
            _ => Self::NotCapable,
        }
    }
}

/// Hands the mark of the outer packet to the inner one that came in it. `false` where the packet must be dropped: it
/// met congestion and its sender would not understand the mark (RFC 6040 section 4.2).
#[must_use]
pub fn decapsulate(packet: &mut [u8], outer: Ecn) -> bool {
    match (outer, Ecn::of(packet)) {
        (Ecn::Congested, Ecn::NotCapable) => return false,
        (Ecn::Congested, Ecn::Capable0 | Ecn::Capable1) => mark(packet, Ecn::Congested),
        (Ecn::Capable1, Ecn::Capable0) => mark(packet, Ecn::Capable1),
        _ => {}
    }
    true
}

/// Sets the mark of an IPv4 or IPv6 packet and keeps the IPv4 header checksum right (RFC 1624).
fn mark(packet: &mut [u8], ecn: Ecn) {
    match packet {
        [version @ 0x40..=0x4f, tos, _, _, _, _, _, _, _, _, sum_high, sum_low, ..] => {
            let old = u16::from_be_bytes([*version, *tos]);
            *tos = (*tos & !3) | ecn as u8;
            let new = u16::from_be_bytes([*version, *tos]);
            let sum = u16::from_be_bytes([*sum_high, *sum_low]);
            [*sum_high, *sum_low] = adjusted(sum, old, new).to_be_bytes();
        }
        [0x60..=0x6f, class_and_label, ..] => *class_and_label = (*class_and_label & !0x30) | ((ecn as u8) << 4),
        _ => {}
    }
}

/// The checksum after one word under it changed from `old` to `new`: `~(~sum + ~old + new)` in ones' complement.
fn adjusted(sum: u16, old: u16, new: u16) -> u16 {
    let total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    let folded = (total & 0xffff) + (total >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The IPv4 header of a published example, with a right checksum.
    const V4: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
        0x00, 0xc7,
    ];

    fn checksum_is_right(header: &[u8]) -> bool {
        let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        (sum & 0xffff) + (sum >> 16) == 0xffff
    }

    #[test]
    fn congestion_outside_is_handed_inward_and_the_checksum_stays_right() {
        assert!(checksum_is_right(&V4));
        for capable in [Ecn::Capable0, Ecn::Capable1] {
            let mut packet = V4;
            mark(&mut packet, capable);
            assert!(checksum_is_right(&packet));
            assert_eq!(Ecn::of(&packet), capable);
            assert!(decapsulate(&mut packet, Ecn::Congested));
            assert_eq!(Ecn::of(&packet), Ecn::Congested);
            assert!(checksum_is_right(&packet));

            let mut packet = [0; 40];
            packet[..2].copy_from_slice(&[0x6f, 0x0f | (capable as u8) << 4]);
            assert!(decapsulate(&mut packet, Ecn::Congested));
            assert_eq!(packet[..2], [0x6f, 0x3f]);
        }
    }

    #[test]
    fn congestion_that_the_sender_would_not_understand_drops_the_packet() {
        let mut packet = V4;
        assert!(!decapsulate(&mut packet, Ecn::Congested));
        assert!(decapsulate(&mut packet, Ecn::Capable0));
        assert_eq!(packet, V4);
    }

    #[test]
    fn anything_else_is_left_alone() {
        for mut packet in [[0u8; 20], [0xff; 20]] {
            let before = packet;
            let _ = decapsulate(&mut packet, Ecn::Congested);
            assert_eq!(packet, before);
        }
        assert_eq!(Ecn::of(&[]), Ecn::NotCapable);
    }
}
