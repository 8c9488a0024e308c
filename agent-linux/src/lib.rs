//! Weft's Linux agent as a library; the binary `weft` is a thin shell over it.
//!
//! Nothing here knows a rule of a protocol: the agent carries bytes, packets and time between the machine and
//! `weft-core`.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`clock`] | the machine's clocks as core's time arguments |
//! | [`crypto_ring`] | core's AEAD seam by `ring` |
//! | [`datapath`] | inner packets between the TUN device and the sockets |
//! | [`daemon`] | `weft daemon`: the node |
//! | [`host`] | the machine that the node is a guest on: interfaces, routes, name servers |
//! | [`local_api`] | the conversation between command line and daemon |
//! | [`ping`] | ICMP echo through the mesh |
//! | [`slots`] | core's tables on the heap |
//! | [`state`] | what is kept over a restart |
//! | [`status`] | the status document |
//! | [`storage`] | the tables of a WireGuard device on the heap |
//! | [`tun_device`] | the TUN device |
//! | [`tunnel`] | `weft tunnel`: a userspace WireGuard that obeys `wg(8)` |
//! | [`udp`] | the sockets that carry WireGuard |

pub mod cli;
pub mod clock;
pub mod crypto_ring;
pub mod daemon;
pub mod datapath;
pub mod host;
pub mod local_api;
pub mod ping;
mod polled_fd;
pub mod slots;
mod socket_option;
pub mod state;
pub mod status;
pub mod storage;
pub mod tun_device;
pub mod tunnel;
pub mod udp;
