//! The store: the map over the journalled region, and what is in it by name.

use core::{fmt, pin::pin};

use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash as _};
use sequential_storage::{
    cache::{Cache, Uncached, key_pointers::ArrayKeyPointers, page_states::CalculatedPageStates},
    map::{MapConfig, MapStorage, SerializationError, Value},
};
use weft_core::{
    control::{JoinKey, MAX_RECORD},
    crypto::hash,
    node::{Identity, MAX_IDENTITY},
};
use zeroize::Zeroize;

use super::{
    import,
    item::{Key, Setting},
    journal::{FORMAT, Found, MAX_WORD, RESERVED_PAGES, Region, RegionError},
    scrub::Scrub,
    seed::Seed,
};
use crate::{
    apart::apart,
    provision::{MAX_FIELD, PageError},
};

/// Pages of the map that are used at most. The bits of a scrub are so many, and a longer map is searched longer.
const MAX_MAP_PAGES: u32 = 32;
/// Pages of the map at least: one is always free, one is being written, and the rest holds what is kept.
const MIN_MAP_PAGES: u32 = 4;
/// Places of items that are remembered, 8 bytes each; what is beyond is searched for.
const REMEMBERED: usize = 32;
/// An item that does not read back as it was written is written again; so many times in all.
const ATTEMPTS: usize = 3;
/// Room for the longest item, its number, and the rest of a word of the flash.
const BUFFER: usize = (if MAX_RECORD > MAX_IDENTITY { MAX_RECORD } else { MAX_IDENTITY }) + 1 + MAX_WORD;

pub(super) type Map<F> = MapStorage<u8, Region<F>, Places>;
type Places = Cache<CalculatedPageStates, Uncached, ArrayKeyPointers<u8, REMEMBERED>, u8>;

/// Why something could not be kept or read. What was kept before is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FlashError {
    /// The driver refused an access.
    Driver,
    /// What was written does not read back.
    Unreliable,
    /// All the pages are full of what is kept.
    Full,
    /// An item is longer than any that is kept.
    TooLong,
    /// The pages contradict each other and cannot be mended.
    Damaged,
    /// The kept identity cannot be read: it was written by a firmware that knows more, or the flash lost it.
    Identity,
}

impl fmt::Display for FlashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "the flash driver refused an access; check that the region lies inside the flash",
            Self::Unreliable => "the flash does not read back what was written; it is worn out or write-protected",
            Self::Full => "the flash region is full; make it larger",
            Self::TooLong => "this is too long to be kept",
            Self::Damaged => "the flash region is damaged beyond repair; erase it and provision the node again",
            Self::Identity => "the kept identity cannot be read; erase the flash region and provision the node again",
        })
    }
}

impl core::error::Error for FlashError {}

/// Why a region cannot be used. It stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum OpenError {
    /// It is smaller than [`Store::MIN_PAGES`] pages, or its words or pages have sizes that cannot be worked with.
    Geometry,
    /// A later firmware wrote it.
    Later {
        /// Its format.
        found: u8,
    },
    /// It cannot be read or written.
    Flash(FlashError),
}

