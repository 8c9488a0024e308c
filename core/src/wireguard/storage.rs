//! Where the device keeps its tables: slots that the caller gives.
//!
//! Every table of the device is a [`Slots`]: an array or a borrowed slice on a chip, chunks that grow on a host.
//! The device never allocates and never moves a table; it fills, empties and reuses slots. What a full table
//! means is defined by the table.

use super::active::ActivePeer;
use super::allowed_ips::AllowedIpNode;
use super::index_table::IndexEntry;
use super::peer::{KnownPeer, PeerId};
use super::rate_limit::RateLimitEntry;
use super::replay::ReplayWindow;
use super::session::Window;
use super::staging::{FixedPacket, PacketBuffer, StagedPacket};

/// A table of slots that are addressed by number, from 0 to [`capacity`](Slots::capacity) - 1.
///
/// Slots that exist stay where they are, with what they hold, when the table grows.
pub trait Slots<T> {
    /// How many slots there are now.
    fn capacity(&self) -> usize;

    /// How many slots there may be at most.
    fn limit(&self) -> usize {
        self.capacity()
    }

    /// The slot `index`; `None` from the capacity on.
    fn get(&self, index: usize) -> Option<&T>;

    /// The slot `index`, to change; `None` from the capacity on.
    fn get_mut(&mut self, index: usize) -> Option<&mut T>;

    /// Adds at least one empty slot; whoever does says so by [`limit`](Slots::limit). False where the table is as large as it may get, or there is no memory.
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

/// The kinds of table that a device works on.
pub trait Storage {
    /// Replay window of a session: [`ReplayWindow`] of some size.
    type Window: Window;
    /// Room for one staged packet.
    type Packet: PacketBuffer;
    /// Peers that the device knows.
    type Known: Slots<KnownPeer>;
    /// Peers that have sessions.
    type Active: Slots<ActivePeer<Self::Window>>;
    /// Nodes of the allowed-IP trie, at most twice as many as prefixes.
    type AllowedIps: Slots<AllowedIpNode<PeerId>>;
    /// Receiver indices, at most four of an active peer. A power of two is used.
    type Indices: Slots<Option<IndexEntry<u32>>>;
    /// Inner packets that wait for a handshake, of all peers.
    type Staged: Slots<StagedPacket<Self::Packet>>;
    /// Sources of handshake messages while under load.
    type Sources: Slots<RateLimitEntry>;
}

/// The tables of a device, all of them empty slots at first.
#[expect(missing_debug_implementations, reason = "tables hold keys and inner packets")]
pub struct Tables<S: Storage> {
    /// See [`Storage::Known`].
    pub known: S::Known,
    /// See [`Storage::Active`].
    pub active: S::Active,
    /// See [`Storage::AllowedIps`].
    pub allowed_ips: S::AllowedIps,
    /// See [`Storage::Indices`].
    pub indices: S::Indices,
    /// See [`Storage::Staged`].
    pub staged: S::Staged,
    /// See [`Storage::Sources`].
    pub sources: S::Sources,
}

/// A table of up to `N` slots in place, which are made one by one when they are first needed: an empty one is no bytes
/// of a chip's flash, and no large value moves over its stack.
#[derive(Debug)]
pub struct InPlace<T, const N: usize>(heapless::Vec<T, N>);

impl<T, const N: usize> InPlace<T, N> {
    /// A table without slots.
    pub const EMPTY: Self = Self(heapless::Vec::new());

    /// The table, whatever its size.
    pub fn table(&mut self) -> Table<'_, T> {
        Table(self.0.as_mut_view())
    }
}

/// An [`InPlace`] of any size, so that there is one copy of the code that works on it.
#[derive(Debug)]
pub struct Table<'a, T>(&'a mut heapless::VecView<T>);

