//! What the parts of the task want of each other.

use core::cell::Cell;

/// Flags between the parts of the task, which are polled one after the other.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// The identity is to be kept.
    pub(super) keep_identity: Cell<bool>,
    /// The netmap is to be kept.
    pub(super) keep_netmap: Cell<bool>,
    /// A peer was removed: the netmap is to be kept at once, lest a reset bring it back.
    pub(super) keep_removal: Cell<bool>,
    /// The recent peers are to be kept.
    pub(super) keep_recent: Cell<bool>,
    /// What flash still holds of a join secret is to go.
    pub(super) scrub: Cell<bool>,
    /// The connection to the control server is to be closed.
    pub(super) close_control: Cell<bool>,
    /// The outer network has a link and an address.
    pub(super) outer_up: Cell<bool>,
}