impl From<FlashError> for OpenError {
    fn from(error: FlashError) -> Self {
        Self::Flash(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geometry => write!(
                f,
                "the flash region cannot be used: it needs {} erase pages or more, and words of at most {MAX_WORD} bytes",
                RESERVED_PAGES + MIN_MAP_PAGES
            ),
            Self::Later { found } => write!(
                f,
                "the flash region was written by a later firmware (format {found}, this one knows {FORMAT}); install \
                 that firmware again, or erase the region and provision the node again"
            ),
            Self::Flash(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for OpenError {}

/// What [`Store::open`] found and did, for a line in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Report {
    /// The region held nothing of a node and was formatted.
    pub formatted: bool,
    /// The journal was damaged and is new; what else was kept is still there.
    pub journal_lost: bool,
    /// A provisioning page was taken.
    pub provisioned: bool,
    /// There is a provisioning page that cannot be taken. It is still there.
    pub refused: Option<PageError>,
}

/// A node's region of flash.
///
/// No call may be cancelled: a future that is dropped half-way leaves what a power loss leaves, which only the next
/// [`open`](Self::open) mends for sure.
pub struct Store<F: NorFlash> {
    pub(super) map: Map<F>,
    pub(super) buffer: Buffer,
    /// Which items were ever written; the others need not be searched for.
    written: Written,
    pub(super) scrub: Scrub,
    report: Report,
}

impl<F: NorFlash> fmt::Debug for Store<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("report", &self.report).finish_non_exhaustive()
    }
}

/// Holds one item at a time, and is wiped after each. Some drivers want words.
#[repr(align(4))]
pub(super) struct Buffer(pub(super) [u8; BUFFER]);

/// A set of items.
#[derive(Default)]
struct Written([u8; 32]);

impl Written {
    fn has(&self, key: u8) -> bool {
        self.0.get(usize::from(key / 8)).is_some_and(|byte| byte & (1 << (key % 8)) != 0)
    }

    fn add(&mut self, key: u8) {
        if let Some(byte) = self.0.get_mut(usize::from(key / 8)) {
            *byte |= 1 << (key % 8);
        }
    }
}

/// Gives an identity, if there is one, to who asks for it.
pub type Lend<'f> = &'f dyn Fn(&mut dyn FnMut(&Identity));

/// An item that is made in the buffer itself: its length, or `None` where it does not fit.
pub(super) type Encode<'f> = &'f dyn Fn(&mut [u8]) -> Option<usize>;

struct Item<'f>(Encode<'f>);

impl<'a> Value<'a> for Item<'_> {
    fn serialize_into(&self, buffer: &mut [u8]) -> Result<usize, SerializationError> {
        (self.0)(buffer).ok_or(SerializationError::BufferTooSmall)
    }

    fn deserialize_from(_: &'a [u8]) -> Result<(Self, usize), SerializationError> {
        Err(SerializationError::InvalidFormat)
    }
}

/// A hash of an item's content. That of an item which is not there is that of an empty one.
pub(super) type Digest = [u8; hash::HASH_LEN];

impl<F: NorFlash> Store<F> {
    /// Erase pages that a region has at least.
    pub const MIN_PAGES: usize = (RESERVED_PAGES + MIN_MAP_PAGES) as usize;

    /// Opens the region: mends what power loss left, formats a region that never was, and takes a provisioning page.
    ///
    /// # Errors
    /// [`OpenError`]. Then nothing was changed, or not all of what should have been; it may be tried again.
    pub async fn open(flash: F) -> Result<Self, OpenError> {
        let mut place = None;
        Self::open_in(&mut place, flash).await?;
        place.ok_or(OpenError::Flash(FlashError::Damaged))
    }

    /// The same, but makes the store in `place`: it is too large to be handed about on a chip's stack.
    ///
    /// # Errors
    /// As [`open`](Self::open); then there is nothing in `place`.
    pub async fn open_in(place: &mut Option<Self>, flash: F) -> Result<(), OpenError> {
        if map_pages(&flash) < MIN_MAP_PAGES || !Region::<F>::is_possible() {
            return Err(OpenError::Geometry);
        }
        let (mut region, found) = Region::open(flash).await.map_err(of_region)?;
        if let Found::Later(found) = found {
            return Err(OpenError::Later { found });
        }
        let mut report = Report::default();
        if found == Found::Nothing {
            // A journal that was damaged says nothing of the map.
            (region, report.journal_lost) = apart(pin!(holds_a_node(region))).await?;
            report.formatted = !report.journal_lost;
            if report.formatted {
                region = apart(pin!(format(region))).await?;
            }
            region.set_formatted().await.map_err(of_region)?;
        }
        Self::make_in(place, region, report)?;
        let Some(made) = place else { return Err(OpenError::Geometry) };
        let finished = apart(pin!(made.finish_opening())).await;
        if finished.is_err() {
            *place = None;
        }
        finished
    }

