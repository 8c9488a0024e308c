//! As much of CBOR (RFC 8949) as the records are made of: unsigned integers, byte and text strings, arrays, maps with
//! unsigned keys, booleans and null, all of definite length.
//!
//! Written for little code: what does not depend on a type is there once (`inline(never)` keeps it so), an error has no
//! content, and a map is taken apart into its values before any of them is read. What is skipped is checked to be well-formed, whatever it means.

/// The bytes are not what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Malformed;

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the record is malformed")
    }
}

impl core::error::Error for Malformed {}

/// Keys of a map that are read; values of greater ones are skipped.
const KEYS: usize = 10;

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: u64 = 22;
const UNDEFINED: u64 = 23;

/// A value that stands in CBOR.
pub trait Item<'b>: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// [`Malformed`] where something else stands there.
    fn read(reader: &mut Reader<'b>) -> Result<Self, Malformed>;

    /// Writes the value.
    fn write(&self, writer: &mut Writer<'_>);

    /// The value of a field that is not there; `None` where it has to be.
    fn absent() -> Option<Self> {
        None
    }

    /// Whether the value is written by leaving its field out.
    fn is_absent(&self) -> bool {
        false
    }
}

/// Reads items, one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// A reader at the start of `bytes`.
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing follows.
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes between this reader and one further on in the same bytes.
    pub fn until(&self, later: &Self) -> &'b [u8] {
        self.rest.get(..self.rest.len().saturating_sub(later.rest.len())).unwrap_or_default()
    }

    /// The major type and the argument of the next item.
    #[inline(never)]
    fn head(&mut self) -> Result<(u8, u64), Malformed> {
        let (&initial, after) = self.rest.split_first().ok_or(Malformed)?;
        let information = initial & 0x1f;
        let len = match information {
            0..24 => 0,
            24..28 => 1 << (information - 24),
            // Reserved, indefinite length, or the end of one.
            _ => return Err(Malformed),
        };
        let (argument, rest) = after.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        let value = match len {
            0 => u64::from(information),
            _ => argument.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)),
        };
        Ok((initial >> 5, value))
    }

    fn expect(&mut self, major: u8) -> Result<u64, Malformed> {
        match self.head()? {
            (found, argument) if found == major => Ok(argument),
            _ => Err(Malformed),
        }
    }

    #[inline(never)]
    fn string(&mut self, major: u8) -> Result<&'b [u8], Malformed> {
        let len = usize::try_from(self.expect(major)?).map_err(|_| Malformed)?;
        let (string, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(string)
    }

    /// An unsigned integer of any width.
    ///
    /// # Errors
    /// [`Malformed`] where something else stands there; likewise in what follows.
    #[inline(never)]
    pub fn unsigned(&mut self) -> Result<u64, Malformed> {
        self.expect(UNSIGNED)
    }

    /// A byte string.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn bytes(&mut self) -> Result<&'b [u8], Malformed> {
        self.string(BYTES)
    }

    /// A byte string of `N` bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn byte_array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes()?.try_into().map_err(|_| Malformed)
    }

    /// A text string.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn text(&mut self) -> Result<&'b str, Malformed> {
        core::str::from_utf8(self.string(TEXT)?).map_err(|_| Malformed)
    }

    /// The start of an array, and how many items follow.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn array(&mut self) -> Result<u64, Malformed> {
        self.expect(ARRAY)
    }

    /// The start of a map, and how many pairs follow.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn map(&mut self) -> Result<u64, Malformed> {
        self.expect(MAP)
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.expect(SIMPLE)? {
            FALSE => Ok(false),
            TRUE => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// Whether null stands next, which is then behind the reader.
    pub fn take_null(&mut self) -> bool {
        let mut ahead = *self;
        let null = matches!(ahead.head(), Ok((SIMPLE, NULL | UNDEFINED)));
        if null {
            *self = ahead;
        }
        null
    }

    /// Skips one item with all that is in it, and gives its bytes. Takes time in proportion to the bytes, and no memory for
    /// nesting.
    ///
    /// # Errors
    /// [`Malformed`] where no well-formed item of definite lengths stands there.
    #[inline(never)]
    pub fn skip(&mut self) -> Result<&'b [u8], Malformed> {
        let start = *self;
        let mut items = 1u64;
        while items > 0 {
            items -= 1;
            let (major, argument) = self.head()?;
            match major {
                BYTES | TEXT => {
                    let len = usize::try_from(argument).map_err(|_| Malformed)?;
                    self.rest = self.rest.get(len..).ok_or(Malformed)?;
                }
                ARRAY => items = items.saturating_add(argument),
                MAP => items = items.saturating_add(argument.saturating_mul(2)),
                TAG => items = items.saturating_add(1),
                // Integers, floats and simple values end with their argument.
                _ => {}
            }
            // Each item has a byte at least: what announces more is not read to its end.
            if items > self.rest.len() as u64 {
                return Err(Malformed);
            }
        }
        Ok(start.until(self))
    }

    /// Takes a map with unsigned keys apart.
    ///
    /// # Errors
    /// [`Malformed`].
    #[inline(never)]
    pub fn fields(&mut self) -> Result<Fields<'b>, Malformed> {
        let mut fields = Fields([&[]; KEYS]);
        for _ in 0..self.map()? {
            let key = self.unsigned()?;
            let value = self.skip()?;
            if let Some(field) = usize::try_from(key).ok().and_then(|key| fields.0.get_mut(key)) {
                *field = value;
            }
        }
        Ok(fields)
    }
}

