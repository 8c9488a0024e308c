//! Why a server refuses a node, as a number that a program can act on.

use core::fmt;

use crate::control::cbor::{Item, Malformed, Reader, Writer};

/// What a refused node does next. It follows from the hundreds of an [`ErrorCode`], so that it is known for a
/// code that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Retry {
    /// 1xx: connect again, after a wait that grows.
    Later,
    /// 2xx: the same would be refused again. Something has to change first, by hand or by a restart.
    Never,
    /// 3xx: this node needs a (new) join key from the network's owner.
    NewKey,
    /// 4xx: one of the two programs is too old for the other.
    Upgrade,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $code:literal $name:ident),+ $(,)?) => {
        /// Why the server ended a connection or refused to begin one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)+
            /// A code that this version does not know; its class still holds.
            Other(u16),
        }

        impl ErrorCode {
            /// Every code that this version knows.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self {
                    $(Self::$name => $code,)+
                    Self::Other(number) => number,
                }
            }

            /// The code of a number.
            pub const fn from_number(number: u16) -> Self {
                match number {
                    $($code => Self::$name,)+
                    other => Self::Other(other),
                }
            }
        }
    };
}

error_codes! {
    /// The server failed in a way that is not the node's doing.
    100 Internal,
    /// The server has as much to do as it takes on.
    101 Busy,
    /// The server is stopping.
    102 ShuttingDown,
    /// The server cannot store the change: its disk is full or its database fails.
    103 StorageFailed,
    /// The same machine connected again, and that connection replaces this one.
    104 Replaced,
    /// The node sent nothing, or not enough, in the time that it has.
    105 TooSlow,
    /// The node took what the server sent more slowly than changes came; it resumes after it connects again.
    106 TooFarBehind,
    /// The network has no address left.
    107 AddressesExhausted,
    /// A record was malformed, or not allowed where it came.
    200 Protocol,
    /// The server does not hold the key that the node expects: another server, or its key was replaced.
    201 UnknownServerKey,
    /// The node does not hold the secret of the node key that it registers.
    202 NodeKeyProof,
    /// The node key belongs to another machine.
    203 NodeKeyTaken,
    /// The upgrade request names no versions of the protocol.
    204 VersionMissing,
    /// The server does not know this machine, and it brought no join key.
    300 UnknownMachine,
    /// No such join key.
    301 JoinKeyUnknown,
    /// The join key is too old.
    302 JoinKeyExpired,
    /// The join key is for one use and was used.
    303 JoinKeyUsed,
    /// The join key was revoked.
    304 JoinKeyRevoked,
    /// The node key expired.
    305 NodeKeyExpired,
    /// The node was removed from the network.
    306 NodeRemoved,
    /// The node logged out, by its own [`Logout`](super::Logout).
    307 LoggedOut,
    /// The node speaks no version of the protocol that is new enough for the server.
    400 NodeTooOld,
    /// The server speaks no version of the protocol that is new enough for the node.
    401 ServerTooOld,
}

impl ErrorCode {
    /// What the node does next.
    pub const fn retry(self) -> Retry {
        match self.number() / 100 {
            2 => Retry::Never,
            3 => Retry::NewKey,
            4 => Retry::Upgrade,
            _ => Retry::Later,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.number(), f)
    }
}

impl Item<'_> for ErrorCode {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        u16::read(reader).map(Self::from_number)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.number().write(writer);
    }
}
