//! Cryptokey routing (paper section 2): which peer a destination goes to, and which peer a source may come from.
//!
//! A longest-prefix match for IPv4 and IPv6: a path-compressed binary trie in an arena of the caller's nodes. A prefix
//! belongs to one owner; giving it to another moves it. `n` prefixes of one family take at most `2n - 1` nodes. Knows
//! nothing of peers but that they are `Copy` and compare.

use core::net::IpAddr;

use super::storage::Slots;
use crate::ip::IpPrefix;
use crate::limits::{self, InnerBits};

/// A node of the arena: a prefix, or a place where two prefixes part.
#[derive(Clone, Copy, Debug)]
pub struct AllowedIpNode<V> {
    /// The address, from the first bit on; IPv4 leaves the bits behind its 32 zero.
    key: [u8; size_of::<InnerBits>()],
    /// How many bits of it count.
    len: u8,
    family: Family,
    /// The owner; `None` where prefixes part and in a free node.
    value: Option<V>,
    /// The nodes behind a zero and a one bit. A free node's first child is the next free node.
    children: [Link; 2],
}

impl<V> Default for AllowedIpNode<V> {
    fn default() -> Self {
        Self::FREE
    }
}

impl<V> AllowedIpNode<V> {
    /// A node that is not in use.
    pub const FREE: Self = Self { key: [0; _], len: 0, family: Family::V4, value: None, children: [Link::NONE; 2] };

    fn bits(&self) -> InnerBits {
        InnerBits::from_be_bytes(self.key)
    }

    /// The link to the child on whose side `key` lies.
    fn child(&self, key: Key) -> Link {
        let [zero, one] = self.children;
        if key.bit(self.len) { one } else { zero }
    }

    fn child_mut(&mut self, side: bool) -> &mut Link {
        let [zero, one] = &mut self.children;
        if side { one } else { zero }
    }

    #[allow(clippy::useless_conversion, reason = "the bits are fewer on a chip")]
    fn prefix(&self) -> Option<IpPrefix> {
        let address = match self.family {
            Family::V4 => IpAddr::V4(((self.bits() >> (InnerBits::BITS - u32::BITS)) as u32).into()),
            Family::V6 => IpAddr::V6(u128::from(self.bits()).into()),
        };
        IpPrefix::new(address, self.len)
    }
}

/// The number of a node, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link(u32);

impl Link {
    const NONE: Self = Self(u32::MAX);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// The leading `len` bits of an address; the others are zero.
#[derive(Clone, Copy)]
struct Key {
    bits: InnerBits,
    len: u8,
    family: Family,
}

impl Key {
    /// `None` for IPv6 where the table has no room for its addresses.
    fn new(prefix: IpPrefix) -> Option<Self> {
        let (bits, family) = match prefix.address() {
            IpAddr::V4(v4) => (InnerBits::from(u32::from(v4)) << (InnerBits::BITS - u32::BITS), Family::V4),
            IpAddr::V6(v6) if limits::INNER_V6 => (InnerBits::try_from(u128::from(v6)).ok()?, Family::V6),
            IpAddr::V6(_) => return None,
        };
        Some(Self { bits, len: prefix.len(), family })
    }

    /// The bit number `index`, from the first on; zero behind the last.
    fn bit(self, index: u8) -> bool {
        self.bits.checked_shl(u32::from(index)).unwrap_or(0) >> (InnerBits::BITS - 1) == 1
    }

    /// How many leading bits this and a node's prefix have in common.
    fn common<V>(self, node: &AllowedIpNode<V>) -> u8 {
        let equal = (self.bits ^ node.bits()).leading_zeros();
        u8::try_from(equal).unwrap_or(u8::MAX).min(self.len).min(node.len)
    }

    /// The leading `len` bits of this.
    fn truncated(self, len: u8) -> Self {
        let mask = InnerBits::MAX.checked_shl(InnerBits::BITS - u32::from(len)).unwrap_or(0);
        Self { bits: self.bits & mask, len, ..self }
    }

