//! What this node has still to say to the server, as facts rather than as a queue: each is turned into a record when
//! the connection has room for one, so that nothing piles up while the server is away.

use crate::{control::NodeId, limits};

/// Ids in one record at most. Each takes up to five bytes.
pub(super) const BATCH: usize = limits::ID_BATCH;
/// A batch of ids.
pub(super) type Ids = heapless::Vec<NodeId, BATCH>;

/// How far a walk over all peers to ask for their status is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusWalk {
    Idle,
    /// The next batch begins at this slot.
    Add {
        from: usize,
    },
    /// The batch that began at this slot was added and is to be removed again.
    Remove {
        from: usize,
    },
}

/// The facts.
#[derive(Debug)]
pub(super) struct Outbox {
    /// This node's own endpoints are to be told.
    pub(super) endpoints: bool,
    /// The next node key is to be proven.
    pub(super) renew: bool,
    /// This node leaves.
    pub(super) logout: bool,
    /// Peers whose status is not wanted any more.
    pub(super) unwatch: Ids,
    /// Peers that made room for others.
    pub(super) unheld: Ids,
    /// Peers from this slot on are to be named as held.
    pub(super) held_from: Option<usize>,
    pub(super) status: StatusWalk,
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Self {
            endpoints: false,
            renew: false,
            logout: false,
            unwatch: Ids::new(),
            unheld: Ids::new(),
            held_from: None,
            status: StatusWalk::Idle,
        }
    }

    /// A new connection knows nothing of what the one before was told.
    pub(super) fn connected(&mut self, on_demand: bool) {
        self.endpoints = true;
        self.unwatch.clear();
        self.unheld.clear();
        self.held_from = on_demand.then_some(0);
        self.status = StatusWalk::Idle;
    }
}

/// Adds an id unless it is there. One too many is left out: the server then tells more than it has to, until the
/// connection ends.
pub(super) fn add(ids: &mut Ids, id: NodeId) {
    if !ids.contains(&id) {
        let _ = ids.push(id);
    }
}
