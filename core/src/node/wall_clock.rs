//! Which time it is, for a machine whose own clock may be unset, late or wrong.
//!
//! Two questions have two answers. *When do keys expire?* As the server's clock says, and before it was heard in this
//! run as this machine's clock says, but never earlier than the latest time that the server was ever known to have.
//! *Which stamp may a handshake carry?* The same time, but always later than every stamp before, in earlier runs
//! too, since peers refuse an earlier one (TAI64N, WireGuard paper 5.1): a floor is written to storage ahead of use, in
//! steps, so that one write serves many handshakes.
//!
//! While this machine's clock is behind the floor, the stamps of a run begin at the floor and each initiation takes one
//! step of the stamp's resolution; then the floor is written a little ahead only, so that restarts do not carry it off.
//!
//! A clock that was years ahead once leaves a high floor behind. That locks nobody out: stamps go on from the floor
//! by the smallest step, while expiry is judged by the server's time.

use core::time::Duration;

use crate::time::{Instant, UnixTime};

/// How far ahead of use the floor is written, and from what rest of it on a new one is, while the time drives the stamps.
const BY_TIME: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(600));
/// The same while the floor of an earlier run drives them.
const BY_FLOOR: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));
/// At least the resolution of stamps, 2^24 nanoseconds.
const STAMP_STEP: Duration = Duration::from_millis(17);
/// A difference between this machine's clock and the server's that a person should know of.
const NOTABLE_SKEW: Duration = Duration::from_secs(300);

/// What survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptTime {
    /// No handshake of an earlier run carries a stamp from here on.
    pub stamp_floor: UnixTime,
    /// The latest time that the server was known to have.
    pub server_time: UnixTime,
}

/// The state of the two answers.
#[derive(Clone, Debug)]
pub(super) struct WallClock {
    /// The server's time when it was last heard in this run, and when that was.
    heard: Option<(Instant, UnixTime)>,
    /// The server's last known time of an earlier run.
    kept_server_time: UnixTime,
    /// Every stamp that was used is earlier.
    floor: UnixTime,
    /// Stamps stay below this, which is in storage or on its way there.
    reserved: UnixTime,
    skew: Skew,
}

/// How this machine's clock stands to the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Skew {
    /// Near it, or the server's is not known.
    Near,
    /// Behind it by so much.
    Behind(Duration),
    /// Ahead of it by so much.
    Ahead(Duration),
}

impl WallClock {
    pub(super) const fn new(kept: KeptTime) -> Self {
        Self {
            heard: None,
            kept_server_time: kept.server_time,
            floor: kept.stamp_floor,
            reserved: kept.stamp_floor,
            skew: Skew::Near,
        }
    }

    /// The server said which time it is.
    pub(super) fn hear(&mut self, server: UnixTime, now: Instant, wall: UnixTime) {
        self.heard = Some((now, server));
        self.skew = match (since(wall, server), since(server, wall)) {
            (ahead, _) if ahead >= NOTABLE_SKEW => Skew::Ahead(ahead),
            (_, behind) if behind >= NOTABLE_SKEW => Skew::Behind(behind),
            _ => Skew::Near,
        };
    }

    /// How this machine's clock stood to the server's when that was last heard.
    pub(super) const fn skew(&self) -> Skew {
        self.skew
    }

    /// The time by which keys expire.
    pub(super) fn time(&self, now: Instant, wall: UnixTime) -> UnixTime {
        match self.heard {
            Some((at, server)) => server + now.saturating_since(at),
            None => wall.max(self.kept_server_time),
        }
    }

    /// An initiation was stamped: the least stamp for the next one.
    ///
    /// It holds for all peers together, since the one that refuses an earlier stamp may be known to this node by another key
    /// meanwhile.
    pub(super) fn stamped(&mut self, now: Instant, wall: UnixTime) -> UnixTime {
        self.floor = self.stamp(now, wall) + STAMP_STEP;
        self.floor
    }

    fn stamp(&self, now: Instant, wall: UnixTime) -> UnixTime {
        self.time(now, wall).max(self.floor)
    }

    fn ahead(&self, now: Instant, wall: UnixTime) -> (Duration, Duration) {
        let (step, _) = BY_FLOOR;
        if since(self.floor, self.time(now, wall)) < step { BY_TIME } else { BY_FLOOR }
    }

    /// Whether the floor in storage is too near to stamps that are or will soon be used. The caller then calls
    /// [`WallClock::reserve`] and has [`WallClock::kept`] kept.
    pub(super) fn wants_floor(&self, now: Instant, wall: UnixTime) -> bool {
        let (_, margin) = self.ahead(now, wall);
        self.stamp(now, wall) + margin > self.reserved
    }