/// The values of a map, by key.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'b>([&'b [u8]; KEYS]);

impl<'b> Fields<'b> {
    /// The value of a field.
    ///
    /// # Errors
    /// [`Malformed`] where it is not what it has to be, or missing.
    pub fn get<T: Item<'b>>(&self, key: usize) -> Result<T, Malformed> {
        match self.0.get(key) {
            None | Some([]) => T::absent().ok_or(Malformed),
            Some(value) => T::read(&mut Reader::new(value)),
        }
    }
}

/// Writes items, one behind the other, each in its shortest form.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut [u8],
    /// How much was written; more than there is room for where something did not fit.
    len: usize,
}

impl<'o> Writer<'o> {
    /// A writer at the start of `out`.
    pub const fn new(out: &'o mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// The length of what was written; `None` where it did not fit.
    pub const fn finish(self) -> Option<usize> {
        if self.len <= self.out.len() { Some(self.len) } else { None }
    }

    #[inline(never)]
    fn raw(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(room) = self.out.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
        }
        self.len = end;
    }

    #[inline(never)]
    fn head(&mut self, major: u8, argument: u64) {
        let bytes = argument.to_be_bytes();
        let (information, len) = match argument {
            0..24 => (argument as u8, 0),
            24..0x100 => (24, 1),
            0x100..0x1_0000 => (25, 2),
            0x1_0000..0x1_0000_0000 => (26, 4),
            _ => (27, 8),
        };
        self.raw(&[(major << 5) | information]);
        self.raw(bytes.get(bytes.len() - len..).unwrap_or_default());
    }

    /// An unsigned integer.
    pub fn unsigned(&mut self, value: u64) {
        self.head(UNSIGNED, value);
    }

    /// A byte string.
    #[inline(never)]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.head(BYTES, bytes.len() as u64);
        self.raw(bytes);
    }

    /// A text string.
    pub fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.raw(text.as_bytes());
    }

    /// The start of an array of so many items.
    pub fn array(&mut self, items: usize) {
        self.head(ARRAY, items as u64);
    }

    /// The start of a map of so many pairs.
    pub fn map(&mut self, pairs: usize) {
        self.head(MAP, pairs as u64);
    }

    /// A boolean.
    pub fn boolean(&mut self, value: bool) {
        self.head(SIMPLE, if value { TRUE } else { FALSE });
    }

    /// Null.
    pub fn null(&mut self) {
        self.head(SIMPLE, NULL);
    }

    /// A field of a map: its key and its value, unless it is absent.
    pub fn field<'b>(&mut self, key: u8, value: &impl Item<'b>) {
        if !value.is_absent() {
            self.unsigned(key.into());
            value.write(self);
        }
    }
}

macro_rules! integers {
    ($($name:ty),+) => {$(
        impl Item<'_> for $name {
            fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.unsigned()?.try_into().map_err(|_| Malformed)
            }

            fn write(&self, writer: &mut Writer<'_>) {
                writer.unsigned((*self).into());
            }
        }
    )+};
}

