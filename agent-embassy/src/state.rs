//! Everything of a node that is static.

use core::cell::Cell;

use crate::event::Status;

/// A node's tables and buffers, for a `static`. `PEERS` is a power of two.
#[expect(missing_debug_implementations, reason = "holds keys and inner packets")]
pub struct State<const PEERS: usize = 16> {
    shared: Shared,
}

/// What handle, driver and task share.
pub(crate) struct Shared {
    pub(crate) status: Cell<Status>,
}

impl<const PEERS: usize> State<PEERS> {
    /// Before [`new`](crate::new) fills it.
    pub const fn new() -> Self {
        const { assert!(PEERS.is_power_of_two(), "PEERS is a power of two") };
        let status = Status { address: None, server: crate::event::Server::Off, peers: 0, active: 0, problem: None };
        Self { shared: Shared { status: Cell::new(status) } }
    }

    pub(crate) fn split(&'static mut self) -> &'static Shared {
        &self.shared
    }
}

impl<const PEERS: usize> Default for State<PEERS> {
    fn default() -> Self {
        Self::new()
    }
}