    #[inline(never)]
    fn make_in(place: &mut Option<Self>, region: Region<F>, report: Report) -> Result<(), OpenError> {
        let map = new_map(region)?;
        *place = Some(Self {
            map,
            buffer: Buffer([0; BUFFER]),
            written: Written::default(),
            scrub: Scrub::default(),
            report,
        });
        Ok(())
    }

    async fn finish_opening(&mut self) -> Result<(), OpenError> {
        let Self { map, buffer, written, .. } = self;
        look_through(map, buffer, written).await?;
        self.resume_scrub().await?;
        match import::take_page(self).await? {
            Ok(taken) => self.report.provisioned = taken,
            Err(error) => self.report.refused = Some(error),
        }
        Ok(())
    }

    /// What opening found and did.
    pub const fn report(&self) -> Report {
        self.report
    }

    /// Who the node is, if it ever joined.
    ///
    /// # Errors
    /// [`FlashError`]; [`FlashError::Identity`] where it is there and cannot be read.
    pub async fn identity(&mut self) -> Result<Option<Identity>, FlashError> {
        let mut identity = None;
        let is_read = self.read(Key::IDENTITY, |bytes| read_identity(bytes, &mut identity)).await?;
        if is_read { Ok(identity) } else { Err(FlashError::Identity) }
    }

    /// Keeps who the node is. When this returns it is in flash and read back, and
    /// [`identity_kept`](weft_core::node::Node::identity_kept) may be said. A join key whose secret it holds is
    /// forgotten.
    ///
    /// # Errors
    /// [`FlashError`]; the former identity stays.
    pub async fn keep_identity(&mut self, identity: &Identity) -> Result<(), FlashError> {
        self.keep_identity_of(&|take| take(identity)).await
    }

    /// The same, of an identity that is lent anew for each use, since its owner cannot lend it for so long.
    ///
    /// # Errors
    /// [`FlashError`]; the former identity stays.
    pub async fn keep_identity_of(&mut self, lend: Lend<'_>) -> Result<(), FlashError> {
        let mut secret = None;
        lend(&mut |identity| secret = identity.join_secret.clone());
        if secret.is_some() {
            self.owe_scrub().await?;
        }
        let encode = |out: &mut [u8]| {
            let mut len = None;
            lend(&mut |identity| len = identity.encode(out));
            len
        };
        self.put(Key::IDENTITY, &encode).await?;
        let taken = self.join_key().await?.is_some_and(|key| Some(key.secret()) == secret.as_ref());
        if taken { self.forget(Key::JOIN_KEY).await } else { Ok(()) }
    }

    /// The join key of a provisioning page that no kept identity has taken yet. A node that has an identity joins again
    /// with it.
    ///
    /// # Errors
    /// [`FlashError`].
    pub async fn join_key(&mut self) -> Result<Option<JoinKey>, FlashError> {
        self.read(Key::JOIN_KEY, |bytes| core::str::from_utf8(bytes).ok()?.parse().ok()).await
    }