integers!(u16, u32, u64);

impl Item<'_> for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.boolean()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.boolean(*self);
    }
}

/// A byte string.
impl Item<'_> for [u8; 32] {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.byte_array()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self);
    }
}

/// An array.
impl Item<'_> for [u64; 2] {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.array()? {
            2 => Ok([reader.unsigned()?, reader.unsigned()?]),
            _ => Err(Malformed),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(2);
        self.iter().for_each(|value| writer.unsigned(*value));
    }
}

/// Absent where it is `None`; in an array, null.
impl<'b, T: Item<'b>> Item<'b> for Option<T> {
    fn read(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        if reader.take_null() { Ok(None) } else { T::read(reader).map(Some) }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Some(value) => value.write(writer),
            None => writer.null(),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

/// The body of a record: a map from index to field.
macro_rules! body {
    ($name:ident $(<$borrow:lifetime>)? { $($index:literal: $field:ident),* $(,)? }) => {
        impl<'b> $crate::control::cbor::Item<'b> for body!(@type $name $($borrow)?) {
            fn read(
                reader: &mut $crate::control::cbor::Reader<'b>,
            ) -> Result<Self, $crate::control::cbor::Malformed> {
                let fields = reader.fields()?;
                let _ = &fields;
                Ok(Self { $($field: fields.get($index)?),* })
            }

            fn write(&self, writer: &mut $crate::control::cbor::Writer<'_>) {
                writer.map(0 $(+ usize::from(!$crate::control::cbor::Item::is_absent(&self.$field)))*);
                $(writer.field($index, &self.$field);)*
            }
        }
    };
    (@type $name:ident $borrow:lifetime) => { $name<'b> };
    (@type $name:ident) => { $name };
}

pub(super) use body;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_definite_length_are_skipped_whole_and_nothing_else() {
        let pass: [&[u8]; 9] = [
            &[0x00],
            &[0x18, 0xff],
            &[0x43, 1, 2, 3],
            &[0x61, b'a'],
            &[0x82, 0x01, 0x80],
            &[0xa1, 0x00, 0xa0],
            &[0xc2, 0x41, 0x01],
            &[0xf6],
            &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
        ];
        let whole = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            reader.skip().is_ok_and(|item| item == bytes) && reader.is_at_end()
        };
        for item in pass {
            assert!(whole(item), "{item:02x?}");
            assert!(!whole(&item[..item.len() - 1]));
            assert!(!whole(&[item, &[0]].concat()));
        }
        let fail: [&[u8]; 7] = [
            &[0x9f, 0xff],
            &[0xbf, 0xff],
            &[0x5f, 0xff],
            &[0xff],
            &[0x1c],
            &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ];
        for item in fail {
            assert!(!whole(item), "{item:02x?}");
        }
    }

    #[test]
    fn nesting_takes_no_stack() {
        let mut nested = std::vec![0x81; 1_000_000];
        nested.push(0);
        assert_eq!(Reader::new(&nested).skip().map(<[u8]>::len), Ok(1_000_001));
    }

    #[test]
    fn integers_are_written_in_their_shortest_form_and_read_in_any() {
        for value in [0, 23, 24, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            let mut out = [0; 9];
            let mut writer = Writer::new(&mut out);
            writer.unsigned(value);
            let len = writer.finish().unwrap();
            assert_eq!(Reader::new(&out[..len]).unsigned(), Ok(value));
            assert_eq!(ciborium::de::from_reader::<u64, _>(&out[..len]).unwrap(), value);
        }
        assert_eq!(Reader::new(&[0x1b, 0, 0, 0, 0, 0, 0, 0, 5]).unsigned(), Ok(5));
        assert_eq!(u16::read(&mut Reader::new(&[0x1a, 0, 1, 0, 0])), Err(Malformed));
        assert_eq!(Reader::new(&[0x20]).unsigned(), Err(Malformed), "negative");
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut out = [0; 3];
        let mut writer = Writer::new(&mut out);
        writer.text("abc");
        writer.unsigned(1);
        assert_eq!(writer.finish(), None);
    }
}
