//! The machine's clocks as core's time arguments, and a timer that waits on the same clock.
//!
//! Timers count suspend (`CLOCK_BOOTTIME`), as the kernel's WireGuard does: a session that was young when the lid
//! closed is too old when it opens.

use std::{io, os::fd::AsFd};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use weft_core::time::{Instant, UnixTime};

use crate::polled_fd::PolledFd;

/// The time since boot, suspend included.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let (secs, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Instant::from_micros(secs * 1_000_000 + nanos / 1_000)
}

/// The wall-clock time; the epoch where the clock stands before it.
pub fn unix() -> UnixTime {
    let time = clock_gettime(ClockId::Realtime);
    match (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) {
        (Ok(secs), Ok(nanos)) => UnixTime::new(secs, nanos),
        _ => UnixTime::default(),
    }
}

/// A timer on the clock of [`now`]: exact to the microsecond, and right across suspend.
#[derive(Debug)]
pub struct DeadlineTimer {
    fd: PolledFd,
    deadline: Option<Instant>,
}

impl DeadlineTimer {
    /// A timer that is not set. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// Where the process has no more file descriptors.
    pub fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { fd: PolledFd::new(fd)?, deadline: None })
    }

    /// Sets the instant to wait for; `None` waits for ever. Costs a system call only where it changes.
    ///
    /// # Errors
    /// None that a healthy kernel gives.
    pub fn set(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if deadline == self.deadline {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = deadline.map_or(zero, |deadline| {
            // A value of zero would disarm the timer.
            let micros = i64::try_from(deadline.as_micros()).unwrap_or(i64::MAX).max(1);
            Timespec { tv_sec: micros / 1_000_000, tv_nsec: micros % 1_000_000 * 1_000 }
        });
        timerfd_settime(
            self.fd.as_fd(),
            TimerfdTimerFlags::ABSTIME,
            &Itimerspec { it_interval: zero, it_value: value },
        )?;
        self.deadline = deadline;
        Ok(())
    }

    /// Waits until the deadline has passed, and forgets it. Loses nothing where it is dropped while it waits.
    ///
    /// # Errors
    /// None that a healthy kernel gives.
    pub async fn expired(&mut self) -> io::Result<()> {
        let mut expirations = [0; 8];
        loop {
            self.fd.readable().await?;
            // Nothing to read means that it was set anew after it had fired.
            if self.fd.try_read(&mut expirations)?.is_some() {
                self.deadline = None;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_counts_from_boot_and_never_steps_back() {
        let first = now();
        assert!(first > Instant::ZERO);
        assert!(now() >= first);
        assert!(unix().secs() > 1_700_000_000);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_timer_fires_at_its_deadline_and_not_before() {
        let mut timer = DeadlineTimer::new().unwrap();
        let deadline = now() + Duration::from_millis(5);
        timer.set(Some(now() + Duration::from_secs(3_600))).unwrap();
        timer.set(Some(deadline)).unwrap();
        timer.expired().await.unwrap();
        assert!(now() >= deadline);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_deadline_in_the_past_fires_at_once() {
        let mut timer = DeadlineTimer::new().unwrap();
        timer.set(Some(Instant::ZERO)).unwrap();
        timer.expired().await.unwrap();
    }
}