    fn node<V>(self, value: Option<V>) -> AllowedIpNode<V> {
        AllowedIpNode {
            key: self.bits.to_be_bytes(),
            len: self.len,
            family: self.family,
            value,
            children: [Link::NONE; 2],
        }
    }
}

/// Where a link to a node is kept.
#[derive(Clone, Copy)]
enum Place {
    Root(Family),
    Child { of: Link, side: bool },
}

/// Prefixes and their owners in the nodes `S`.
#[derive(Debug)]
pub struct AllowedIps<S> {
    nodes: S,
    v4: Link,
    v6: Link,
    /// The first node that was in use and is not any more.
    free: Link,
    /// Nodes from here on were never in use.
    fresh: u32,
}

/// There is no node left for another prefix, or none that an address of this family fits into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AllowedIpsFull;

impl<S> AllowedIps<S> {
    /// A table without prefixes on nodes that are all [`AllowedIpNode::FREE`].
    pub const fn new(nodes: S) -> Self {
        Self { nodes, v4: Link::NONE, v6: Link::NONE, free: Link::NONE, fresh: 0 }
    }

    /// The owner of the longest prefix that holds `address`. At most 33 steps for IPv4 and 129 for IPv6.
    pub fn lookup<V: Copy>(&self, address: IpAddr) -> Option<V>
    where
        S: Slots<AllowedIpNode<V>>,
    {
        let key = Key::new(IpPrefix::host(address))?;
        let mut best = None;
        let mut link = self.root(key.family);
        while let Some(node) = self.node(link) {
            if key.common(node) < node.len {
                break;
            }
            best = node.value.or(best);
            if node.len == key.len {
                break;
            }
            link = node.child(key);
        }
        best
    }

    /// Gives a prefix to `owner`, and returns whom it belonged to before.
    ///
    /// # Errors
    /// [`AllowedIpsFull`]; nothing has changed then.
    pub fn insert<V: Copy>(&mut self, prefix: IpPrefix, owner: V) -> Result<Option<V>, AllowedIpsFull>
    where
        S: Slots<AllowedIpNode<V>>,
    {
        let key = Key::new(prefix).ok_or(AllowedIpsFull)?;
        let mut place = Place::Root(key.family);
        loop {
            let link = self.follow(place);
            let Some(node) = self.node_mut(link) else {
                let leaf = self.allocate(key.node(Some(owner)))?;
                self.set(place, leaf);
                return Ok(None);
            };
            let common = key.common(node);
            if common == node.len && common == key.len {
                return Ok(node.value.replace(owner));
            }
            if common == node.len {
                place = Place::Child { of: link, side: key.bit(common) };
                continue;
            }
            // The node lies deeper than where the new prefix ends or parts from it: something goes in between.
            let side = key_of(node).bit(common);
            let between = if common == key.len {
                self.allocate(key.node(Some(owner)))?
            } else {
                let between = self.allocate(key.truncated(common).node(None))?;
                match self.allocate(key.node(Some(owner))) {
                    Ok(leaf) => self.set(Place::Child { of: between, side: !side }, leaf),
                    Err(full) => {
                        self.release(between);
                        return Err(full);
                    }
                }
                between
            };
            self.set(Place::Child { of: between, side }, link);
            self.set(place, between);
            return Ok(None);
        }
    }

    /// Takes a prefix away from its owner, whom it returns; `None` where this very prefix has none.
    pub fn remove<V: Copy>(&mut self, prefix: IpPrefix) -> Option<V>
    where
        S: Slots<AllowedIpNode<V>>,
    {
        let key = Key::new(prefix)?;
        let mut parent = None;
        let mut place = Place::Root(key.family);
        loop {
            let link = self.follow(place);
            let node = self.node_mut(link)?;
            let common = key.common(node);
            if common < node.len {
                return None;
            }
            if node.len == key.len {
                let owner = node.value.take();
                if owner.is_some() {
                    self.prune(place);
                    // Without a child, the parent may have become a place where nothing parts.
                    parent.into_iter().for_each(|parent| self.prune(parent));
                }
                return owner;
            }
            parent = Some(place);
            place = Place::Child { of: link, side: key.bit(common) };
        }
    }

