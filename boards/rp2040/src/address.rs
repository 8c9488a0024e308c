//! What the board's own network needs of a chip: an Ethernet address, and numbers that differ from boot to boot. No secrets.

use embassy_rp::clocks::RoscRng;

/// The Ethernet address of a board without one of its own: locally administered, made from the number of its flash chip.
#[must_use]
pub const fn mac_address(unique_id: &[u8; 16]) -> [u8; 6] {
    // FNV-1a: makers give neighbours to neighbours, and not all of the number's bytes differ.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < unique_id.len() {
        hash = (hash ^ unique_id[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [0x02, a, b, c, d, e]
}

/// A number for the ports and sequence numbers of the board's own network. Not for keys.
#[must_use]
pub fn network_seed() -> u64 {
    RoscRng.next_u64()
}
