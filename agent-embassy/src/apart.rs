//! Polls of futures, each in a call of its own.
//!
//! The compiler would make one function of all that a task awaits. The stack of that function is the sum of all parts, the
//! ones that ran once at boot included, and stays under every call that it makes.

use core::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

/// Awaits `future`, pinned where it was made, without taking its needs of the stack into the caller's.
pub(crate) async fn apart<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    poll_fn(move |cx| poll(future.as_mut(), cx)).await
}

#[inline(never)]
fn poll<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}
