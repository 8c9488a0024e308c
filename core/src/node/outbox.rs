//! What this node has still to say to the server, as facts rather than as a queue: each is turned into a record when
//! the connection has room for one, so that nothing piles up while the server is away.

use core::{net::IpAddr, time::Duration};

use crate::{control::NodeId, keys::NodeKey, limits, time::Instant};

/// Ids in one record at most. Each takes up to five bytes.
pub(super) const BATCH: usize = limits::ID_BATCH;
/// Questions for peers that wait for an answer, or were answered lately.
const LOOKUPS: usize = 8;
/// The same question is not asked again sooner.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A batch of ids.
pub(super) type Ids = heapless::Vec<NodeId, BATCH>;

/// Which peer a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Address(IpAddr),
    Key(NodeKey),
}

/// A question for a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) subject: Subject,
    pub(super) request: u32,
    asked: Option<Instant>,
    wanted: Instant,
}

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
    questions: heapless::Vec<Question, LOOKUPS>,
    last_request: u32,
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
            questions: heapless::Vec::new(),
            last_request: 0,
        }
    }

    /// A new connection knows nothing of what the one before was told.
    pub(super) fn connected(&mut self, on_demand: bool) {
        self.endpoints = true;
        self.unwatch.clear();
        self.unheld.clear();
        self.held_from = on_demand.then_some(0);
        self.status = StatusWalk::Idle;
        self.questions.clear();
    }

    /// A peer is wanted. False where it was asked for a moment ago.
    pub(super) fn ask(&mut self, subject: Subject, now: Instant) -> bool {
        let place = self.questions.iter().position(|question| question.subject == subject);
        if let Some(question) = place.and_then(|place| self.questions.get(place))
            && now.saturating_since(question.wanted) < ASK_AGAIN_AFTER
        {
            return false;
        }
        let place = place.or_else(|| {
            let oldest = self.questions.iter().enumerate().min_by_key(|(_, question)| question.wanted);
            oldest.filter(|_| self.questions.is_full()).map(|(place, _)| place)
        });
        if let Some(place) = place {
            self.questions.swap_remove(place);
        }
        self.last_request = self.last_request.wrapping_add(1);
        let question = Question { subject, request: self.last_request, asked: None, wanted: now };
        self.questions.push(question).is_ok()
    }

    /// The next question to send; it counts as sent.
    pub(super) fn next_question(&mut self, now: Instant) -> Option<Question> {
        let question = self.questions.iter_mut().find(|question| question.asked.is_none())?;
        question.asked = Some(now);
        Some(*question)
    }
}

/// Adds an id unless it is there. One too many is left out: the server then tells more than it has to, until the
/// connection ends.
pub(super) fn add(ids: &mut Ids, id: NodeId) {
    if !ids.contains(&id) {
        let _ = ids.push(id);
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> Subject {
        Subject::Address(Ipv4Addr::new(100, 64, 0, last).into())
    }

    #[test]
    fn the_same_question_is_not_asked_twice_in_a_moment() {
        let mut outbox = Outbox::new();
        assert!(outbox.ask(address(1), Instant::from_secs(1)));
        assert!(!outbox.ask(address(1), Instant::from_secs(2)));
        assert!(outbox.next_question(Instant::from_secs(2)).is_some());
        assert!(outbox.next_question(Instant::from_secs(2)).is_none());
        assert!(outbox.ask(address(1), Instant::from_secs(7)));
        assert_eq!(outbox.next_question(Instant::from_secs(7)).map(|question| question.request), Some(2));
    }

    #[test]
    fn questions_are_bounded_and_the_oldest_goes_first() {
        let mut outbox = Outbox::new();
        for last in 0..20 {
            assert!(outbox.ask(address(last), Instant::from_secs(u64::from(last))));
        }
        let first = outbox.next_question(Instant::from_secs(30)).unwrap();
        assert_ne!(first.subject, address(0));
    }
}
