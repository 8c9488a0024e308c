//! The TUN device: inner packets in and out of the kernel, one packet a system call.
//!
//! The device disappears with this process. Addresses and routes are not its business: `weft tunnel` leaves them to
//! whoever configures it, the daemon sets them by netlink.

#![allow(unsafe_code, reason = "takes over the file descriptor that the `tun` crate opened")]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use tun::AbstractDevice;

use crate::polled_fd::PolledFd;

/// A TUN device of this process.
#[derive(Debug)]
pub struct TunDevice {
    fd: PolledFd,
    name: String,
    index: u32,
}

impl TunDevice {
    /// Creates the device `name` with an MTU of `mtu` bytes, down and without addresses. A `%d` in the name is
    /// replaced by the first free number. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// Where the name is too long or taken, the process may not make devices (`CAP_NET_ADMIN`), or `/dev/net/tun` is
    /// missing.
    pub fn create(name: &str, mtu: u16) -> io::Result<Self> {
        let mut configuration = tun::Configuration::default();
        configuration.tun_name(name).mtu(mtu);
        let device = tun::create(&configuration).map_err(into_io_error)?;
        device.set_nonblock()?;
        let name = device.tun_name().map_err(into_io_error)?;
        let index = device.tun_index().map_err(into_io_error)?;
        // SAFETY: `into_raw_fd` hands over the open descriptor and nobody else keeps it.
        let fd = unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) };
        Ok(Self { fd: PolledFd::new(fd)?, name, index: index.unsigned_abs() })
    }

    /// The name that the device had when it was created.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface index that the device had when it was created.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Waits until there may be a packet to read, or the device is gone. Loses nothing where it is dropped.
    ///
    /// # Errors
    /// Where the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.fd.readable().await
    }

    /// Reads one packet; `None` where there is none now. A packet longer than `buffer` is cut.
    ///
    /// # Errors
    /// Where the device is gone: see [`is_gone`].
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.fd.try_read(buffer)
    }

    /// Hands one packet to the kernel.
    ///
    /// # Errors
    /// Where the device is down, out of memory, or the packet is not IP.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.fd, packet)?;
        Ok(())
    }

    /// Whether the device is up, asked of the device itself, so that it works when the device was moved to another
    /// network namespace, where no link event of it reaches this process.
    ///
    /// # Errors
    /// Where the device is gone: see [`is_gone`].
    pub fn is_up(&self) -> io::Result<bool> {
        // The driver calls a device writable only while it is up.
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        let events = fds[0].revents();
        if events.contains(PollFlags::ERR) { Err(Errno::BADFD.into()) } else { Ok(events.contains(PollFlags::OUT)) }
    }
}

impl AsFd for TunDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether an error of a [`TunDevice`] says that somebody deleted the device.
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BADFD.raw_os_error())
}

fn into_io_error(error: tun::Error) -> io::Error {
    match error {
        tun::Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
    }
}
