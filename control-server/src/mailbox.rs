//! What waits to be told to one connected node.
//!
//! The [`Network`](crate::network::Network) puts in *that* something changed, never the change itself: the
//! session looks up what is true when it can send, so that a slow node costs no memory and hears the newest state once.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use weft_core::control::{InstanceId, NodeId};

use crate::refusal::Refusal;

/// The mailbox of one session.
#[derive(Debug)]
pub struct Mailbox {
    /// Which session; never used again.
    pub id: u64,
    /// Whose session.
    pub node: NodeId,
    /// Which process of that node.
    pub instance: InstanceId,
    inbox: Mutex<Inbox>,
    filled: Notify,
}

/// What is in a mailbox.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The network has a newer revision.
    pub network_changed: bool,
    /// What the node is told of itself changed.
    pub self_changed: bool,
    /// Peers that it holds and that changed.
    pub held: BTreeSet<NodeId>,
    /// Peers that it watches and whose status changed.
    pub statuses: BTreeSet<NodeId>,
    /// Another machine runs with its identity, or does not any more.
    pub cloned: Option<bool>,
    /// The server's keys changed.
    pub server_keys: bool,
    /// Another machine connected with its identity: it has to show that it is still there.
    pub challenged: bool,
    /// The session ends.
    pub end: Option<Refusal>,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(id: u64, node: NodeId, instance: InstanceId) -> Self {
        Self { id, node, instance, inbox: Mutex::default(), filled: Notify::new() }
    }

    /// Puts something in and wakes the session.
    pub fn put(&self, fill: impl FnOnce(&mut Inbox)) {
        fill(&mut self.lock());
        self.filled.notify_one();
    }

    /// Takes out all there is.
    pub fn take(&self) -> Inbox {
        mem::take(&mut self.lock())
    }

    /// Waits until something was put in since the last wait.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
