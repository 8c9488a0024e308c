//! A Weft node for microcontrollers: a private WireGuard mesh as a second embassy-net interface, without a heap.
//!
//! In embassy's manner there is a state that lives in a `static`, and [`new`] that makes of it a handle, a driver and a
//! task:
//!
//! ```no_run
//! use embassy_net::{Stack, StackResources};
//! use static_cell::ConstStaticCell;
//! use weft_embassy::{Config, State};
//!
//! # async fn example(
//! #     outer: Stack<'static>,
//! #     flash: impl embedded_storage_async::nor_flash::NorFlash,
//! #     entropy: impl weft_embassy::Entropy,
//! #     seed: u64,
//! # ) {
//! static STATE: ConstStaticCell<State<16>> = ConstStaticCell::new(State::new());
//! static INNER: ConstStaticCell<StackResources<3>> = ConstStaticCell::new(StackResources::new());
//!
//! let config = Config { join_key: option_env!("WEFT_JOIN_KEY"), hostname: "sensor", ..Default::default() };
//! let (node, device, runner) = weft_embassy::new(STATE.take(), config, outer, flash, entropy);
//! let (inner, mut network) = embassy_net::new(device, Default::default(), INNER.take(), seed);
//! // Each of the two in a task of its own, or joined:
//! let run = embassy_futures::join::join(network.run(), runner.run(inner));
//! // From now on ordinary sockets on `inner` are on the mesh.
//! let address = node.wait_joined();
//! # let _ = (run, address);
//! # }
//! ```
//!
//! The firmware guide in the repository's `docs` goes through it step by step.
//!
//! What the protocol is, `weft-core` decides. This crate carries: bytes of one TCP connection to the control server,
//! datagrams of one UDP socket, inner packets of the second stack, and what is kept in flash.
//!
//! | module | holds |
//! |---|---|
//! | `state`, `tables`, `packets` | everything that is static |
//! | `node`, `event`, `board` | what the firmware is told, and may ask |
//! | `device` | the driver of the inner network |
//! | `runner` | the one task |
//! | [`flash`] | what is kept in flash, safe at power loss |
//! | [`provision`] | the page by which a host gives a chip its join key, seed and settings |
//! | `random` | what the board gives of noise, and the generator that lives on a seed in flash |
//! | `noise_health` | tests of a board's noise source, for the board to use |
//! | `crypto`, `clock`, `apart`, `fmt` | primitives, time, polls on a stack of their own, log lines |

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[cfg(test)]
extern crate std;

mod apart;
mod board;
mod clock;
mod crypto;
mod device;
mod event;
pub mod flash;
mod fmt;
mod node;
mod noise_health;
mod packets;
pub mod provision;
mod random;
mod runner;
mod state;
mod tables;

pub use device::{Device, RxToken, TxToken};
pub use weft_core::control::ErrorCode;

pub use event::{Event, Problem, Server, Status};
pub use node::{Counters, Node, Peer, ResolveError};
pub use noise_health::NoiseHealth;
pub use random::{Entropy, Random, StartError};
pub use runner::Runner;
pub use state::State;

/// Inner MTU in bytes: goes over any path, and every stack can have it.
pub const MTU: usize = 1_280;
/// The UDP port of a node that was told no other.
pub const PORT: u16 = 41_641;

/// What the firmware decides.
#[derive(Clone, Copy)]
pub struct Config<'d> {
    /// The key to join with. `None` takes the one of the provisioning page, if any; a node that joined needs none.
    pub join_key: Option<&'d str>,
    /// The name that this node would like; the server makes it unique. Empty takes the one of the provisioning page.
    pub hostname: &'d str,
    /// The UDP port of the outer network on which peers are heard.
    pub port: u16,
    /// Names of peers that never make room for others.
    pub pinned: &'d [&'d str],
}

impl Default for Config<'_> {
    fn default() -> Self {
        Self { join_key: None, hostname: "", port: PORT, pinned: &[] }
    }
}

impl core::fmt::Debug for Config<'_> {
    /// The join key is a secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Config")
            .field("join_key", &self.join_key.map(|_| ".."))
            .field("hostname", &self.hostname)
            .field("port", &self.port)
            .field("pinned", &self.pinned)
            .finish()
    }
}

/// A node in `state`, over the `outer` stack.
///
/// `flash` is the whole region that is the node's, and begins at its offset zero. Nothing is read before the runner
/// runs. `PEERS` is a power of two.
pub fn new<'d, const PEERS: usize, F, E>(
    state: &'static mut State<PEERS>,
    config: Config<'d>,
    outer: embassy_net::Stack<'d>,
    flash: F,
    entropy: E,
) -> (Node, Device, Runner<'d, F, E>)
where
    F: embedded_storage_async::nor_flash::NorFlash,
    E: Entropy,
{
    let parts = state.split();
    let shared = parts.shared;
    let runner = Runner { parts, peers: PEERS, config, outer, flash, entropy };
    (Node::new(shared), Device::new(shared), runner)
}
