//! Sizes that differ between a chip and a host: what is built for a target without an operating system has the memory of
//! a chip. The rules are the same on both; these are only how much of something is kept.

use core::time::Duration;

const CHIP: bool = cfg!(target_os = "none");

const fn choose(chip: usize, host: usize) -> usize {
    if CHIP { chip } else { host }
}

/// Bytes for a peer's texts (name, system, user, tags) with a separator between each. A name always fits.
pub(crate) const PEER_TEXT: usize = choose(72, 160);
/// Bytes for this node's texts (name, domain, user, tags) with a separator between each.
pub(crate) const SELF_TEXT: usize = choose(224, 384);
/// Whether inner addresses of IPv6 are of use. A chip's inner stack speaks IPv4 alone, for the sake of its flash.
pub(crate) const INNER_V6: bool = !CHIP;
/// What holds the bits of an inner address.
#[cfg(target_os = "none")]
pub(crate) type InnerBits = u32;
/// What holds the bits of an inner address.
#[cfg(not(target_os = "none"))]
pub(crate) type InnerBits = u128;
/// Whether outer addresses of IPv6 are of use: as the inner ones.
pub(crate) const OUTER_V6: bool = !CHIP;
/// Candidate endpoints of one peer.
pub(crate) const CANDIDATES: usize = choose(4, 8);
/// Bytes of a sentence for a person.
pub(crate) const SENTENCE: usize = choose(120, 224);
/// Subjects of health with a sentence of their own.
pub(crate) const HEALTH_SUBJECTS: usize = choose(2, 4);
/// Changed peers that are named one by one.
pub(crate) const NAMED_PEERS: usize = choose(4, 16);
/// The most that a node says at once, in bytes: the upgrade request, or its largest frame, which is set by the ids in it.
pub(crate) const NODE_OUTPUT: usize = choose(384, crate::control::MAX_FRAME);
/// Ids in one record.
pub(crate) const ID_BATCH: usize = choose(16, 64);
/// Addresses of the server.
pub(crate) const SERVER_ADDRESSES: usize = choose(2, 4);
/// Recent peers that are kept over a restart.
pub(crate) const RECENT_PEERS: usize = choose(16, 64);
/// Events of the device that wait to be collected.
pub(crate) const DEVICE_EVENTS: usize = choose(8, 32);
/// Questions for peers that are remembered with their answers.
pub(crate) const LOOKUPS: usize = choose(12, 64);
/// Questions for peers that are to be sent.
pub(crate) const UNSENT_LOOKUPS: usize = choose(2, 16);
/// Initiations that wait until their sender is known.
pub(crate) const STRANGERS: usize = choose(4, 16);
/// Peers that made room whose greatest timestamp is remembered.
pub(crate) const DEPARTED: usize = choose(32, 128);
/// Peers that were asked for and have to prove themselves before somebody makes room for them.
pub(crate) const NEWCOMERS: usize = choose(2, 16);
/// Peers that never make room.
pub(crate) const PINNED: usize = choose(4, 16);
/// Recent peers are not kept more often: a chip keeps them in flash, which wears.
pub(crate) const RECENT_INTERVAL: Duration = Duration::from_secs(if CHIP { 300 } else { 1 });
