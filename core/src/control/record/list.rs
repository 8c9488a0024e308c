//! A list inside a record, without heap: a slice when sending, the checked CBOR items when received.

use core::{fmt, marker::PhantomData};

use crate::control::cbor::{Item, Malformed, Reader, Writer};

/// A list of `T` in a record. Absent on the wire where it is empty.
///
/// Every item of a received list was decoded once when the record was, so iterating cannot fail.
#[derive(Clone, Copy)]
pub struct List<'a, T>(Items<'a, T>);

#[derive(Clone, Copy)]
enum Items<'a, T> {
    Slice(&'a [T]),
    Encoded { count: usize, items: &'a [u8], item: PhantomData<T> },
}

impl<'a, T> List<'a, T> {
    /// The list without items.
    pub const EMPTY: Self = Self(Items::Slice(&[]));

    /// The number of items.
    pub const fn len(&self) -> usize {
        match self.0 {
            Items::Slice(items) => items.len(),
            Items::Encoded { count, .. } => count,
        }
    }

    /// Whether there are no items.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Copy + Item<'a>> List<'a, T> {
    /// The items in order.
    pub fn iter(&self) -> Iter<'a, T> {
        match self.0 {
            Items::Slice(items) => Iter(IterItems::Slice(items.iter())),
            Items::Encoded { items, .. } => Iter(IterItems::Encoded { items: Reader::new(items), item: PhantomData }),
        }
    }
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<'a, T> From<&'a [T]> for List<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self(Items::Slice(items))
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for List<'a, T> {
    fn from(items: &'a [T; N]) -> Self {
        Self(Items::Slice(items))
    }
}

impl<'a, T: Copy + Item<'a>> IntoIterator for List<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Copy + PartialEq + Item<'a>> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Copy + fmt::Debug + Item<'a>> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The items of a [`List`].
#[derive(Clone, Debug)]
pub struct Iter<'a, T>(IterItems<'a, T>);

#[derive(Clone, Debug)]
enum IterItems<'a, T> {
    Slice(core::slice::Iter<'a, T>),
    Encoded { items: Reader<'a>, item: PhantomData<T> },
}

impl<'a, T: Copy + Item<'a>> Iterator for Iter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            IterItems::Slice(items) => items.next().copied(),
            IterItems::Encoded { items, .. } if items.is_at_end() => None,
            IterItems::Encoded { items, .. } => T::read(items).ok(),
        }
    }
}

impl<'b, T: Copy + Item<'b>> Item<'b> for List<'b, T> {
    fn read(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let mut ahead = *reader;
        let count = ahead.array()?;
        let items = ahead;
        for _ in 0..count {
            T::read(&mut ahead)?;
        }
        let items = items.until(&ahead);
        *reader = ahead;
        let count = usize::try_from(count).map_err(|_| Malformed)?;
        Ok(Self(Items::Encoded { count, items, item: PhantomData }))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(self.len());
        self.iter().for_each(|item| item.write(writer));
    }

    fn absent() -> Option<Self> {
        Some(Self::EMPTY)
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}
