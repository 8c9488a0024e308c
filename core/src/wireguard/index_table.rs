//! Session indices (paper section 5.4.2): random 32-bit numbers by which the other side addresses a handshake or a
//! session.
//!
//! The table is direct-mapped: an entry lies in the slot that its index's low bits name, so a lookup looks at one
//! slot, no two live entries can have one index, and an entry never moves while the table keeps its size. The index
//! of a new entry is drawn at random and its low bits are then set to a free slot near the drawn one.

use core::marker::PhantomData;

use super::storage::Slots;

/// A slot of the table: an index in use and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry<T> {
    index: u32,
    value: T,
}

/// Indices on the slots `S`, of which a power of two are used, each standing for a `T`.
#[derive(Debug)]
pub struct IndexTable<S, T> {
    slots: S,
    /// How many slots are in use as a table: zero or a power of two.
    span: u32,
    live: u32,
    values: PhantomData<T>,
}

/// Every slot is in use and the table cannot grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IndexTableFull;

impl<T: Copy, S: Slots<Option<IndexEntry<T>>>> IndexTable<S, T> {
    /// A table on empty slots.
    pub fn new(slots: S) -> Self {
        let span = power_of_two_within(slots.capacity());
        Self { slots, span, live: 0, values: PhantomData }
    }

    /// How many indices are in use.
    pub const fn len(&self) -> usize {
        self.live as usize
    }

    /// Whether no index is in use.
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Puts `value` under a fresh random index.
    ///
    /// # Errors
    /// [`IndexTableFull`]; nothing has changed then.
    pub fn insert(&mut self, value: T, rng: &mut dyn rand_core::CryptoRng) -> Result<u32, IndexTableFull> {
        // Half full is where finding a free slot starts to take more than a look or two.
        if self.live >= self.span / 2 {
            self.widen();
        }
        let drawn = rng.next_u32();
        let mask = self.span.checked_sub(1).ok_or(IndexTableFull)?;
        let mut candidates = (0..self.span).map(|step| (drawn & !mask) | (drawn.wrapping_add(step) & mask));
        let index = candidates.find(|index| self.slot(*index).is_none()).ok_or(IndexTableFull)?;
        let slot = self.slots.get_mut((index & mask) as usize).ok_or(IndexTableFull)?;
        *slot = Some(IndexEntry { index, value });
        self.live = self.live.saturating_add(1);
        Ok(index)
    }

    /// What an index stands for.
    pub fn get(&self, index: u32) -> Option<T> {
        self.slot(index).filter(|entry| entry.index == index).map(|entry| entry.value)
    }

    /// What an index stands for, to change: a handshake's index becomes its session's.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let position = self.position(index)?;
        let entry = self.slots.get_mut(position)?.as_mut()?;
        (entry.index == index).then_some(&mut entry.value)
    }

    /// Frees an index and gives what it stood for.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let position = self.position(index)?;
        let entry = self.slots.get_mut(position)?.take_if(|entry| entry.index == index)?;
        self.live = self.live.saturating_sub(1);
        Some(entry.value)
    }

    fn position(&self, index: u32) -> Option<usize> {
        self.span.checked_sub(1).map(|mask| (index & mask) as usize)
    }

    fn slot(&self, index: u32) -> Option<IndexEntry<T>> {
        *self.slots.get(self.position(index)?)?
    }

    /// Doubles the part of the slots that is in use, where they allow it. An entry stays or moves up by the old size,
    /// by one more bit of its index, so no two can meet.
    fn widen(&mut self) {
        let wanted = (self.span as usize).saturating_mul(2).max(1);
        while self.slots.capacity() < wanted {
            if !self.slots.grow() {
                return;
            }
        }
        let Ok(span) = u32::try_from(wanted) else { return };
        for position in 0..self.span as usize {
            let moved =
                self.slots.get_mut(position).and_then(|slot| slot.take_if(|entry| entry.index & self.span != 0));
            if let (Some(entry), Some(slot)) = (moved, self.slots.get_mut(position.saturating_add(self.span as usize)))
            {
                *slot = Some(entry);
            }
        }
        self.span = span;
    }
}

/// The greatest power of two that is at most `capacity` and 2^31; zero for zero.
fn power_of_two_within(capacity: usize) -> u32 {
    match u32::try_from(capacity).unwrap_or(u32::MAX).checked_ilog2() {
        Some(log) => 1 << log,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::{boxed::Box, collections::BTreeMap, vec, vec::Vec};

    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    /// Slots that grow by a few at a time.
    struct Chunks(Vec<Box<[Option<IndexEntry<u16>>]>>);

    const CHUNK: usize = 6;

    impl Slots<Option<IndexEntry<u16>>> for Chunks {
        fn capacity(&self) -> usize {
            self.0.len() * CHUNK
        }
        fn get(&self, index: usize) -> Option<&Option<IndexEntry<u16>>> {
            self.0.get(index / CHUNK)?.get(index % CHUNK)
        }
        fn get_mut(&mut self, index: usize) -> Option<&mut Option<IndexEntry<u16>>> {
            self.0.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
        }
        fn grow(&mut self) -> bool {
            self.0.push(vec![None; CHUNK].into());
            true
        }
    }

    #[test]
    fn a_full_table_refuses_and_every_slot_can_be_used() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut table = IndexTable::new([None; 8]);
        let indices: Vec<u32> = (0..8u8).map(|value| table.insert(value, &mut rng).unwrap()).collect();
        assert_eq!(table.insert(9, &mut rng), Err(IndexTableFull));
        for (value, index) in (0..).zip(&indices) {
            assert_eq!(table.get(*index), Some(value));
        }
        assert_eq!(table.remove(indices[3]), Some(3));
        assert_eq!(table.remove(indices[3]), None);
        assert!(table.insert(9, &mut rng).is_ok());
        assert_eq!(IndexTable::<_, u8>::new([None; 0]).insert(1, &mut rng), Err(IndexTableFull));
    }

    #[test]
    fn an_index_with_the_same_low_bits_is_not_found() {
        let mut table = IndexTable::new([None; 4]);
        let index = table.insert(1u8, &mut StdRng::seed_from_u64(1)).unwrap();
        for bit in 0..32 {
            assert_eq!(table.get(index ^ (1 << bit)), None);
            assert_eq!(table.get_mut(index ^ (1 << bit)), None);
            assert_eq!(table.remove(index ^ (1 << bit)), None);
        }
        *table.get_mut(index).unwrap() = 2;
        assert_eq!(table.get(index), Some(2));
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_of_distinct_indices_while_it_grows(seed: u64, removals in prop::collection::vec(any::<bool>(), 300)) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut table = IndexTable::new(Chunks(Vec::new()));
            let mut model = BTreeMap::new();
            for (value, remove) in (0u16..).zip(removals) {
                if remove && !model.is_empty() {
                    let nth = rng.random_range(0..model.len());
                    let (&index, &expected) = model.iter().nth(nth).unwrap();
                    model.remove(&index);
                    prop_assert_eq!(table.remove(index), Some(expected));
                } else {
                    let index = table.insert(value, &mut rng).unwrap();
                    prop_assert!(model.insert(index, value).is_none(), "the index was in use");
                }
                prop_assert_eq!(table.len(), model.len());
                for (&index, &value) in &model {
                    prop_assert_eq!(table.get(index), Some(value));
                }
            }
        }
    }
}
