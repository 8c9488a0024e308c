//! Fresh mount, network and process namespaces: interfaces, daemons and mounts made inside die with the command.
//!
//! As root the namespaces are made directly; a plain user makes them inside a user namespace of its own. The
//! command starts itself again in there, as the namespace's first process, so that the kernel kills whatever
//! is left when it ends.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::OnceLock,
};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::workspace::run;

/// Set inside the namespaces.
const INSIDE: &str = "WEFT_XTASK_SANDBOX";
/// Temporary files of everything inside: in memory, and gone with the namespaces, however they end.
const TEMPORARY: &str = "/run/tmp";

/// Where this program lies. The builds that it starts replace its file, so the path is asked for first of all.
static THIS_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Notes where this program lies; `main` calls it first.
pub(crate) fn note_program() {
    if let Ok(path) = std::env::current_exe() {
        let _ = THIS_PROGRAM.set(path);
    }
}

/// Whether this process runs inside the namespaces.
pub(crate) fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Starts this program again with `arguments` inside fresh namespaces and waits for its end.
pub(crate) fn reexec<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<ExitCode> {
    check()?;
    let this = THIS_PROGRAM.get().context("cannot find out where this program lies")?;
    // `setpriv` ties the life of `unshare` to this process, and `--kill-child` that of the rest to `unshare`.
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    if !geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--").arg(this).args(arguments).env(INSIDE, "1").env("TMPDIR", TEMPORARY);
    let status = command.status().context("cannot start `unshare` of util-linux")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Prepares the inside: an empty /run, so that sockets, namespace names and temporary files are its own, and loopback
/// up.
pub(crate) fn prepare() -> Result<()> {
    let quiet = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments);
        weft_hil::process::output(&mut command)
    };
    quiet("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])?;
    for folder in ["/run/netns", TEMPORARY] {
        std::fs::create_dir(folder).with_context(|| format!("cannot make {folder}"))?;
    }
    quiet("ip", &["link", "set", "lo", "up"])?;
    Ok(())
}

/// Fails in plain words where namespaces or TUN devices cannot be had.
fn check() -> Result<()> {
    let root = geteuid().is_root();
    if !root && !can_unshare() {
        bail!(
            "this kernel does not let a plain user make namespaces (see the settings user.max_user_namespaces, \
             kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns); run it as root"
        );
    }
    let tun = Path::new("/dev/net/tun");
    if root && !tun.exists() {
        std::fs::create_dir_all("/dev/net").context("cannot make /dev/net")?;
        run(Command::new("mknod").args(["/dev/net/tun", "c", "10", "200"]))?;
    }
    match OpenOptions::new().read(true).write(true).open(tun) {
        Ok(_) => Ok(()),
        Err(error) if root => bail!(
            "{} cannot be opened ({error}): the kernel has no TUN devices; `modprobe tun` may help",
            tun.display()
        ),
        Err(error) => bail!("{} cannot be opened by a plain user here ({error}); run it as root", tun.display()),
    }
}

fn can_unshare() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--mount-proc", "true"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
