//! Weft's Linux agent as a library; the binary `weft` is a thin shell over it.
//!
//! Nothing here knows a rule of a protocol: the agent carries bytes, packets and time between the machine and
//! `weft-core`.
//!
//! | module | holds |
//! |---|---|
//! | [`clock`] | the machine's clocks as core's time arguments |
//! | [`crypto_ring`] | core's AEAD seam by `ring` |
//! | [`slots`] | core's tables on the heap |
//! | [`tun_device`] | the TUN device |
//! | [`tunnel`] | `weft tunnel`: a userspace WireGuard that obeys `wg(8)` |

pub mod clock;
pub mod crypto_ring;
mod polled_fd;
pub mod slots;
pub mod tun_device;
pub mod tunnel;
