//! What records of peers and of this node have in common: addresses, one of each family, and a few texts in one piece of
//! memory.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heapless::String;

use crate::{
    control::record::{Address, Text},
    limits,
};

/// A text of a record has no control characters, so one of them separates.
const SEPARATOR: char = '\0';
/// Before the tags stand a name, one other text and the user.
const TAGS_FROM: usize = 3;

/// The texts of a record: a name, another one, the user, then the tags. `LEN` bytes in all, separators included.
#[derive(Clone, Debug)]
pub(super) struct Texts<const LEN: usize>(String<LEN>);

impl<const LEN: usize> Texts<LEN> {
    /// Of the texts the name always fits; others that do not are left out, since they are there for people to read.
    pub(super) fn new<'a>(
        name: Text<'a>,
        second: Text<'a>,
        user: Option<Text<'a>>,
        tags: impl Iterator<Item = Text<'a>>,
    ) -> Self {
        let mut texts = String::new();
        let all = [name, second, user.unwrap_or_default()].into_iter().chain(tags);
        for (number, text) in all.enumerate() {
            let before = texts.len();
            if number > 0 && texts.push(SEPARATOR).is_err() {
                break;
            }
            if texts.push_str(text.as_str()).is_err() {
                texts.truncate(before + usize::from(number > 0));
            }
        }
        Self(texts)
    }

    pub(super) fn name(&self) -> &str {
        self.text(0)
    }

    pub(super) fn second(&self) -> &str {
        self.text(1)
    }

    /// `None` for whoever is tagged.
    pub(super) fn user(&self) -> Option<&str> {
        Some(self.text(2)).filter(|user| !user.is_empty())
    }

    /// The tags, each with its `tag:`.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.0.split(SEPARATOR).skip(TAGS_FROM).filter(|tag| !tag.is_empty())
    }

    fn text(&self, index: usize) -> &str {
        self.0.split(SEPARATOR).nth(index).unwrap_or_default()
    }
}

/// The addresses of a node in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MeshAddresses {
    v4: Option<Ipv4Addr>,
    v6: [Option<Ipv6Addr>; limits::INNER_V6 as usize],
}

impl MeshAddresses {
    /// The first address of each family; others are left out.
    pub(super) fn new(addresses: impl Iterator<Item = Address>) -> Self {
        let (mut v4, mut v6) = (None, [None; _]);
        for Address(address) in addresses {
            match address {
                IpAddr::V4(address) => _ = v4.get_or_insert(address),
                // Where there is no place, it is of no use.
                IpAddr::V6(address) => v6.iter_mut().for_each(|place| _ = place.get_or_insert(address)),
            }
        }
        Self { v4, v6 }
    }

    pub(super) const fn v4(self) -> Option<Ipv4Addr> {
        self.v4
    }

    pub(super) fn v6(self) -> Option<Ipv6Addr> {
        self.v6.first().copied().flatten()
    }

    /// IPv4 first.
    pub(super) fn iter(self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6().map(IpAddr::V6))
    }

    /// As a record lists them.
    pub(super) fn list(self) -> heapless::Vec<Address, 2> {
        let mut list = heapless::Vec::new();
        // There is room for both.
        self.iter().for_each(|address| _ = list.push(Address(address)));
        list
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_and_nothing_is_taken_for_something_else() {
        let text = Text::cut;
        let tags = ["tag:a", "tag:much-too-long", "tag:b"].map(text);
        let texts = Texts::<26>::new(text("nas"), text("linux"), None, tags.into_iter());
        assert_eq!((texts.name(), texts.second(), texts.user()), ("nas", "linux", None));
        assert_eq!(texts.tags().collect::<Vec<_>>(), ["tag:a", "tag:b"]);
        let texts = Texts::<8>::new(text("nas"), text("freebsd"), Some(text("ann")), [].into_iter());
        assert_eq!((texts.name(), texts.second(), texts.user()), ("nas", "", Some("ann")));
    }
}
