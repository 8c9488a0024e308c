//! What the node has to tell its agent: events, and sentences for a person that stay until they are taken back.

use core::fmt::Write as _;

use crate::{
    control::{ErrorCode, NodeId},
    limits,
};

/// Changed peers that are named one by one; of more the agent is told in general.
const NAMED_PEERS: usize = limits::NAMED_PEERS;
/// Subjects of health that are kept at most.
const SUBJECTS: usize = limits::HEALTH_SUBJECTS;
/// The longest sentence that is kept, in bytes.
pub const MAX_SENTENCE: usize = limits::SENTENCE;

/// Something that happened to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum NodeEvent {
    /// Something has to be kept for the next start.
    Persist(Persist),
    /// The server has registered this node over the present connection.
    Registered,
    /// What the server knows of this node changed: [`Netmap::own`](super::Netmap::own).
    SelfChanged,
    /// A peer is new or changed.
    PeerUpserted(NodeId),
    /// A peer is gone, and its sessions with it.
    PeerRemoved(NodeId),
    /// A session with a peer began, or was renewed.
    PeerConnected(NodeId),
    /// More peers changed than could be named.
    PeersChanged,
    /// A whole netmap came from the server.
    SnapshotDone,
    /// All answers to [`Node::ask_status`](super::Node::ask_status) came.
    StatusDone,
    /// Questions for single peers were answered: what waits for one asks
    /// [`Node::resolve`](super::Node::resolve) again.
    LookupDone,
    /// The server refused this node or ended the connection for a reason: [`Node::last_error`](super::Node::last_error).
    ServerError(ErrorCode),
    /// The connection to the server failed, and not by the authentic server's word:
    /// [`Node::last_error`](super::Node::last_error) says how.
    ConnectionFailed,
    /// The sentences of [`Node::health`](super::Node::health) changed.
    Health,
    /// This node is no member any more: it was removed or logged out. Its netmap is empty now.
    Left,
    /// This node's own key expired: it neither sends nor accepts. Cleared by [`NodeEvent::SelfChanged`].
    KeyExpired,
    /// The agent closes the TCP connection to the server now. There was no need to wait for it.
    CloseControl,
}

/// What has to be kept for the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Persist {
    /// [`Node::identity`](super::Node::identity), then [`Node::identity_kept`](super::Node::identity_kept).
    Identity,
    /// Every record of [`Node::netmap_record`](super::Node::netmap_record).
    Netmap,
    /// [`Node::recent_peers`](super::Node::recent_peers).
    RecentPeers,
}

macro_rules! pending {
    ($($field:ident => $event:expr),+ $(,)?) => {
        /// Events that wait to be collected. Two of a kind are one.
        #[derive(Debug, Default)]
        pub(super) struct Events {
            $(pub(super) $field: bool,)+
            pub(super) server_error: Option<ErrorCode>,
            peers: heapless::Deque<NodeEvent, NAMED_PEERS>,
            pub(super) peers_changed: bool,
        }

        impl Events {
            /// The next event.
            pub(super) fn poll(&mut self) -> Option<NodeEvent> {
                $(if core::mem::take(&mut self.$field) {
                    return Some($event);
                })+
                if let Some(code) = self.server_error.take() {
                    return Some(NodeEvent::ServerError(code));
                }
                if core::mem::take(&mut self.peers_changed) {
                    self.peers.clear();
                    return Some(NodeEvent::PeersChanged);
                }
                self.peers.pop_front()
            }
        }
    };
}

// In this order, so that what has to be kept is kept before anybody hears of it.
pending! {
    persist_identity => NodeEvent::Persist(Persist::Identity),
    persist_netmap => NodeEvent::Persist(Persist::Netmap),
    persist_recent => NodeEvent::Persist(Persist::RecentPeers),
    close_control => NodeEvent::CloseControl,
    connection_failed => NodeEvent::ConnectionFailed,
    left => NodeEvent::Left,
    registered => NodeEvent::Registered,
    self_changed => NodeEvent::SelfChanged,
    key_expired => NodeEvent::KeyExpired,
    snapshot_done => NodeEvent::SnapshotDone,
    status_done => NodeEvent::StatusDone,
    lookup_done => NodeEvent::LookupDone,
    health => NodeEvent::Health,
}

impl Events {
    /// A peer changed: [`NodeEvent::PeerUpserted`] or [`NodeEvent::PeerRemoved`].
    pub(super) fn peer(&mut self, event: NodeEvent) {
        if !self.peers.iter().any(|waiting| *waiting == event) && self.peers.push_back(event).is_err() {
            self.peers_changed = true;
        }
    }
}

/// A sentence for a person, cut at [`MAX_SENTENCE`] bytes.
pub type Sentence = heapless::String<MAX_SENTENCE>;

/// The start of `text` that fits.
pub(super) fn sentence(text: impl core::fmt::Display) -> Sentence {
    struct Cut(Sentence);
    impl core::fmt::Write for Cut {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            text.chars().try_for_each(|c| self.0.push(c)).map_err(|_| core::fmt::Error)
        }
    }
    let mut cut = Cut(Sentence::new());
    let _ = write!(cut, "{text}");
    cut.0
}

/// Sentences by subject.
#[derive(Debug, Default)]
pub(super) struct Health(heapless::Vec<(Subject, Sentence), SUBJECTS>);

/// What a sentence of health is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A subject of the server's, for as long as the connection lasts.
    Server(u16),
    /// Peers that had no room.
    NetmapFull,
}

impl Health {
    /// Replaces what is said about a subject; an empty text takes it back. True where that changed something.
    pub(super) fn set(&mut self, subject: Subject, text: impl core::fmt::Display) -> bool {
        let text = sentence(text);
        let place = self.0.iter().position(|(known, _)| *known == subject);
        match place {
            Some(place) if text.is_empty() => _ = self.0.swap_remove(place),
            Some(place) => {
                let Some((_, former)) = self.0.get_mut(place).filter(|(_, former)| *former != text) else {
                    return false;
                };
                *former = text;
            }
            None if text.is_empty() => return false,
            None => return self.0.push((subject, text)).is_ok(),
        }
        true
    }

    /// The connection ended, and with it all that the server said.
    pub(super) fn forget_server(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|(subject, _)| !matches!(subject, Subject::Server(_)));
        self.0.len() != before
    }

    pub(super) fn sentences(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, sentence)| sentence.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn many_changed_peers_become_one_event() {
        let mut events = Events::default();
        for id in 0..100 {
            events.peer(NodeEvent::PeerUpserted(NodeId(id)));
        }
        assert_eq!(events.poll(), Some(NodeEvent::PeersChanged));
        assert_eq!(events.poll(), None);
    }

    #[test]
    fn what_has_to_be_kept_comes_first() {
        let mut events = Events { registered: true, persist_identity: true, ..Events::default() };
        assert_eq!(events.poll(), Some(NodeEvent::Persist(Persist::Identity)));
        assert_eq!(events.poll(), Some(NodeEvent::Registered));
    }

    #[test]
    fn a_sentence_stays_until_it_is_taken_back_and_long_ones_are_cut() {
        let mut health = Health::default();
        assert!(health.set(Subject::Server(1), "two machines"));
        assert!(!health.set(Subject::Server(1), "two machines"));
        assert!(health.set(Subject::NetmapFull, "é".repeat(400)));
        assert_eq!(health.sentences().map(str::len).collect::<Vec<_>>(), [12, MAX_SENTENCE]);
        assert!(health.forget_server());
        assert!(health.set(Subject::NetmapFull, ""));
        assert_eq!(health.sentences().count(), 0);
    }
}
