//! Socket options that neither `socket2` nor `quinn-udp` has.

#![allow(unsafe_code, reason = "setsockopt takes a pointer")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Lets the IP layer fragment: WireGuard's datagrams go without the don't-fragment flag, so that a path with an MTU
/// below the one that the inner MTU was made for carries them in pieces instead of losing them.
pub(crate) fn allow_fragments(socket: &impl AsFd, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_WANT)?;
        clear(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG)
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    }
}

/// Has the kernel leave out arrival times, which `quinn-udp` asks for: with them its control buffer is too small for
/// the traffic class of a coalesced IPv4 datagram, and the ECN bits are cut off.
pub(crate) fn without_timestamps(socket: &impl AsFd) -> io::Result<()> {
    clear(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)
}

/// Sets an option to 0. Where the kernel, or QEMU in its place, does not know the option, nobody can have set it.
fn clear(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    match set(socket, level, name, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

fn set(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed, and the pointer and length are those of a live integer.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(&value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
