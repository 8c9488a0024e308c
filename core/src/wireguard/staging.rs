//! Inner packets that wait for a handshake: one pool for all peers, each peer's oldest dropped first.

use super::storage::Slots;

/// No slot.
const NONE: u32 = u32::MAX;

/// A place for one inner packet.
pub trait PacketBuffer: Send + 'static {
    /// Nothing.
    const EMPTY: Self;

    /// Keeps a copy of `packet`; false where it is too large.
    fn store(&mut self, packet: &[u8]) -> bool;

    /// What is kept.
    fn bytes(&self) -> &[u8];

    /// Keeps nothing any more, and gives memory back where that is possible.
    fn clear(&mut self);
}

/// A [`PacketBuffer`] of fixed size.
#[derive(Clone, Debug)]
pub struct FixedPacket<const SIZE: usize> {
    len: usize,
    bytes: [u8; SIZE],
}

impl<const SIZE: usize> PacketBuffer for FixedPacket<SIZE> {
    const EMPTY: Self = Self { len: 0, bytes: [0; SIZE] };

    fn store(&mut self, packet: &[u8]) -> bool {
        let Some(room) = self.bytes.as_mut_slice().get_mut(..packet.len()) else { return false };
        room.copy_from_slice(packet);
        self.len = packet.len();
        true
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.as_slice().get(..self.len).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.len = 0;
    }
}

/// A slot of the pool.
#[derive(Clone, Debug)]
pub struct StagedPacket<B> {
    buffer: B,
    /// The active slot of the peer that the packet is for.
    owner: u32,
    /// The next younger packet of the same peer; for a free slot the next free one.
    next_of_owner: u32,
    /// The next older and younger of all packets.
    older: u32,
    younger: u32,
}

impl<B: PacketBuffer> StagedPacket<B> {
    /// An empty slot.
    pub const EMPTY: Self = Self { buffer: B::EMPTY, owner: NONE, next_of_owner: NONE, older: NONE, younger: NONE };
}

impl<B: PacketBuffer> Default for StagedPacket<B> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// The packets of one peer, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct StagedQueue {
    oldest: u32,
    youngest: u32,
    len: u32,
}

impl StagedQueue {
    pub(crate) const EMPTY: Self = Self { oldest: NONE, youngest: NONE, len: 0 };

    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Why a packet was not staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStaged {
    /// No slot is free.
    Full,
    /// It is larger than a slot.
    TooLarge,
}

/// The pool.
#[derive(Debug)]
pub(crate) struct StagedPool<G> {
    slots: G,
    free: u32,
    untouched: u32,
    oldest: u32,
    youngest: u32,
}

impl<G> StagedPool<G> {
    pub(crate) const fn new(slots: G) -> Self {
        Self { slots, free: NONE, untouched: 0, oldest: NONE, youngest: NONE }
    }

    /// The owner of the oldest packet of all.
    pub(crate) fn oldest_owner<B>(&self) -> Option<u32>
    where
        G: Slots<StagedPacket<B>>,
    {
        self.slots.get(self.oldest as usize).map(|packet| packet.owner)
    }

    /// Appends a copy of `packet` to a peer's queue.
    pub(crate) fn push<B: PacketBuffer>(
        &mut self,
        queue: &mut StagedQueue,
        owner: u32,
        packet: &[u8],
    ) -> Result<(), NotStaged>
    where
        G: Slots<StagedPacket<B>>,
    {
        let index = self.take_free().ok_or(NotStaged::Full)?;
        let slot = self.slots.get_mut(index as usize).ok_or(NotStaged::Full)?;
        if !slot.buffer.store(packet) {
            slot.next_of_owner = self.free;
            self.free = index;
            return Err(NotStaged::TooLarge);
        }
        slot.owner = owner;
        slot.next_of_owner = NONE;
        slot.younger = NONE;
        slot.older = core::mem::replace(&mut self.youngest, index);
        let before = slot.older;
        match self.slots.get_mut(before as usize) {
            Some(before) => before.younger = index,
            None => self.oldest = index,
        }
        match self.slots.get_mut(queue.youngest as usize) {
            Some(before) if queue.len > 0 => before.next_of_owner = index,
            _ => queue.oldest = index,
        }
        queue.youngest = index;
        queue.len = queue.len.saturating_add(1);
        Ok(())
    }

