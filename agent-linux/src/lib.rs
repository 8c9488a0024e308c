//! Weft's Linux agent as a library; the binary `weft` is a thin shell over it.
//!
//! Nothing here knows a rule of a protocol: the agent carries bytes, packets and time between the machine and
//! `weft-core`.
//!
//! | module | holds |
//! |---|---|
//! | [`tunnel`] | `weft tunnel`: a userspace WireGuard that obeys `wg(8)` |

pub mod tunnel;