    /// Takes every prefix away from an owner. Looks at all nodes: who knows the prefixes removes them one by one.
    pub fn remove_owner<V: Copy + PartialEq>(&mut self, owner: V)
    where
        S: Slots<AllowedIpNode<V>>,
    {
        for number in 0..self.fresh {
            let owned = self.node(Link(number)).filter(|node| node.value == Some(owner));
            if let Some(prefix) = owned.and_then(AllowedIpNode::prefix) {
                self.remove(prefix);
            }
        }
    }

    /// All prefixes with their owners, in no particular order.
    pub fn iter<V: Copy>(&self) -> impl Iterator<Item = (IpPrefix, V)>
    where
        S: Slots<AllowedIpNode<V>>,
    {
        (0..self.fresh).filter_map(|number| {
            let node = self.node(Link(number))?;
            Some((node.prefix()?, node.value?))
        })
    }

    /// The prefixes of one owner, in no particular order. Looks at all nodes.
    pub fn prefixes_of<V: Copy + PartialEq>(&self, owner: V) -> impl Iterator<Item = IpPrefix>
    where
        S: Slots<AllowedIpNode<V>>,
    {
        self.iter().filter_map(move |(prefix, of)| (of == owner).then_some(prefix))
    }

    /// Takes the node at `place` out where it has no owner and less than two children.
    fn prune<V: Copy>(&mut self, place: Place)
    where
        S: Slots<AllowedIpNode<V>>,
    {
        let link = self.follow(place);
        let Some(node) = self.node(link) else { return };
        let heir = match (node.value, node.children) {
            (None, [child, Link::NONE] | [Link::NONE, child]) => child,
            _ => return,
        };
        self.set(place, heir);
        self.release(link);
    }

    fn allocate<V: Copy>(&mut self, node: AllowedIpNode<V>) -> Result<Link, AllowedIpsFull>
    where
        S: Slots<AllowedIpNode<V>>,
    {
        let link = if self.free == Link::NONE { Link(self.fresh) } else { self.free };
        while self.nodes.capacity() <= link.0 as usize {
            if link == Link::NONE || !self.nodes.grow() {
                return Err(AllowedIpsFull);
            }
        }
        let slot = self.node_mut(link).ok_or(AllowedIpsFull)?;
        let [next_free, _] = slot.children;
        *slot = node;
        if self.free == Link::NONE {
            self.fresh = self.fresh.saturating_add(1);
        } else {
            self.free = next_free;
        }
        Ok(link)
    }

    fn release<V: Copy>(&mut self, link: Link)
    where
        S: Slots<AllowedIpNode<V>>,
    {
        let next_free = self.free;
        if let Some(node) = self.node_mut(link) {
            *node = AllowedIpNode { children: [next_free, Link::NONE], ..AllowedIpNode::FREE };
            self.free = link;
        }
    }

    fn node<V>(&self, link: Link) -> Option<&AllowedIpNode<V>>
    where
        S: Slots<AllowedIpNode<V>>,
    {
        self.nodes.get(link.0 as usize)
    }

    fn node_mut<V>(&mut self, link: Link) -> Option<&mut AllowedIpNode<V>>
    where
        S: Slots<AllowedIpNode<V>>,
    {
        self.nodes.get_mut(link.0 as usize)
    }

    const fn root(&self, family: Family) -> Link {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    fn follow<V>(&self, place: Place) -> Link
    where
        S: Slots<AllowedIpNode<V>>,
    {
        match place {
            Place::Root(family) => self.root(family),
            Place::Child { of, side } => self.node(of).map_or(Link::NONE, |node| {
                let [zero, one] = node.children;
                if side { one } else { zero }
            }),
        }
    }

    fn set<V>(&mut self, place: Place, link: Link)
    where
        S: Slots<AllowedIpNode<V>>,
    {
        match place {
            Place::Root(Family::V4) => self.v4 = link,
            Place::Root(Family::V6) => self.v6 = link,
            Place::Child { of, side } => {
                if let Some(node) = self.node_mut(of) {
                    *node.child_mut(side) = link;
                }
            }
        }
    }
}

fn key_of<V>(node: &AllowedIpNode<V>) -> Key {
    Key { bits: node.bits(), len: node.len, family: node.family }
}