    /// What a provisioning page gave, or [`keep_setting`](Self::keep_setting). None where it is not there or empty.
    ///
    /// # Errors
    /// [`FlashError::TooLong`] where it does not fit into `out`.
    pub async fn setting<'o>(&mut self, setting: Setting, out: &'o mut [u8]) -> Result<Option<&'o [u8]>, FlashError> {
        let key = setting.key().ok_or(FlashError::TooLong)?;
        let copied = self.read(key, |bytes| {
            out.get_mut(..bytes.len()).ok_or(FlashError::TooLong)?.copy_from_slice(bytes);
            Ok(bytes.len())
        });
        let len = copied.await??;
        Ok(out.get(..len).filter(|content| !content.is_empty()))
    }

    /// Keeps a setting; an empty one is as none.
    ///
    /// # Errors
    /// [`FlashError`]; the former content stays.
    pub async fn keep_setting(&mut self, setting: Setting, content: &[u8]) -> Result<(), FlashError> {
        let key = setting.key().filter(|_| content.len() <= MAX_FIELD).ok_or(FlashError::TooLong)?;
        self.put_bytes(key, content).await
    }

    /// How often this node has started, as far as its flash knows.
    ///
    /// # Errors
    /// [`FlashError`].
    pub async fn boots(&mut self) -> Result<u32, FlashError> {
        Ok(self.seed().await?.map_or(0, |seed| seed.boots))
    }

    /// The newer of the two copies of the seed.
    pub(crate) async fn seed(&mut self) -> Result<Option<Seed>, FlashError> {
        let first = self.read(Key::SEED, Seed::decode).await?;
        let copy = self.read(Key::SEED_COPY, Seed::decode).await?;
        Ok(match (first, copy) {
            (Some(first), Some(copy)) => Some(if copy.boots > first.boots { copy } else { first }),
            (first, copy) => first.or(copy),
        })
    }

    /// Keeps a seed, twice. When this returns no single damage lets an earlier one appear.
    pub(crate) async fn keep_seed(&mut self, seed: &Seed) -> Result<(), FlashError> {
        self.put(Key::SEED, &|out| seed.encode(out)).await?;
        self.put(Key::SEED_COPY, &|out| seed.encode(out)).await?;
        Ok(())
    }

    /// Gives the content of an item to `take`; an empty one where there is none.
    pub(super) async fn read<T>(&mut self, key: Key, take: impl FnOnce(&[u8]) -> T) -> Result<T, FlashError> {
        if !self.written.has(key.0) {
            return Ok(take(&[]));
        }
        let found = self.map.fetch_item::<&[u8]>(&mut self.buffer.0, &key.0).await;
        let taken = found.map(|bytes| take(bytes.unwrap_or_default())).map_err(of_map);
        self.buffer.0.zeroize();
        taken
    }

    /// Writes an item where its content is another, and reads it back. Returns its digest.
    pub(super) async fn put(&mut self, key: Key, encode: Encode<'_>) -> Result<Digest, FlashError> {
        for attempt in 0..=ATTEMPTS {
            // Anew each time: what is to be kept may change while flash is written.
            let len = encode(&mut self.buffer.0);
            let content = len.and_then(|len| self.buffer.0.get(..len)).map(|content| hash::hash(&[content]));
            self.buffer.0.zeroize();
            let content = content.ok_or(FlashError::TooLong)?;
            if self.read(key, |bytes| hash::hash(&[bytes])).await? == content {
                return Ok(content);
            }
            if attempt < ATTEMPTS {
                self.write(key, encode).await?;
            }
        }
        Err(FlashError::Unreliable)
    }

    /// Writes an item, whatever is there.
    pub(super) async fn write(&mut self, key: Key, encode: Encode<'_>) -> Result<(), FlashError> {
        self.written.add(key.0);
        let written = self.map.store_item(&mut self.buffer.0, &key.0, &Item(encode)).await;
        self.buffer.0.zeroize();
        written.map_err(of_map)
    }

    pub(super) async fn put_bytes(&mut self, key: Key, content: &[u8]) -> Result<(), FlashError> {
        let copy = |out: &mut [u8]| {
            out.get_mut(..content.len())?.copy_from_slice(content);
            Some(content.len())
        };
        self.put(key, &copy).await.map(drop)
    }

    pub(super) async fn forget(&mut self, key: Key) -> Result<(), FlashError> {
        self.put_bytes(key, &[]).await
    }

    /// Whether the `len` bytes at `offset` are erased. `len` is a multiple of the flash's words.
    pub(super) async fn is_blank(&mut self, offset: u32, len: usize) -> Result<bool, FlashError> {
        is_blank(self.map.flash(), offset, len).await
    }
}

fn map_pages<F: NorFlash>(flash: &F) -> u32 {
    let pages = flash.capacity().checked_div(F::ERASE_SIZE).unwrap_or_default();
    u32::try_from(pages).unwrap_or(u32::MAX).saturating_sub(RESERVED_PAGES).min(MAX_MAP_PAGES)
}