    /// The oldest packet of a queue.
    pub(crate) fn front<B: PacketBuffer>(&self, queue: &StagedQueue) -> Option<&[u8]>
    where
        G: Slots<StagedPacket<B>>,
    {
        self.slots.get(queue.oldest as usize).map(|packet| packet.buffer.bytes())
    }

    /// Drops the oldest packet of a queue; false where it is empty.
    pub(crate) fn pop<B: PacketBuffer>(&mut self, queue: &mut StagedQueue) -> bool
    where
        G: Slots<StagedPacket<B>>,
    {
        let index = queue.oldest;
        let Some(slot) = self.slots.get_mut(index as usize) else { return false };
        slot.buffer.clear();
        slot.owner = NONE;
        let (older, younger) = (slot.older, slot.younger);
        let next = core::mem::replace(&mut slot.next_of_owner, self.free);
        self.free = index;
        match self.slots.get_mut(older as usize) {
            Some(older) => older.younger = younger,
            None => self.oldest = younger,
        }
        match self.slots.get_mut(younger as usize) {
            Some(younger) => younger.older = older,
            None => self.youngest = older,
        }
        queue.oldest = next;
        queue.len = queue.len.saturating_sub(1);
        if queue.len == 0 {
            *queue = StagedQueue::EMPTY;
        }
        true
    }

    fn take_free<B>(&mut self) -> Option<u32>
    where
        G: Slots<StagedPacket<B>>,
    {
        if let Some(slot) = self.slots.get(self.free as usize) {
            let index = self.free;
            self.free = slot.next_of_owner;
            return Some(index);
        }
        if self.untouched as usize >= self.slots.capacity() && !self.slots.grow() {
            return None;
        }
        let index = self.untouched;
        self.untouched = index.saturating_add(1);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pool_agrees_with_a_queue_for_each_peer(
            steps in prop::collection::vec((0u32..3, any::<bool>(), 0usize..12), 1..200),
        ) {
            let mut slots: Vec<StagedPacket<FixedPacket<8>>> = std::vec![StagedPacket::EMPTY; 5];
            let mut pool = StagedPool::new(slots.as_mut_slice());
            let mut queues = [StagedQueue::EMPTY, StagedQueue::EMPTY, StagedQueue::EMPTY];
            let mut model: VecDeque<(u32, Vec<u8>)> = VecDeque::new();
            for (number, (owner, push, len)) in steps.into_iter().enumerate() {
                let queue = &mut queues[owner as usize];
                if push {
                    let packet = std::vec![number as u8; len];
                    let stored = pool.push(queue, owner, &packet);
                    let expected = match len {
                        _ if model.len() == 5 => Err(NotStaged::Full),
                        0..=8 => Ok(()),
                        _ => Err(NotStaged::TooLarge),
                    };
                    prop_assert_eq!(stored, expected);
                    if stored.is_ok() {
                        model.push_back((owner, packet));
                    }
                } else {
                    let position = model.iter().position(|(of, _)| *of == owner);
                    let expected = position.and_then(|position| model.remove(position));
                    prop_assert_eq!(pool.front(queue), expected.as_ref().map(|(_, packet)| packet.as_slice()));
                    prop_assert_eq!(pool.pop(queue), expected.is_some());
                }
                prop_assert_eq!(pool.oldest_owner(), model.front().map(|(owner, _)| *owner));
                for (owner, queue) in queues.iter().enumerate() {
                    prop_assert_eq!(queue.len(), model.iter().filter(|(of, _)| *of as usize == owner).count());
                }
            }
        }
    }
}
