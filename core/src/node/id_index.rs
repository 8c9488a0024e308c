//! From a node's id to its slot in the netmap: a hash table with linear probing over slots that the caller gives.
//!
//! The netmap is the truth and this only an index of it, so when the table grows it is filled anew from there.

use crate::{control::NodeId, wireguard::storage::Slots};

/// One place of the table. Eight bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdEntry {
    id: u32,
    /// The slot in the netmap plus one; zero: free.
    slot: u32,
}

impl IdEntry {
    /// A free place.
    pub const EMPTY: Self = Self { id: 0, slot: 0 };
}

/// No free place is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexFull;

/// Where `id` would be if nothing were in its way.
fn home(id: NodeId, capacity: usize) -> usize {
    // Fibonacci hashing; ids count up from one, so any spread will do and nobody can choose a bad one.
    let spread = id.0.wrapping_mul(0x9e37_79b9);
    ((u64::from(spread) * capacity as u64) >> 32) as usize
}

fn after(place: usize, capacity: usize) -> usize {
    if place + 1 < capacity { place + 1 } else { 0 }
}

/// The place that holds `id`.
fn place_of(table: &dyn Slots<IdEntry>, id: NodeId) -> Option<usize> {
    let capacity = table.capacity();
    let mut place = home(id, capacity);
    for _ in 0..capacity {
        let entry = table.get(place)?;
        if entry.slot == 0 {
            return None;
        }
        if entry.id == id.0 {
            return Some(place);
        }
        place = after(place, capacity);
    }
    None
}

/// The netmap slot of `id`.
pub(super) fn find(table: &dyn Slots<IdEntry>, id: NodeId) -> Option<usize> {
    let entry = table.get(place_of(table, id)?)?;
    Some(entry.slot as usize - 1)
}

/// Points `id` at a slot, whether it was there before or not.
///
/// # Errors
/// [`IndexFull`] where there is no place for one more.
pub(super) fn insert(table: &mut dyn Slots<IdEntry>, id: NodeId, slot: usize) -> Result<(), IndexFull> {
    let slot = u32::try_from(slot).ok().and_then(|slot| slot.checked_add(1)).ok_or(IndexFull)?;
    let capacity = table.capacity();
    let mut place = home(id, capacity);
    for _ in 0..capacity {
        let entry = table.get_mut(place).ok_or(IndexFull)?;
        if entry.slot == 0 || entry.id == id.0 {
            *entry = IdEntry { id: id.0, slot };
            return Ok(());
        }
        place = after(place, capacity);
    }
    Err(IndexFull)
}

/// Forgets `id`.
pub(super) fn remove(table: &mut dyn Slots<IdEntry>, id: NodeId) {
    let Some(mut hole) = place_of(table, id) else { return };
    let capacity = table.capacity();
    let mut place = after(hole, capacity);
    // Entries that were pushed past the hole move back, so that no search ends there too early.
    for _ in 1..capacity {
        let Some(&entry) = table.get(place) else { break };
        if entry.slot == 0 {
            break;
        }
        let home = home(NodeId(entry.id), capacity);
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + capacity - from };
        if distance(home, place) >= distance(hole, place) {
            if let Some(free) = table.get_mut(hole) {
                *free = entry;
            }
            hole = place;
        }
        place = after(place, capacity);
    }
    if let Some(free) = table.get_mut(hole) {
        *free = IdEntry::EMPTY;
    }
}

/// Forgets everything.
pub(super) fn clear(table: &mut dyn Slots<IdEntry>) {
    for place in 0..table.capacity() {
        if let Some(entry) = table.get_mut(place) {
            *entry = IdEntry::EMPTY;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, vec};

    use rand_core::Rng;

    use super::*;
    use crate::node::test_rng::TestRng;

    #[test]
    fn agrees_with_a_map_through_random_changes_in_a_nearly_full_table() {
        let mut rng = TestRng::new(7);
        let mut places = vec![IdEntry::EMPTY; 64];
        let mut table = places.as_mut_slice();
        let mut model = HashMap::new();
        for step in 0..20_000 {
            let id = NodeId(rng.next_u32() % 90 + 1);
            if rng.next_u32().is_multiple_of(2) {
                let expected = if model.len() < 64 || model.contains_key(&id) { Ok(()) } else { Err(IndexFull) };
                assert_eq!(insert(&mut table, id, step), expected);
                if expected.is_ok() {
                    model.insert(id, step);
                }
            } else {
                remove(&mut table, id);
                model.remove(&id);
            }
            for id in (1..=90).map(NodeId) {
                assert_eq!(find(&table, id), model.get(&id).copied());
            }
        }
    }

    #[test]
    fn a_table_without_places_is_full_and_finds_nothing() {
        let mut table: [IdEntry; 0] = [];
        assert_eq!(insert(&mut table, NodeId(1), 0), Err(IndexFull));
        assert_eq!(find(&table, NodeId(1)), None);
        remove(&mut table, NodeId(1));
    }
}
