//! Where the device keeps its tables: slots that the caller gives.
//!
//! Every table of the device is a [`Slots`]: an array or a borrowed slice on a chip, chunks that grow on a host.
//! The device never allocates and never moves a table; it fills, empties and reuses slots. What a full table
//! means is defined by the table.

/// A table of slots that are addressed by number, from 0 to [`capacity`](Slots::capacity) - 1.
///
/// Slots that exist stay where they are, with what they hold, when the table grows.
pub trait Slots<T> {
    /// How many slots there are now.
    fn capacity(&self) -> usize;

    /// The slot `index`; `None` from the capacity on.
    fn get(&self, index: usize) -> Option<&T>;

    /// The slot `index`, to change; `None` from the capacity on.
    fn get_mut(&mut self, index: usize) -> Option<&mut T>;

    /// Adds at least one empty slot. False where the table is as large as it may get, or there is no memory.
    fn grow(&mut self) -> bool {
        false
    }
}

impl<T, const N: usize> Slots<T> for [T; N] {
    fn capacity(&self) -> usize {
        N
    }

    fn get(&self, index: usize) -> Option<&T> {
        self.as_slice().get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.as_mut_slice().get_mut(index)
    }
}

impl<T> Slots<T> for &mut [T] {
    fn capacity(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Option<&T> {
        (**self).get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        (**self).get_mut(index)
    }
}
