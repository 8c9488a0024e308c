//! Tables on the heap that grow by chunks, for core's [`Slots`].
//!
//! A table costs nothing until its first slot is used, and what it holds never moves: growing adds a chunk, so
//! there is no moment with two copies and no large value passes over the stack.

use weft_core::wireguard::storage::Slots;

/// A growing table: chunks of equal size, a power of two, up to a limit of slots.
#[derive(Debug)]
pub struct ChunkedSlots<T> {
    chunks: Vec<Box<[T]>>,
    /// Slots in each chunk, as a power of two.
    chunk_bits: u32,
    max_slots: usize,
    empty: fn() -> T,
}

impl<T> ChunkedSlots<T> {
    /// An empty table that grows by at least `chunk_slots` slots (rounded up to a power of two) and has at most
    /// `max_slots` (rounded up to whole chunks). `empty` makes an empty slot.
    pub fn new(chunk_slots: usize, max_slots: usize, empty: fn() -> T) -> Self {
        let chunk_bits = chunk_slots.max(1).next_power_of_two().trailing_zeros();
        Self { chunks: Vec::new(), chunk_bits, max_slots, empty }
    }

    /// The same table with all its slots from the start, for one that never grows by itself.
    #[must_use]
    pub fn grown(mut self) -> Self {
        while self.grow() {}
        self
    }

    fn locate(&self, index: usize) -> (usize, usize) {
        (index >> self.chunk_bits, index & ((1 << self.chunk_bits) - 1))
    }
}

impl<T> Slots<T> for ChunkedSlots<T> {
    fn capacity(&self) -> usize {
        self.chunks.len() << self.chunk_bits
    }

    fn limit(&self) -> usize {
        self.max_slots
    }

    fn get(&self, index: usize) -> Option<&T> {
        let (chunk, slot) = self.locate(index);
        self.chunks.get(chunk)?.get(slot)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let (chunk, slot) = self.locate(index);
        self.chunks.get_mut(chunk)?.get_mut(slot)
    }

    fn grow(&mut self) -> bool {
        if self.capacity() >= self.max_slots {
            return false;
        }
        let slots = 1 << self.chunk_bits;
        let mut chunk = Vec::new();
        if self.chunks.try_reserve(1).is_err() || chunk.try_reserve_exact(slots).is_err() {
            return false;
        }
        chunk.resize_with(slots, self.empty);
        self.chunks.push(chunk.into_boxed_slice());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_empty_until_it_grows_and_stops_at_its_limit() {
        let mut slots = ChunkedSlots::new(3, 10, u32::default);
        assert_eq!((slots.capacity(), slots.get(0)), (0, None));
        for expected in [4, 8, 12] {
            assert!(slots.grow());
            assert_eq!(slots.capacity(), expected);
        }
        assert!(!slots.grow());
        assert_eq!((slots.get(11), slots.get(12)), (Some(&0), None));
    }

    #[test]
    fn growing_leaves_every_slot_where_it_is() {
        let mut slots = ChunkedSlots::new(2, 64, usize::default);
        assert!(slots.grow());
        *slots.get_mut(1).unwrap() = 7;
        let before: *const usize = slots.get(1).unwrap();
        slots = slots.grown();
        assert_eq!(slots.get(1), Some(&7));
        assert!(std::ptr::eq(before, slots.get(1).unwrap()));
    }
}
