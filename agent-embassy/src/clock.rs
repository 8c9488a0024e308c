//! Time, as core wants it. A chip has no wall clock: core carries the server's time, and floors from flash.

use core::{
    future::Future as _,
    pin::pin,
    task::{Context, Poll},
};

use embassy_time::{Duration, Timer};
use weft_core::time::{Instant, UnixTime};

/// The time of day of a machine that does not know it.
pub(crate) const WALL: UnixTime = UnixTime::new(0, 0);

/// Now.
pub(crate) fn now() -> Instant {
    Instant::from_micros(embassy_time::Instant::now().as_micros())
}

/// Has the task woken at `deadline`, or soon where that has passed.
pub(crate) fn wake_at(deadline: Instant, cx: &mut Context<'_>) {
    // Rounded up to the clock's resolution: a tick too early, the deadline has not come and all is done in vain.
    let at = embassy_time::Instant::MIN.checked_add(Duration::from_micros(deadline.as_micros()));
    if let Some(at) = at
        && let Poll::Ready(()) = pin!(Timer::at(at)).poll(cx)
    {
        cx.waker().wake_by_ref();
    }
}
