//! Where log lines go: `defmt` under feature `defmt`, else `log` under feature `log`, else nowhere.
//!
//! Only `{}` and `{:?}` stand in format strings, since both targets take those.

#![allow(unused_macros, unused_imports, reason = "which levels are in use changes with the features")]

macro_rules! log_at {
    ($level:ident, $($arg:tt)*) => {{
        #[cfg(feature = "defmt")]
        ::defmt::$level!($($arg)*);
        #[cfg(all(feature = "log", not(feature = "defmt")))]
        ::log::$level!($($arg)*);
        #[cfg(not(any(feature = "defmt", feature = "log")))]
        let _ = ::core::format_args!($($arg)*);
    }};
}
macro_rules! debug { ($($arg:tt)*) => { $crate::fmt::log_at!(debug, $($arg)*) } }
macro_rules! info { ($($arg:tt)*) => { $crate::fmt::log_at!(info, $($arg)*) } }
macro_rules! warning { ($($arg:tt)*) => { $crate::fmt::log_at!(warn, $($arg)*) } }

pub(crate) use {debug, info, log_at, warning};