impl<T: Default> Slots<T> for Table<'_, T> {
    fn capacity(&self) -> usize {
        self.0.len()
    }

    fn limit(&self) -> usize {
        self.0.capacity()
    }

    fn get(&self, index: usize) -> Option<&T> {
        self.0.as_slice().get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.0.as_mut_slice().get_mut(index)
    }

    fn grow(&mut self) -> bool {
        self.0.push(T::default()).is_ok()
    }
}

/// Storage that is borrowed tables of any size, for [`FixedTables`]. The device's code is then the same whatever
/// the sizes. `WORDS` are the replay window's 64-bit words, `PACKET` the bytes of a staged packet.
#[derive(Debug)]
pub struct Borrowed<'a, const WORDS: usize, const PACKET: usize>(core::marker::PhantomData<&'a mut ()>);

impl<'a, const WORDS: usize, const PACKET: usize> Storage for Borrowed<'a, WORDS, PACKET> {
    type Window = ReplayWindow<WORDS>;
    type Packet = FixedPacket<PACKET>;
    type Known = Table<'a, KnownPeer>;
    type Active = Table<'a, ActivePeer<ReplayWindow<WORDS>>>;
    type AllowedIps = Table<'a, AllowedIpNode<PeerId>>;
    type Indices = Table<'a, Option<IndexEntry<u32>>>;
    type Staged = Table<'a, StagedPacket<FixedPacket<PACKET>>>;
    type Sources = Table<'a, RateLimitEntry>;
}

/// Tables of fixed size, for a `static` of a chip: [`EMPTY`](Self::EMPTY) is a constant of zeros, so they are never on the
/// stack and not in flash.
///
/// `KNOWN` peers, `ACTIVE` of them with sessions, `NODES` of the allowed-IP trie (twice the prefixes), `INDICES` (a
/// power of two, at least four times `ACTIVE`), `STAGED` packets of up to `PACKET` bytes, `SOURCES` under the rate
/// limit, replay windows of `WORDS` words.
#[expect(missing_debug_implementations, reason = "tables hold keys and inner packets")]
pub struct FixedTables<
    const KNOWN: usize,
    const ACTIVE: usize,
    const NODES: usize,
    const INDICES: usize,
    const STAGED: usize,
    const PACKET: usize,
    const SOURCES: usize,
    const WORDS: usize,
> {
    known: InPlace<KnownPeer, KNOWN>,
    active: InPlace<ActivePeer<ReplayWindow<WORDS>>, ACTIVE>,
    allowed_ips: InPlace<AllowedIpNode<PeerId>, NODES>,
    indices: InPlace<Option<IndexEntry<u32>>, INDICES>,
    staged: InPlace<StagedPacket<FixedPacket<PACKET>>, STAGED>,
    sources: InPlace<RateLimitEntry, SOURCES>,
}

impl<
    const KNOWN: usize,
    const ACTIVE: usize,
    const NODES: usize,
    const INDICES: usize,
    const STAGED: usize,
    const PACKET: usize,
    const SOURCES: usize,
    const WORDS: usize,
> FixedTables<KNOWN, ACTIVE, NODES, INDICES, STAGED, PACKET, SOURCES, WORDS>
{
    /// Empty tables.
    pub const EMPTY: Self = Self {
        known: InPlace::EMPTY,
        active: InPlace::EMPTY,
        allowed_ips: InPlace::EMPTY,
        indices: InPlace::EMPTY,
        staged: InPlace::EMPTY,
        sources: InPlace::EMPTY,
    };

    /// The tables for one device.
    pub fn tables(&mut self) -> Tables<Borrowed<'_, WORDS, PACKET>> {
        Tables {
            known: self.known.table(),
            active: self.active.table(),
            allowed_ips: self.allowed_ips.table(),
            indices: self.indices.table(),
            staged: self.staged.table(),
            sources: self.sources.table(),
        }
    }
}

// On 32-bit chips as on hosts, where a test says more: sixteen peers with a 512-bit window stay within 28 KiB.
const _: () = assert!(size_of::<FixedTables<16, 16, 64, 64, 4, 1280, 16, 8>>() <= 28 * 1024);