fn new_map<F: NorFlash>(region: Region<F>) -> Result<Map<F>, OpenError> {
    let (page, pages) = (F::ERASE_SIZE as u32, map_pages(&region));
    let config = MapConfig::try_new(RESERVED_PAGES * page..(RESERVED_PAGES + pages) * page);
    let cache = Cache::new(CalculatedPageStates::new(pages as usize), Uncached, ArrayKeyPointers::new());
    Ok(MapStorage::new(region, config.map_err(|_| OpenError::Geometry)?, cache))
}

/// Reads a kept identity into `identity`; none is there where nothing was kept. False where it cannot be read.
#[inline(never)]
fn read_identity(bytes: &[u8], identity: &mut Option<Identity>) -> bool {
    if bytes.is_empty() {
        return true;
    }
    *identity = Identity::decode(bytes).ok();
    identity.is_some()
}

/// Whether the map can be read and has what only a node keeps. Changes nothing.
async fn holds_a_node<F: NorFlash>(mut region: Region<F>) -> Result<(Region<F>, bool), OpenError> {
    region.read_only = true;
    let mut map = new_map(region)?;
    let (mut buffer, mut found) = (Buffer([0; BUFFER]), Written::default());
    let looked = look_through(&mut map, &mut buffer, &mut found).await;
    (region, _) = map.destroy();
    region.read_only = false;
    Ok((region, looked.is_ok() && (found.has(Key::IDENTITY.0) || found.has(Key::SEED.0))))
}

/// Erases what is not blank of the map's pages.
async fn format<F: NorFlash>(mut region: Region<F>) -> Result<Region<F>, FlashError> {
    let page = F::ERASE_SIZE as u32;
    for number in RESERVED_PAGES..RESERVED_PAGES + map_pages(&region) {
        let from = number * page;
        if !is_blank(&mut region, from, F::ERASE_SIZE).await? {
            region.erase(from, from + page).await.map_err(of_region)?;
        }
    }
    Ok(region)
}

async fn is_blank<F: NorFlash>(region: &mut Region<F>, offset: u32, len: usize) -> Result<bool, FlashError> {
    let mut bytes = AlignedWord([0; MAX_WORD]);
    let step = MAX_WORD.min(len);
    let bytes = bytes.0.get_mut(..step).unwrap_or_default();
    for at in (offset..offset.saturating_add(len as u32)).step_by(step.max(1)) {
        region.read(at, bytes).await.map_err(of_region)?;
        if bytes.iter().any(|byte| *byte != 0xff) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[repr(align(4))]
struct AlignedWord([u8; MAX_WORD]);

/// Learns which items were ever written, in one pass over the map.
async fn look_through<F: NorFlash>(
    map: &mut Map<F>,
    buffer: &mut Buffer,
    written: &mut Written,
) -> Result<(), FlashError> {
    let looked = async {
        let mut items = map.fetch_all_items(&mut buffer.0).await?;
        while let Some((key, _)) = items.next::<&[u8]>(&mut buffer.0).await? {
            written.add(key);
        }
        Ok(())
    };
    let looked = looked.await.map_err(of_map);
    buffer.0.zeroize();
    looked
}

pub(super) fn of_region<E>(error: RegionError<E>) -> FlashError {
    match error {
        RegionError::Driver(_) => FlashError::Driver,
        RegionError::Unreliable | RegionError::ReadOnly => FlashError::Unreliable,
    }
}

fn of_map<E>(error: sequential_storage::Error<RegionError<E>>) -> FlashError {
    use sequential_storage::Error;
    match error {
        Error::Storage { value } => of_region(value),
        Error::FullStorage => FlashError::Full,
        Error::BufferTooSmall(_) | Error::BufferTooBig | Error::ItemTooBig | Error::SerializationError(_) => {
            FlashError::TooLong
        }
        _ => FlashError::Damaged,
    }
}