    /// Reserves stamps for some time to come.
    pub(super) fn reserve(&mut self, now: Instant, wall: UnixTime) {
        let (step, _) = self.ahead(now, wall);
        self.reserved = self.reserved.max(self.stamp(now, wall) + step);
        if self.heard.is_some() {
            self.kept_server_time = self.kept_server_time.max(self.time(now, wall));
        }
    }

    /// What has to survive a restart.
    pub(super) const fn kept(&self) -> KeptTime {
        KeptTime { stamp_floor: self.reserved, server_time: self.kept_server_time }
    }

    /// Stamps and times of another identity mean nothing to this one.
    pub(super) fn server_changed(&mut self) {
        self.heard = None;
        self.kept_server_time = UnixTime::default();
        self.skew = Skew::Near;
    }
}

/// The time from `earlier` to `later`, zero where they are the other way round.
pub(super) fn since(later: UnixTime, earlier: UnixTime) -> Duration {
    let at = |time: UnixTime| {
        let part = Duration::from_nanos(time.subsec_nanos().into());
        Duration::from_secs(time.secs()).saturating_add(part)
    };
    at(later).saturating_sub(at(earlier))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: UnixTime = UnixTime::new(1_800_000_000, 0);

    fn secs(time: UnixTime) -> u64 {
        time.secs()
    }

    #[test]
    fn a_chip_without_a_clock_takes_the_servers_time_and_keeps_a_floor_across_restarts() {
        let mut clock = WallClock::new(KeptTime::default());
        let unset = UnixTime::new(0, 0);
        clock.hear(REAL, Instant::from_secs(10), unset);
        let now = Instant::from_secs(70);
        assert_eq!(secs(clock.time(now, unset)), REAL.secs() + 60);
        let stamp = clock.stamp(now, unset);
        assert!(clock.wants_floor(now, unset));
        clock.reserve(now, unset);
        assert!(!clock.wants_floor(now, unset));

        let restarted = WallClock::new(clock.kept());
        assert!(restarted.stamp(Instant::ZERO, unset) > stamp, "the server is away and the clock is at 1970");
        assert!(restarted.time(Instant::ZERO, unset) >= stamp, "expired keys stay expired");
    }

    #[test]
    fn one_write_serves_many_handshakes() {
        let mut clock = WallClock::new(KeptTime::default());
        let mut writes = 0;
        for minute in 0..24 * 60 {
            let now = Instant::from_secs(minute * 60);
            let wall = REAL + Duration::from_secs(minute * 60);
            clock.stamped(now, wall);
            if clock.wants_floor(now, wall) {
                clock.reserve(now, wall);
                writes += 1;
            }
        }
        assert!(writes <= 30, "{writes} writes a day");
    }

    #[test]
    fn stamps_go_on_where_the_clock_is_set_back() {
        let mut clock = WallClock::new(KeptTime::default());
        let stamped = clock.stamped(Instant::ZERO, REAL);
        assert!(clock.stamped(Instant::ZERO, UnixTime::new(0, 0)) > stamped);
    }

    #[test]
    fn many_restarts_do_not_carry_the_floor_off() {
        let mut clock = WallClock::new(KeptTime::default());
        clock.reserve(Instant::ZERO, REAL);
        for _ in 0..100 {
            let before = clock.stamp(Instant::ZERO, REAL);
            clock = WallClock::new(clock.kept());
            assert!(clock.stamped(Instant::ZERO, REAL) > before);
            clock.reserve(Instant::ZERO, REAL);
        }
        assert!(since(clock.kept().stamp_floor, REAL) < Duration::from_secs(3 * 3_600));
    }

    #[test]
    fn a_floor_drives_the_stamps_of_many_initiations_and_stays_ahead_of_them() {
        let unset = UnixTime::default();
        let mut clock = WallClock::new(KeptTime { stamp_floor: REAL, server_time: unset });
        for _ in 0..100_000 {
            clock.stamped(Instant::ZERO, unset);
            if clock.wants_floor(Instant::ZERO, unset) {
                clock.reserve(Instant::ZERO, unset);
            }
            assert!(clock.kept().stamp_floor > clock.stamp(Instant::ZERO, unset));
        }
    }

    #[test]
    fn a_clock_that_was_years_ahead_does_not_expire_keys_once_the_server_is_heard() {
        let mut clock = WallClock::new(KeptTime::default());
        let wrong = UnixTime::new(4_000_000_000, 0);
        clock.reserve(Instant::ZERO, wrong);
        let mut restarted = WallClock::new(clock.kept());
        assert_eq!(restarted.time(Instant::ZERO, REAL), REAL, "the high floor is for stamps alone");
        assert!(restarted.stamp(Instant::ZERO, REAL) > wrong, "peers have seen stamps up to there");
        restarted.hear(REAL, Instant::ZERO, wrong);
        assert_eq!(restarted.time(Instant::ZERO, wrong), REAL);
        assert!(matches!(restarted.skew(), Skew::Ahead(_)));
    }
}
