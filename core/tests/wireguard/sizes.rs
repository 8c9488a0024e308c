//! What a device costs in memory. A test that fails here has made every peer of every node larger.

#![expect(clippy::print_stdout, reason = "the sizes are what one wants to read")]

use std::mem::size_of;

use weft_core::wireguard::allowed_ips::AllowedIpNode;
use weft_core::wireguard::index_table::IndexEntry;
use weft_core::wireguard::replay::ReplayWindow;
use weft_core::wireguard::storage::{Borrowed, FixedTables};
use weft_core::wireguard::{ActivePeer, Device, HandshakeTicket, KnownPeer, OpenTicket, PeerId, SealTicket};

#[test]
fn a_chip_with_16_peers_and_a_512_bit_window_spends_28_kib_on_tables() {
    // Two prefixes a peer, four staged packets of 1,280 bytes, 16 sources under the rate limit.
    type Chip = FixedTables<16, 16, 64, 64, 4, 1280, 16, 8>;
    let (tables, device) = (size_of::<Chip>(), size_of::<Device<Borrowed<'static, 8, 1280>>>());
    println!("tables {tables} B, device {device} B");
    assert!(tables <= 28 * 1024, "{tables}");
    assert!(device <= 1_152, "{device}");
}

#[test]
fn a_peer_has_its_size() {
    let (known, chip) = (size_of::<KnownPeer>(), size_of::<ActivePeer<ReplayWindow<8>>>());
    let host = size_of::<ActivePeer<ReplayWindow<128>>>();
    println!("known {known} B, active with a 512-bit window {chip} B, with an 8,192-bit window {host} B");
    assert!(known <= 200, "{known}");
    assert!(chip <= 936, "{chip}");
    assert!(host <= 3_816, "{host}");
}

#[test]
fn ten_thousand_known_peers_of_which_64_are_active_take_less_than_4_mb_on_a_host() {
    let known = 10_000 * size_of::<KnownPeer>();
    let active = 64 * size_of::<ActivePeer<ReplayWindow<128>>>();
    // An IPv4 and an IPv6 address each.
    let prefixes = 40_000 * size_of::<AllowedIpNode<PeerId>>();
    let indices = 512 * size_of::<Option<IndexEntry<u32>>>();
    let total = known + active + prefixes + indices;
    println!("known {known} + active {active} + prefixes {prefixes} + indices {indices} = {total} B");
    assert!(total < 4_000_000, "{total}");
}

#[test]
fn tickets_are_small_enough_for_a_chips_stack() {
    let sizes = [size_of::<HandshakeTicket>(), size_of::<SealTicket>(), size_of::<OpenTicket>()];
    println!("handshake, seal and open tickets: {sizes:?} B");
    assert!(sizes.iter().zip([600, 136, 72]).all(|(size, limit)| *size <= limit), "{sizes:?}");
}
