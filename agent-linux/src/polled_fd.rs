//! A file descriptor that the runtime's poller watches for reading.

#![allow(unsafe_code, reason = "tokio takes any descriptor only on the promise that it stays open")]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A non-blocking descriptor that is neither replaced nor closed while the poller knows it.
#[derive(Debug)]
pub(crate) struct PolledFd(AsyncFd<OwnedFd>);

impl PolledFd {
    /// Has the poller of the current runtime watch `fd`, which must be non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: the `OwnedFd` keeps the descriptor open, and nothing here gives a `&mut` to it that could
        // replace it before the `AsyncFd` is dropped.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self(fd))
    }

    /// Waits until a read may succeed, or would say that the descriptor failed. Loses nothing where it is dropped.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Reads what there is; `None` where that would block.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.try_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut *buffer)?)) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for PolledFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
