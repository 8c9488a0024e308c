//! Questions for single peers: which one to ask of the server, how often, and what it answered lately.
//!
//! What is asked is remembered by a keyed hash, so that a name takes no more room than an address. That there is no such
//! peer is remembered too, so that whoever sends to nobody, or claims keys that nobody has, costs the server one question a
//! while. Questions that strangers cause and those of this node's own traffic have a budget each.

use core::{net::IpAddr, time::Duration};

use rand_core::CryptoRng;

use crate::{crypto::hash, keys::NodeKey, limits, time::Instant};

/// An answer that does not come is asked for again after this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A peer that was found, and is not held any more, is asked for again after this time.
const FOUND_FOR: Duration = Duration::from_secs(1);
/// That there is no such peer is believed for this time.
const ABSENT_FOR: Duration = Duration::from_secs(30);
/// What one question costs, and how many may be asked at once.
const COST: Duration = Duration::from_millis(100);
const BURST: u32 = 20;

/// A peer's name, without the domain.
pub(super) type Name = heapless::String<63>;

/// Which peer a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Address(IpAddr),
    Key(NodeKey),
    Name(Name),
}

/// A question that is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) subject: Subject,
    pub(super) request: u32,
}

/// What is known of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was asked for just now, by this request.
    Asked(u32),
    /// It was asked for a moment ago, by this request.
    Awaited(u32),
    /// There was such a peer a moment ago.
    Found,
    /// There is no such peer.
    Absent,
    /// Too many questions were asked lately.
    Limited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Awaited,
    Found,
    Absent,
}

/// A question that was asked lately.
#[derive(Clone, Copy, Debug)]
struct Asked {
    subject: u32,
    request: u32,
    at: Instant,
    state: State,
}

impl Asked {
    fn is_fresh(&self, now: Instant) -> bool {
        let age = now.saturating_since(self.at);
        age < match self.state {
            State::Awaited => ANSWER_WITHIN,
            State::Found => FOUND_FOR,
            State::Absent => ABSENT_FOR,
        }
    }
}

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug)]
struct Budget {
    full_at: Instant,
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + COST;
        let within = full_at.saturating_since(now) <= COST * BURST;
        if within {
            self.full_at = full_at;
        }
        within
    }
}

/// The questions.
#[derive(Debug)]
pub(super) struct Lookups {
    hash_key: [u8; 16],
    unsent: heapless::Vec<Question, { limits::UNSENT_LOOKUPS }>,
    asked: heapless::Vec<Asked, { limits::LOOKUPS }>,
    strangers: Budget,
    own: Budget,
    last_request: u32,
}

impl Lookups {
    /// `rng` gives the hash its key.
    pub(super) fn new(rng: &mut dyn CryptoRng) -> Self {
        let mut hash_key = [0; 16];
        rng.fill_bytes(&mut hash_key);
        let full = Budget { full_at: Instant::ZERO };
        Self {
            hash_key,
            unsent: heapless::Vec::new(),
            asked: heapless::Vec::new(),
            strangers: full,
            own: full,
            last_request: 0,
        }
    }

    /// A new connection knows nothing of what was asked over the one before. What was answered stays true.
    pub(super) fn connected(&mut self) {
        self.unsent.clear();
        self.asked.retain(|asked| asked.state != State::Awaited);
    }

    fn hash(&self, subject: &Subject) -> u32 {
        let [a, b, c, d, ..] = match subject {
            Subject::Address(IpAddr::V4(v4)) => hash::mac(&self.hash_key, &[b"4", &v4.octets()]),
            Subject::Address(IpAddr::V6(v6)) => hash::mac(&self.hash_key, &[b"6", &v6.octets()]),
            Subject::Key(key) => hash::mac(&self.hash_key, &[b"k", key.as_bytes()]),
            Subject::Name(name) => hash::mac(&self.hash_key, &[b"n", name.as_bytes()]),
        };
        u32::from_le_bytes([a, b, c, d])
    }

    /// What is known without asking.
    pub(super) fn known(&self, subject: &Subject, now: Instant) -> Option<Answer> {
        let hash = self.hash(subject);
        let asked = self.asked.iter().find(|asked| asked.subject == hash && asked.is_fresh(now))?;
        Some(match asked.state {
            State::Awaited => Answer::Awaited(asked.request),
            State::Found => Answer::Found,
            State::Absent => Answer::Absent,
        })
    }

