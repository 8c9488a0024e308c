//! What the task tells the firmware: status, events, counters, and who waits for them.

use core::{
    cell::{Cell, RefCell},
    net::Ipv4Addr,
    task::Waker,
};

use embassy_sync::waitqueue::MultiWakerRegistration;
use heapless::Deque;

use crate::{
    event::{Event, Problem, Server, Status},
    node::Counters,
};

/// Events that wait for their reader.
const EVENTS: usize = 8;
/// Tasks of the firmware that wait at the same time.
const WAITERS: usize = 4;

/// The board. A new one is all zero.
pub(crate) struct Board {
    pub(crate) address: Cell<Option<Ipv4Addr>>,
    server: Cell<Server>,
    peers: Cell<(u16, u16)>,
    /// Whether there is a problem, and which: two fields, so that none is zero.
    problem: Cell<(bool, Problem)>,
    counters: Cell<Counters>,
    events: RefCell<Deque<Event, EVENTS>>,
    waiters: RefCell<MultiWakerRegistration<WAITERS>>,
}

impl Board {
    pub(crate) const fn new() -> Self {
        Self {
            address: Cell::new(None),
            server: Cell::new(Server::Off),
            peers: Cell::new((0, 0)),
            problem: Cell::new((false, Problem::NoJoinKey)),
            counters: Cell::new(Counters::ZERO),
            events: RefCell::new(Deque::new()),
            waiters: RefCell::new(MultiWakerRegistration::new()),
        }
    }

    pub(crate) fn status(&self) -> Status {
        let (peers, active) = self.peers.get();
        let (is_problem, problem) = self.problem.get();
        Status {
            address: self.address.get(),
            server: self.server.get(),
            peers,
            active,
            problem: is_problem.then_some(problem),
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters.get()
    }

    /// Changes the counters.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    /// Takes `waker` in until something changes.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waiters.borrow_mut().register(waker);
    }

    /// Wakes everybody who waits.
    pub(crate) fn changed(&self) {
        self.waiters.borrow_mut().wake();
    }

    pub(crate) fn pop_event(&self) -> Option<Event> {
        self.events.borrow_mut().pop_front()
    }

    /// Adds an event; the oldest goes where there are too many.
    pub(crate) fn push_event(&self, event: Event) {
        {
            let mut events = self.events.borrow_mut();
            if events.is_full() {
                let _ = events.pop_front();
            }
            let _ = events.push_back(event);
        }
        self.changed();
    }

    /// The mesh address. Tells the firmware where it is new.
    pub(crate) fn set_address(&self, address: Option<Ipv4Addr>) {
        let former = self.address.replace(address);
        match (former, address) {
            (None, Some(new)) => self.push_event(Event::Joined(new)),
            (Some(former), Some(new)) if former != new => self.push_event(Event::AddressChanged(new)),
            _ if former != address => self.changed(),
            _ => {}
        }
    }

    /// How it stands with the control server. Tells the firmware where it comes or goes.
    pub(crate) fn set_server(&self, server: Server) {
        let former = self.server.replace(server);
        match (former == Server::Registered, server == Server::Registered) {
            (false, true) => self.push_event(Event::ServerBack),
            (true, false) => self.push_event(Event::ServerAway),
            _ => {}
        }
    }

    pub(crate) fn set_peers(&self, known: usize, active: usize) {
        let number = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        self.peers.set((number(known), number(active)));
    }

    /// What is in the way. Tells the firmware where that changed.
    pub(crate) fn set_problem(&self, problem: Option<Problem>) {
        if self.status().problem != problem {
            self.problem.set((problem.is_some(), problem.unwrap_or(Problem::NoJoinKey)));
            self.push_event(Event::Problem(problem));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_hears_of_each_change_once() {
        let board = Board::new();
        assert_eq!(board.status(), Status::default());
        let (first, second) = (Ipv4Addr::new(100, 64, 0, 1), Ipv4Addr::new(100, 64, 0, 2));
        for address in [Some(first), Some(first), Some(second), None, Some(second)] {
            board.set_address(address);
        }
        board.set_server(Server::Connecting);
        board.set_server(Server::Registered);
        board.set_problem(Some(Problem::Flash));
        board.set_problem(Some(Problem::Flash));
        let events: std::vec::Vec<_> = core::iter::from_fn(|| board.pop_event()).collect();
        let expected = [
            Event::Joined(first),
            Event::AddressChanged(second),
            Event::Joined(second),
            Event::ServerBack,
            Event::Problem(Some(Problem::Flash)),
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn of_many_events_the_oldest_are_lost() {
        let board = Board::new();
        for last in 0..20 {
            board.push_event(Event::PeerUp(Ipv4Addr::new(100, 64, 0, last)));
        }
        assert_eq!(board.pop_event(), Some(Event::PeerUp(Ipv4Addr::new(100, 64, 0, 12))));
    }
}
