//! Tables on the heap that grow one slot at a time up to a limit, so that every test grows them too.

use std::cell::Cell;

use weft_core::wireguard::{
    ActivePeer, FixedPacket, KnownPeer, PeerId, StagedPacket,
    allowed_ips::AllowedIpNode,
    index_table::IndexEntry,
    rate_limit::RateLimitEntry,
    replay::ReplayWindow,
    storage::{Slots, Storage, Tables},
};

thread_local! {
    /// How often a slot of any growing table was looked at.
    pub static LOOKS: Cell<u64> = const { Cell::new(0) };
}

fn count_look() {
    LOOKS.with(|looks| looks.set(looks.get() + 1));
}

/// A growing table.
pub struct Growing<T> {
    slots: Vec<T>,
    max: usize,
    empty: fn() -> T,
}

impl<T> Growing<T> {
    fn new(max: usize, empty: fn() -> T) -> Self {
        Self { slots: Vec::new(), max, empty }
    }
}

impl<T> Slots<T> for Growing<T> {
    fn capacity(&self) -> usize {
        self.slots.len()
    }

    fn get(&self, index: usize) -> Option<&T> {
        count_look();
        self.slots.get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        count_look();
        self.slots.get_mut(index)
    }

    fn grow(&mut self) -> bool {
        if self.slots.len() < self.max {
            self.slots.push((self.empty)());
            return true;
        }
        false
    }
}

/// A 512-bit replay window and staged packets of up to 1,500 bytes.
pub struct TestStorage;

impl Storage for TestStorage {
    type Window = ReplayWindow<8>;
    type Packet = FixedPacket<1500>;
    type Known = Growing<KnownPeer>;
    type Active = Growing<ActivePeer<ReplayWindow<8>>>;
    type AllowedIps = Growing<AllowedIpNode<PeerId>>;
    type Indices = Growing<Option<IndexEntry<u32>>>;
    type Staged = Growing<StagedPacket<FixedPacket<1500>>>;
    type Sources = Vec16;
}

/// The rate limiter's table does not grow.
pub type Vec16 = [RateLimitEntry; 16];

/// How much a device may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub known: usize,
    pub active: usize,
    pub staged: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { known: 64, active: 64, staged: 64 }
    }
}

pub fn tables(limits: Limits) -> Tables<TestStorage> {
    Tables {
        known: Growing::new(limits.known, || KnownPeer::EMPTY),
        active: Growing::new(limits.active, || ActivePeer::EMPTY),
        allowed_ips: Growing::new(limits.known * 4, || AllowedIpNode::FREE),
        indices: Growing::new((limits.active * 8).next_power_of_two(), || None),
        staged: Growing::new(limits.staged, || StagedPacket::EMPTY),
        sources: [RateLimitEntry::EMPTY; 16],
    }
}