    /// A peer is wanted: it is asked for, unless the answer is known or too much was asked lately.
    pub(super) fn ask(&mut self, subject: Subject, now: Instant) -> Answer {
        if let Some(known) = self.known(&subject, now) {
            return known;
        }
        let budget = if matches!(subject, Subject::Key(_)) { &mut self.strangers } else { &mut self.own };
        if self.unsent.is_full() || !budget.take(now) {
            return Answer::Limited;
        }
        self.last_request = self.last_request.wrapping_add(1);
        let request = self.last_request;
        let asked = Asked { subject: self.hash(&subject), request, at: now, state: State::Awaited };
        let place = self.asked.iter().position(|former| former.subject == asked.subject).or_else(|| {
            let oldest = self.asked.iter().enumerate().min_by_key(|(_, asked)| asked.at);
            oldest.filter(|_| self.asked.is_full()).map(|(place, _)| place)
        });
        if let Some(place) = place {
            self.asked.swap_remove(place);
        }
        // There is room in both.
        let _ = self.asked.push(asked);
        let _ = self.unsent.push(Question { subject, request });
        Answer::Asked(request)
    }

    /// The server answered. False where nothing of that is known any more.
    pub(super) fn answered(&mut self, request: u32, found: bool, now: Instant) -> bool {
        let awaited = |asked: &&mut Asked| asked.request == request && asked.state == State::Awaited;
        let Some(asked) = self.asked.iter_mut().find(awaited) else { return false };
        asked.state = if found { State::Found } else { State::Absent };
        asked.at = now;
        true
    }

    /// The next question to send; it counts as sent.
    pub(super) fn next_question(&mut self) -> Option<Question> {
        (!self.unsent.is_empty()).then(|| self.unsent.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::node::test_rng::TestRng;

    fn address(last: u8) -> Subject {
        Subject::Address(Ipv4Addr::new(100, 64, 0, last).into())
    }

    fn lookups() -> Lookups {
        Lookups::new(&mut TestRng::new(1))
    }

    fn millis(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn the_same_question_is_not_asked_twice_in_a_moment() {
        let mut lookups = lookups();
        assert_eq!(lookups.ask(address(1), millis(1_000)), Answer::Asked(1));
        assert_eq!(lookups.ask(address(1), millis(2_000)), Answer::Awaited(1));
        assert_eq!(lookups.next_question().map(|question| question.request), Some(1));
        assert!(lookups.next_question().is_none());
        assert_eq!(lookups.ask(address(1), millis(6_000)), Answer::Asked(2), "the answer did not come");
    }

    #[test]
    fn that_there_is_no_such_peer_is_believed_for_a_while() {
        let mut lookups = lookups();
        let name = || Subject::Name("nas".try_into().unwrap());
        let Answer::Asked(request) = lookups.ask(name(), millis(0)) else { panic!("not asked") };
        assert!(lookups.answered(request, false, millis(10)));
        assert!(!lookups.answered(request, true, millis(11)), "one answer a question");
        assert_eq!(lookups.ask(name(), millis(29_000)), Answer::Absent);
        lookups.connected();
        assert_eq!(lookups.ask(name(), millis(29_000)), Answer::Absent, "the connection does not change that");
        assert_eq!(lookups.ask(name(), millis(30_010)), Answer::Asked(2));
    }

    #[test]
    fn questions_are_limited_and_strangers_do_not_use_up_those_of_this_node() {
        let mut lookups = lookups();
        let asked = |lookups: &mut Lookups, from: u64, number: u8| {
            let key = Subject::Key(NodeKey::from_bytes([number; 32]));
            let asked = matches!(lookups.ask(key, millis(from)), Answer::Asked(_));
            lookups.next_question();
            asked
        };
        let at_once = (0..200).filter(|number| asked(&mut lookups, 1_000, *number)).count();
        assert_eq!(at_once, BURST as usize);
        assert!(matches!(lookups.ask(address(1), millis(1_000)), Answer::Asked(_)));
        lookups.next_question();
        let in_ten_seconds = (0..1_000).filter(|step| asked(&mut lookups, 20_000 + step * 10, *step as u8)).count();
        assert!(in_ten_seconds <= 120, "{in_ten_seconds}");
    }

    #[test]
    fn what_was_asked_is_bounded_and_the_oldest_is_forgotten_first() {
        let mut lookups = lookups();
        for last in 0..=limits::LOOKUPS as u8 {
            assert!(matches!(lookups.ask(address(last), millis(u64::from(last) * 200)), Answer::Asked(_)));
            lookups.next_question();
        }
        let now = millis(limits::LOOKUPS as u64 * 200);
        assert_eq!(lookups.known(&address(0), now), None);
        assert!(lookups.known(&address(limits::LOOKUPS as u8), now).is_some());
    }
}
