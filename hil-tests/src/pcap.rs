//! The pcap file format, version 2.4, with times in microseconds, as tshark reads it.

use std::time::{SystemTime, UNIX_EPOCH};

/// The link type of packets that begin with their IP header.
pub(crate) const LINKTYPE_RAW: u32 = 101;
/// The link type of Ethernet frames without their check sequence.
pub(crate) const LINKTYPE_ETHERNET: u32 = 1;

/// The head of a file.
pub(crate) fn file_header(link_type: u32) -> [u8; 24] {
    words([0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 1 << 16, link_type])
}

/// The head of a packet: seconds, microseconds, length caught, length.
pub(crate) fn record_header(time: SystemTime, len: usize) -> [u8; 16] {
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    words([u32::try_from(time.as_secs()).unwrap_or(u32::MAX), time.subsec_micros(), len, len])
}

fn words<const WORDS: usize, const BYTES: usize>(words: [u32; WORDS]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
