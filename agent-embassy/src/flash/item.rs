//! The items of the map: their numbers.

/// Records of the netmap that are kept at most; what has no room comes from the server again.
pub(super) const MAX_RECORDS: usize = (u8::MAX - Key::RECORDS) as usize + 1;

/// The number of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) u8);

impl Key {
    /// The seed and the boot counter.
    pub(super) const SEED: Self = Self(1);
    /// The same again, so that no single damage lets an earlier seed appear.
    pub(super) const SEED_COPY: Self = Self(2);
    /// Pages that may still hold what was secret.
    pub(super) const SCRUB: Self = Self(3);
    /// Nothing, at length.
    pub(super) const FILLER: Self = Self(4);
    /// The node's identity.
    pub(super) const IDENTITY: Self = Self(5);
    /// A join key that no identity has taken yet.
    pub(super) const JOIN_KEY: Self = Self(6);
    /// The recent peers.
    pub(super) const RECENT: Self = Self(7);
    /// Which records make the netmap, and its revision.
    pub(super) const NETMAP: Self = Self(8);
    const HOSTNAME: Self = Self(9);
    const SSID: Self = Self(10);
    const PASSWORD: Self = Self(11);
    /// The first of the firmware's own.
    const APP: u8 = 64;
    /// The first record of the netmap.
    const RECORDS: u8 = 128;

    /// The record of the netmap with this number; none where it has no room.
    pub(super) fn record(number: usize) -> Option<Self> {
        Some(Self(Self::RECORDS.checked_add(u8::try_from(number).ok()?)?))
    }
}

/// What a provisioning page gave the firmware, besides the join key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Setting {
    /// The name that the node asks for.
    Hostname,
    /// The name of the Wi-Fi network.
    Ssid,
    /// The password of the Wi-Fi network.
    Password,
    /// The firmware's own, by its number below [`APP_FIELDS`](crate::provision::APP_FIELDS).
    App(u8),
}

impl Setting {
    /// None for a number that is too high.
    pub(super) const fn key(self) -> Option<Key> {
        match self {
            Self::Hostname => Some(Key::HOSTNAME),
            Self::Ssid => Some(Key::SSID),
            Self::Password => Some(Key::PASSWORD),
            Self::App(number) if number < crate::provision::APP_FIELDS => Some(Key(Key::APP + number)),
            Self::App(_) => None,
        }
    }
}
