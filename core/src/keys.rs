//! The keys of a mesh, each a type of its own.
//!
//! | public | secret | whose |
//! |---|---|---|
//! | [`NodeKey`] | [`NodeSecret`] | a node's WireGuard static key; expires and is renewed |
//! | [`MachineKey`] | [`MachineSecret`] | a machine's control-channel static key; for life |
//! | [`ServerKey`] | [`ServerSecret`] | a control server's channel static key |
//! | | [`PresharedKey`] | WireGuard's optional symmetric key of a pair of peers |
//!
//! Public keys print; secrets are wiped on drop, compare in constant time and never print.

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Length of every key in bytes.
pub const KEY_LEN: usize = 32;

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; KEY_LEN]);

        impl $name {
            /// The text that stands before the hexadecimal form.
            pub const PREFIX: &'static str = $prefix;

            /// A public key from its bytes.
            pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
                Self(bytes)
            }

            /// The bytes of the key.
            pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Self::PREFIX)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl core::str::FromStr for $name {
            type Err = ParseKeyError;

            fn from_str(text: &str) -> Result<Self, ParseKeyError> {
                let hex = text.strip_prefix(Self::PREFIX).ok_or(ParseKeyError::Prefix { expected: Self::PREFIX })?;
                decode_hex(hex).map(Self)
            }
        }

        #[cfg(feature = "defmt")]
        impl defmt::Format for $name {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, "{=str}{=[u8; 32]:02x}", Self::PREFIX, self.0);
            }
        }
    };
}

macro_rules! secret_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; KEY_LEN]);

        impl $name {
            /// A secret from its bytes. The caller wipes its own copy.
            pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
                Self(bytes)
            }

            /// The bytes of the secret.
            pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }

        #[cfg(feature = "defmt")]
        impl defmt::Format for $name {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, "{=str}(..)", stringify!($name));
            }
        }
    };
}

macro_rules! generated_secret {
    ($name:ident, $public:ident) => {
        impl $name {
            /// A fresh secret, clamped as RFC 7748 section 5 says.
            pub fn generate(rng: &mut dyn rand_core::CryptoRng) -> Self {
                let mut bytes = [0; KEY_LEN];
                rng.fill_bytes(&mut bytes);
                clamp(&mut bytes);
                let secret = Self(bytes);
                bytes.zeroize();
                secret
            }

            /// The public key that belongs to this secret.
            pub fn public<D: crate::crypto::DiffieHellman>(&self) -> $public {
                $public(D::public_key(&self.0))
            }
        }
    };
}

public_key!(
    /// A node's public WireGuard key.
    NodeKey,
    "nodekey:"
);
public_key!(
    /// A machine's public control-channel key.
    MachineKey,
    "mkey:"
);
public_key!(
    /// A control server's public key.
    ServerKey,
    "serverkey:"
);
secret_key!(
    /// A node's secret WireGuard key.
    NodeSecret
);
secret_key!(
    /// A machine's secret control-channel key.
    MachineSecret
);
secret_key!(
    /// A control server's secret key.
    ServerSecret
);
secret_key!(
    /// WireGuard's optional symmetric key of a pair of peers; all zero means none.
    PresharedKey
);
generated_secret!(NodeSecret, NodeKey);
generated_secret!(MachineSecret, MachineKey);
generated_secret!(ServerSecret, ServerKey);

impl PresharedKey {
    /// No preshared key: the handshake mixes zeros, on the same code path.
    pub const NONE: Self = Self([0; KEY_LEN]);
}

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ParseKeyError {
    /// The text does not begin with the prefix of its kind.
    Prefix {
        /// The prefix that was expected, for instance `nodekey:`.
        expected: &'static str,
    },
    /// The rest is not 64 hexadecimal digits.
    NotHex,
}

impl fmt::Display for ParseKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix { expected } => write!(f, "the key does not begin with `{expected}`"),
            Self::NotHex => f.write_str("the key is not 64 hexadecimal digits"),
        }
    }
}

impl core::error::Error for ParseKeyError {}

/// Clamps a scalar for X25519 (RFC 7748 section 5).
pub(crate) fn clamp(scalar: &mut [u8; KEY_LEN]) {
    let [first, .., last] = scalar;
    *first &= 248;
    *last = (*last & 127) | 64;
}

fn decode_hex(text: &str) -> Result<[u8; KEY_LEN], ParseKeyError> {
    let digits = text.as_bytes();
    if digits.len() != KEY_LEN * 2 {
        return Err(ParseKeyError::NotHex);
    }
    let mut key = [0; KEY_LEN];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        for &digit in pair {
            let nibble = char::from(digit).to_digit(16).ok_or(ParseKeyError::NotHex)?;
            *byte = (*byte << 4) | nibble as u8;
        }
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::{format, string::ToString};

    use super::*;

    #[test]
    fn a_public_key_reads_back_from_its_text() {
        let key = NodeKey::from_bytes(core::array::from_fn(|i| i as u8));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!("mkey:00".parse::<NodeKey>(), Err(ParseKeyError::Prefix { expected: "nodekey:" }));
        assert_eq!("nodekey:00".parse::<NodeKey>(), Err(ParseKeyError::NotHex));
        assert_eq!(format!("nodekey:{}", "g0".repeat(32)).parse::<NodeKey>(), Err(ParseKeyError::NotHex));
    }

    #[test]
    fn a_secret_never_prints() {
        assert_eq!(format!("{:?}", NodeSecret::from_bytes([7; 32])), "NodeSecret(..)");
        assert_eq!(format!("{:?}", PresharedKey::from_bytes([7; 32])), "PresharedKey(..)");
    }
}
