//! One network namespace, made by `ip netns` and gone when dropped.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::output;

/// A network namespace.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace with loopback up. Its name begins with `weft-` and is unique on the machine; `label` ends it.
    pub fn new(label: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft-{}-{number}-{label}", std::process::id());
        output(Command::new("ip").args(["netns", "add", &name]))?;
        let netns = Self { name };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The name that `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in this namespace; its process id is that of the program itself.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // `nsenter` changes the network namespace only; `ip netns exec` would also mount a new /sys, which an
        // unprivileged user namespace may not do.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a program in this namespace to its end and returns what it printed.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        output(self.command(program).args(args))
    }

    /// Runs `ip` on this namespace; `arguments` are separated by spaces, for instance `link set eth0 down`.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        output(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    /// Writes a network setting of this namespace, for instance `net/ipv4/ip_forward`.
    pub fn sysctl(&self, setting: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(setting);
        let value = value.to_owned();
        self.enter(move || std::fs::write(&path, value).with_context(|| format!("cannot write {}", path.display())))?
    }

    /// Calls `action` on a thread of its own that lives in this namespace, and returns what it returns. A socket
    /// that is made there stays in the namespace, whoever uses it later.
    pub fn enter<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let namespace = File::open(self.path()).with_context(|| format!("cannot open namespace {}", self.name))?;
        let thread = std::thread::spawn(move || -> io::Result<T> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(action())
        });
        match thread.join() {
            Ok(result) => result.with_context(|| format!("cannot enter namespace {}", self.name)),
            Err(_) => Err(anyhow!("the action in namespace {} panicked", self.name)),
        }
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

/// A device name that no other namespace of this machine uses. WireGuard's configuration sockets lie in one folder
/// for all namespaces, so a device that `wg` talks to needs one. `prefix` has at most four characters.
pub fn unique_device_name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{:x}-{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = output(Command::new("ip").args(["netns", "del", &self.name]));
    }
}
